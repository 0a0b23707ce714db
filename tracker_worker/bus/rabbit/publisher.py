# SPDX-License-Identifier: Apache-2.0
"""Publishes notifications to RabbitMQ in windows: sends all of a window, then waits for their confirms.

Waiting for each confirm would limit the rate by the latency of the broker's disk; a window waits only once.
If a policy limits the length of a queue, the queue may refuse one notification and accept the next. The
refused one is published again, out of order. A message over max_message_size makes the broker close the
channel.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import amqp

from tracker_worker.bus.publisher import EncodedNotification, NotificationRefused
from tracker_worker.bus.rabbit.confirms import Confirms
from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings
from tracker_worker.bus.rabbit.publish_connection import PublishConnection
from tracker_worker.bus.rabbit.publish_frames import OutgoingMessage, in_writes
from tracker_worker.bus.rabbit.queues import TopologyMismatch, declare_notifications, notification_queue
from tracker_worker.core.envelope import seal
from tracker_worker.core.error_text import driver_text
from tracker_worker.core.stats import Stats

LOG = logging.getLogger(__name__)

CONFIRM_SECONDS = 60.0
"""Seconds without a confirm after which the connection is closed, and the notifications are sent again."""


class ConfirmingPublisher:
    """Publishes on its own connection, opened on first use. Belongs to the relay's thread.

    `monotonic` is a clock in seconds that is never set back. Raises CONNECTION_ERRORS if the broker cannot be
    reached, TopologyMismatch if an exchange or queue differs from what oslo.messaging's notifiers declare.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        exchange: str,
        topic: str,
        monotonic: Callable[[], float],
        stats: Stats,
    ) -> None:
        self._settings = settings
        self._connection = PublishConnection(settings, "relay", self._prepare)
        self._exchange = exchange
        self._topic = topic
        self._declared: set[str] = set()
        self._sent = 0
        self._confirms = Confirms()
        self._monotonic = monotonic
        self._stats = stats

    def publish(self, notifications: Sequence[EncodedNotification]) -> int:
        """Send all as mandatory, persistent messages, and wait for their confirms.

        Raises NotificationRefused if the broker closed the channel because of a message and confirmed none.
        """
        messages = [self._message(notification) for notification in notifications]
        self._connection.channel()
        before = self._sent
        lost = None
        try:
            # All declarations come first: one that is refused after a send would cause a second send.
            for routing_key in {message.routing_key for message in messages} - self._declared:
                self._declare(routing_key)
            self._sent += len(messages)
            for together in in_writes(messages):
                self._connection.publish(together)
            self._await_confirms()
        except CONNECTION_ERRORS as error:
            self.close()
            if self._confirms.confirmed == before:
                if isinstance(error, amqp.PreconditionFailed):
                    raise NotificationRefused(error.reply_text) from error
                raise
            lost = driver_text(error)
        if lost is not None:
            LOG.warning("The connection to %s is lost: %s", self._settings.name, lost)
        confirmed = self._confirms.confirmed - before
        if confirmed < len(notifications):
            self.close()
        return confirmed

    def keep_alive(self) -> None:
        """Keep the connection alive, if there is one."""
        self._connection.keep_alive()

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._connection.close()

    def _prepare(self, channel: Any) -> None:
        channel.confirm_select()
        self._confirms = Confirms()
        channel.events["basic_ack"].add(self._confirms.acknowledge)
        channel.events["basic_nack"].add(self._confirms.refuse)
        channel.events["basic_return"].add(self._returned)
        self._declared.clear()
        self._sent = 0

    def _message(self, notification: EncodedNotification) -> OutgoingMessage:
        try:
            text = notification.body.decode()
        except UnicodeDecodeError as error:
            raise NotificationRefused(f"its body is no text: {error}") from None
        return OutgoingMessage(self._exchange, f"{self._topic}.{notification.priority.lower()}", seal(text))

    def _declare(self, routing_key: str) -> None:
        """Declare the queue as oslo.messaging's notifier does, so that no consumer has to exist before."""
        queue = notification_queue(self._settings, self._exchange, routing_key)
        try:
            declare_notifications(queue, self._connection.another_channel())
        except TopologyMismatch:
            self.close()
            raise
        self._declared.add(routing_key)

    def _await_confirms(self) -> None:
        deadline = self._monotonic() + CONFIRM_SECONDS
        confirms = self._confirms
        while confirms.confirmed < self._sent and not confirms.refused:
            seen = confirms.confirmed
            self._connection.wait()
            if confirms.confirmed > seen:
                deadline = self._monotonic() + CONFIRM_SECONDS
            elif self._monotonic() > deadline:
                raise TimeoutError(f"nothing was confirmed for {CONFIRM_SECONDS:.0f} s")

    def _returned(self, _error: object, _exchange: str, _routing_key: str, _message: object) -> None:
        self._stats.unrouted_notifications += 1
