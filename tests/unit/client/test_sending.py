# SPDX-License-Identifier: Apache-2.0
"""Sends with a deadline, on a driver that publishes when the test lets it.

What a real broker in alarm does is in tests/integration/test_rpcapi_deadlines.py.
"""

# The commands choose oslo.service's threading model, before oslo.messaging is imported by anything.
from functools import partial

import tracker_worker.cmd  # noqa: F401  # isort: skip

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import oslo_messaging
import pytest

from tests.unwritable_log import unwritable_log
from tracker_worker.client import sending
from tracker_worker.client.sending import BoundedTransport, DeadlineExceeded

SECONDS = 20
SOON = 0.01


class Clock:
    """A clock that stands still, or goes on by more than any deadline at each look."""

    def __init__(self) -> None:
        self._now = 0.0
        self._step = 0.0

    def __call__(self) -> float:
        self._now += self._step
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    @contextmanager
    def racing(self) -> Iterator[None]:
        self._step = 2.0 * SECONDS
        yield
        self._step = 0.0


class Driver:
    """Notes what is published, and waits before that until the server's gate is open."""

    def __init__(self, connections: int = 30) -> None:
        options = SimpleNamespace(rpc_conn_pool_size=connections, heartbeat_timeout_threshold=60)
        self.conf = SimpleNamespace(oslo_messaging_rabbit=options)
        self.gates = {server: threading.Event() for server in ("p0", "p1")}
        self.published: list[str] = []
        self.failure: Exception | None = None
        self.seconds = 0.0
        self.clock = Clock()

    def send(self, target: Any, _ctxt: Any, message: str, **_how: Any) -> None:
        assert self.gates[target.server].wait(SECONDS)
        time.sleep(self.seconds)
        self.published.append(message)
        if self.failure is not None:
            raise self.failure


class RepliesOf:
    """The reply to a driver's call, which comes to the wait of this number: those before time out."""

    def __init__(self, driver: Any, number: int = 0, failure: Exception | None = None) -> None:
        self._driver = driver
        self._number = number
        self._failure = failure
        self.waits: list[float] = []
        self.expected: list[str] = []
        driver._reply_q, driver._waiter = "reply_1", self
        driver._get_reply_q = lambda: driver._reply_q

    def listen(self, call_id: str) -> None:
        self.expected.append(call_id)

    def unlisten(self, call_id: str) -> None:
        self.expected.remove(call_id)

    def wait(self, _call_id: str, seconds: float, _monitor: float | None, _queue: str) -> str:
        self.waits.append(seconds)
        if len(self.waits) == self._number:
            return "a reply"
        self._driver.clock.advance(seconds)
        self._driver.failure = self._failure
        raise oslo_messaging.MessagingTimeout


@pytest.fixture
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    for gate in driver.gates.values():
        gate.set()


def a_transport(driver: Driver, monotonic: Callable[[], float] | None = None) -> BoundedTransport:
    clock = monotonic or driver.clock
    return BoundedTransport(driver, SECONDS, lambda _is_call: None, lambda: "id", clock)


def cast(transport: BoundedTransport, message: Any, server: str = "p0", seconds: float = SECONDS) -> None:
    target = oslo_messaging.Target(topic="tracker", server=server)
    transport.send(target, {}, message, timeout=seconds)


def call(driver: Driver, **how: Any) -> Any:
    driver.gates["p0"].set()
    target = oslo_messaging.Target(topic="tracker", server="p0")
    return a_transport(driver).send(target, {}, {"args": 1}, wait_for_reply=True, timeout=60, **how)


def cast_overdue(driver: Driver, transport: BoundedTransport, message: str, server: str = "p0") -> bool:
    """Cast with a deadline that passes at once; whether it was sent."""
    with driver.clock.racing(), pytest.raises(DeadlineExceeded) as overdue:
        cast(transport, message, server)
    return overdue.value.sent


def test_a_cast_returns_once_it_is_published(driver: Driver) -> None:
    driver.gates["p0"].set()
    cast(a_transport(driver), "one")
    assert driver.published == ["one"]


@pytest.mark.parametrize("failure", [RuntimeError("no"), queue.Empty(), TimeoutError()], ids=repr)
def test_what_the_driver_raises_is_raised_in_the_caller(driver: Driver, failure: Exception) -> None:
    """Also what is raised inside for other reasons."""
    driver.gates["p0"].set()
    driver.failure = failure
    with pytest.raises(type(failure)) as caught:
        cast(a_transport(driver), "one")
    assert caught.value is failure


def test_what_is_overdue_goes_on_and_nothing_overtakes_it(driver: Driver) -> None:
    transport = a_transport(driver)
    assert cast_overdue(driver, transport, "one")
    assert not cast_overdue(driver, transport, "two")
    waiting = threading.Thread(target=cast, args=[transport, "three"])
    waiting.start()
    driver.gates["p0"].set()
    waiting.join(SECONDS)
    assert driver.published == ["one", "three"]


def test_other_servers_are_not_held_up(driver: Driver) -> None:
    transport = a_transport(driver)
    driver.gates["p1"].set()
    assert cast_overdue(driver, transport, "one")
    cast(transport, "two", "p1")
    assert driver.published == ["two"]


@pytest.mark.parametrize("failure", [None, RuntimeError("lost, maybe after it was sent")])
def test_an_overdue_send_is_undone_before_the_next_one(driver: Driver, failure: RuntimeError | None) -> None:
    transport = a_transport(driver)
    driver.failure = failure
    undone = transport.undone_by(lambda: driver.published.append("undo"))
    assert cast_overdue(driver, undone, "claim")
    driver.gates["p0"].set()
    (send,) = transport._overdue.copy() or [None]
    assert send is None or send.ended.wait(SECONDS)
    driver.failure = None
    cast(transport, "next")
    assert driver.published == ["claim", "undo", "next"]


def test_an_undo_that_fails_holds_nothing_up(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    transport = a_transport(driver)

    def fail() -> None:
        raise RuntimeError("no broker")

    assert cast_overdue(driver, transport.undone_by(fail), "claim")
    driver.gates["p0"].set()
    cast(transport, "next")
    assert driver.published == ["claim", "next"] and "could not be undone" in caplog.text


def test_a_send_that_was_in_time_is_not_undone(driver: Driver) -> None:
    driver.gates["p0"].set()
    cast(a_transport(driver).undone_by(lambda: driver.published.append("undo")), "claim")
    assert driver.published == ["claim"]


def test_thread_that_cannot_be_started_costs_no_place(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads of the system may be short for a while only."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    transport = a_transport(driver)
    driver.gates["p0"].set()
    monkeypatch.setattr(threading.Thread, "start", fail)
    for _ in range(40):
        with pytest.raises(RuntimeError, match="new thread"):
            cast(transport, "one")
    monkeypatch.undo()
    cast(transport, "two")
    assert driver.published == ["two"]


@pytest.mark.parametrize("failure", [None, RuntimeError("lost")])
def test_log_that_cannot_be_written_costs_no_undo_and_no_place(failure: RuntimeError | None) -> None:
    """A handler of the log raises, as oslo.log's does where journald is away."""
    driver = Driver(connections=1)
    transport = a_transport(driver)
    undone = transport.undone_by(lambda: driver.published.append("undo"))
    driver.failure = failure
    with unwritable_log(sending.__name__):
        assert cast_overdue(driver, undone, "claim")
        (send,) = transport._overdue.copy()
        driver.gates["p0"].set()
        assert send.ended.wait(SECONDS)
    driver.failure = None
    cast(transport, "next")
    assert driver.published == ["claim", "undo", "next"]


def test_without_a_free_thread_nothing_is_sent() -> None:
    driver = Driver(connections=1)
    transport = a_transport(driver)
    assert cast_overdue(driver, transport, "one")
    driver.gates["p1"].set()
    assert not cast_overdue(driver, transport, "two", "p1")
    driver.gates["p0"].set()
    cast(transport, "three", "p1")
    assert driver.published == ["one", "three"]


def test_deadlines_that_fall_together_with_the_confirm_leave_each_send_one_end(driver: Driver) -> None:
    """Many casts whose deadline passes about when they are published: in time, or undone, never both."""
    driver.seconds = 2e-4  # how long is what the test varies the deadlines around, nothing waits for it
    driver.gates["p0"].set()
    transport = a_transport(driver, time.monotonic)
    ended: list[str] = []
    for number in range(300):
        try:
            cast(
                transport.undone_by(partial(ended.append, f"undone {number}")),
                "",
                seconds=1e-4 * (number % 9 + 1),
            )
        except DeadlineExceeded as error:
            if not error.sent:
                ended.append(f"unsent {number}")
        else:
            ended.append(f"confirmed {number}")
    cast(transport, "last")
    assert len(ended) == len({each.split()[1] for each in ended}) == 300
    assert not transport._overdue
    assert {each.split()[0] for each in ended} >= {"confirmed", "undone"}


def test_threads_end_when_they_have_nothing_to_do(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "IDLE_SECONDS", SOON)
    driver.gates["p0"].set()
    before = set(threading.enumerate())
    transport = a_transport(driver)
    for _ in range(3):
        cast(transport, "one")
        for thread in set(threading.enumerate()) - before:
            thread.join(SECONDS)
            assert not thread.is_alive()
    assert driver.published == ["one"] * 3


def test_a_call_without_a_reply_is_sent_again_as_it_was(driver: Driver) -> None:
    """A broker that restarts loses replies. The worker gives a repeated event its first reply."""
    replies = RepliesOf(driver, number=2)
    assert call(driver) == "a reply"
    first, second = driver.published
    assert first == second and not replies.expected


def test_a_call_is_sent_again_after_twice_as_long_each_time_until_its_deadline(driver: Driver) -> None:
    replies = RepliesOf(driver)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        call(driver)
    assert (replies.waits, len(driver.published)) == ([10, 20, 30], 3)
    assert not replies.expected


def test_a_call_with_heartbeats_is_sent_once(driver: Driver) -> None:
    replies = RepliesOf(driver)
    with pytest.raises(oslo_messaging.MessagingTimeout):
        call(driver, call_monitor_timeout=5)
    assert (replies.waits, len(driver.published)) == ([60], 1)


def test_a_call_that_cannot_be_sent_again_still_gets_its_reply(driver: Driver) -> None:
    replies = RepliesOf(driver, number=2, failure=oslo_messaging.MessageDeliveryFailure())
    assert call(driver) == "a reply"
    assert not replies.expected


def test_a_call_that_cannot_be_sent_again_before_its_deadline_times_out(driver: Driver) -> None:
    """So that the client aborts a claim: the first copy may have been granted."""
    replies, transport = RepliesOf(driver), a_transport(driver)

    def wait(_call_id: str, _seconds: float, _monitor: float | None, _queue: str) -> None:
        transport._overdue.add(sending._Send("p0", lambda: None, lambda _published: None))
        driver.clock.advance(SECONDS - SOON)
        raise oslo_messaging.MessagingTimeout

    replies.wait = wait  # type: ignore[method-assign,assignment]
    driver.gates["p0"].set()
    target = oslo_messaging.Target(topic="tracker", server="p0")
    with pytest.raises(oslo_messaging.MessagingTimeout):
        transport.send(target, {}, {"args": 1}, wait_for_reply=True, timeout=SECONDS)
    assert len(driver.published) == 1 and not replies.expected


def test_a_call_whose_repetition_is_overdue_is_undone(driver: Driver) -> None:
    replies = RepliesOf(driver)
    undone = threading.Event()
    transport = a_transport(driver).undone_by(undone.set)

    def wait(_call_id: str, _seconds: float, _monitor: float | None, _queue: str) -> None:
        driver.gates["p0"].clear()
        driver.clock.advance(SECONDS - SOON)
        raise oslo_messaging.MessagingTimeout

    replies.wait = wait  # type: ignore[method-assign,assignment]
    driver.gates["p0"].set()
    target = oslo_messaging.Target(topic="tracker", server="p0")
    with pytest.raises(DeadlineExceeded) as overdue:
        transport.send(target, {}, {"args": 1}, wait_for_reply=True, timeout=SECONDS)
    assert overdue.value.sent and not replies.expected
    driver.gates["p0"].set()
    assert undone.wait(SECONDS)
