# SPDX-License-Identifier: Apache-2.0
"""Looking at held nodes again, and rebuilding them: what goes wrong on the way, and what it costs."""

from collections.abc import Callable, Iterable

import pytest
import sqlalchemy as sa

from tests.builders import NODE
from tests.functional.lanes import OTHER_NODE, LaneBench
from tests.functional.test_lane_broken_ledger import boot, delete_claim, mend, startup_audit
from tracker_worker.db.tables import CLAIMS, NODES
from tracker_worker.domain.node import Node

UNREADABLE = "UPDATE nodes SET resources = '{' WHERE name = ?"


@pytest.fixture
def first(a_bench: Callable[..., LaneBench]) -> LaneBench:
    """A worker that tracks two nodes; one of them has a claim."""
    bench = a_bench()
    bench.track(NODE, OTHER_NODE)
    bench.send(boot("i-0"))
    return bench


def loads(bench: LaneBench, seconds: float = 0.0) -> list[list[str]]:
    """The names of each load from now on, each of which takes this long."""
    seen: list[list[str]] = []
    load = bench.unit_of_work.load

    def watched(names: Iterable[str]) -> dict[str, Node]:
        bench.seconds += seconds
        seen.append(sorted(names))
        return load(names)

    bench.unit_of_work.load = watched  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("broken", [[OTHER_NODE], [NODE, OTHER_NODE]])
def test_held_node_that_cannot_be_read_is_told_from_the_others(
    first: LaneBench, a_bench: Callable[..., LaneBench], broken: list[str]
) -> None:
    """Found by a review: loaded together, the error of one ended the lane."""
    if NODE not in broken:
        delete_claim(first.engine)
    with first.engine.begin() as connection:
        for name in broken:
            connection.exec_driver_sql(UNREADABLE, (name,))
    bench = a_bench()
    held = bench.deliver(boot("i-1"))
    also_held = bench.deliver(boot("i-2", node=OTHER_NODE))
    bench.run()
    assert (held.answers, also_held.answers, bench.parked()) == ([], [], [])
    if NODE not in broken:
        mend(first.engine)
        bench.seconds += 60
        bench.run()
        assert (held.outcome, also_held.answers) == ("granted", [])


def test_node_with_a_text_in_a_column_of_numbers_is_held(
    first: LaneBench, a_bench: Callable[..., LaneBench]
) -> None:
    """SQLite alone stores one there."""
    with first.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nodes SET vcpus_used = 'many' WHERE name = ?", (NODE,))
    bench = a_bench()
    held = bench.send(boot("i-1"))
    bench.seconds += 60
    bench.run()
    assert (held.answers, bench.parked()) == ([], [])


@pytest.mark.parametrize("fault", ["a trigger", "a row that was put back to sequence 0"])
def test_rebuild_that_the_database_refuses_leaves_the_node_held_and_others_go_on(
    first: LaneBench, a_bench: Callable[..., LaneBench], fault: str
) -> None:
    """Found by a review: it was tried again without end, and the whole lane waited."""
    delete_claim(first.engine)
    with first.engine.begin() as connection:
        if fault == "a trigger":
            connection.exec_driver_sql(
                f"CREATE TRIGGER refuses BEFORE UPDATE ON nodes WHEN NEW.name = '{NODE}'"
                " BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        else:
            connection.execute(sa.update(NODES).where(NODES.c.name == NODE).values(sequence=0))
    bench = a_bench()
    audit = bench.deliver(startup_audit())
    other = bench.deliver(boot(node=OTHER_NODE))
    bench.run()
    assert (audit.answers, other.outcome, bench.parked()) == ([], "granted", [])
    if fault == "a trigger":
        with first.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER refuses")
        bench.seconds += 60
        bench.run()
        assert audit.outcome == "ignored", "the rebuild has left nothing to correct"


def test_audit_with_startup_loads_the_node_alone_that_it_repairs(a_bench: Callable[..., LaneBench]) -> None:
    """Found by a review: each loaded every held node, so that repairing all of them was quadratic."""
    first = a_bench()
    names = [f"node-{number}" for number in range(20)]
    first.track(*names)
    for name in names:
        first.send(boot(f"i-{name}", node=name))
    with first.engine.begin() as connection:
        connection.execute(sa.delete(CLAIMS))
    bench = a_bench()
    for name in names:
        bench.deliver(boot(f"j-{name}", node=name))
    bench.run()
    seen = loads(bench)
    assert bench.send(startup_audit(names[0])).outcome == "applied"
    assert {name for loaded in seen for name in loaded} == {names[0]}


def test_look_at_held_nodes_that_takes_longer_than_its_interval_does_not_follow_itself(
    first: LaneBench, a_bench: Callable[..., LaneBench]
) -> None:
    delete_claim(first.engine)
    bench = a_bench()
    bench.send(boot("i-1"))
    bench.seconds += 60
    seen = loads(bench, seconds=10.0)
    for _ in range(5):
        bench.lane.step()
    assert len(seen) == 2, "one look, which loads a broken node once more"
