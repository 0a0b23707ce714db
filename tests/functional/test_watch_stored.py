# SPDX-License-Identifier: Apache-2.0
"""The nodes that a watch reads from the database at its start."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from oslo_config import cfg

from tests.builders import NODE, a_report, an_instance, some_resources
from tests.functional.lanes import OTHER_NODE, LaneBench
from tracker_worker.cmd import bootstrap
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.watch import stored
from tracker_worker.cmd.watch.selection import Selection
from tracker_worker.cmd.watch.stored import stored_usages
from tracker_worker.core.envelope import seal
from tracker_worker.core.received_notification import NotificationData, read_notification
from tracker_worker.db.tables import OUTBOX
from tracker_worker.domain.commands import InstanceClaim


@pytest.fixture
def conf(tmp_path: Path) -> cfg.ConfigOpts:
    """A configuration whose embedded database is the bench's."""
    made = cfg.ConfigOpts()
    bootstrap.register(made)
    made([], project="tracker-worker", default_config_files=[])
    made.set_override("state_path", str(tmp_path))
    return made


def read(conf: cfg.ConfigOpts, **selection: Any) -> dict[str | None, NotificationData]:
    return {data.node: data for chunk in stored_usages(conf, Selection(**selection)) for data in chunk}


def fill(bench: LaneBench) -> None:
    other = some_resources(uuid="22222222-2222-4222-8222-222222222222")
    for command in (a_report(), a_report(node=OTHER_NODE, resources=other)):
        bench.deliver(command)
    bench.deliver(InstanceClaim(node=NODE, instance=an_instance()))
    bench.run()


def test_stored_node_is_as_its_last_notification_had_it(
    bench: LaneBench, conf: cfg.ConfigOpts, engine: sa.Engine
) -> None:
    fill(bench)
    found = read(conf)
    assert set(found) == {NODE, OTHER_NODE}
    of_usage = sa.select(OUTBOX.c.body).where(OUTBOX.c.node == NODE, OUTBOX.c.event_type.endswith("usage"))
    with engine.connect() as connection:
        *_, last = connection.scalars(of_usage.order_by(OUTBOX.c.id))
    notification = read_notification(seal(last.decode()))
    assert notification is not None
    only_published: dict[str, Any] = {"since": 0, "events": 0, "cause_object": None}
    assert found[NODE] == replace(notification.data, **only_published)
    assert Selection(project="project-1").has_instances_in(found[NODE])


def test_nodes_are_read_in_chunks(
    bench: LaneBench, conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench)
    monkeypatch.setattr(stored, "CHUNK", 1)
    assert [len(chunk) for chunk in stored_usages(conf, Selection())] == [1, 1]


def test_only_selected_nodes_are_read(bench: LaneBench, conf: cfg.ConfigOpts) -> None:
    fill(bench)
    assert set(read(conf, nodes=("*-2",))) == {OTHER_NODE}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("resources", '{"uuid": 1}'),
        ("resources", "{x"),
        ("conflicts", "{x"),
        ("cpu_allocation_ratio", 1e308),
    ],
)
def test_unreadable_node_is_left_out(
    bench: LaneBench, conf: cfg.ConfigOpts, engine: sa.Engine, column: str, value: object
) -> None:
    fill(bench)
    with engine.begin() as connection:
        damaged = sa.text(f"UPDATE nodes SET {column} = :value WHERE name = :name")  # noqa: S608
        connection.execute(damaged, {"value": value, "name": NODE})
    assert set(read(conf)) == {OTHER_NODE}


def test_without_a_database_there_are_no_nodes(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    conf.set_override("state_path", str(tmp_path / "nowhere"))
    assert read(conf) == {}


def test_unusable_database_is_named(conf: cfg.ConfigOpts) -> None:
    conf.set_override("connection", "postgresql://user:secret@127.0.0.1:1/x", group="database")
    with pytest.raises(CommandFailed, match="127.0.0.1:1") as caught:
        read(conf)
    assert "secret" not in str(caught.value)
