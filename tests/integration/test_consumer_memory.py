# SPDX-License-Identifier: Apache-2.0
"""What the consumer holds on a real broker: bodies within a budget, and none that is too large."""

import hashlib
import queue
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from kombu.connection import Connection

from tests.integration.consumers import Running, Start, declared, ids_of, settle, starting
from tests.integration.daemon import consumers
from tests.integration.rabbit import PARTITIONS, commands, connected, depth, publish, until
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.core.delivery import BodyDigest, Delivery
from tracker_worker.core.envelope import MAX_BODY_BYTES

KIBIBYTE = 1024
SIZE = 100 * KIBIBYTE
QUEUES = PARTITIONS + 2
BUDGET = 10 * SIZE


@pytest.fixture
def start(vhost_url: str) -> Iterator[Start]:
    """Starts consumers with a small budget on the test's virtual host, and ends them."""
    with starting(vhost_url, memory_budget=BUDGET, prefetch=50) as start:
        yield start


def large(count: int, first: int = 0, size: int = SIZE) -> list[bytes]:
    """Commands with their numbers as event ids, made large with spaces."""
    return [body.ljust(size) for body in commands(count, first)]


def is_lost(delivery: Delivery) -> bool:
    return not delivery.live


class Holder:
    """Takes what comes and looks whether that is within the budget."""

    def __init__(self, running: Running, budget: int = BUDGET) -> None:
        self._running = running
        self._budget = budget
        self.held: list[Any] = []
        self.most = 0

    def take(self) -> list[Any]:
        while True:
            try:
                self.held.append(self._running.lanes.deliveries.get_nowait())
            except queue.Empty:
                break
            # What was dropped is live no more before anything else is taken in its place.
            self.held = [delivery for delivery in self.held if delivery.live]
            size = sum(len(delivery.body) for delivery in self.held)
            self.most = max(self.most, size)
        self.held = [delivery for delivery in self.held if delivery.live]
        return self.held

    def settle_first(self) -> str:
        """Settle the first one that is held; return its event id."""
        (first, *self.held) = until(self.take)
        settle([first])
        return ids_of([first])[0]


@pytest.mark.parametrize("quorum", [False, True])
def test_bodies_stay_within_the_budget_and_all_come_in_order(
    start: Start, vhost_url: str, quorum: bool
) -> None:
    """Some twice, when their channel was opened again just then: as after a lost connection."""
    one = start(quorum=quorum)
    with connected(vhost_url) as client:
        until(lambda: declared(client))
        publish(client, large(40))
        publish(client, large(5), partition=1)
        holder = Holder(one)
        settled: dict[int, list[str]] = {0: [], 1: []}
        while "39" not in settled[0] or "4" not in settled[1]:
            delivery = until(holder.take)[0]
            settled[delivery.partition].append(holder.settle_first())
        one.close()
        assert depth(client, "tracker.p0") == depth(client, "tracker.p1") == 0
    assert 0 < holder.most <= BUDGET
    for ids, count in ((settled[0], 40), (settled[1], 5)):
        assert list(dict.fromkeys(ids)) == [str(number) for number in range(count)]


@pytest.mark.parametrize("quorum", [False, True])
def test_order_is_kept_when_the_connection_is_lost_after_windows_were_made_smaller(
    start: Start, vhost_url: str, rabbitmq: RabbitMQ, quorum: bool
) -> None:
    """A quorum queue hands out returned messages in another order when only a part of them is handed out."""
    one = start(quorum=quorum, rabbit_interval_max=1)
    with connected(vhost_url) as client:
        until(lambda: declared(client))
        publish(client, large(40))
    holder = Holder(one)
    settled = [holder.settle_first() for _ in range(3)]
    vhost = vhost_url.rpartition("/")[2]
    for _ in range(2):
        lost = until(holder.take)[0]
        until(lambda: rabbitmq.close_connections(vhost))
        until(partial(is_lost, lost))
        settled += [holder.settle_first() for _ in range(3)]
    while settled[-1] != "39":
        settled.append(holder.settle_first())
    assert list(dict.fromkeys(settled)) == [str(number) for number in range(40)]


def test_greedy_partition_leaves_the_others_their_share(start: Start, declared_client: Connection) -> None:
    """Nothing is settled: a database that stands still, or a lane that holds what it has."""
    publish(declared_client, large(10))
    one = start()
    holder = Holder(one)
    until(lambda: len(holder.take()) == 10)
    publish(declared_client, large(10), partition=1)
    share = BUDGET // QUEUES // SIZE
    until(lambda: sorted(d.partition for d in holder.take()) == [0] * share + [1] * share)
    assert [ids_of([delivery]) for delivery in holder.held[:share]] == [[str(n)] for n in range(share)]
    until(lambda: depth(declared_client, "tracker.p0") == depth(declared_client, "tracker.p1") == 10 - share)
    assert holder.most <= BUDGET


def test_partition_that_is_given_back_goes_to_a_standby_from_its_first_unsettled_message(
    start: Start, declared_client: Connection
) -> None:
    publish(declared_client, large(10))
    one = start()
    holder = Holder(one)
    until(lambda: len(holder.take()) == 10)
    settle(holder.held[:1])
    two = start(name="two", prefetch=3)
    until(lambda: consumers(declared_client, "tracker.p0") == 2)
    publish(declared_client, large(10), partition=1)
    taken: list[Delivery] = []

    def has_taken_three() -> bool:
        if len(taken) < 3:
            taken.extend(d for d in two.lanes.take(1) if not d.partition)
        return len(taken) == 3

    until(has_taken_three)
    assert ids_of(taken) == ["1", "2", "3"]
    assert all(delivery.redelivered for delivery in taken)
    assert not [delivery for delivery in holder.take() if delivery.partition == 0]


def test_message_larger_than_the_budget_is_taken_when_nothing_else_is_held(
    start: Start, declared_client: Connection
) -> None:
    publish(declared_client, [*large(1), *large(2, first=1, size=2 * BUDGET), *large(1, first=3)])
    one = start()
    holder = Holder(one)
    settled = []
    while "3" not in settled:
        settled.append(holder.settle_first())
        assert len([d for d in holder.take() if len(d.body) > BUDGET]) <= 1
    assert list(dict.fromkeys(settled)) == ["0", "1", "2", "3"]
    until(lambda: depth(declared_client, "tracker.p0") == 0)


def test_small_messages_never_meet_the_budget(start: Start, declared_client: Connection) -> None:
    publish(declared_client, commands(300))
    one = start(prefetch=50)
    taken = []
    for _ in range(300):
        taken += one.lanes.take(1)
        settle(taken[-1:])
    one.close()
    assert not any(delivery.redelivered for delivery in taken)
    assert list(one.lanes.dropped.queue).count(0) == 1  # At its end.


def test_partition_gets_its_full_prefetch_back_after_large_messages(
    start: Start, declared_client: Connection
) -> None:
    publish(declared_client, large(20))
    one = start(prefetch=20)
    holder = Holder(one)
    while (holder.settle_first()) != "19":
        pass
    until(lambda: depth(declared_client, "tracker.p0") == 0)
    publish(declared_client, commands(200, first=20))
    while holder.settle_first() != "100":
        pass
    until(lambda: len(holder.take()) == 20)
    assert ids_of(holder.held) == [str(number) for number in range(101, 121)]


def test_stopping_consumer_takes_nothing_in(start: Start, declared_client: Connection) -> None:
    publish(declared_client, large(10))
    one = start()
    holder = Holder(one)
    until(lambda: len(holder.take()) == 10)
    one.consumer.stop()
    settle(holder.held)
    publish(declared_client, large(3, first=40))
    one.close()
    assert not [d for d in holder.take() if d.live]


def test_body_too_large_is_not_collected(start: Start, declared_client: Connection) -> None:
    """Its digest alone is handed on, however small the budget is."""
    body = b" " * (MAX_BODY_BYTES + 1)
    publish(declared_client, [body, *commands(1), body + b" "])
    one = start()
    first, second, third = one.lanes.take(3)
    assert first.body == BodyDigest(len(body), hashlib.sha256(body).hexdigest())
    assert len(third.body) == len(body) + 1
    settle([first, second, third])
    one.close()
    assert depth(declared_client, "tracker.p0") == 0
    assert ids_of([second]) == ["0"]
