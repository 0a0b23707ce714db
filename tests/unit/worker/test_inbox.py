# SPDX-License-Identifier: Apache-2.0
"""What waits for a lane, partition by partition, and in which order it is taken."""

import threading
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from tests.unit.core.deliveries import Came
from tracker_worker.core.delivery import Delivery
from tracker_worker.worker.inbox import LEAST_SHARE, Inbox

MANY = 1_000_000
PREFETCH = 64


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(range(3), PREFETCH, threading.Event())


def came(name: str, partition: int = 0) -> Came:
    return Came(name.encode(), partition)


def put(inbox: Inbox, deliveries: Iterable[Came]) -> None:
    for delivery in deliveries:
        assert inbox.put(delivery)


def text_of(delivery: Delivery) -> str:
    assert isinstance(delivery.body, bytes)
    return delivery.body.decode()


def taken(inbox: Inbox, most: int = MANY, most_bytes: int = MANY) -> list[str]:
    return [text_of(delivery) for delivery in inbox.take(most, most_bytes)]


def test_nothing_is_taken_where_nothing_waits(inbox: Inbox) -> None:
    assert taken(inbox) == []


def test_partitions_are_taken_in_turn_each_in_order(inbox: Inbox) -> None:
    put(inbox, [came("a1"), came("a2"), came("b1", 1), came("b2", 1)])
    assert taken(inbox) == ["a1", "b1", "a2", "b2"]


def test_turn_goes_on_behind_the_partition_taken_last(inbox: Inbox) -> None:
    put(inbox, [came("a1"), came("a2"), came("b1", 1), came("c1", 2)])
    assert [taken(inbox, most=1) for _ in range(4)] == [["a1"], ["b1"], ["c1"], ["a2"]]


def test_one_partition_fills_only_its_share_of_a_batch(inbox: Inbox) -> None:
    put(inbox, (came(str(number)) for number in range(PREFETCH)))
    assert len(taken(inbox, most=PREFETCH)) == LEAST_SHARE


def test_what_is_too_large_for_a_batch_begins_the_next_one(inbox: Inbox) -> None:
    put(inbox, [came("12345"), came("67890"), came("x")])
    assert [taken(inbox, most_bytes=7), taken(inbox, most_bytes=7)] == [["12345"], ["67890", "x"]]


def test_message_larger_than_a_batch_is_a_batch_of_its_own(inbox: Inbox) -> None:
    put(inbox, [came("0123456789")])
    assert taken(inbox, most_bytes=1) == ["0123456789"]


def test_delivery_of_a_closed_channel_is_not_taken(inbox: Inbox) -> None:
    put(inbox, [replace(came("gone"), live=False), came("a")])
    assert taken(inbox) == ["a"]


def test_put_back_is_next_in_its_order(inbox: Inbox) -> None:
    put(inbox, [came("a1"), came("a2"), came("a3")])
    first = inbox.take(2, MANY)
    inbox.put_back(first)
    assert taken(inbox) == ["a1", "a2", "a3"]


def test_deferred_partition_waits_for_resume_and_others_go_on(inbox: Inbox) -> None:
    put(inbox, [came("a1"), came("a2"), came("b1", 1)])
    inbox.defer([came("a0")])
    assert (inbox.has_deferred, taken(inbox)) == (True, ["b1"])
    inbox.resume()
    assert (inbox.has_deferred, taken(inbox)) == (False, ["a0", "a1", "a2"])


def test_drop_forgets_what_waits_for_one_partition_and_is_noticed_once(inbox: Inbox) -> None:
    put(inbox, [came("a"), came("b", 1)])
    inbox.drop(0)
    assert [inbox.was_dropped(), inbox.was_dropped()] == [True, False]
    assert taken(inbox) == ["b"]


def test_drop_wakes_the_lane(inbox: Inbox) -> None:
    """What it knows of the partition's nodes is another worker's from now on."""
    waiting = threading.Thread(target=inbox.wait, args=[None])
    waiting.start()
    inbox.drop(1)
    waiting.join(20)
    assert not waiting.is_alive()


def test_put_wakes_the_lane(inbox: Inbox) -> None:
    put(inbox, [came("a")])
    inbox.wait(None)
    inbox.wake()
    inbox.wait(None)


def test_abandoned_inbox_takes_nothing() -> None:
    abandoned = threading.Event()
    inbox = Inbox([0], 1, abandoned)
    put(inbox, [came("a")])
    assert inbox._queues[0].full()
    waiting = threading.Thread(target=inbox.put, args=[came("b")])
    waiting.start()
    abandoned.set()
    waiting.join()
    assert not inbox.put(came("c"))
    assert taken(inbox) == ["a"]
