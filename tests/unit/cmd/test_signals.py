# SPDX-License-Identifier: Apache-2.0
"""Signals are handled in order while the main thread waits."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tracker_worker.cmd.signals import FAILED, HANDLED, Signals


@pytest.fixture
def reactions() -> list[int]:
    """The signals that were handled, in order."""
    return []


@pytest.fixture
def signals(reactions: list[int]) -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in HANDLED}
    yield Signals(reactions.append)
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def test_signals_before_the_end_are_handled_in_order(signals: Signals, reactions: list[int]) -> None:
    send(signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP)
    assert signals.wait_for_end() == signal.SIGTERM
    assert reactions == [signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2]


def test_failure_ends_the_wait(signals: Signals) -> None:
    signals.post(FAILED)
    assert signals.wait_for_end() == FAILED


def test_signals_during_an_action_are_handled_before_it_is_done(signals: Signals) -> None:
    seen = threading.Event()
    signals = Signals(lambda _number: seen.set())
    send(signal.SIGTERM, signal.SIGHUP)
    assert signals.run("action", lambda: seen.wait(30), abandon=False) is True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_during_an_action_that_may_be_abandoned_ends_the_wait(
    signals: Signals, number: signal.Signals
) -> None:
    released = threading.Event()
    send(number)
    assert signals.run("action", lambda: released.wait(60), abandon=True) is None
    released.set()


def test_error_of_an_action_is_raised(signals: Signals) -> None:
    def fail() -> None:
        raise OSError("no route")

    with pytest.raises(OSError, match="no route"):
        signals.run("action", fail, abandon=True)
