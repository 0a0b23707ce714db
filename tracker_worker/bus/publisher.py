# SPDX-License-Identifier: Apache-2.0
"""The interface through which the relay publishes notifications, with the message ids of their commit.

``bus/rabbit/publisher`` implements it for RabbitMQ, ``bus/oslo/publisher`` for any other transport.
"""

from collections.abc import Sequence
from typing import Protocol


class NotificationRefused(Exception):
    """The bus refuses one of several notifications because of its content, and will refuse it again.

    The error does not tell which one. Any number of them may have been sent.
    """


class EncodedNotification(Protocol):
    """A notification as the outbox stores it."""

    @property
    def priority(self) -> str:
        """INFO or ERROR."""
        ...

    @property
    def body(self) -> bytes:
        """The JSON of the messagingv2 message, without its outer envelope."""
        ...


class Publisher(Protocol):
    """Publishes notifications. Belongs to the relay's thread."""

    def publish(self, notifications: Sequence[EncodedNotification]) -> int:
        """Publish in order; return how many notifications, counted from the first, the bus has accepted.

        These are fewer than all if the bus refused one or the connection was lost; any number of the others
        may have been sent. Raises NotificationRefused if none is accepted, and one never will be.
        """
        ...

    def keep_alive(self) -> None:
        """Keep the connection alive. Call it often."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
