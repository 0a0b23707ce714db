# SPDX-License-Identifier: Apache-2.0
"""Which calls get a heartbeat while they are not answered, and when."""

import math

import pytest

from tests.unit.bus.rabbit.calls import a_call, received
from tracker_worker.bus.rabbit.call_monitor import CHECK_SECONDS, CallMonitor
from tracker_worker.core.delivery import Answer


class Delivered:
    """A call, hashed by identity; nobody settles it."""

    compression = None
    partition = 0
    redelivered = False
    received_at = 0.0
    dead_lettered = None

    def __init__(self, timeout: int | None = 4, msg_id: str = "id-1") -> None:
        self.body = a_call(_timeout=timeout, _msg_id=msg_id)
        self.live = True

    def settle(self, answer: Answer) -> None:
        raise AssertionError(f"settled: {answer}")


def heard(monitor: CallMonitor, until: float, step: float = CHECK_SECONDS) -> list[tuple[float, str]]:
    """Ask as the consumer does, and return (second, caller) of each heartbeat."""
    beats, now = [], 0.0
    while now <= until:
        if now >= monitor.next_check:
            beats += [(now, received(reply)["_msg_id"]) for reply in monitor.due(now)]
        now += step
    return beats


@pytest.fixture
def monitor() -> CallMonitor:
    return CallMonitor()


def test_monitor_without_calls_never_wants_to_look(monitor: CallMonitor) -> None:
    assert monitor.next_check == math.inf
    assert list(monitor.due(1.0)) == []
    assert monitor.next_check == math.inf


def test_unanswered_call_gets_a_heartbeat_at_the_first_look_and_then_at_half_its_timeout(
    monitor: CallMonitor,
) -> None:
    monitor.begin(Delivered(timeout=4), 60, 0.0)
    assert [second for second, _ in heard(monitor, 7)] == [0.5, 2.5, 4.5, 6.5]


def test_heartbeats_end_with_the_answer(monitor: CallMonitor) -> None:
    call = Delivered(timeout=2)
    monitor.begin(call, 60, 0.0)
    assert len(heard(monitor, 1.5)) == 2
    monitor.end(call)
    assert (heard(monitor, 60), monitor.next_check) == ([], math.inf)


def test_heartbeats_end_when_the_caller_has_given_up(monitor: CallMonitor) -> None:
    monitor.begin(Delivered(timeout=2), 3.0, 0.0)
    assert [second for second, _ in heard(monitor, 60)] == [0.5, 1.5, 2.5]
    assert monitor.next_check == math.inf


def test_call_that_the_broker_hands_out_again_gets_no_heartbeat(monitor: CallMonitor) -> None:
    call = Delivered(timeout=2)
    monitor.begin(call, 60, 0.0)
    assert len(heard(monitor, 0.5)) == 1
    call.live = False
    assert (heard(monitor, 60), monitor.next_check) == ([], math.inf)


def test_caller_that_does_not_ask_gets_no_heartbeat(monitor: CallMonitor) -> None:
    monitor.begin(Delivered(timeout=None), 60, 0.0)
    monitor.begin(Delivered(timeout=2, msg_id="asks"), 60, 0.0)
    assert heard(monitor, 1.5) == [(0.5, "asks"), (1.5, "asks")]


def test_call_that_is_answered_before_a_look_is_never_looked_into(
    monitor: CallMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker_worker.bus.rabbit.call_monitor.heartbeat_for", None)
    call = Delivered()
    monitor.begin(call, 60, 0.0)
    monitor.end(call)
    assert list(monitor.due(CHECK_SECONDS)) == []


def test_answer_of_what_is_no_call_is_nothing_to_the_monitor(monitor: CallMonitor) -> None:
    monitor.end(Delivered())
    assert monitor.next_check == math.inf


def test_call_that_the_broker_redelivers_is_forgotten_before_its_next_heartbeat(monitor: CallMonitor) -> None:
    """Its body counts for no memory budget: a channel that was reopened often would keep many of them."""
    call = Delivered(timeout=60)
    monitor.begin(call, 120, 0.0)
    assert len(list(monitor.due(0.5))) == 1
    call.live = False
    assert list(monitor.due(1.0)) == []
    assert monitor.next_check == math.inf


def test_call_whose_caller_has_given_up_is_forgotten_before_its_next_heartbeat(monitor: CallMonitor) -> None:
    monitor.begin(Delivered(timeout=60), 2, 0.0)
    assert len(list(monitor.due(0.5))) == 1
    assert list(monitor.due(2.0)) == []
    assert monitor.next_check == math.inf
