# SPDX-License-Identifier: Apache-2.0
"""Snapshots: the number up to which all is cast and saved, whatever many threads do meanwhile."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import pytest

from tracker_worker.client.as_of import FORGOTTEN_SECONDS, EventClock


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def events(clock: Clock) -> EventClock:
    return EventClock("me", clock)


def event(events: EventClock) -> int:
    """An event that is cast and saved at once."""
    with events.hold("event"):
        sequence: int = events.origin()["sequence"]
        return sequence


def test_an_origin_has_the_source_and_a_number_that_rises(events: EventClock) -> None:
    origins = [events.origin() for _ in range(3)]
    assert {origin["source"] for origin in origins} == {"me"}
    assert [origin["sequence"] for origin in origins] == sorted({o["sequence"] for o in origins})


def test_a_snapshot_covers_every_event_that_is_done(events: EventClock) -> None:
    assert event(events) <= events.snapshot()


def test_a_snapshot_stays_below_an_event_until_its_block_ends(events: EventClock) -> None:
    done = event(events)
    with events.hold("change"):
        pending = events.origin()["sequence"]
        assert done <= events.snapshot() < pending
    assert events.snapshot() >= pending


def test_the_oldest_hold_counts_whoever_ends_first(events: EventClock) -> None:
    with events.hold("outer"):
        first = events.origin()["sequence"]
        later = event(events)
        assert events.snapshot() < first < later
    assert events.snapshot() > later


def test_a_snapshot_never_falls(events: EventClock) -> None:
    taken = []
    for _ in range(3):
        taken.append(events.snapshot())
        with events.hold("change"):
            event(events)
            taken.append(events.snapshot())
        event(events)
    assert taken == sorted(taken)


def test_a_hold_that_was_released_by_hand_holds_nothing(events: EventClock) -> None:
    with events.hold("claim") as hold:
        number = events.origin()["sequence"]
        hold.release()
        hold.release()
        assert events.snapshot() >= number


def test_a_hold_outlives_an_exception_no_longer_than_its_block(events: EventClock) -> None:
    with pytest.raises(RuntimeError), events.hold("change"):
        number = events.origin()["sequence"]
        raise RuntimeError
    assert events.snapshot() >= number


def test_a_forgotten_hold_ends_after_a_while_and_is_named(
    events: EventClock, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    events.hold("instance_claim on node compute1")
    number = events.origin()["sequence"]
    clock.now += FORGOTTEN_SECONDS - 1
    assert events.snapshot() < number
    clock.now += 1
    assert events.snapshot() >= number
    assert "instance_claim on node compute1" in caplog.text
    caplog.clear()
    events.snapshot()
    assert not caplog.text


def test_a_block_may_last_as_long_as_it_likes(events: EventClock, clock: Clock) -> None:
    with events.hold("claim"):
        number = events.origin()["sequence"]
        clock.now += 100 * FORGOTTEN_SECONDS
        assert events.snapshot() < number


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def cast_held(events: EventClock, done: Callable[[int], None]) -> None:
    with events.hold("event"):
        number = events.origin()["sequence"]
        time.sleep(0)
        done(number)


def cast_numbered_first(events: EventClock, done: Callable[[int], None]) -> None:
    """The wrong way round: a snapshot can fall between the number and the hold."""
    number = events.origin()["sequence"]
    time.sleep(0)
    with events.hold("event"):
        done(number)


def mistakes(cast: Callable[..., None]) -> int:
    """How many snapshots covered an event that was saved only after they were taken."""
    events = EventClock("me", time.monotonic)
    ticks = itertools.count()
    saved: dict[int, int] = {}
    snapshots: list[tuple[int, int]] = []

    def save(number: int) -> None:
        saved[number] = next(ticks)

    def work() -> None:
        for _ in range(1000):
            cast(events, save)

    def watch() -> None:
        for _ in range(1000):
            as_of = events.snapshot()
            snapshots.append((as_of, next(ticks)))
            time.sleep(0)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(6)] + [pool.submit(watch) for _ in range(2)]:
            future.result()
    numbers = range(max(saved) + 1)
    last_saved = list(accumulate((saved.get(number, -1) for number in numbers), max))
    return sum(last_saved[min(as_of, len(last_saved) - 1)] > taken for as_of, taken in snapshots)


def test_no_snapshot_covers_what_another_thread_has_not_saved(busy_threads: None) -> None:
    assert mistakes(cast_held) == 0


def test_numbering_before_holding_would_be_found(busy_threads: None) -> None:
    assert mistakes(cast_numbered_first) > 0
