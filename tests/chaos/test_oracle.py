# SPDX-License-Identifier: Apache-2.0
"""The oracle finds every fault: the result of a real lane is clean, and not clean after any damage."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sa

from tests.chaos.report import Row
from tests.delivery.load import Json, command, node_names, schedule
from tests.delivery.oracle import Verdict, WorkerDatabase, engine_of, judge
from tests.functional.lanes import LaneBench
from tracker_worker.core.envelope import encode
from tracker_worker.db.engine import create_engine

ROUNDS = 5  # A report, a claim, a failed build, an active instance, another failed build.
CASTS = ROUNDS * len(node_names())
NODE = "node-07"
CLEAN = Verdict(CASTS, 0, 0, 0)

WHOLE = [f"{node}.{n}" for n in range(3) for node in node_names()]
FIRST, SECOND, THIRD = "node-00.0", "node-00.1", "node-00.2"
OTHERS = [event_id for event_id in WHOLE if not event_id.startswith("node-00")]


@pytest.mark.parametrize(
    ("ids", "lost", "twice", "inversions"),
    [
        ([FIRST, SECOND, THIRD], 0, 0, 0),
        ([FIRST, THIRD], 1, 0, 0),
        ([FIRST, SECOND, SECOND, THIRD], 0, 1, 0),
        ([FIRST, THIRD, SECOND], 0, 0, 1),
    ],
)
def test_it_sees_what_is_lost_repeated_or_overtaken(
    ids: list[str], lost: int, twice: int, inversions: int
) -> None:
    verdict = judge(len(WHOLE), [*ids, *OTHERS])
    assert (verdict.lost, verdict.twice, verdict.inversions) == (lost, twice, inversions)


class Applied:
    """A load that a real lane has applied, the notifications in the order of their first publication."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.ledger = WorkerDatabase(engine)
        with self.engine.connect() as connection:
            bodies = connection.execute(sa.text("SELECT body FROM outbox ORDER BY id")).scalars()
            self.told: list[Json] = [json.loads(body) for body in bodies]

    def execute(self, statement: str) -> None:
        with self.engine.begin() as connection:
            assert connection.execute(sa.text(statement)).rowcount > 0, statement

    def of_node(self, number: int) -> int:
        """The index of the node's n-th notification."""
        places = [
            place
            for place, notice in enumerate(self.told)
            if notice["payload"]["nova_object.data"]["node"] == NODE
        ]
        return places[number]

    @property
    def verdict(self) -> Verdict:
        return replace(self.ledger.verdict(CASTS, self.told), wrong=())


@pytest.fixture
def applied(sqlite_url: str) -> Iterator[Applied]:
    engine = create_engine(sqlite_url)
    bench = LaneBench(engine)
    for number, node, n in schedule(CASTS, 0, 1):
        bench.deliver_body(encode(*command(node, n)), node)
        if number % len(node_names()) == len(node_names()) - 1:
            bench.run()
    bench.close()
    engine.dispose()
    plain = engine_of(sqlite_url)
    yield Applied(plain)
    plain.dispose()


def test_a_load_that_was_applied_is_clean(applied: Applied) -> None:
    assert applied.verdict == CLEAN
    assert applied.ledger.torn() == []
    assert Row.of("none", 0, CASTS, applied.verdict, 0.0).clean


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE nodes SET vcpus_used = vcpus_used + 1", {"half": 1}),
        ("UPDATE nodes SET failed_builds = failed_builds + 1", {"half": 1, "twice": 1}),
        ("UPDATE nodes SET failed_builds = failed_builds - 1", {"half": 1, "lost": 1}),
        ("UPDATE nodes SET sequence = sequence + 1", {"half": 1, "missing": 1}),
        ("DELETE FROM nodes", {"half": 1}),
        ("DELETE FROM claims", {"half": 1}),
        ("UPDATE claims SET memory_mb = memory_mb * 2", {"half": 1}),
        ("DELETE FROM receipts", {"lost": 5, "half": 4, "twice": 2}),
    ],
)
def test_half_an_event_in_sql_is_found_at_work_and_in_the_end(
    applied: Applied, damage: str, found: dict[str, int]
) -> None:
    column = "name" if "nodes" in damage else "node"
    applied.execute(f"{damage} WHERE {column} = '{NODE}'")
    verdict = applied.verdict
    assert {name: getattr(verdict, name) for name in found} == found
    assert len(applied.ledger.torn()) == 1
    assert not Row.of("damage", 1, CASTS, verdict, 0.0).clean


def test_an_event_without_a_receipt_is_lost(applied: Applied) -> None:
    applied.execute(f"DELETE FROM receipts WHERE event_id = '{NODE}.4'")
    assert (applied.verdict.lost, applied.verdict.twice) == (1, 1)


def test_events_applied_in_another_order_are_an_inversion(applied: Applied) -> None:
    applied.execute(f"UPDATE receipts SET sequence = 7 - sequence WHERE event_id IN ('{NODE}.2', '{NODE}.3')")
    assert replace(applied.verdict, half=0, missing=0) == replace(CLEAN, inversions=1)


def test_an_attempt_that_is_left_is_half_an_event(applied: Applied) -> None:
    applied.execute("INSERT INTO attempts VALUES ('node-01.2', '2026-11-22', 1, false)")
    assert applied.verdict == replace(CLEAN, half=1)


def test_a_parked_event_is_counted(applied: Applied) -> None:
    applied.execute(
        "INSERT INTO dead_letters (id, event_id, code, path, message, body, state, recorded_at)"
        f" VALUES ('1', '{NODE}.4', 'worker_died', '', '', '', 'parked', '2026-11-22')"
    )
    assert applied.verdict.parked == 1


def test_a_notification_that_is_missing_leaves_a_gap(applied: Applied) -> None:
    del applied.told[applied.of_node(1)]
    assert applied.verdict == replace(CLEAN, missing=1)


def test_a_last_notification_that_is_missing_differs_from_sql(applied: Applied) -> None:
    del applied.told[applied.of_node(-1)]
    assert applied.verdict == replace(CLEAN, missing=1)


def test_a_notification_that_overtakes_is_found(applied: Applied) -> None:
    first, second = applied.of_node(1), applied.of_node(2)
    applied.told[first], applied.told[second] = applied.told[second], applied.told[first]
    assert applied.verdict.missing == 3


def test_a_notification_that_lies_about_the_end_is_found(applied: Applied) -> None:
    applied.told[applied.of_node(-1)]["payload"]["nova_object.data"]["vcpus_used"] += 1
    assert applied.verdict == replace(CLEAN, missing=2)


@pytest.mark.parametrize("figure", ["vcpus_used", "memory_mb_used", "local_gb_used"])
def test_a_notification_that_says_what_never_was_is_found(applied: Applied, figure: str) -> None:
    applied.told[applied.of_node(1)]["payload"]["nova_object.data"][figure] += 1
    assert applied.verdict == replace(CLEAN, missing=1)


def test_a_notification_with_another_count_of_failed_builds_is_found(applied: Applied) -> None:
    applied.told[applied.of_node(2)]["payload"]["nova_object.data"]["stats"]["failed_builds"] += 1
    assert applied.verdict == replace(CLEAN, missing=1)


def test_a_notification_that_comes_again_is_no_fault(applied: Applied) -> None:
    applied.told += applied.told
    assert applied.verdict == CLEAN


def test_what_was_torn_on_the_way_stays_in_the_verdict() -> None:
    assert CLEAN.clean
    assert CLEAN.also(half=["a", "b"], wrong=["c"]) == replace(CLEAN, half=2, wrong=("a", "b", "c"))
    assert not CLEAN.also(wrong=["c"]).clean
