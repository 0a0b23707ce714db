# SPDX-License-Identifier: Apache-2.0
"""A lane without progress is named in the log every ten seconds, with what it waits for."""

import threading

import pytest

from tracker_worker.core.stats import LaneStats
from tracker_worker.worker.activity import Activity, named
from tracker_worker.worker.watchdog import STALL_SECONDS, Watchdog

SECONDS = 20


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def activity(clock: list[float]) -> Activity:
    return Activity("lane-0", lambda: clock[0], LaneStats())


@pytest.fixture
def watchdog(activity: Activity) -> Watchdog:
    return Watchdog([activity], lambda: None, lambda: None)


def test_stalled_lane_is_named_with_its_step_again_and_again(
    clock: list[float], activity: Activity, watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    with activity.on("a batch of 3"):
        activity.step = "committing node-1"
        watchdog.check()
        assert caplog.messages == []
        for second in range(35):
            clock[0] = 100.0 + second
            watchdog.check()
    assert [text for text in caplog.messages if "is here" not in text] == [
        f"lane-0 has made no progress for {seconds} s: a batch of 3, at: committing node-1"
        for seconds in (10, 20, 30)
    ]


def test_stalled_lanes_stack_is_logged_once_without_values(
    clock: list[float], activity: Activity, watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def stuck_in_a_rule(secret: str) -> None:
        with activity.on("a batch of 1"):
            entered.set()
            assert leave.wait(SECONDS), secret

    lane = threading.Thread(target=stuck_in_a_rule, args=("hunter2",))
    lane.start()
    try:
        assert entered.wait(SECONDS)
        for _ in range(2):
            clock[0] += STALL_SECONDS
            watchdog.check()
    finally:
        leave.set()
        lane.join(SECONDS)
    (stack,) = (text for text in caplog.messages if text.startswith("lane-0 is here:"))
    assert "in stuck_in_a_rule" in stack
    assert "hunter2" not in stack


def test_lane_that_goes_on_after_a_stall_says_so_once(
    clock: list[float], activity: Activity, watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    with activity.on("a batch of 3"):
        clock[0] += STALL_SECONDS
        watchdog.check()
        activity.progressed()
        watchdog.check()
        watchdog.check()
    assert caplog.messages[2:] == ["lane-0 makes progress again"]


def test_long_batch_that_commits_in_parts_is_no_stall(
    clock: list[float], activity: Activity, watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    with activity.on("a batch of 256"):
        for _ in range(10):
            clock[0] += STALL_SECONDS - 1
            activity.progressed()
            watchdog.check()
    assert caplog.messages == []


def test_idle_lane_is_no_stall(
    clock: list[float], watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    clock[0] += 10 * STALL_SECONDS
    watchdog.check()
    assert caplog.messages == []


def test_few_nodes_are_named_and_many_are_counted() -> None:
    assert named(["b", "a"]) == "a, b"
    assert named(f"n{i}" for i in range(9)) == "n0, n1, n2 and 6 more"
    assert named([]) == "no node"
