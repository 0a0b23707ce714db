# SPDX-License-Identifier: Apache-2.0
"""Sends notifications from the outbox to the bus, with the message ids that they were committed with."""

from collections.abc import Sequence
from typing import Any, Protocol

import oslo_messaging
from msgspec import DecodeError, json


class NotificationRefused(Exception):
    """The bus refuses one of several notifications for what it is, now and whenever it is sent again.

    Which one is not known. Any number of them may have been sent.
    """


class EncodedNotification(Protocol):
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

    def publish(self, notifications: Sequence[EncodedNotification]) -> int:
        """Return how many, counted from the first, the bus has.

        Fewer than all when it took no more or was lost; any number of the others may have been sent. Raises
        NotificationRefused when none of them is known to be taken, and one never will be.
        """
        ...

    def keep_alive(self) -> None:
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
        self._exchange = exchange
        self._topic = topic

    def publish(self, notifications: Sequence[EncodedNotification]) -> int:
        """Send each with the message that was stored. Raises oslo.messaging's errors.

        All are decoded first, so that one that cannot be has no others sent again.
        """
        for target, message in [self._decoded(notification) for notification in notifications]:
            self._transport._send_notification(target, {}, message, version=2.0, retry=0)
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
        """The transport is its owner's."""
