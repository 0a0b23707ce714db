# SPDX-License-Identifier: Apache-2.0
"""Sends notifications from the outbox to the bus, with the message ids that they were committed with."""

from collections.abc import Iterable
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
    """What the relay needs of a bus."""

    def publish(self, notifications: Iterable[Notification]) -> None:
        """Return once the bus has them all; on an error any number of them may have been sent.

        Relay's thread.
        """
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

    def publish(self, notifications: Iterable[Notification]) -> None:
        """Send each with the message that was stored."""
        for notification in notifications:
            self._transport._send_notification(
                self._targets[notification.priority],
                {},
                json.decode(notification.body),
                version=2.0,
                retry=0,
            )
