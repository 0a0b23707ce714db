# SPDX-License-Identifier: Apache-2.0
"""Publishes notifications through any other transport of oslo.messaging, fake:// above all."""

from collections.abc import Sequence
from typing import Any

import oslo_messaging
from msgspec import DecodeError, json

from tracker_worker.bus.publisher import EncodedNotification, NotificationRefused
from tracker_worker.private_apis.oslo_messaging import send_notification


class TransportPublisher:
    """Publishes through any oslo.messaging transport, one message after the other. The relay's thread.

    The transport stays its owner's.
    """

    def __init__(self, transport: Any, exchange: str, topic: str) -> None:
        self._transport = transport
        self._exchange = exchange
        self._topic = topic

    def publish(self, notifications: Sequence[EncodedNotification]) -> int:
        """Send each with the message that was stored. Raises oslo.messaging's errors.

        All are decoded first, so that one that cannot be has no others sent again.
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
        """The transport does it."""

    def close(self) -> None:
        """Nothing: the transport stays open."""
