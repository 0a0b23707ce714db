# SPDX-License-Identifier: Apache-2.0
"""Calls through a real queue; the worker is one that a test stops and starts."""

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from oslo_messaging import MessagingTimeout

from tests.unwritable_log import unwritable_log
from tracker_worker.exceptions import ComputeResourcesUnavailable, NodeNotFound, TrackerUnavailable
from tracker_worker.nova.calls import PROBE_SECONDS, Calls
from tracker_worker.nova.cast_queue import RETRY_SECONDS, CastQueue
from tracker_worker.rpcapi import TrackerAPI

SECONDS = 20


class Worker:
    """Answers, or lets calls time out. As a client it answers for itself."""

    def __init__(self) -> None:
        self.is_up = True
        self.asked: list[tuple[str, float]] = []
        self.seconds = 0.0
        self.answer: Callable[[], Any] = lambda: {"sequence": 1}

    def within(self, seconds: float) -> "Worker":
        self.seconds = seconds
        return self

    def get_node(self, context: Any, node: str) -> Any:
        self.asked.append((node, self.seconds))
        return self.reply()

    def reply(self) -> Any:
        if not self.is_up:
            raise MessagingTimeout
        return self.answer()


class Later(CastQueue):
    """Runs what is for later when the test says so."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(cast(TrackerAPI, worker), lambda: "event-1", lambda _: None, lambda: 0.0, SECONDS)
        self.waits: list[float] = []
        self.late: list[Any] = []

    def put_later(self, seconds: float, job: Any) -> None:
        self.waits.append(seconds)
        self.late.append(job)

    def run_late(self) -> None:
        self.put_always(self.late.pop())
        assert self.drain(SECONDS)


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def casts(worker: Worker) -> Later:
    return Later(worker)


def silent(casts: Later, worker: Worker) -> Calls:
    """Return calls of which one has got no answer, nor has a probe."""
    calls, worker.is_up = Calls(casts), False
    with pytest.raises(MessagingTimeout):
        calls.make("compute1", lambda _: worker.reply())
    assert casts.drain(SECONDS)
    return calls


def test_first_call_waits_for_the_worker_and_the_next_does_not_reach_it(casts: Later, worker: Worker) -> None:
    calls, made = silent(casts, worker), list[None]()
    for _ in range(3):
        with pytest.raises(TrackerUnavailable):
            calls.make("compute1", lambda _: made.append(None))
    assert made == []


def test_probes_ask_for_the_node_of_the_call_at_intervals_that_are_bounded(
    casts: Later, worker: Worker
) -> None:
    silent(casts, worker)
    for _ in range(5):
        casts.run_late()
    assert {node for node, _ in worker.asked} == {"compute1"}
    assert casts.waits == [*RETRY_SECONDS, *[max(RETRY_SECONDS)] * (6 - len(RETRY_SECONDS))]


def test_each_probe_waits_longer_up_to_the_timeout_of_calls(casts: Later, worker: Worker) -> None:
    silent(casts, worker)
    for _ in range(5):
        casts.run_late()
    seconds = [PROBE_SECONDS, 4, 8, 16, SECONDS, SECONDS]
    assert [each for _, each in worker.asked] == seconds


def test_worker_slower_than_the_first_probe_is_found(casts: Later, worker: Worker) -> None:
    def slow() -> Any:
        if worker.seconds < 3:
            raise MessagingTimeout
        return {"sequence": 1}

    calls = silent(casts, worker)
    worker.is_up, worker.answer = True, slow
    casts.run_late()
    assert not calls.is_silent


def test_log_that_cannot_be_written_ends_no_probes(casts: Later, worker: Worker) -> None:
    def fail() -> Any:
        raise RuntimeError("can't start new thread")

    calls, worker.is_up = Calls(casts), False
    with unwritable_log("tracker_worker.nova.calls"):
        with pytest.raises(OSError, match="journal"):
            calls.make("compute1", lambda _: worker.reply())
        assert casts.drain(SECONDS)
        worker.is_up, worker.answer = True, fail
        casts.run_late()
    worker.answer = lambda: {"sequence": 1}
    casts.run_late()
    assert not calls.is_silent


def test_probe_that_fails_unexpectedly_is_logged_once_and_followed_by_another(
    casts: Later, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Any:
        raise RuntimeError("can't start new thread")

    calls = silent(casts, worker)
    worker.is_up, worker.answer = True, fail
    for _ in range(3):
        casts.run_late()
    assert (calls.is_silent, len(casts.late)) == (True, 1)
    assert [each.levelname for each in caplog.records if each.exc_info] == ["ERROR"]
    worker.answer = lambda: {"sequence": 1}
    casts.run_late()
    assert not calls.is_silent


def test_many_calls_of_many_nodes_have_one_probe_on_its_way(casts: Later, worker: Worker) -> None:
    calls = silent(casts, worker)
    for number in range(10):
        with pytest.raises(TrackerUnavailable):
            calls.make(f"compute{number}", lambda _: worker.reply())
    assert casts.drain(SECONDS)
    assert (len(casts.late), len(worker.asked)) == (1, 1)


@pytest.mark.parametrize("answer", [dict, NodeNotFound])
def test_call_after_an_answered_probe_is_made(
    casts: Later, worker: Worker, answer: Callable[[], Any]
) -> None:
    def answered() -> Any:
        value = answer()
        if isinstance(value, Exception):
            raise value
        return value

    calls = silent(casts, worker)
    worker.is_up, worker.answer = True, answered
    casts.run_late()
    assert calls.make("compute1", lambda _: "granted") == "granted"
    assert casts.late == []


def test_refusal_is_an_answer(casts: Later, worker: Worker) -> None:
    def refuse(_api: TrackerAPI) -> None:
        raise ComputeResourcesUnavailable("no room")

    calls = Calls(casts)
    for _ in range(2):
        with pytest.raises(ComputeResourcesUnavailable):
            calls.make("compute1", refuse)
    assert worker.asked == []


def test_probe_of_a_real_clock_comes_by_itself(worker: Worker) -> None:
    up, now = threading.Event(), [0.0]

    def answered() -> Any:
        up.set()

    def monotonic() -> float:
        now[0] += 1.0  # Each look is a second later.
        return now[0]

    casts = CastQueue(cast(TrackerAPI, worker), lambda: "event-1", lambda _: None, monotonic, SECONDS)
    calls, worker.is_up = Calls(casts), False
    with pytest.raises(MessagingTimeout):
        calls.make("compute1", lambda _: worker.reply())
    worker.answer, worker.is_up = answered, True
    assert up.wait(SECONDS) and casts.drain(SECONDS)
    assert calls.make("compute1", lambda _: "granted") == "granted"
