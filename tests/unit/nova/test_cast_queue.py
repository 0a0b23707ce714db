# SPDX-License-Identifier: Apache-2.0
"""Jobs are functions here, so that no broker is needed: what they do with the client is not the queue's."""

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from tracker_worker.exceptions import ComputeResourcesUnavailable, TrackerUnavailable
from tracker_worker.nova import cast_queue
from tracker_worker.nova.cast_queue import MOST_WAITING, CastQueue
from tracker_worker.rpcapi import TrackerAPI

SECONDS = 20


class Snapshots:
    """Counts the snapshots that are taken."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)

    def snapshot(self) -> int:
        return next(self.numbers)


class Broker:
    """Lets jobs through, or refuses them, while `sleep` of the queue waits for it."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.slept: list[float] = []

    def job(self, then: Callable[[], object]) -> Callable[[TrackerAPI], object]:
        def run(_api: TrackerAPI) -> object:
            if not self.back.is_set():
                raise TrackerUnavailable("away")
            return then()

        return run

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert self.back.wait(SECONDS)


def a_queue(sleep: Callable[[float], None] = lambda _: None, timeout: float = SECONDS) -> CastQueue:
    return CastQueue(cast(TrackerAPI, Snapshots()), lambda: "event-1", sleep, timeout)


def test_jobs_run_in_order() -> None:
    casts, ran = a_queue(), list[int]()
    for number in range(5):
        casts.put(lambda _, number=number: ran.append(number))  # type: ignore[misc]
    assert (casts.drain(SECONDS), ran) == (True, [0, 1, 2, 3, 4])


def test_job_is_repeated_until_the_broker_is_back() -> None:
    broker, ran = Broker(), list[str]()
    casts = a_queue(broker.sleep)
    casts.put(broker.job(lambda: ran.append("first")))
    casts.put(broker.job(lambda: ran.append("second")))
    broker.back.set()
    assert (casts.drain(SECONDS), ran) == (True, ["first", "second"])


def test_full_queue_drops_and_logs_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    casts = a_queue(broker.sleep)
    for _ in range(MOST_WAITING + 20):
        casts.put(broker.job(lambda: None))
    assert casts.dropped in (19, 20)
    assert [each.levelno for each in caplog.records if "more are dropped" in each.message] == [logging.ERROR]
    broker.back.set()


def test_job_that_fails_otherwise_is_dropped_and_the_next_one_runs() -> None:
    casts, ran = a_queue(), list[str]()
    casts.put(lambda _: 1 / 0)
    casts.put(lambda _: ran.append("next"))
    assert (casts.drain(SECONDS), ran, casts.dropped) == (True, ["next"], 1)


def test_snapshot_is_taken_in_the_order_of_the_queue() -> None:
    casts = a_queue()
    first, second = casts.snapshot(), casts.snapshot()
    assert casts.drain(SECONDS)
    assert (first.as_of, second.as_of) == (1, 2)


def test_newer_audit_supersedes_one_that_waits_and_keeps_its_startup() -> None:
    broker, sent = Broker(), list[tuple[str, bool]]()
    casts = a_queue(broker.sleep)
    casts.put(broker.job(lambda: None))
    casts.audit("node-1", lambda _, startup: sent.append(("old", startup)), startup=True)
    casts.audit("node-2", lambda _, startup: sent.append(("other", startup)), startup=False)
    casts.audit("node-1", lambda _, startup: sent.append(("new", startup)), startup=False)
    broker.back.set()
    assert casts.drain(SECONDS)
    assert sent == [("other", False), ("new", True)]


def test_full_queue_keeps_the_audit_that_waits() -> None:
    broker, sent = Broker(), list[str]()
    casts = a_queue(broker.sleep)
    casts.put(broker.job(lambda: None))
    casts.audit("node-1", lambda _api, _startup: sent.append("waits"), startup=False)
    while casts.put(broker.job(lambda: None)):
        pass
    casts.audit("node-1", lambda _api, _startup: sent.append("dropped"), startup=False)
    done = threading.Event()
    broker.back.set()
    while not casts.put(lambda _: done.set()):
        done.wait(0.01)
    assert done.wait(SECONDS)
    assert sent == ["waits"]


def test_call_that_a_full_queue_drops_does_not_wait() -> None:
    broker = Broker()
    casts = a_queue(broker.sleep)
    while casts.put(broker.job(lambda: None)):
        pass
    began = time.monotonic()
    with pytest.raises(TrackerUnavailable):
        casts.call(lambda _: None)
    assert time.monotonic() - began < SECONDS / 2
    broker.back.set()


def test_call_returns_what_its_job_returns() -> None:
    assert a_queue().call(lambda _: "granted") == "granted"


def test_call_raises_what_its_job_raises_and_is_not_repeated() -> None:
    tried: list[None] = []

    def refused(_api: TrackerAPI) -> Any:
        tried.append(None)
        raise ComputeResourcesUnavailable("no room")

    with pytest.raises(ComputeResourcesUnavailable):
        a_queue().call(refused)
    assert len(tried) == 1


def test_call_behind_casts_that_the_broker_does_not_take_is_not_made() -> None:
    broker, ran = Broker(), list[str]()
    casts = a_queue(broker.sleep, timeout=0.05)
    casts.put(broker.job(lambda: ran.append("cast")))
    with pytest.raises(TrackerUnavailable, match="transport_url"):
        casts.call(lambda _: ran.append("call"))
    broker.back.set()
    assert (casts.drain(SECONDS), ran) == (True, ["cast"])


def test_idle_thread_ends_and_a_later_job_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cast_queue, "IDLE_SECONDS", 0.01)
    casts, threads = a_queue(), list[threading.Thread]()
    for _ in range(2):
        casts.put(lambda _: threads.append(threading.current_thread()))
        assert casts.drain(SECONDS)
        threads[-1].join(SECONDS)
        assert not threads[-1].is_alive()
    assert threads[0] is not threads[1]
