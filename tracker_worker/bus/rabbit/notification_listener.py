# SPDX-License-Identifier: Apache-2.0
"""Listens to the notifications through a temporary queue, without taking any from their consumers.

The queue is this connection's own (exclusive): the broker deletes it with the connection, however that ends.
A listener that is too slow loses the oldest notifications: the broker keeps MAX_MESSAGES in the queue, and a
few hundred between the queue and the socket.
"""

from typing import Any

import amqp

from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings, close_connection, connect
from tracker_worker.bus.rabbit.frames import BodyAction, BodyFilter
from tracker_worker.bus.rabbit.socket_io import read_waiting, waiting
from tracker_worker.core.envelope import MAX_BODY_BYTES

MAX_MESSAGES = 10_000
MAX_BYTES = 64 * 1024 * 1024
MAX_BATCH = 1000
"""Notifications that one call of `receive` returns, so that its caller can draw between two."""
PRIORITIES = ("info", "error")


class NotificationListener:
    """One connection with one queue. Belongs to one thread, which calls `receive` often: it keeps the
    heartbeat. All methods but `close` raise CONNECTION_ERRORS.
    """

    def __init__(self, settings: BrokerSettings, exchange: str, topic: str) -> None:
        self._settings = settings
        self._exchange = exchange
        self._topic = topic
        self._connection: amqp.Connection | None = None
        self._received: list[bytes] = []
        self.oversized = 0
        """Number of messages that were too large to be read."""

    @property
    def is_connected(self) -> bool:
        """Whether `connect` has succeeded since the last `close`."""
        return self._connection is not None

    def connect(self) -> None:
        """Connect, declare the queue, bind it and consume it.

        Only the queue is declared: the exchange's arguments are those of its publishers. Raises amqp.NotFound
        while there is no such exchange.
        """
        bodies = BodyFilter()
        bodies.admit = self._admit
        connection = connect(self._settings, "watch", bodies=bodies)
        try:
            self._consume(connection.channel())
        except CONNECTION_ERRORS:
            close_connection(connection)
            raise
        self._connection = connection

    def receive(self, seconds: float) -> list[bytes]:
        """Return the bodies that have arrived, at most MAX_BATCH; wait up to `seconds` for the first.

        Of a lost connection, return first what arrived before; the next call raises the error.
        """
        assert self._connection is not None
        try:
            waiting(self._connection, seconds)
            read_waiting(self._connection, lambda: len(self._received) >= MAX_BATCH)
            self._connection.heartbeat_tick(rate=self._settings.heartbeat_rate)
        except CONNECTION_ERRORS:
            if not self._received:
                raise
        received, self._received = self._received, []
        return received

    def close(self) -> None:
        """Close the connection, if there is one, and drop what was not returned."""
        connection, self._connection = self._connection, None
        self._received = []
        if connection is not None:
            close_connection(connection)

    def _consume(self, channel: Any) -> None:
        queue, _, _ = channel.queue_declare(
            exclusive=True,
            auto_delete=True,
            arguments={
                "x-queue-type": "classic",  # The default of the virtual host may be quorum, which is durable.
                "x-max-length": MAX_MESSAGES,
                "x-max-length-bytes": MAX_BYTES,
                "x-overflow": "drop-head",
            },
        )
        for priority in PRIORITIES:
            channel.queue_bind(queue, self._exchange, f"{self._topic}.{priority}")
        channel.basic_consume(queue, no_ack=True, callback=self._keep)

    def _keep(self, message: amqp.Message) -> None:
        self._received.append(message.body or b"")  # py-amqp returns a str for an empty body

    def _admit(self, _channel: int, size: int) -> BodyAction:
        if size <= MAX_BODY_BYTES:
            return BodyAction.TAKE
        self.oversized += 1
        return BodyAction.SKIP
