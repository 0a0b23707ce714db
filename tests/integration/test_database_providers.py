# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F811 (fixtures are imported)
"""All databases keep which nodes Placement is to be told of, and what it was told last."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from tests.builders import NODE, a_flavor, a_report, an_instance, command, some_resources
from tests.functional.conftest import a_bench  # noqa: F401
from tests.functional.lanes import LaneBench
from tests.integration.test_database import connection, engine  # noqa: F401
from tracker_worker.db import providers, store
from tracker_worker.db.providers import DueProviders, SyncRecord, Unsynced
from tracker_worker.domain.commands import AnyCommand

DIGEST = "d" * 64
KNOWN = [{"uuid": "u", "name": NODE, "generation": 3}]


@pytest.fixture
def bench(a_bench: Callable[..., LaneBench]) -> LaneBench:
    """A lane that marks the nodes that Placement is to be told of."""
    return a_bench(mark_providers=True)


def due_now(connection: sa.Connection) -> list[DueProviders]:
    with connection.begin():
        providers.add_missing(connection)
    with connection.begin():
        return providers.due(connection, providers.due_nodes(connection, 100))


def synced(due: DueProviders) -> SyncRecord:
    return SyncRecord(due, KNOWN, DIGEST, due_in=300.0, complete=True)


def sync_all(connection: sa.Connection) -> None:
    due = due_now(connection)
    with connection.begin():
        providers.record(connection, [synced(each) for each in due])
    assert due_now(connection) == []


def report(**more: object) -> AnyCommand:
    return a_report(resources=some_resources(**more))


def test_a_new_node_is_due_once_and_not_before_it_is_tracked(
    bench: LaneBench,
    connection: sa.Connection,
) -> None:
    assert due_now(connection) == []
    bench.send(report())
    (due,) = due_now(connection)
    assert (due.node, due.digest, due.known, due.attempts) == (NODE, None, None, 0)
    assert due.changed_at is not None
    assert due.changed_at <= due.now
    sync_all(connection)
    (state,) = providers.states(connection)
    assert (state.node, state.changed_at, state.error_code) == (NODE, None, None)
    assert state.synced_at is not None
    assert state.retry_at == state.synced_at + timedelta(seconds=300)


CHANGES: dict[str, AnyCommand] = {
    "a total": report(vcpus=12),
    "a reserve": report(reserved_host_cpus=1),
    "a ratio": report(cpu_allocation_ratio=3.0),
    "a trait": report(traits=["CUSTOM_GOLD"]),
    "an inventory": report(inventories={"CUSTOM_FPGA": {"total": 2}}),
    "the service's status": command("set_service_status", disabled=True),
    "a removal": command("remove_node", force=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_placement_is_told_of_marks_the_node(
    bench: LaneBench,
    connection: sa.Connection,
    change: AnyCommand,
) -> None:
    bench.send(report())
    sync_all(connection)
    bench.send(change)
    (due,) = due_now(connection)
    assert (due.node, due.digest, due.known) == (NODE, DIGEST, KNOWN)
    assert due.changed_at is not None


NO_CHANGES: dict[str, AnyCommand] = {
    "a claim": command("instance_claim", instance=an_instance(flavor=a_flavor(1, 64, 1))),
    "the driver's own figures": report(
        memory_mb_used=7, vcpus_used=2, disk_available_least=3, stats={"a": 1}
    ),
    "the same report": report(),
}


@pytest.mark.parametrize("event", NO_CHANGES.values(), ids=NO_CHANGES)
def test_what_placement_is_not_told_of_marks_nothing(
    bench: LaneBench,
    connection: sa.Connection,
    event: AnyCommand,
) -> None:
    bench.send(report())
    sync_all(connection)
    bench.send(event)
    assert due_now(connection) == []


def test_nothing_is_marked_where_nothing_is_synced(
    a_bench: Callable[..., LaneBench],
    connection: sa.Connection,
) -> None:
    bench = a_bench()
    bench.send(report())
    sync_all(connection)
    bench.send(CHANGES["a total"])
    assert due_now(connection) == []


def test_a_mark_that_is_set_during_a_sync_stays(
    bench: LaneBench,
    connection: sa.Connection,
) -> None:
    bench.send(report())
    (due,) = due_now(connection)
    bench.send(CHANGES["a total"])
    with connection.begin():
        providers.record(connection, [synced(due)])
    (again,) = due_now(connection)
    assert (again.digest, again.known) == (DIGEST, KNOWN)
    assert again.changed_at == due.changed_at
    assert again.changes == due.changes + 1


def test_a_failed_sync_is_due_when_its_pause_is_over_and_counts_its_attempts(
    bench: LaneBench,
    connection: sa.Connection,
) -> None:
    bench.send(report())
    for attempts in range(3):
        (due,) = due_now(connection)
        assert due.attempts == attempts
        failed = SyncRecord(
            due, KNOWN, None, due_in=0.0, complete=False, error_code="placement_refused", error="why"
        )
        with connection.begin():
            providers.record(connection, [failed])
    (due,) = due_now(connection)
    with connection.begin():
        providers.record(
            connection, [SyncRecord(due, KNOWN, None, due_in=60.0, complete=False, error_code="x")]
        )
    assert due_now(connection) == []
    (state,) = providers.states(connection, [NODE, "another"])
    assert (state.attempts, state.error_code, state.synced_at) == (4, "x", None)
    assert state.changed_at == due.changed_at


def test_a_node_whose_refresh_fails_is_unsynced_since_its_last_sync(
    bench: LaneBench,
    connection: sa.Connection,
) -> None:
    bench.send(report())
    sync_all(connection)
    (state,) = providers.states(connection)
    assert providers.unsynced(connection) == Unsynced(0, None)
    assert (state.is_unsynced, state.unsynced_since) == (False, None)
    connection.rollback()
    with connection.begin():
        providers.ask(connection, [NODE])
    (due,) = due_now(connection)
    failed = SyncRecord(due, KNOWN, DIGEST, due_in=60.0, complete=False, error_code="placement_unauthorized")
    with connection.begin():
        providers.record(connection, [failed])
    (state,) = providers.states(connection)
    assert providers.unsynced(connection) == Unsynced(1, state.synced_at)
    assert (state.is_unsynced, state.unsynced_since) == (True, state.synced_at)


def test_a_node_that_keeps_what_has_allocations_is_unsynced_but_does_not_wait(
    bench: LaneBench,
    connection: sa.Connection,
) -> None:
    bench.send(report())
    (due,) = due_now(connection)
    with connection.begin():
        kept = SyncRecord(due, KNOWN, DIGEST, due_in=300.0, complete=True, error_code="inventory_in_use")
        providers.record(connection, [kept])
    (state,) = providers.states(connection)
    assert providers.unsynced(connection) == Unsynced(1, None)
    assert (state.is_unsynced, state.unsynced_since) == (True, None)


def test_a_node_that_is_not_tried_again_is_due_once_it_is_marked(
    bench: LaneBench,
    connection: sa.Connection,
) -> None:
    bench.send(report())
    (due,) = due_now(connection)
    with connection.begin():
        providers.record(
            connection, [SyncRecord(due, None, None, due_in=None, complete=False, error_code="x")]
        )
    assert due_now(connection) == []
    with connection.begin():
        providers.mark(connection, [NODE])
    assert [each.node for each in due_now(connection)] == [NODE]


def test_the_row_of_a_removed_node_goes_unless_it_comes_back(
    bench: LaneBench,
    connection: sa.Connection,
) -> None:
    bench.send(report())
    sync_all(connection)
    bench.send(CHANGES["a removal"])
    (due,) = due_now(connection)
    assert store.load_reports(connection, [NODE])[NODE].resources is None
    connection.rollback()
    gone = SyncRecord(due, None, None, due_in=None, complete=True, removed=True)
    bench.send(report())
    with connection.begin():
        providers.record(connection, [gone])
    (due,) = due_now(connection)
    with connection.begin():
        providers.record(connection, [SyncRecord(due, None, None, due_in=None, complete=True, removed=True)])
    assert providers.states(connection) == []


def test_a_report_is_loaded_without_claims(bench: LaneBench, connection: sa.Connection) -> None:
    bench.send(report(vcpus=16, cpu_allocation_ratio=2.0))
    bench.send(NO_CHANGES["a claim"])
    node = store.load_reports(connection, [NODE])[NODE]
    assert node.resources is not None
    assert (node.resources.vcpus, node.ratios.cpu, len(node.claims)) == (16, 2.0, 0)


def test_node_whose_time_a_clock_wrote_that_was_set_back_is_due_now(
    bench: LaneBench, connection: sa.Connection
) -> None:
    bench.send(report())
    (due,) = due_now(connection)
    for seconds, expected in ((300.0, []), (3600.0, [NODE])):
        with connection.begin():
            providers.record(connection, [SyncRecord(due, KNOWN, DIGEST, due_in=seconds, complete=True)])
            providers.bring_forward(connection, 310.0)
        assert [each.node for each in due_now(connection)] == expected


def test_no_node_is_brought_forward_where_none_waits(connection: sa.Connection) -> None:
    with connection.begin():
        providers.bring_forward(connection, 310.0)
    assert due_now(connection) == []
