# SPDX-License-Identifier: Apache-2.0
"""Metrics show the counters and states of a worker, in few families whose labels are from closed sets."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.builders import INSTANCE, NODE
from tracker_worker.bus.state import IngressState
from tracker_worker.core.stats import PlacementStats, Stats
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.worker.activity import Progress
from tracker_worker.worker.health import DatabaseState, LaneState, WorkerState
from tracker_worker.worker.metrics import FAMILIES, PREFIX, Counter, Scrape, registry_of

MOST_FAMILIES = 29
UTC = datetime(2026, 11, 29, 12)
Labels = frozenset[tuple[str, str]]


@pytest.fixture
def stats() -> Stats:
    stats = Stats(lost_replies=4, placement=PlacementStats({"conflict": 2}))
    assert stats.placement is not None
    stats.placement.seconds.observe(0.2)
    lane = stats.new_lane()
    lane.counts.count("instance_claim", "granted")
    lane.counts.count("instance_claim", "granted")
    lane.counts.dead_letters["worker_died"] += 1
    for wait in (0.0005, 0.2, 100.0):
        lane.wait.observe(wait)
    return stats


@pytest.fixture
def scrape(stats: Stats) -> Scrape:
    ingress = IngressState(
        at=99.0,
        since=10.0,
        connected=True,
        partitions=frozenset([0, 1]),
        unacknowledged={0: 3, -2: 1},
        oldest_at=70.0,
        ready={0: 5, 1: 6},
    )
    progress = Progress(12.5, 1.0, f"committing {NODE} with {INSTANCE}", 1)
    lanes = (
        LaneState("lane-0", progress, 2, None, {"node_conflict": 2, "reserve_too_large": 1}),
        LaneState("lane-1", None, 0, None, {"node_conflict": 3}),
    )
    return Scrape(
        stats=stats.snapshot(),
        worker=WorkerState(100.0, lanes, ingress),
        database=DatabaseState(
            at=98.0,
            revision="0008",
            outbox=7,
            oldest=UTC - timedelta(seconds=33),
            unsynced=3,
            unsynced_since=UTC - timedelta(seconds=5),
        ),
        live=True,
        ready=False,
        utc=UTC,
    )


def text_of(scrape: Scrape) -> str:
    return generate_latest(registry_of(lambda: scrape)).decode()


def samples(scrape: Scrape) -> dict[tuple[str, Labels], float]:
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text_of(scrape))
        for sample in family.samples
    }


def value(scrape: Scrape, name: str, **labels: str) -> Any:
    return samples(scrape).get((name, frozenset(labels.items())))


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("events_total", {"method": "instance_claim", "outcome": "granted"}, 2),
        ("dead_letters_total", {"code": "worker_died"}, 1),
        ("event_wait_seconds_bucket", {"le": "0.001"}, 1),
        ("event_wait_seconds_bucket", {"le": "0.25"}, 2),
        ("event_wait_seconds_bucket", {"le": "+Inf"}, 3),
        ("event_wait_seconds_sum", {}, 100.2005),
        ("event_wait_seconds_count", {}, 3),
        ("unanswered_calls_total", {"reason": "lost_reply"}, 4),
        ("unanswered_calls_total", {"reason": "expired"}, 0),
        ("faulty_nodes", {"code": "ledger_broken"}, 0),
        ("faulty_nodes", {"code": "node_conflict"}, 5),
        ("faulty_nodes", {"code": "reserve_too_large"}, 1),
        ("live", {}, 1),
        ("ready", {}, 0),
        ("connected", {"use": "consume"}, 1),
        ("connected", {"use": "publish"}, 1),
        ("partitions", {}, 2),
        ("unacknowledged_messages", {}, 4),
        ("oldest_unacknowledged_seconds", {}, 30),
        ("ready_messages", {}, 11),
        ("uncommitted_seconds", {}, 12.5),
        ("outbox_notifications", {}, 7),
        ("outbox_age_seconds", {}, 33),
        ("placement_unsynced_nodes", {}, 3),
        ("placement_unsynced_seconds", {}, 5),
        ("placement_requests_total", {"outcome": "conflict"}, 2),
        ("placement_requests_total", {"outcome": "ok"}, 0),
        ("placement_request_seconds_count", {}, 1),
    ],
)
def test_sample_has_the_value_of_its_counter_or_state(
    scrape: Scrape, name: str, labels: dict[str, str], expected: float
) -> None:
    assert value(scrape, name, **labels) == expected


def test_code_without_a_dead_letter_is_0_so_that_the_first_one_is_an_increase(scrape: Scrape) -> None:
    assert {code: value(scrape, "dead_letters_total", code=code) for code in ErrorCode} == {
        code: float(code == ErrorCode.WORKER_DIED) for code in ErrorCode
    }


def test_outbox_is_absent_while_the_database_does_not_answer(scrape: Scrape) -> None:
    """An old value would hide that the outbox grows."""
    away = replace(scrape, database=replace(scrape.database, error="no route"))
    assert value(away, "outbox_notifications") is None
    assert value(away, "outbox_age_seconds") is None


def test_worker_that_syncs_no_node_has_no_figures_of_placement(scrape: Scrape) -> None:
    off = replace(scrape, stats=replace(scrape.stats, placement=None))
    assert not [name for name, _ in samples(off) if name.startswith("placement_")]


def test_idle_worker_has_waited_for_nothing(scrape: Scrape) -> None:
    ingress = replace(scrape.worker.ingress, oldest_at=None, unacknowledged={})
    idle = replace(scrape, worker=WorkerState(100.0, (), ingress))
    assert value(idle, "oldest_unacknowledged_seconds") == 0
    assert value(idle, "uncommitted_seconds") == 0


@pytest.mark.parametrize(
    ("ingress", "consume", "publish"),
    [
        (IngressState(at=99.0, since=10.0, connected=True, alarm="low on memory"), 1, 0),
        (IngressState(at=99.0, since=10.0, connected=False), 0, 0),
    ],
)
def test_broker_in_alarm_is_told_from_one_that_is_away(
    scrape: Scrape, ingress: IngressState, consume: int, publish: int
) -> None:
    found = replace(scrape, worker=WorkerState(100.0, (), ingress))
    assert value(found, "connected", use="consume") == consume
    assert value(found, "connected", use="publish") == publish


def test_families_are_few_and_each_is_served_once(scrape: Scrape) -> None:
    served = [family.name for family in text_string_to_metric_families(text_of(scrape))]
    assert served == [PREFIX + family.name for family in FAMILIES]
    assert len(served) <= MOST_FAMILIES


def test_no_label_names_a_node_an_instance_or_a_worker(scrape: Scrape) -> None:
    assert {label for family in FAMILIES for label in family.labels} == {
        "method",
        "outcome",
        "code",
        "reason",
        "use",
    }
    text = text_of(scrape)
    assert NODE not in text
    assert INSTANCE not in text


def test_names_follow_the_conventions_of_prometheus() -> None:
    for family in FAMILIES:
        assert family.text.endswith(".")
        assert "_total" not in family.name, "the client adds it"
        if "Seconds" in family.text.split()[0]:
            assert family.name.endswith("_seconds"), family.name
        if isinstance(family, Counter):
            assert family.name.endswith("s"), family.name
