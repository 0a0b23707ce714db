# SPDX-License-Identifier: Apache-2.0
"""A database that comes back without its last commits gives sequences out again: no stale cache may pass."""

import sqlite3
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from tests.builders import INSTANCE, NODE, a_flavor, an_instance, command
from tests.functional.lanes import LaneBench
from tests.functional.statements import Fault, connection_lost, watched
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.node import sum_fault


def boot(uuid: str = INSTANCE, vcpus: int = 2) -> AnyCommand:
    return command("instance_claim", instance=an_instance(uuid, a_flavor(vcpus)))


def database_of(engine: sa.Engine) -> str:
    assert engine.url.database
    return engine.url.database


@pytest.fixture
def restore_point(engine: sa.Engine) -> Callable[[], Callable[[], None]]:
    """Copies the database; what it returns puts the copy back under the connections that are open."""

    def copy() -> Callable[[], None]:
        kept = sqlite3.connect(":memory:")
        with sqlite3.connect(database_of(engine)) as live:
            live.backup(kept)

        def restore() -> None:
            with sqlite3.connect(database_of(engine)) as live:
                kept.backup(live)
            kept.close()

        return restore

    return copy


def after_a_failover(
    a_bench: Callable[..., LaneBench], restore_point: Callable[[], Callable[[], None]]
) -> tuple[LaneBench, LaneBench]:
    """Two workers: what the first one has in its cache is lost, the second has used its sequence again."""
    one, other = a_bench(), a_bench()
    one.track()
    restore = restore_point()
    one.send(boot("i-lost", 4))
    restore()
    other.send(boot("i-other", 2))
    return one, other


def test_stale_cache_is_refused_though_the_sequence_came_round_again(
    a_bench: Callable[..., LaneBench], restore_point: Callable[[], Callable[[], None]]
) -> None:
    """No error tells of the failover: a pooler has hidden it."""
    one, other = after_a_failover(a_bench, restore_point)
    assert one.sequence() == 2, "as the first worker has it in its cache"
    claimed = one.send(boot("i-late", 1))
    assert claimed.answer["sequence"] == 3
    assert one.claimed() == {("i-other", "instance"): 2, ("i-late", "instance"): 1}
    node = other.unit_of_work.load([NODE])[NODE]
    assert sum_fault(node) is None
    assert one.used()[0] == 3


def test_read_is_not_answered_from_a_cache_of_the_lost_history(
    a_bench: Callable[..., LaneBench], restore_point: Callable[[], Callable[[], None]]
) -> None:
    one, _ = after_a_failover(a_bench, restore_point)
    assert one.send(command("get_node")).answer["vcpus_used"] == 2


@pytest.mark.parametrize("beginning", ["SELECT", "UPDATE nodes"])
def test_lost_connection_costs_the_lane_all_its_cached_nodes(bench: LaneBench, beginning: str) -> None:
    bench.track("node-1", "node-2")
    with Fault(bench.engine, beginning, connection_lost, times=1):
        for _ in range(2):  # The receipt of one alone is not looked up.
            bench.deliver(command("build_failed", node="node-1"))
        bench.run()
    with watched(bench.engine) as seen:
        bench.send(command("build_failed", node="node-2"))
    assert [s for s in seen if s.sql.startswith("SELECT nodes")], "loaded again"


def test_lost_partition_costs_the_lane_all_its_cached_nodes(bench: LaneBench) -> None:
    bench.track()
    bench.lane.inbox.drop(0)
    with watched(bench.engine) as seen:
        bench.send(command("build_failed"))
    assert [s for s in seen if s.sql.startswith("SELECT nodes")], "loaded again"


def test_each_commit_gives_its_nodes_an_id_of_its_own(bench: LaneBench) -> None:
    bench.track("node-1", "node-2")
    first = {node.commit_id for node in bench.unit_of_work.load(["node-1", "node-2"]).values()}
    bench.send(command("build_failed", node="node-1"))
    later = bench.unit_of_work.load(["node-1"])["node-1"].commit_id
    assert len(first) == 1
    assert later not in first
