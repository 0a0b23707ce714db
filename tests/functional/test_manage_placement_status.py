# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage placement status and placement sync."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders import NODE, an_instance, command
from tests.functional.lanes import NOW, OTHER_NODE, LaneBench
from tests.functional.manage import Manage
from tracker_worker.db import providers
from tracker_worker.db.providers import Unsynced
from tracker_worker.db.tables import PROVIDERS


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def synced(bench: LaneBench, engine: sa.Engine) -> LaneBench:
    """Two nodes that Placement has."""
    bench.track(NODE, OTHER_NODE)
    with engine.begin() as connection:
        providers.add_missing(connection)
    write(engine, NODE, changed_at=None, due_at=None, synced_at=NOW)
    write(engine, OTHER_NODE, changed_at=None, due_at=None, synced_at=NOW)
    return bench


def write(engine: sa.Engine, node: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(PROVIDERS).where(PROVIDERS.c.node == node).values(values))


def test_nodes_that_wait_are_shown(synced: LaneBench, manage: Manage, engine: sa.Engine) -> None:
    assert manage.json("placement", "status") == []
    assert "0 of 2 nodes wait to be synced" in manage.err
    write(engine, NODE, changed_at=NOW, due_at=NOW)
    (shown,) = manage.json("placement", "status")
    assert (shown["node"], shown["changed_at"]) == (NODE, "2026-11-22T12:00:00Z")
    assert "1 of 2 nodes wait to be synced, the first since 2026-11-22T12:00:00Z" in manage.err


def test_node_that_cannot_be_synced_waits_although_nothing_has_changed(
    synced: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    later = datetime(2999, 1, 1)
    write(engine, NODE, error_code="placement_unauthorized", error="401", attempts=3, due_at=later)
    assert manage.run("placement", "status") == 1
    assert (
        "1 of 2 nodes wait to be synced, the first since 2026-11-22T12:00:00Z; 1 of them with an error"
        in manage.err
    )
    with engine.connect() as connection:
        assert providers.unsynced(connection) == Unsynced(1, NOW)


def test_change_that_no_worker_takes_needs_a_person_where_placement_is_used(
    synced: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    write(engine, NODE, changed_at=datetime(2000, 1, 1), due_at=datetime(2000, 1, 1))
    manage.run("status", "--format", "json")
    assert "in sync with Placement" not in manage.out
    manage.configure("[placement]\nenabled = true\n")
    assert manage.run("status", "--format", "json") == 1
    assert f"nodes are not in sync with Placement: {NODE}; see" in manage.out


def test_marked_node_waits_without_a_worker(synced: LaneBench, manage: Manage, engine: sa.Engine) -> None:
    write(engine, OTHER_NODE, due_at=datetime(2999, 1, 1))
    manage.json("placement", "sync", NODE)
    (shown,) = manage.json("placement", "status")
    assert (shown["node"], shown["changed_at"]) == (NODE, None)
    assert f"1 of 2 nodes wait to be synced, the first since {shown['retry_at'][:19]}" in manage.err


def test_synced_nodes_are_shown_on_request(synced: LaneBench, manage: Manage) -> None:
    assert [each["node"] for each in manage.json("placement", "status", "--all")] == [NODE, OTHER_NODE]
    assert [each["node"] for each in manage.json("placement", "status", OTHER_NODE)] == [OTHER_NODE]
    assert manage.run("placement", "status", "--all") == 0
    assert "Nodes in Placement" in manage.out


@pytest.mark.parametrize(
    "fault",
    [{"error_code": "placement_refused", "error": "403: forbidden"}, {"foreign_provider": "somebody-else"}],
)
def test_error_or_another_writer_is_exit_code_1(
    synced: LaneBench, manage: Manage, engine: sa.Engine, fault: dict[str, str]
) -> None:
    write(engine, NODE, **fault)
    assert manage.run("placement", "status") == 1
    assert all(text in manage.out for text in fault.values())


def test_configuration_without_placement_is_named(synced: LaneBench, manage: Manage) -> None:
    assert manage.run("placement", "status") == 0
    assert "[placement] enabled is false" in manage.err
    manage.configure("[placement]\nenabled = true\n")
    assert manage.run("placement", "status") == 0
    assert "enabled is false" not in manage.err


@pytest.mark.parametrize("changed_at", [None, NOW])
def test_marked_node_is_due_and_compared_where_nothing_has_changed(
    synced: LaneBench, manage: Manage, engine: sa.Engine, changed_at: datetime | None
) -> None:
    write(engine, NODE, changed_at=changed_at)
    assert manage.json("placement", "sync", NODE) == [{"node": NODE, "marked": True}]
    assert f"'placement status {NODE}'" in manage.err
    with engine.connect() as connection:
        (due,) = providers.due(connection, [NODE])
    assert (due.node, due.changed_at) == (NODE, changed_at)


def due_nodes(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(providers.due_nodes(connection, 100))


@pytest.mark.parametrize("arguments", [[NODE, OTHER_NODE, NODE], ["--all"]])
def test_several_nodes_are_marked_at_once(
    synced: LaneBench, manage: Manage, engine: sa.Engine, arguments: list[str]
) -> None:
    assert manage.json("placement", "sync", *arguments) == [
        {"node": NODE, "marked": True},
        {"node": OTHER_NODE, "marked": True},
    ]
    assert "syncs 2 nodes" in manage.err
    assert due_nodes(engine) == [NODE, OTHER_NODE]


def test_no_node_is_marked_if_one_is_unknown(synced: LaneBench, manage: Manage, engine: sa.Engine) -> None:
    assert "'nobody' is not tracked" in manage.complaint("placement", "sync", NODE, "nobody")
    assert due_nodes(engine) == []


def test_node_among_others_that_no_worker_has_synced_is_named(
    synced: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    synced.track("new")
    assert manage.run("placement", "sync", "new", NODE, "--format", "json") == 1
    assert json.loads(manage.out) == [{"node": "new", "marked": False}, {"node": NODE, "marked": True}]
    assert "'new' was never synced" in manage.err
    assert due_nodes(engine) == [NODE]


@pytest.mark.parametrize("arguments", [[], [NODE, "--all"]])
def test_either_nodes_or_all_are_marked(synced: LaneBench, manage: Manage, arguments: list[str]) -> None:
    assert manage.run("placement", "sync", *arguments) == 2


def test_all_nodes_cannot_be_marked_where_none_was_synced(bench: LaneBench, manage: Manage) -> None:
    bench.track(NODE)
    assert "no node was ever synced" in manage.complaint("placement", "sync", "--all")


def test_removed_node_is_marked_too(synced: LaneBench, manage: Manage) -> None:
    synced.send(command("remove_node", node=NODE))
    assert manage.run("placement", "sync", NODE) == 0


def test_node_that_no_worker_has_synced_is_not_marked(bench: LaneBench, manage: Manage) -> None:
    bench.track(NODE)
    assert "[placement] enabled = true" in manage.complaint("placement", "sync", NODE)
    assert manage.run("placement", "status", NODE) == 0
    assert "was never synced" in manage.err


def test_unknown_node_is_named(bench: LaneBench, manage: Manage) -> None:
    bench.send(command("instance_claim", node="nobody", instance=an_instance()))
    for arguments in (["status", "nobody"], ["sync", "nobody"]):
        assert "'nobody' is not tracked" in manage.complaint("placement", *arguments)
