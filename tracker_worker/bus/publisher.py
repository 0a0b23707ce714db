# SPDX-License-Identifier: Apache-2.0
"""What the relay needs of a bus: it publishes notifications under the message ids of their commit.

``bus/rabbit/publisher`` does it on RabbitMQ, ``bus/oslo/publisher`` on any other transport.
"""

from collections.abc import Sequence
from typing import Protocol


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
