# SPDX-License-Identifier: Apache-2.0
"""Which worker is live and which is ready, and what the checks say."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tracker_worker.bus.state import IngressState
from tracker_worker.worker.activity import Progress
from tracker_worker.worker.health import (
    Check,
    DatabaseState,
    HealthSettings,
    LaneState,
    WorkerState,
    all_ok,
    liveness,
    readiness,
)

NOW, HEAD, UTC = 1000.0, "0008", datetime(2026, 11, 29, 12)
LIMITS = HealthSettings(stall_limit=120.0, outbox_age_limit=300.0)
CONNECTED = IngressState(at=NOW - 1, since=NOW - 500, connected=True, partitions=frozenset(range(16)))
DOWN = IngressState(at=NOW - 4, since=NOW - 500, connected=False)
IDLE = LaneState("lane-0", None, 0, 400.0)
DATABASE = DatabaseState(at=NOW - 3, revision=HEAD, outbox=0)


def busy(uncommitted: float, silent: float) -> LaneState:
    progress = Progress(uncommitted, silent, "a batch of 3, at: committing node-1", 1)
    return LaneState("lane-0", progress, 5, 400.0)


def worker(lane: LaneState = IDLE, ingress: IngressState = CONNECTED, **more: Any) -> WorkerState:
    return WorkerState(NOW, (lane,), ingress, **more)


def failed(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.text for check in checks if not check.ok}


def unready(state: WorkerState, database: DatabaseState = DATABASE) -> dict[str, str]:
    return failed(readiness(state, database, HEAD, LIMITS, UTC))


def test_idle_worker_is_live_and_ready() -> None:
    assert all_ok(liveness(worker(), LIMITS.stall_limit))
    assert unready(worker()) == {}


@pytest.mark.parametrize(
    ("lane", "live", "ready"),
    [
        (busy(120.0, 120.0), True, True),
        (busy(121.0, 121.0), False, False),
        pytest.param(busy(3600.0, 2.0), True, False, id="retries"),
    ],
)
def test_lane_is_dead_when_it_is_stuck_and_unready_when_it_does_not_commit(
    lane: LaneState, live: bool, ready: bool
) -> None:
    state = worker(lane)
    assert all_ok(liveness(state, LIMITS.stall_limit)) is live
    assert (unready(state) == {}) is ready


def test_stuck_lane_is_named_with_its_step() -> None:
    state = worker(busy(500.0, 500.0))
    assert failed(liveness(state, 120.0)) == {"lane-0": "a batch of 3, at: committing node-1"}
    assert unready(state) == {"lane-0": "no commit for 500 s: a batch of 3, at: committing node-1"}


@pytest.mark.parametrize(
    "connected",
    [
        IngressState(at=NOW - 121, since=NOW - 500, connected=True, partitions=frozenset([0])),
        IngressState(at=NOW - 121, since=NOW - 500, connected=False),
    ],
)
def test_consumer_that_hangs_is_dead_whether_it_is_connected_or_not(connected: IngressState) -> None:
    (text,) = failed(liveness(worker(ingress=connected), LIMITS.stall_limit)).values()
    assert text.endswith("to the broker, and hangs there")


def test_worker_without_a_broker_is_live_and_not_ready() -> None:
    """It tries again, and a restart would not bring the broker back."""
    state = worker(ingress=DOWN)
    assert all_ok(liveness(state, LIMITS.stall_limit))
    assert unready(state) == {"consumer": "not connected to the broker for 500 s"}


def test_worker_is_ready_in_an_alarm_of_the_broker_and_names_it() -> None:
    """What waits in the queues is applied all the same."""
    blocked = replace(CONNECTED, alarm="low on memory")
    checks = readiness(worker(ingress=blocked), DATABASE, HEAD, LIMITS, UTC)
    assert all_ok(checks)
    (text,) = (check.text for check in checks if check.name == "consumer")
    assert text.endswith("; the broker has an alarm and takes no messages: low on memory")


def test_worker_that_consumes_no_partition_is_not_ready() -> None:
    assert list(unready(worker(ingress=replace(CONNECTED, partitions=frozenset())))) == ["consumer"]


def test_stopping_worker_is_live_and_not_ready() -> None:
    """Its consumer's thread has ended, while lanes and relay finish their work."""
    state = worker(ingress=replace(CONNECTED, at=NOW - 500), stopping=True)
    assert all_ok(liveness(state, LIMITS.stall_limit))
    assert unready(state) == {"running": "the worker drains and stops"}


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        (replace(DATABASE, error="no route"), {"database": "no answer for 3 s: no route"}),
        (replace(DATABASE, at=NOW - 121), {"database": "no answer for 121 s"}),
        (replace(DATABASE, revision="0009"), {"schema": "the schema is 0009, this version needs 0008"}),
        (
            DatabaseState(error="no route"),
            {
                "database": "it has not answered yet: no route",
                "schema": "the schema is not known yet, this version needs 0008",
            },
        ),
        (
            replace(DATABASE, outbox=7, oldest=UTC - timedelta(seconds=301)),
            {"outbox": "7 notifications wait, the first one since 301 s"},
        ),
    ],
)
def test_database_that_cannot_be_used_makes_a_worker_unready(
    database: DatabaseState, expected: dict[str, str]
) -> None:
    assert unready(worker(), database) == expected
    assert all_ok(liveness(worker(), LIMITS.stall_limit))


def test_outbox_of_a_host_whose_clock_is_ahead_is_not_old() -> None:
    ahead = replace(DATABASE, outbox=1, oldest=UTC + timedelta(seconds=5))
    (check,) = (c for c in readiness(worker(), ahead, HEAD, LIMITS, UTC) if c.name == "outbox")
    assert (check.ok, check.value) == (True, 0.0)
