# SPDX-License-Identifier: Apache-2.0
"""Workers of one database agree on partitions and rules: the first writes them down, the next compares."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from oslo_config import cfg

from tests.functional.lanes import rows
from tests.functional.manage import Manage
from tracker_worker.cmd import bootstrap, sharing
from tracker_worker.db.tables import SHARED_SETTINGS
from tracker_worker.worker.configuration import settings_from

SUCCESS, WARNING, FAILURE = 0, 1, 2


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


Shared = Callable[..., sharing.SharedSettings]


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    """The shared settings of a configuration with some lines of its own."""

    def make(lines: str = "") -> sharing.SharedSettings:
        file = tmp_path / "worker.conf"
        file.write_text(lines)
        conf = cfg.ConfigOpts()
        bootstrap.register(conf)
        conf(["--config-file", str(file)], project="tracker-worker")
        bootstrap.transports(conf)
        return sharing.shared_settings_of(conf, settings_from(conf))

    return make


def test_first_worker_writes_its_values_down_and_a_second_one_agrees(
    engine: sa.Engine, shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    sharing.agree(engine, shared())
    written = rows(engine, SHARED_SETTINGS)
    sharing.agree(engine, shared())
    assert rows(engine, SHARED_SETTINGS) == written
    values = {row["name"]: row["value"] for row in written}
    assert values["[bus] partitions"] == "16"
    assert values["[bus] exchange"] == '"tracker"'
    assert values["[tracker] reserved_host_memory_mb"] == "512"
    assert "[pci] device_spec" in values
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("lines", "name", "both"),
    [
        ("[bus]\npartitions = 32\n", "[bus] partitions", ("32", "16")),
        ("[bus]\nexchange = other\n", "[bus] exchange", ('"other"', '"tracker"')),
    ],
)
def test_worker_with_other_partitions_does_not_start(
    engine: sa.Engine, shared: Shared, lines: str, name: str, both: tuple[str, str]
) -> None:
    sharing.agree(engine, shared())
    with pytest.raises(ValueError, match="settings accept") as caught:
        sharing.agree(engine, shared(lines))
    assert name in str(caught.value)
    assert all(value in str(caught.value) for value in both)


def test_kind_of_queues_is_shared_where_there_is_a_broker(engine: sa.Engine, shared: Shared) -> None:
    url = "[DEFAULT]\ntransport_url = rabbit://u:p@127.0.0.1:1/\n[oslo_messaging_rabbit]\n"
    sharing.agree(engine, shared(url + "amqp_durable_queues = true\n"))
    with pytest.raises(ValueError, match="rabbit_quorum_queue is true here and false"):
        sharing.agree(engine, shared(url + "rabbit_quorum_queue = true\n"))


def test_worker_with_another_rule_starts_and_names_it_once(
    engine: sa.Engine, shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    sharing.agree(engine, shared())
    sharing.agree(engine, shared("[tracker]\nreserved_host_memory_mb = 1024\n"))
    (line,) = caplog.messages
    assert "[tracker] reserved_host_memory_mb is 1024 here and 512 in the database" in line
    caplog.clear()
    sharing.agree(engine, shared("[tracker]\nreserved_host_memory_mb = 1024\n"))
    assert caplog.messages == []


def test_workers_that_start_together_agree(engine: sa.Engine, shared: Shared) -> None:
    both = shared()
    failures = []
    barrier = threading.Barrier(2)

    def start() -> None:
        barrier.wait()
        try:
            sharing.agree(engine, both)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_upgrade_check_fails_on_other_partitions_and_warns_of_other_rules(
    engine: sa.Engine, shared: Shared, manage: Manage
) -> None:
    sharing.agree(engine, shared())
    assert manage.check()[1]["Shared settings"][0] == SUCCESS
    manage.configure("[tracker]\ncapacity_check = none\n")
    result, details = manage.check()[1]["Shared settings"]
    assert details is not None
    assert (result, "[tracker] capacity_check" in details) == (WARNING, True)
    manage.configure("[bus]\npartitions = 32\n")
    result, details = manage.check()[1]["Shared settings"]
    assert details is not None
    assert (result, "[bus] partitions is 32 here and 16" in details) == (FAILURE, True)


def test_settings_that_differ_are_marked(engine: sa.Engine, shared: Shared, manage: Manage) -> None:
    sharing.agree(engine, shared())
    manage.configure("[tracker]\ncapacity_check = none\nreceipt_days = 30\n")
    assert manage.run("settings", "show", "--format", "json") == 1
    differing = {row["name"] for row in json.loads(manage.out) if row["differs"]}
    assert differing == {"[tracker] capacity_check", "[tracker] receipt_days"}
    assert manage.run("settings", "show") == 1
    marked = [line for line in manage.out.splitlines() if "yes" in line]
    assert len(marked) == 2 and all('"none"' in line or " 30 " in line for line in marked)
    first, second = manage.err.splitlines()
    assert "[tracker] capacity_check differs: give all workers" in first
    assert "[tracker] receipt_days differs: give all workers" in second


def test_setting_that_only_one_side_has_does_not_differ(
    engine: sa.Engine, shared: Shared, manage: Manage
) -> None:
    sharing.agree(engine, shared("[DEFAULT]\ntransport_url = rabbit://u:p@127.0.0.1:1/\n"))
    (only,) = [row for row in manage.json("settings", "show") if row["configured"] is None]
    assert (only["name"], only["differs"]) == (sharing.QUORUM, False)


def test_settings_accept_is_the_way_out(engine: sa.Engine, shared: Shared, manage: Manage) -> None:
    sharing.agree(engine, shared())
    manage.configure("[bus]\npartitions = 32\n")
    assert manage.run("settings", "show") == 1
    assert "[bus] partitions" in manage.out
    shown = {row["name"]: row for row in manage.json("settings", "accept")}
    assert shown["[bus] partitions"]["database"] == "32"
    sharing.agree(engine, shared("[bus]\npartitions = 32\n"))
    assert manage.run("settings", "show") == 0
