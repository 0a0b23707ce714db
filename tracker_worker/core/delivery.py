# SPDX-License-Identifier: Apache-2.0
"""The interface between bus and worker: deliveries, their answers, and the inboxes that accept them."""

from enum import IntEnum
from typing import Any, Protocol

from msgspec import Struct

Answer = dict[str, Any] | str | Exception


class OtherQueue(IntEnum):
    """The numbers, in place of a partition, of the queues that belong to no partition."""

    BARE_TOPIC = -1
    """The queue of the topic itself: commands that were sent without a partition."""
    DEAD_LETTERS = -2
    """The queue of the messages that the broker dead-lettered."""


class BodyDigest(Struct, frozen=True):
    """Replaces a body that is too large to be accepted: its length in bytes, and its SHA-256 in hex."""

    length: int
    sha256: str

    def __len__(self) -> int:
        return self.length


class Delivery(Protocol):
    """One message as received. The lane's thread calls `settle` once, after the commit."""

    @property
    def body(self) -> bytes | BodyDigest:
        """The bytes of the message as received, with the envelope, compressed if `compression` is set; a
        digest of these bytes if there are too many.
        """
        ...

    @property
    def compression(self) -> str | None:
        """The message's header `compression`, an untrusted text; None for a plain body."""
        ...

    @property
    def partition(self) -> int:
        """The partition whose queue delivered the message, or OtherQueue."""
        ...

    @property
    def redelivered(self) -> bool:
        """Whether the broker has delivered the message before."""
        ...

    @property
    def received_at(self) -> float:
        """When the worker received the message, by its monotonic clock in seconds."""
        ...

    @property
    def live(self) -> bool:
        """False once the broker will redeliver the message: it is dropped, unless it is in flight."""
        ...

    @property
    def dead_lettered(self) -> str | None:
        """Why the broker dead-lettered the message; None if it did not."""
        ...

    def settle(self, answer: Answer) -> None:
        """Send the reply if the message is a call, and acknowledge the message."""
        ...


class EventInbox(Protocol):
    """The queues of one lane's partitions. Any thread."""

    def put(self, delivery: Delivery) -> bool:
        """Add a delivery; False once the inbox accepts no more."""
        ...

    def drop(self, partition: int) -> None:
        """Drop the waiting deliveries of a partition: the broker will redeliver them."""
        ...


class EventSink(Protocol):
    """The inboxes into which the bus puts deliveries."""

    def inbox(self, partition: int) -> EventInbox:
        """Return the inbox of a partition's lane."""
        ...
