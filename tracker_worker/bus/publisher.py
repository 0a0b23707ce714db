# SPDX-License-Identifier: Apache-2.0
"""Sends notifications from the outbox to the bus, with the message ids that they were committed with."""

from collections.abc import Sequence
from typing import Any, Protocol

import oslo_messaging
from msgspec import json


class Notification(Protocol):
    """A notification as the outbox holds it."""

    @property
    def priority(self) -> str:
        """INFO or ERROR."""
        ...

    @property
    def body(self) -> bytes:
        """The JSON of the messagingv2 message, without its outer envelope."""
        ...


class Publisher(Protocol):
    """What the relay needs of a bus. The relay's thread."""

    def publish(self, notifications: Sequence[Notification]) -> int:
        """Return how many, counted from the first, the bus has.

        Fewer than all when it refused one or was lost; any number of the others may have been sent.
        """
        ...

    def tend(self) -> None:
        """Keep the connection alive. To be called often."""
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


class TransportPublisher:
    """Publishes through any oslo.messaging transport, one message after the other.

    Not through a Notifier: that makes a new message id for every try and swallows every error.
    """

    def __init__(self, transport: Any, exchange: str, topic: str) -> None:
        self._transport = transport
        self._targets = {
            priority: oslo_messaging.Target(exchange=exchange, topic=f"{topic}.{priority.lower()}")
            for priority in ("INFO", "ERROR")
        }

    def publish(self, notifications: Sequence[Notification]) -> int:
        """Send each with the message that was stored. Raises oslo.messaging's errors."""
        for notification in notifications:
            self._transport._send_notification(
                self._targets[notification.priority],
                {},
                json.decode(notification.body),
                version=2.0,
                retry=0,
            )
        return len(notifications)

    def tend(self) -> None:
        """The transport does it."""

    def close(self) -> None:
        """The transport is its owner's."""
