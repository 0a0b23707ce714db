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
