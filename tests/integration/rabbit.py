# SPDX-License-Identifier: Apache-2.0
"""What tests of the bus share: settings for a broker, messages by hand, lanes that only hold."""

import queue
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import amqp
import oslo_messaging
from kombu.connection import Connection
from oslo_config import cfg
from oslo_messaging._drivers.amqp import amqp_opts
from oslo_messaging._drivers.impl_rabbit import rabbit_opts

from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.bus.rabbit.connection import BrokerSettings, broker_settings
from tracker_worker.bus.rabbit.queues import Topology
from tracker_worker.core.delivery import Delivery
from tracker_worker.core.envelope import encode

T = TypeVar("T")

SECONDS = 120
"""After so long a wait is given up: a busy machine needs a part of it."""
ALARM, NO_ALARM = 0, 0.4
PARTITIONS = 2
TOPOLOGY = Topology("tracker", PARTITIONS, quorum=False)
EXCHANGE, TOPIC = "nova", "versioned_notifications"
"""Where notifications go."""


def settings_of(url: str, **options: Any) -> BrokerSettings:
    """The settings of a transport URL; `options` are of [oslo_messaging_rabbit]."""
    conf = cfg.ConfigOpts()
    conf([])
    for opts in (rabbit_opts, amqp_opts):
        conf.register_opts(opts, group="oslo_messaging_rabbit")
    for name, value in options.items():
        conf.set_override(name, value, group="oslo_messaging_rabbit")
    return broker_settings(oslo_messaging.TransportURL.parse(conf, url), conf.oslo_messaging_rabbit)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection of the test's own."""
    with Connection(list(settings_of(url).urls)) as connection:
        connection.connect()
        yield connection


@contextmanager
def alarm(rabbitmq: RabbitMQ) -> Iterator[None]:
    """The broker takes nothing from publishers, as when its memory is full."""
    rabbitmq.limit_memory(ALARM)
    try:
        yield
    finally:
        rabbitmq.limit_memory(NO_ALARM)


def publish(
    connection: Connection, bodies: Iterable[bytes], partition: int = 0, exchange: str = "tracker", **how: Any
) -> None:
    """Publish bodies as an oslo.messaging client does, in order."""
    channel: Any = connection.default_channel
    for body in bodies:
        message = amqp.Message(
            body, content_type="application/json", content_encoding="utf-8", delivery_mode=2, **how
        )
        channel.basic_publish_confirm(message, exchange=exchange, routing_key=f"tracker.p{partition}")


def commands(count: int, first: int = 0) -> list[bytes]:
    """The bodies of so many commands, each with its number as event id."""
    return [
        encode("build_failed", {"node": "n", "event_id": str(number)})
        for number in range(first, first + count)
    ]


def depth(connection: Connection, name: str) -> int:
    """How many messages of a queue nobody has."""
    with connection.channel() as channel:
        return int(channel.queue_declare(name, passive=True).message_count)


def until(holds: Callable[[], T], what: str = "") -> T:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, what or "it did not come to pass"
        time.sleep(0.01)
    return found


class HoldingInboxes:
    """Keeps what it is handed until the test settles it."""

    def __init__(self) -> None:
        self.deliveries: queue.Queue[Delivery] = queue.Queue()
        self.dropped: queue.Queue[int] = queue.Queue()

    def inbox(self, _partition: int) -> "HoldingInboxes":
        return self

    def put(self, delivery: Delivery) -> bool:
        self.deliveries.put(delivery)
        return True

    def drop(self, partition: int) -> None:
        self.dropped.put(partition)

    def take(self, count: int) -> list[Delivery]:
        """The next deliveries, once they are there."""
        return [self.deliveries.get(timeout=SECONDS) for _ in range(count)]
