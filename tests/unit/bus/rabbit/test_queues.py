# SPDX-License-Identifier: Apache-2.0
"""What is declared: the contract between clients of oslo.messaging, workers and operators."""

from typing import Any

import pytest
from kombu.entity import Queue

from tracker_worker.bus.rabbit.queues import DELIVERY_LIMIT, Topology


def declared(**settings: Any) -> dict[str, Queue]:
    initial: dict[str, Any] = {"exchange": "tracker", "partitions": 2, "quorum": False}
    made = Topology(**(initial | settings))
    return {queue.name: queue for queue in made.queues()}


def test_each_partition_has_the_queue_that_clients_of_oslo_messaging_send_to() -> None:
    queues = declared()
    assert list(queues) == ["tracker.dead", "tracker", "tracker.p0", "tracker.p1"]
    assert [queue.routing_key for queue in queues.values()] == list(queues)


def test_queues_are_named_after_the_exchange_and_routed_by_the_topic() -> None:
    queues = declared(exchange="cell1")
    assert {name: queue.routing_key for name, queue in queues.items()} == {
        "cell1.dead": "tracker.dead",
        "cell1": "tracker",
        "cell1.p0": "tracker.p0",
        "cell1.p1": "tracker.p1",
    }


@pytest.mark.parametrize("quorum", [False, True])
def test_exchange_and_queues_survive_the_broker(quorum: bool) -> None:
    for queue in declared(quorum=quorum).values():
        assert (queue.durable, queue.auto_delete, queue.exclusive) == (True, False, False)
        exchange = queue.exchange
        assert (exchange.name, exchange.type, exchange.durable, exchange.auto_delete) == (
            "tracker", "topic", True, False,
        )  # fmt: skip


@pytest.mark.parametrize("quorum", [False, True])
def test_every_queue_has_one_active_consumer_and_loses_nothing(quorum: bool) -> None:
    for name, queue in declared(quorum=quorum).items():
        arguments: dict[str, Any] = dict(vars(queue)["queue_arguments"])
        assert arguments.pop("x-single-active-consumer") is True
        if quorum:
            assert arguments.pop("x-queue-type") == "quorum"
            assert arguments.pop("x-delivery-limit") == DELIVERY_LIMIT
        dead = {"x-dead-letter-exchange": "tracker", "x-dead-letter-routing-key": "tracker.dead"}
        assert arguments == ({} if name == "tracker.dead" else dead)
