# SPDX-License-Identifier: Apache-2.0
"""Declares the exchange and its queues: one for each partition, the bare topic's, the dead letters'.

oslo.messaging's clients declare the exchange too, and accept a queue with any arguments. Only the workers and
`tracker-worker-manage` declare the queues. Consumers of notifications declare the notification queues too.
"""

from collections.abc import Callable
from typing import Any

import amqp
from kombu.entity import Exchange, Queue
from msgspec import Struct

from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.core.delivery import OtherQueue
from tracker_worker.domain.partitions import TOPIC, server_of

DELIVERY_LIMIT = 1_000_000
"""x-delivery-limit of quorum queues; RabbitMQ's default is 20. The worker counts attempts, not the broker."""


def queue_name(exchange: str, number: int) -> str:
    """Return the name of an exchange's queue for a partition, or for an OtherQueue."""
    match number:
        case OtherQueue.BARE_TOPIC:
            return exchange
        case OtherQueue.DEAD_LETTERS:
            return f"{exchange}.dead"
        case _:
            return f"{exchange}.{server_of(number)}"


class TopologyMismatch(Exception):
    """An exchange or queue has other arguments. The text is one line with the commands that repair it."""


class Topology(Struct, frozen=True):
    """The names and arguments of one exchange and its queues.

    Queue names begin with the exchange's name, so that two trackers can share a virtual host. Routing keys
    begin with the topic, as those of oslo.messaging's clients. With the exchange `tracker` both are the same.
    """

    exchange: str
    partitions: int
    quorum: bool

    @property
    def bare(self) -> str:
        """The queue of commands that were sent to the topic without a server."""
        return queue_name(self.exchange, OtherQueue.BARE_TOPIC)

    @property
    def dead(self) -> str:
        """The queue of the messages that the broker dead-lettered."""
        return queue_name(self.exchange, OtherQueue.DEAD_LETTERS)

    def partition(self, number: int) -> str:
        """The queue of a partition."""
        return queue_name(self.exchange, number)

    def queues(self) -> list[Queue]:
        """Every queue, not yet bound to a channel."""
        keys = {self.dead: f"{TOPIC}.dead", self.bare: TOPIC}
        keys |= {self.partition(n): f"{TOPIC}.{server_of(n)}" for n in range(self.partitions)}
        return [self._queue(name, key) for name, key in keys.items()]

    def _queue(self, name: str, routing_key: str) -> Queue:
        arguments: dict[str, object] = {"x-single-active-consumer": True}
        if self.quorum:
            arguments |= {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}
        if name != self.dead:
            arguments |= {
                "x-dead-letter-exchange": self.exchange,
                "x-dead-letter-routing-key": f"{TOPIC}.dead",
            }
        exchange = Exchange(self.exchange, type="topic", durable=True, auto_delete=False)
        return Queue(
            name,
            exchange,
            routing_key=routing_key,
            durable=True,
            auto_delete=False,
            queue_arguments=arguments,
        )


def declare(
    connection: amqp.Connection, topology: Topology, declared: Callable[[], None] = lambda: None
) -> None:
    """Declare the exchange and every queue; call `declared` after each.

    Raises TopologyMismatch if one exists with other arguments.
    """
    _refuse_more_partitions(connection, topology)
    # The last partition first: clients check its queue to verify their number of partitions.
    last = topology.partition(topology.partitions - 1)
    for queue in sorted(topology.queues(), key=lambda queue: queue.name != last):
        channel = connection.channel()  # The broker closes the channel if it refuses a declaration.
        try:
            queue(channel).declare()
        except amqp.PreconditionFailed as error:
            raise TopologyMismatch(_mismatch(error, topology, queue.name, connection.virtual_host)) from None
        channel.close()
        declared()


def notification_queue(settings: BrokerSettings, exchange: str, routing_key: str) -> Queue:
    """Return the queue, with its exchange, that oslo.messaging's notifier would declare."""
    return Queue(
        routing_key,
        Exchange(exchange, type="topic", durable=settings.durable, auto_delete=settings.auto_delete),
        routing_key=routing_key,
        durable=settings.durable,
        auto_delete=settings.auto_delete,
        queue_arguments=settings.queue_arguments,
    )


def declare_notifications(thing: Queue | Exchange, channel: Any) -> None:
    """Declare a notification queue with its exchange, or an exchange alone. Raises TopologyMismatch."""
    try:
        thing(channel).declare()
    except amqp.PreconditionFailed as error:
        raise TopologyMismatch(
            f"the exchange or the queue '{thing.name}' of the notifications was declared otherwise "
            f"({error.reply_text}): set amqp_durable_queues, amqp_auto_delete and rabbit_quorum_queue in "
            "[oslo_messaging_rabbit] as its consumers have them, or give [notifications] exchange and topic "
            "names of their own"
        ) from None
    channel.close()


def _refuse_more_partitions(connection: amqp.Connection, topology: Topology) -> None:
    """Raise TopologyMismatch if the broker has a queue for a partition beyond the last one."""
    queue = topology.partition(topology.partitions)
    channel = connection.channel()  # The broker closes it if the queue is missing.
    try:
        channel.queue_declare(queue, passive=True)
    except amqp.NotFound:
        return
    channel.close()
    raise TopologyMismatch(
        f"there is a queue '{queue}', and [bus] partitions is {topology.partitions}: give all workers and "
        "clients the same value; when it was left over from a larger one, let it run empty and delete it: "
        f"rabbitmqctl delete_queue -p {connection.virtual_host} {queue}"
    )


def _mismatch(error: amqp.PreconditionFailed, topology: Topology, queue: str, vhost: str) -> str:
    said = str(error.reply_text).removeprefix("PRECONDITION_FAILED - ")
    if "for exchange" in said:
        thing = f"exchange '{topology.exchange}'"
        way_out = (
            "set [oslo_messaging_rabbit] amqp_durable_queues or rabbit_quorum_queue in every client, unset "
            f"amqp_auto_delete, stop them and delete it: rabbitmqadmin --vhost={vhost} delete exchange "
            f"name={topology.exchange}"
        )
    else:
        thing = f"queue '{queue}'"
        way_out = (
            "give all workers the same [oslo_messaging_rabbit] rabbit_quorum_queue; to change it stop them, "
            f"let the queue run empty and delete it: rabbitmqctl delete_queue -p {vhost} {queue}"
        )
    return f"{thing} was declared otherwise ({said}): {way_out}"
