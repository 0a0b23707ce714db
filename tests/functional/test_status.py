# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-status upgrade check without a broker; tests/integration/test_manage_queues.py has one."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest
import sqlalchemy as sa

import tracker_worker
from tests.functional.lanes import PARTITIONS, LaneBench, rows
from tests.functional.manage import Manage
from tracker_worker.cmd import placement
from tracker_worker.cmd.database import database_file
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import METADATA, PROVIDERS
from tracker_worker.domain.partitions import partition_of
from tracker_worker.placement.client import PlacementClient
from tracker_worker.placement.errors import (
    PlacementError,
    PlacementForbidden,
    PlacementRefused,
    PlacementUnauthorized,
    PlacementUnavailable,
    WrongEndpoint,
)

SUCCESS, WARNING, FAILURE = range(3)
ROOT = Path(tracker_worker.__file__).parents[1]
PROGRAM = "import sys; from tracker_worker.cmd.status import main; sys.exit(main())"


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


def test_the_program_prints_a_table_and_nothing_else(engine: sa.Engine, manage: Manage) -> None:
    arguments = ["--config-file", str(manage.file), "upgrade", "check"]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (result.returncode, result.stderr) == (WARNING, "")
    assert "| Check: Database schema" in result.stdout


def test_all_but_the_missing_broker_is_well_on_a_database_of_this_version(
    engine: sa.Engine, manage: Manage
) -> None:
    code, checks = manage.check()
    assert code == WARNING
    assert list(checks) == [
        "Configuration",
        "Database schema",
        "Shared settings",
        "Exchange and queues",
        "Notifications",
        "Management API",
        "Nodes",
        "Placement",
        "Dead letters",
    ]
    assert checks.pop("Configuration")[0] == WARNING
    assert {result for result, _ in checks.values()} == {SUCCESS}


def test_management_api_that_is_not_checked_is_said_with_what_asks_it(
    engine: sa.Engine, manage: Manage
) -> None:
    """Found by a newcomer: the check passed, and `status` failed at the default URL."""
    manage.configure("transport_url = rabbit://tracker:planted@127.0.0.1:1/\n")
    result, details = manage.check()[1]["Management API"]
    assert details is not None
    assert (result, details.partition(":")[0]) == (SUCCESS, "Not checked")
    assert "run 'tracker-worker-manage status', which asks the API at http://127.0.0.1:15672" in details
    assert "planted" not in details


def test_transport_that_reaches_nobody_is_a_warning_and_none_at_all_a_failure(
    engine: sa.Engine, manage: Manage
) -> None:
    _, checks = manage.check()
    result, details = checks["Configuration"]
    assert details is not None
    assert (result, "nothing outside" in details) == (WARNING, True)
    manage.file.write_text(manage.file.read_text().replace("transport_url", "# transport_url"))
    code, checks = manage.check()
    result, details = checks["Configuration"]
    assert details is not None
    assert (code, result) == (FAILURE, FAILURE)
    assert f"[DEFAULT] transport_url is not set ({manage.file})" in details


def test_unknown_option_is_a_failure(engine: sa.Engine, manage: Manage) -> None:
    manage.configure("[worker]\nbatch_sise = 3\n")
    code, checks = manage.check()
    assert code == FAILURE
    assert "batch_sise" in str(checks["Configuration"][1])
    assert "did you mean batch_size?" in str(checks["Configuration"][1])


def test_options_with_which_clients_do_not_start_are_a_warning(engine: sa.Engine, manage: Manage) -> None:
    more = "[oslo_messaging_rabbit]\namqp_auto_delete = true\n"
    manage.configure(f"transport_url = rabbit://u:p@127.0.0.1:1/\n{more}")
    result, details = manage.check()[1]["Configuration"]
    assert details is not None
    assert result == WARNING
    assert "Unset [oslo_messaging_rabbit] amqp_auto_delete" in details
    assert "amqp_durable_queues or rabbit_quorum_queue" in details


def test_a_database_that_is_missing_is_a_failure_and_is_not_made(manage: Manage, tmp_path: Path) -> None:
    code, checks = manage.check()
    assert code == FAILURE
    result, details = checks["Database schema"]
    assert details is not None
    assert (result, "db sync" in details) == (FAILURE, True)
    assert checks["Dead letters"][0] == WARNING
    assert not database_file(tmp_path).exists()


def test_database_that_cannot_be_written_is_a_failure(
    engine: sa.Engine, manage: Manage, tmp_path: Path
) -> None:
    manage.configure(f"[database]\nconnection = sqlite:///file:{database_file(tmp_path)}?mode=ro&uri=true\n")
    code, checks = manage.check()
    assert code == FAILURE
    assert "readonly database" in str(checks["Database schema"][1])


def test_check_leaves_no_row_behind(engine: sa.Engine, manage: Manage) -> None:
    before = {table.name: rows(engine, table) for table in METADATA.sorted_tables}
    manage.check()
    assert {table.name: rows(engine, table) for table in METADATA.sorted_tables} == before


def test_options_that_exclude_each_other_are_a_failure(engine: sa.Engine, manage: Manage) -> None:
    manage.configure("[worker]\nlanes = 2\n")
    code, checks = manage.check()
    assert code == FAILURE
    assert "[worker] lanes (2) must be 1 on SQLite" in str(checks["Configuration"][1])
    assert checks["Exchange and queues"][0] == WARNING


def test_parked_events_are_a_warning(bench: LaneBench, manage: Manage) -> None:
    wrong = (partition_of("node", PARTITIONS) + 1) % PARTITIONS
    bench.deliver_body(encode("build_failed", {"node": "node"}), partition=wrong)
    bench.run()
    code, checks = manage.check()
    assert code == WARNING
    assert str(checks["Dead letters"][1]).startswith("Parked events: 1. See")


def test_a_broker_that_does_not_answer_is_named_without_its_password(
    engine: sa.Engine, manage: Manage
) -> None:
    manage.configure("transport_url = rabbit://user:planted-secret@127.0.0.1:1/\n")
    code, checks = manage.check()
    assert code == FAILURE
    result, details = checks["Exchange and queues"]
    assert details is not None
    assert result == FAILURE
    assert "127.0.0.1:1" in details
    assert "planted-secret" not in details
    assert checks["Configuration"][0] == WARNING
    assert "amqp_durable_queues" in str(checks["Configuration"][1])


class Unusable:
    """A client of a Placement that cannot be used."""

    def __init__(self, error: PlacementError) -> None:
        self._error = error

    def check_version(self) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PlacementUnavailable("503"), WARNING),
        (PlacementUnauthorized("401: correct the password"), FAILURE),
        (WrongEndpoint("404: correct the endpoint"), FAILURE),
        (PlacementRefused("this Placement knows the microversions 1.0 to 1.30"), FAILURE),
        (PlacementForbidden("403: the user needs the role service"), FAILURE),
    ],
)
def test_login_or_endpoint_of_placement_that_is_wrong_is_a_failure_and_an_outage_a_warning(
    engine: sa.Engine,
    manage: Manage,
    monkeypatch: pytest.MonkeyPatch,
    error: PlacementError,
    expected: int,
) -> None:
    monkeypatch.setattr(placement, "placement_client", lambda _: Unusable(error))
    manage.configure("[placement]\nenabled = true\n")
    assert manage.check()[1]["Placement"] == (expected, f"No node can be synced, {error.code}: {error}")


def test_nodes_that_are_not_synced_are_named_with_their_codes(
    engine: sa.Engine, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "placement_client", lambda _: create_autospec(PlacementClient))
    with engine.begin() as connection:
        row = {"node": "node-1", "error_code": "placement_unauthorized"}
        connection.execute(sa.insert(PROVIDERS).values(row))
    manage.configure("[placement]\nenabled = true\n")
    result, details = manage.check()[1]["Placement"]
    assert (result, "node-1 (placement_unauthorized)" in str(details)) == (WARNING, True)
