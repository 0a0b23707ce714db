# SPDX-License-Identifier: Apache-2.0
"""A lane counts the nodes that need an operator: broken, in conflict, or with a reserve above their size."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from tests.builders import NODE, a_report, command, some_resources
from tests.functional.lanes import OTHER_NODE, LaneBench
from tests.functional.statements import Fault, connection_lost
from tests.servers.server import wait_until
from tracker_worker.db.tables import NODES
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Origin


def faults(bench: LaneBench) -> dict[str, int]:
    """The counts that are not 0."""
    return {code: count for code, count in bench.lane.state().faulty_nodes.items() if count}


def report(memory_mb: int = 16384, node: str = NODE, **more: str) -> AnyCommand:
    fields = {"uuid": f"uuid-of-{node}", "host": f"host-of-{node}", **more}
    return a_report(node=node, resources=some_resources(memory_mb=memory_mb, **fields))


def set_used(bench: LaneBench, vcpus: int) -> None:
    with bench.engine.begin() as connection:
        connection.execute(sa.update(NODES).where(NODES.c.name == NODE).values(vcpus_used=vcpus))


def test_lane_of_sound_nodes_counts_each_fault_as_0(bench: LaneBench) -> None:
    bench.track(NODE, OTHER_NODE)
    assert bench.lane.state().faulty_nodes == {
        "ledger_broken": 0,
        "node_conflict": 0,
        "reserve_too_large": 0,
    }


@pytest.mark.parametrize("name", [NODE, OTHER_NODE], ids=["of a tracked name", "of an untracked name"])
def test_conflict_counts_once_until_the_stored_node_is_removed(bench: LaneBench, name: str) -> None:
    bench.track(NODE)
    theirs = report(node=name, uuid="another" if name == NODE else f"uuid-of-{NODE}")
    bench.send(theirs)
    bench.send(theirs)
    assert faults(bench) == {"node_conflict": 1}
    bench.send(command("remove_node"))
    assert bench.send(theirs).outcome == "applied"
    assert faults(bench) == {}


def test_reserve_above_the_size_counts_until_a_report_has_a_larger_size(bench: LaneBench) -> None:
    bench.send(report(memory_mb=100))
    bench.send(command("build_failed"))
    assert faults(bench) == {"reserve_too_large": 1}
    bench.send(report())
    assert faults(bench) == {}


def test_removed_node_has_no_reserve(bench: LaneBench) -> None:
    bench.send(report(memory_mb=100))
    bench.send(command("remove_node"))
    assert faults(bench) == {}


def test_stored_fault_counts_from_the_first_event_of_a_new_lane(a_bench: Callable[..., LaneBench]) -> None:
    first = a_bench()
    first.send(report(memory_mb=100))
    first.send(report(uuid="another"))
    second = a_bench()
    assert faults(second) == {}
    second.send(command("build_failed"))
    assert faults(second) == {"node_conflict": 1, "reserve_too_large": 1}


def test_stored_fault_counts_from_an_audit_that_changes_nothing(a_bench: Callable[..., LaneBench]) -> None:
    def audit(number: int) -> AnyCommand:
        resources = some_resources(memory_mb=100)
        return a_report([], resources=resources, origin=Origin("nova", number), as_of=number)

    first, second = a_bench(), a_bench()
    for number in (1, 2, 3):
        first.send(audit(number))
    assert second.send(audit(4)).outcome == "ignored"
    assert faults(second) == faults(first) == {"reserve_too_large": 1}


def test_broken_node_counts_until_its_ledger_is_right(a_bench: Callable[..., LaneBench]) -> None:
    a_bench().track(NODE)
    bench = a_bench()
    set_used(bench, 7)
    bench.send(command("build_failed"))
    assert faults(bench) == {"ledger_broken": 1}
    set_used(bench, 0)
    bench.seconds += 60
    bench.run()
    assert faults(bench) == {}


def test_lane_that_lost_its_partitions_counts_none_of_their_nodes(bench: LaneBench) -> None:
    delivery = bench.send(report(memory_mb=100))
    bench.lane.inbox.drop(delivery.partition)
    bench.run()
    assert faults(bench) == {}


def test_idle_lane_that_lost_its_partitions_counts_none_of_their_nodes(bench: LaneBench) -> None:
    """Another worker counts them from now on, and this one may get no delivery for days."""
    delivery = bench.send(report(memory_mb=100))
    assert faults(bench) != {}
    with bench.at_work():
        wait_until(lambda: not bench.lane.inbox._wakeup.is_set(), "the lane is idle")
        bench.lane.inbox.drop(delivery.partition)
        wait_until(lambda: faults(bench) == {}, "the lane has forgotten its nodes")


def test_retry_after_an_error_of_the_server_forgets_no_fault(bench: LaneBench) -> None:
    bench.send(report(memory_mb=100))
    with Fault(bench.engine, "UPDATE nodes", connection_lost, times=1):
        bench.send(command("build_failed"))
    assert faults(bench) == {"reserve_too_large": 1}
