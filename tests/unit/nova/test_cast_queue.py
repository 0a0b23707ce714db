# SPDX-License-Identifier: Apache-2.0
"""Jobs are functions here, so that no broker is needed: what they do with the client is not the queue's."""

import itertools
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.unwritable_log import unwritable_log
from tracker_worker.exceptions import ComputeResourcesUnavailable, TrackerUnavailable
from tracker_worker.nova import cast_queue
from tracker_worker.nova.cast_queue import MOST_WAITING, CastQueue
from tracker_worker.rpcapi import TrackerAPI

SECONDS = 20


class Client:
    """Counts the snapshots that are taken, and knows how long its calls may take."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.seconds = math.inf

    def snapshot(self) -> int:
        return next(self.numbers)

    def within(self, seconds: float) -> "Client":
        bounded = Client()
        bounded.seconds = seconds
        return bounded


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


def a_queue(
    sleep: Callable[[float], None] = lambda _: None,
    timeout: float = SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
) -> CastQueue:
    return CastQueue(cast(TrackerAPI, Client()), lambda: "event-1", sleep, monotonic, timeout)


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
    assert casts.dropped == 20
    assert [each.levelno for each in caplog.records if "more are dropped" in each.message] == [logging.ERROR]
    broker.back.set()


def test_job_that_fails_otherwise_is_dropped_and_the_next_one_runs() -> None:
    casts, ran = a_queue(), list[str]()
    casts.put(lambda _: 1 / 0)
    casts.put(lambda _: ran.append("next"))
    assert (casts.drain(SECONDS), ran, casts.dropped) == (True, ["next"], 1)


def test_log_that_cannot_be_written_costs_no_cast() -> None:
    broker, ran = Broker(), list[str]()
    casts = a_queue(broker.sleep)
    with unwritable_log("tracker_worker.nova.cast_log"):
        casts.put(broker.job(lambda: ran.append("repeated")))
        casts.put(lambda _: 1 / 0)
        casts.put(lambda _: ran.append("next"))
        broker.back.set()
        assert casts.drain(SECONDS)
    assert (ran, casts.dropped, casts.sent) == (["repeated", "next"], 1, 3)


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


def test_superseded_audits_of_a_long_outage_keep_neither_their_data_nor_a_place() -> None:
    class Data:
        """Can be referred to weakly."""

    broker, looked, all_data = Broker(), threading.Event(), list[weakref.ref[Data]]()

    def sleep(seconds: float) -> None:
        looked.set()
        broker.sleep(seconds)

    def send(data: Data, snapshot: cast_queue.Snapshot) -> None:
        sent.append(snapshot.as_of)

    casts, sent = a_queue(sleep), list[int]()
    casts.put(broker.job(lambda: None))
    for _ in range(3 * MOST_WAITING):
        data, snapshot = Data(), casts.snapshot()
        all_data.append(weakref.ref(data))
        casts.audit("node-1", lambda _api, _startup, d=data, s=snapshot: send(d, s), startup=False)  # type: ignore[misc]
    del data, snapshot
    assert [each() is None for each in all_data] == [True] * (3 * MOST_WAITING - 1) + [False]
    assert looked.wait(SECONDS)
    assert casts.put(lambda _: sent.append(0))
    ran = casts.sent
    broker.back.set()
    assert casts.drain(SECONDS)
    assert sent == [1, 0]
    assert casts.sent - ran < 10


def test_audit_knows_whether_a_cast_came_behind_its_snapshot() -> None:
    casts, between = a_queue(), list[int]()
    for cast_between in (False, True):
        snapshot = casts.snapshot()
        if cast_between:
            casts.put(lambda _: None)
        audit = lambda _api, _startup, s=snapshot: between.append(casts.ended - s.ended)  # noqa: E731
        casts.audit("node-1", audit, startup=False)
        assert casts.drain(SECONDS)
    assert between == [1, 2]


def test_job_of_which_none_may_be_lost_is_queued_in_a_full_queue() -> None:
    broker, ran = Broker(), list[str]()
    casts = a_queue(broker.sleep)
    while casts.put(broker.job(lambda: None)):
        pass
    casts.put_always(broker.job(lambda: ran.append("abort")))
    broker.back.set()
    assert (casts.drain(SECONDS), ran) == (True, ["abort"])


def test_job_for_later_runs_when_its_time_has_come_beside_others() -> None:
    now, ran, done = [0.0], list[str](), threading.Event()

    def later(_api: TrackerAPI) -> None:
        ran.append("later")
        done.set()

    casts = a_queue(monotonic=lambda: now[0])
    casts.put(lambda _: casts.put_later(60, later))
    casts.put(lambda _: ran.append("first"))
    assert casts.drain(SECONDS)
    now[0] = 60
    casts.put(lambda _: ran.append("second"))
    assert done.wait(SECONDS) and casts.drain(SECONDS)
    assert sorted(ran) == ["first", "later", "second"] and ran[0] == "first"


def test_full_queue_sends_the_newest_audit() -> None:
    broker, sent = Broker(), list[str]()
    casts = a_queue(broker.sleep)
    casts.put(broker.job(lambda: None))
    casts.audit("node-1", lambda _api, _startup: sent.append("waits"), startup=False)
    while casts.put(broker.job(lambda: None)):
        pass
    casts.audit("node-1", lambda _api, _startup: sent.append("newest"), startup=False)
    broker.back.set()
    assert (casts.drain(SECONDS), sent) == (True, ["newest"])


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


def test_turn_and_reply_of_a_call_have_one_deadline() -> None:
    now, asked = [0.0], threading.Event()

    def monotonic() -> float:
        seconds = now[0]
        asked.set()
        return seconds

    def take_time(_api: TrackerAPI) -> None:
        assert asked.wait(SECONDS)
        now[0] += 15

    casts = a_queue(monotonic=monotonic)
    casts.put(take_time)
    assert casts.call(lambda api: cast(Client, api).seconds) == SECONDS - 15


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


class NoThreads:
    """Lets the start of a thread fail, as the system does that has none left."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        patch.setattr(threading.Thread, "start", self.fail)

    def fail(self) -> None:
        raise RuntimeError("can't start new thread")

    def end(self) -> None:
        self.patch.undo()


def test_failed_start_of_a_thread_reaches_no_caller_and_the_next_job_tries_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    casts, ran, none_left = a_queue(), list[int](), NoThreads(monkeypatch)
    for number in range(3):
        assert casts.put(lambda _, number=number: ran.append(number))  # type: ignore[misc]
    none_left.end()
    assert (casts.drain(SECONDS), ran) == (True, [0, 1, 2])
    assert [each.levelname for each in caplog.records] == ["ERROR"]
    assert "can't start new thread" in caplog.text


def test_audits_that_no_thread_sends_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    casts, sent, none_left = a_queue(), list[int](), NoThreads(monkeypatch)
    for number in range(50):
        snapshot = casts.snapshot()
        casts.audit("node-1", lambda *_, kept=(number, snapshot): sent.append(kept[0]), startup=False)
    none_left.end()
    assert (casts.drain(SECONDS), sent) == (True, [49])
    assert casts.sent < 10


class Removing(Client):
    """Notes the casts while it has a broker."""

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self.broker = broker
        self.cast_nodes: list[tuple[str, str, dict[str, Any]]] = []

    def cast(self, context: Any, method: str, node: str, **args: Any) -> None:
        note = self.broker.job(lambda: self.cast_nodes.append((method, node, args)))
        note(cast(TrackerAPI, self))


def test_removals_are_queued_in_a_full_queue_one_a_node() -> None:
    broker = Broker()
    client = Removing(broker)
    api = cast(TrackerAPI, client)
    casts = CastQueue(api, lambda: "event-1", broker.sleep, time.monotonic, SECONDS)
    while casts.put(broker.job(lambda: None)):
        pass
    for node in ("node-1", "node-2", "node-1", "node-1"):
        casts.remove_node(node, "host-1")
    ran = casts.sent
    broker.back.set()
    assert casts.drain(SECONDS)
    args = {"event_id": "event-1", "host": "host-1", "force": True}
    assert client.cast_nodes == [("remove_node", node, args) for node in ("node-2", "node-1")]
    assert casts.sent - ran > MOST_WAITING


def test_outage_is_logged_at_first_then_once_a_minute_and_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now, is_back = [0.0], threading.Event()

    def sleep(_seconds: float) -> None:
        now[0] += 5.0
        if now[0] > 100:
            is_back.set()

    def unreachable() -> None:
        if not is_back.is_set():
            raise TrackerUnavailable("away")

    casts, released = a_queue(sleep, monotonic=lambda: now[0]), threading.Event()
    casts.put(lambda _: released.wait(SECONDS))
    casts.put(lambda _: unreachable())
    casts.put(lambda _: None)
    casts.audit("node-1", lambda _api, _startup: None, startup=False)
    released.set()
    assert casts.drain(SECONDS)
    waits = ("WARNING", "Cannot reach the worker: 2 casts and 1 audits wait")
    is_over = ("INFO", "The worker is reached again: what waits is sent now")
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [waits, waits, is_over]


def test_superseded_audit_is_no_end_of_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    looked, goes_on = threading.Event(), threading.Event()

    def sleep(_seconds: float) -> None:
        looked.set()
        assert goes_on.wait(SECONDS)

    def unreachable(_api: TrackerAPI, _startup: bool) -> None:
        raise TrackerUnavailable("away")

    casts, log = a_queue(sleep), list[str]()
    casts.audit("node-1", unreachable, startup=False)
    assert looked.wait(SECONDS)
    casts.put(lambda _: log.extend(caplog.messages))
    casts.audit("node-1", lambda _api, _startup: None, startup=False)
    goes_on.set()
    assert casts.drain(SECONDS)
    assert log == ["Cannot reach the worker: 0 casts and 1 audits wait"]
    assert caplog.messages[1:] == ["The worker is reached again: what waits is sent now"]
