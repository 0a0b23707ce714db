# SPDX-License-Identifier: Apache-2.0
"""What the bus hands to the worker, and how the worker answers it."""

from enum import IntEnum
from typing import Any, Protocol

from msgspec import Struct

Answer = dict[str, Any] | str | Exception


class OtherQueue(IntEnum):
    """Stands in place of a partition for a queue that is no partition's."""

    BARE_TOPIC = -1
    """Commands that were sent to no partition."""
    DEAD_LETTERS = -2
    """What the broker dead-lettered."""


class BodyDigest(Struct, frozen=True):
    """Stands for a body that was too large to be taken in: its length in bytes, and its SHA-256 in hex."""

    length: int
    sha256: str

    def __len__(self) -> int:
        return self.length


class Delivery(Protocol):
    """One message as it came. `settle` is called once, after the commit, by the lane's thread."""

    @property
    def body(self) -> bytes | BodyDigest:
        """The message's bytes as they came, envelope included; compressed where `compression` says so. A
        digest of them where they are too many.
        """
        ...

    @property
    def compression(self) -> str | None:
        """The message's header `compression`, which anybody may have written; None for a plain body."""
        ...

    @property
    def partition(self) -> int:
        """The partition whose queue it came from, or OtherQueue."""
        ...

    @property
    def redelivered(self) -> bool:
        """Whether the broker has handed it out before."""
        ...

    @property
    def live(self) -> bool:
        """False once the broker will hand it out again: it is dropped, unless it is under way."""
        ...

    @property
    def dead_lettered(self) -> str | None:
        """Why the broker took it out of its queue, if it did."""
        ...

    def settle(self, answer: Answer) -> None:
        """Reply if it was a call, and let the broker forget it."""
        ...


class EventInbox(Protocol):
    """Where the deliveries of one lane's partitions wait. Any thread."""

    def put(self, delivery: Delivery) -> bool:
        """Add a delivery; False when nothing is taken any more."""
        ...

    def drop(self, partition: int) -> None:
        """Forget what waits for a partition: the broker will hand it out again."""
        ...


class EventSink(Protocol):
    """Where deliveries go."""

    def inbox(self, partition: int) -> EventInbox:
        """Return the inbox of a partition's lane."""
        ...
