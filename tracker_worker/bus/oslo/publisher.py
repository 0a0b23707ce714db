# SPDX-License-Identifier: Apache-2.0
"""Publishes notifications through oslo.messaging's transports other than RabbitMQ, mainly fake://."""

from collections.abc import Sequence
from typing import Any

import oslo_messaging
from msgspec import DecodeError, json

from tracker_worker.bus.publisher import EncodedNotification, NotificationRefused
from tracker_worker.private_apis.oslo_messaging import send_notification


class TransportPublisher:
    """Publishes through any oslo.messaging transport, one message after the other. The relay's thread.

    Does not close the transport.
    """

    def __init__(self, transport: Any, exchange: str, topic: str) -> None:
        self._transport = transport
        self._exchange = exchange
        self._topic = topic

    def publish(self, notifications: Sequence[EncodedNotification]) -> int:
        """Send each stored message. Raises NotificationRefused and oslo.messaging's errors.

        All are decoded first: one that cannot be decoded after a send would cause a second send.
        """
        for target, message in [self._decoded(notification) for notification in notifications]:
            send_notification(self._transport, target, message)
        return len(notifications)

    def _decoded(self, notification: EncodedNotification) -> tuple[oslo_messaging.Target, Any]:
        topic = f"{self._topic}.{notification.priority.lower()}"
        try:
            message = json.decode(notification.body)
        except (DecodeError, UnicodeError, RecursionError) as error:
            raise NotificationRefused(f"its body is no JSON: {error}") from None
        return oslo_messaging.Target(exchange=self._exchange, topic=topic), message

    def keep_alive(self) -> None:
        """Do nothing: the transport keeps its connections alive."""

    def close(self) -> None:
        """Do nothing: the transport stays open."""
