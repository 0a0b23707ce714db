# SPDX-License-Identifier: Apache-2.0
"""The report on USR2 calls figures as the metrics do, and queues as the broker does."""

from msgspec.structs import replace

from tracker_worker.bus.state import IngressState
from tracker_worker.cmd.report import worker_section
from tracker_worker.core.delivery import OtherQueue
from tracker_worker.core.stats import Stats
from tracker_worker.worker.activity import Progress
from tracker_worker.worker.health import LaneState, WorkerState
from tracker_worker.worker.metrics import FAMILIES, Counter

INGRESS = IngressState(
    at=99.0,
    since=10.0,
    connected=True,
    partitions=frozenset([0, 1]),
    unacknowledged={0: 3, OtherQueue.DEAD_LETTERS: 1},
    active=frozenset([1]),
    oldest_at=70.04,
    ready={1: 6, OtherQueue.BARE_TOPIC: 2},
)
LANES = (
    LaneState("lane-0", Progress(12.54, 1.0, "committing node-1", 1), 2, 13.0),
    LaneState("lane-1", None, 0, None),
)


def test_queues_have_their_names_and_figures_the_units_of_metrics() -> None:
    section = worker_section(WorkerState(100.0, LANES, INGRESS), Stats().snapshot(), "tracker")
    assert section["broker"] == {
        "connected": True,
        "connected_seconds": 90.0,
        "alarm": "none",
        "partitions": "0 1",
        "active_partitions": "1",
        "unacknowledged_messages": '{"tracker.dead":1,"tracker.p0":3}',
        "oldest_unacknowledged_seconds": 30.0,
        "ready_messages": '{"tracker":2,"tracker.p1":6}',
    }
    assert section["lanes"]["lane-0"] == {
        "doing": "committing node-1",
        "uncommitted_seconds": 12.5,
        "step_seconds": 1.0,
        "waiting_messages": 2,
        "last_commit_seconds": 13.0,
    }
    assert section["lanes"]["lane-1"]["last_commit_seconds"] == "none yet"


def test_counters_are_those_of_the_metrics() -> None:
    section = worker_section(WorkerState(100.0, (), INGRESS), Stats().snapshot(), "tracker")
    counters = {f"{family.name}_total" for family in FAMILIES if isinstance(family, Counter)}
    assert {name for name in section if name.endswith("_total")} <= counters


def test_alarm_of_the_broker_is_shown_in_its_words() -> None:
    blocked = replace(INGRESS, alarm="low on disk")
    broker = worker_section(WorkerState(100.0, (), blocked), Stats().snapshot(), "tracker")["broker"]
    assert (broker["connected"], broker["alarm"]) == (True, "low on disk")


def test_lost_connection_says_since_when() -> None:
    lost = IngressState(at=99.0, since=40.0, connected=False)
    broker = worker_section(WorkerState(100.0, (), lost), Stats().snapshot(), "tracker")["broker"]
    assert (broker["connected"], broker["disconnected_seconds"]) == (False, 60.0)
    assert broker["oldest_unacknowledged_seconds"] == 0
