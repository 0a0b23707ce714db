# SPDX-License-Identifier: Apache-2.0
"""What has outlived its retention goes in small deletes, by the database's clock and the nodes' sequences."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders import NODE, command
from tests.functional.lanes import OTHER_NODE, PARTITIONS, LaneBench, rows
from tests.functional.statements import Fault, disk_full, watched
from tracker_worker.core.envelope import encode
from tracker_worker.core.quarantine import Attempts
from tracker_worker.db import attempts, retention
from tracker_worker.db.retention import NAMES_AT_ONCE, ROWS_AT_ONCE, Sequenced
from tracker_worker.db.tables import ATTEMPTS, DEAD_LETTERS, NODES, RECEIPTS, TOUCHED
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.purge import Purge, Purged, last_old
from tracker_worker.worker.settings import Retention

DAYS = 7
AHEAD = -365
"""The age, in days, of a row that is dated a year ahead."""


@pytest.fixture
def now(engine: sa.Engine) -> datetime:
    """The database's time."""
    with engine.connect() as connection:
        return retention.now(connection)


APurge = Callable[..., Purge]
Received = Callable[..., None]
Stored = Callable[..., None]
ANode = Callable[..., None]


@pytest.fixture
def a_purge(engine: sa.Engine) -> APurge:
    return partial(a_purge_of, engine)


def a_purge_of(engine: sa.Engine, **settings: Any) -> Purge:
    return Purge(engine, Retention(**({"newest_receipts": 0} | settings)), lambda: None)


@pytest.fixture
def purge(a_purge: APurge) -> Purge:
    """A purge that keeps receipts for their age alone."""
    return a_purge()


@pytest.fixture
def received(bench: LaneBench, now: datetime) -> Received:
    """Lets events of a node have been settled so many days ago; the receipt of its first report is gone."""

    def settle(age_in_days: float, *event_ids: str, node: str = NODE) -> None:
        if node not in [row["name"] for row in bench.rows(NODES)]:
            bench.track(node)
            with bench.engine.begin() as connection:
                connection.execute(sa.delete(RECEIPTS).where(RECEIPTS.c.node == node))
        for event_id in event_ids:
            bench.deliver(command("build_failed", node=node), event_id)
        bench.run()
        bench.date(now - timedelta(days=age_in_days), *event_ids)

    return settle


@pytest.fixture
def stored(engine: sa.Engine, now: datetime) -> Stored:
    """Stores receipts of a node, with sequences from 1 on, or without one; each is so many days old."""

    def store(node: str, ages_in_days: Sequence[float], *more_nodes: str, sequenced: bool = True) -> None:
        some: list[dict[str, Any]] = [
            {
                "event_id": str(uuid.uuid4()), "digest": "", "node": name, "outcome": "applied", "reply": {},
                "sequence": sequence if sequenced else None, "recorded_at": now - timedelta(days=age),
            }
            for name in (node, *more_nodes)
            for sequence, age in enumerate(ages_in_days, 1)
        ]  # fmt: skip
        with engine.begin() as connection:
            for first in range(0, len(some), 1000):
                connection.execute(sa.insert(RECEIPTS), some[first : first + 1000])

    return store


@pytest.fixture
def a_node(engine: sa.Engine, stored: Stored) -> ANode:
    """Stores the row of a node, tracked or removed, with its receipts."""

    def store(name: str, ages_in_days: Sequence[float], *, tracked: bool = True) -> None:
        row: dict[str, Any] = dict.fromkeys((c.name for c in NODES.columns if not c.nullable), 0)
        row |= {"name": name, "sequence": len(ages_in_days), "conflicts": [], "disabled": False}
        row |= {"uuid": f"uuid-of-{name}"[:36] if tracked else None, "resources": None}
        with engine.begin() as connection:
            connection.execute(sa.insert(NODES).values(row))
        stored(name, ages_in_days)

    return store


def sequences(engine: sa.Engine, node: str = NODE) -> list[int]:
    return sorted(row["sequence"] for row in rows(engine, RECEIPTS) if row["node"] == node)


def misplaced(bench: LaneBench, event_id: str, node: str = NODE) -> None:
    """An event that leaves a receipt without a sequence, and a dead letter."""
    body = encode("build_failed", {"node": node, "event_id": event_id})
    bench.deliver_body(body, partition=(partition_of(node, PARTITIONS) + 1) % PARTITIONS)
    bench.run()


# Ages.


def test_receipts_older_than_the_newest_of_their_node_by_so_many_days_go(
    bench: LaneBench, purge: Purge, received: Received
) -> None:
    received(8, "old-1", "old-2")
    received(6.9, "young")
    received(0, "newest")
    assert purge.run_once() == Purged(receipts=2)
    assert bench.receipts().keys() == {"young", "newest"}
    assert purge.run_once() == Purged()


def test_a_receipt_of_exactly_that_age_stays(purge: Purge, received: Received) -> None:
    received(DAYS, "border")
    received(0, "newest")
    assert purge.run_once() == Purged()


def test_a_node_that_has_been_silent_keeps_what_it_had(
    bench: LaneBench, purge: Purge, received: Received
) -> None:
    """A worker that was down for a month still knows every event that may come again."""
    received(30, "silent-1", node=OTHER_NODE)
    received(29, "silent-2", node=OTHER_NODE)
    received(30, "old")
    received(0, "newest")
    assert purge.run_once().receipts == 1
    assert bench.receipts().keys() == {"silent-1", "silent-2", "newest"}


def test_a_dry_run_counts_the_same_and_deletes_nothing(
    bench: LaneBench, purge: Purge, received: Received, a_node: ANode
) -> None:
    a_node("removed", [60] * (ROWS_AT_ONCE + 1), tracked=False)
    received(8, "old-1", "old-2")
    received(0, "newest")
    before = bench.receipts()
    counted = purge.run_once(dry_run=True)
    assert counted == Purged(receipts=2 + ROWS_AT_ONCE + 1, nodes=1)
    assert bench.receipts() == before
    assert purge.run_once() == counted


def test_a_purged_node_keeps_its_sequence(bench: LaneBench, purge: Purge, received: Received) -> None:
    bench.track()
    received(0, "newest")
    bench.date(datetime(2020, 1, 1), *(bench.receipts().keys() - {"newest"}))
    assert purge.run_once().receipts == 1
    assert bench.sequence() == 2
    assert bench.send(command("build_failed")).answer["sequence"] == 3


# Clocks that were wrong.


def test_a_purge_does_not_ask_the_clock_of_a_worker(
    bench: LaneBench, purge: Purge, received: Received
) -> None:
    """A worker's clock was 8 days ahead, or behind, for one event: a redelivery must find every receipt."""
    bench.track()
    for days in (8, -8, 365):
        bench.now += timedelta(days=days)
        bench.send(command("build_failed"), f"event-{days}")
    assert purge.run_once() == Purged()
    failed = bench.rows(NODES)[0]["failed_builds"]
    for days in (8, -8, 365):
        bench.send(command("build_failed"), f"event-{days}", redelivered=True)
    assert bench.rows(NODES)[0]["failed_builds"] == failed == 3


def test_the_newest_thousand_of_a_node_stay_whatever_their_age(
    engine: sa.Engine, a_purge: APurge, a_node: ANode
) -> None:
    a_node(NODE, [*[30] * 1010, 0])
    assert a_purge(newest_receipts=Retention().newest_receipts).run_once() == Purged(receipts=11)
    assert sequences(engine) == list(range(12, 1012))


def test_nothing_of_a_node_is_older_than_its_clock_while_it_is_dated_ahead(
    engine: sa.Engine, purge: Purge, a_node: ANode
) -> None:
    """The newest receipt is dated a year ahead: it counts as written now."""
    a_node(NODE, [8, 6, 1, AHEAD])
    assert purge.run_once() == Purged(receipts=1)
    assert sequences(engine) == [2, 3, 4]


def test_a_receipt_that_is_dated_ahead_goes_with_an_old_one_behind_it(
    engine: sa.Engine, purge: Purge, a_node: ANode
) -> None:
    a_node(NODE, [AHEAD, AHEAD, 30, AHEAD, 8, AHEAD, 6, 30, 0])
    assert purge.run_once() == Purged(receipts=5)
    assert sequences(engine) == [6, 7, 8, 9]
    assert purge.run_once() == Purged()


def test_more_receipts_dated_ahead_than_a_step_are_no_barrier(
    engine: sa.Engine, purge: Purge, a_node: ANode
) -> None:
    ahead = [AHEAD] * (2 * ROWS_AT_ONCE)
    a_node(NODE, [*ahead, 30, 0])
    a_node(OTHER_NODE, [*ahead, 1, 0])
    with watched(engine) as seen:
        assert purge.run_once() == Purged(receipts=len(ahead) + 1)
    assert sequences(engine) == [len(ahead) + 2]
    assert sum(s.sql.startswith("DELETE") for s in seen) == 3


def test_a_walk_ends_at_the_first_young_receipt(engine: sa.Engine, purge: Purge, a_node: ANode) -> None:
    """Behind it, old dates are those of a clock that was wrong."""
    a_node(NODE, [1, 30, 30, 0])
    assert purge.run_once() == Purged()


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([], (None, True)),
        ([9], (1, True)),
        ([9, 9, 1], (2, False)),
        ([1, 9], (None, False)),
        ([AHEAD, AHEAD], (None, True)),
        ([9, AHEAD], (1, True)),
        ([AHEAD, 9, AHEAD, 0], (2, False)),
    ],
)
def test_last_old(ages: list[int], expected: tuple[int | None, bool]) -> None:
    now = datetime(2026, 11, 22)
    some = [Sequenced("e", n, now - timedelta(days=age)) for n, age in enumerate(ages, 1)]
    assert last_old(some, now - timedelta(days=DAYS), now) == expected


# Receipts without a sequence, and nodes that are gone.


def test_receipts_without_a_node_age_among_themselves(
    bench: LaneBench, purge: Purge, received: Received, now: datetime
) -> None:
    for age, event_id in ((20, "bad-old"), (10, "bad-newest")):
        bench.deliver_body(encode("get_node", {"event_id": event_id}))
        bench.run()
        bench.date(now - timedelta(days=age), event_id)
    received(0, "newest")
    assert purge.run_once().receipts == 1
    assert bench.receipts().keys() == {"bad-newest", "newest"}


def test_receipts_without_a_sequence_age_against_the_newest_of_their_name(
    bench: LaneBench, purge: Purge, received: Received, now: datetime
) -> None:
    bench.track()
    misplaced(bench, "misplaced-old")
    misplaced(bench, "misplaced-young")
    bench.date(now - timedelta(days=8), "misplaced-old")
    bench.date(now - timedelta(days=6), "misplaced-young")
    assert purge.run_once().receipts == 1
    assert "misplaced-young" in bench.receipts()


def test_a_receipt_without_a_sequence_does_not_make_those_with_one_old(
    engine: sa.Engine, purge: Purge, a_node: ANode, stored: Stored
) -> None:
    """What has no place in the node's order says nothing of when the node was served last."""
    a_node(NODE, [30, 29, 28])
    stored(NODE, [0], sequenced=False)
    assert purge.run_once() == Purged()


def test_names_that_are_no_nodes_are_forgotten(engine: sa.Engine, purge: Purge, stored: Stored) -> None:
    """Each name is its only receipt's: against its newest it would never be old."""
    stored(None, [31], *(f"random-{number}" for number in range(NAMES_AT_ONCE + 5)), sequenced=False)
    stored("younger", [29], sequenced=False)
    assert purge.run_once() == Purged(receipts=NAMES_AT_ONCE + 6)
    assert [row["node"] for row in rows(engine, RECEIPTS)] == ["younger"]


def test_a_removed_node_goes_with_all_its_receipts(engine: sa.Engine, purge: Purge, a_node: ANode) -> None:
    for name, count in (("large", 2 * ROWS_AT_ONCE), ("small", 3)):
        a_node(name, [40] * count, tracked=False)
    a_node("recent", [40, 29], tracked=False)
    a_node("tracked", [40, 40])
    with engine.begin() as connection:
        for name in ("small", "tracked"):
            values = {"node": name, "instance_uuid": "i-1", "source": "s", "sequence": 1}
            connection.execute(sa.insert(TOUCHED).values(values))
    assert purge.run_once() == Purged(receipts=2 * ROWS_AT_ONCE + 3 + 1, nodes=2)
    assert [row["name"] for row in rows(engine, NODES)] == ["recent", "tracked"]
    assert {row["node"] for row in rows(engine, RECEIPTS)} == {"recent", "tracked"}
    assert [row["node"] for row in rows(engine, TOUCHED)] == ["tracked"]


def test_a_node_that_came_back_is_not_removed(engine: sa.Engine, a_node: ANode) -> None:
    """Its row is another than the one that was seen: the row and its receipts stay."""
    a_node(NODE, [40, 40], tracked=False)
    with engine.begin() as connection:
        assert not retention.remove_node(connection, NODE, 1, ["whichever"])
        connection.execute(sa.update(NODES).values(uuid="uuid"))
    with engine.begin() as connection:
        assert not retention.remove_node(connection, NODE, 2, ["whichever"])
    assert len(rows(engine, NODES)) == 1
    assert len(rows(engine, RECEIPTS)) == 2


def test_a_lane_that_knows_a_node_that_was_purged_begins_it_again(
    bench: LaneBench, purge: Purge, now: datetime
) -> None:
    bench.track()
    bench.send(command("remove_node", force=True))
    bench.date(now - timedelta(days=31), *bench.receipts())
    assert purge.run_once() == Purged(receipts=2, nodes=1)
    bench.track()
    assert bench.sequence() == 1
    assert [row["sequence"] for row in bench.receipts().values()] == [1]


# Letters and attempts.


def test_settled_letters_go_and_parked_ones_stay(
    bench: LaneBench, engine: sa.Engine, purge: Purge, now: datetime
) -> None:
    bench.track()
    for event_id in ("parked", "discarded", "replayed", "lately"):
        misplaced(bench, event_id)
    with engine.begin() as connection:
        states = {"discarded": ("discarded", 31), "replayed": ("replayed", 31), "lately": ("replayed", 29)}
        for event_id, (state, age) in states.items():
            settled = {"state": state, "settled_at": now - timedelta(days=age)}
            of_event = DEAD_LETTERS.c.event_id == event_id
            connection.execute(sa.update(DEAD_LETTERS).where(of_event).values(settled))
        connection.execute(sa.update(DEAD_LETTERS).values(recorded_at=now - timedelta(days=100)))
    assert purge.run_once(dry_run=True) == Purged(dead_letters=2)
    assert purge.run_once() == Purged(dead_letters=2)
    assert {event_id for event_id, _ in bench.parked()} == {"parked", "lately"}


def test_attempts_end_with_the_receipts_of_their_time(
    engine: sa.Engine, purge: Purge, received: Received, now: datetime
) -> None:
    """What was counted of a message that never came again is deleted by nobody else."""
    with engine.begin() as connection:
        attempts.record(connection, {"old": Attempts(1), "young": Attempts(1)})
    with engine.begin() as connection:
        old = ATTEMPTS.c.event_id == "old"
        connection.execute(sa.update(ATTEMPTS).where(old).values(counted_at=now - timedelta(days=8)))
    received(2, "while nobody worked, nothing ages")
    assert purge.run_once() == Purged()
    received(0, "newest")
    assert purge.run_once(dry_run=True) == Purged(attempts=1)
    assert purge.run_once() == Purged(attempts=1)
    assert [row["event_id"] for row in rows(engine, ATTEMPTS)] == ["young"]


def test_rows_of_the_same_moment_are_counted_once(engine: sa.Engine, purge: Purge, stored: Stored) -> None:
    stored(None, [*[40] * (2 * ROWS_AT_ONCE + 1)], sequenced=False)
    stored("a node", [40, 40], sequenced=False)
    expected = Purged(receipts=2 * ROWS_AT_ONCE + 3)
    assert purge.run_once(dry_run=True) == expected
    assert purge.run_once() == expected


# Steps.


def test_no_transaction_deletes_more_than_its_share(engine: sa.Engine, purge: Purge, a_node: ANode) -> None:
    count = 2 * ROWS_AT_ONCE + 10
    a_node(NODE, [*[30] * count, 0])
    with watched(engine) as seen:
        assert purge.run_once() == Purged(receipts=count)
    assert sum(s.sql.startswith("DELETE") for s in seen) == 3
    assert sequences(engine) == [count + 1]


def test_idle_nodes_cost_some_statements_for_many(engine: sa.Engine, a_purge: APurge, a_node: ANode) -> None:
    """Of an idle node the newest thousand may be old, and receipts of misplaced events among them."""
    for number in range(100):
        a_node(f"idle-{number:03}", [60, 50, 40])
    purge = a_purge(newest_receipts=3)
    with watched(engine) as seen:
        assert purge.run_once() == Purged()
    assert len(seen) <= 16
    assert not [s for s in seen if s.sql.startswith("DELETE")]


def test_a_purge_that_was_interrupted_goes_on_the_next_time(
    bench: LaneBench, engine: sa.Engine, purge: Purge, received: Received
) -> None:
    received(8, "old")
    received(0, "newest")
    with Fault(engine, "DELETE", disk_full), pytest.raises(Exception, match="disk is full"):
        purge.run_once()
    assert bench.receipts().keys() == {"old", "newest"}
    assert purge.run_once().receipts == 1


def test_a_removal_that_was_interrupted_goes_on_the_next_time(
    engine: sa.Engine, purge: Purge, a_node: ANode
) -> None:
    a_node(NODE, [40] * (ROWS_AT_ONCE + 1), tracked=False)
    with Fault(engine, "DELETE FROM nodes", disk_full), pytest.raises(Exception, match="disk is full"):
        purge.run_once()
    assert len(rows(engine, RECEIPTS)) == 1
    assert purge.run_once() == Purged(receipts=1, nodes=1)


def test_a_purge_that_is_stopped_ends_between_two_steps(
    engine: sa.Engine, purge: Purge, a_node: ANode
) -> None:
    a_node(NODE, [*[30] * (2 * ROWS_AT_ONCE), 0])

    def stop(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        if sql.startswith("DELETE"):
            purge.stop()

    sa.event.listen(engine, "after_cursor_execute", stop)
    assert purge.run_once().receipts == ROWS_AT_ONCE
    sa.event.remove(engine, "after_cursor_execute", stop)


@pytest.mark.parametrize("error", [disk_full, lambda: sa.exc.ArgumentError("a defect of ours")])
def test_an_error_ends_this_hours_purge_and_no_more(
    engine: sa.Engine,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    received: Received,
    error: Callable[[], Exception],
) -> None:
    """The thread goes on, whichever error the database raises: the worker does not need the purge."""
    received(8, "old")
    received(0, "newest")
    failed: list[bool] = []
    monkeypatch.setattr("tracker_worker.worker.purge.INTERVAL_SECONDS", 0.01)
    purge = Purge(engine, Retention(newest_receipts=0), lambda: failed.append(True))
    done: list[bool] = []
    run_once = purge.run_once

    def run_and_stop() -> Purged:
        if done:
            purge.stop()
        done.append(True)
        return run_once()

    monkeypatch.setattr(purge, "run_once", run_and_stop)
    with Fault(engine, "DELETE", error, times=1):
        purge.start()
        assert purge.loop.join(20)
    assert (len(done), failed) == (2, [])
    assert caplog.text.count("Old rows stay until the next purge") == 1


def test_the_thread_stops_at_once(purge: Purge) -> None:
    purge.start()
    purge.stop()
