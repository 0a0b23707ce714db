# SPDX-License-Identifier: Apache-2.0
"""Counters of one worker."""

from msgspec import Struct
from msgspec.structs import replace


class Stats(Struct):
    """Counters since the start of the worker. A single thread increments each counter, so that no lock is
    needed; any thread may take a snapshot.
    """

    expired_calls: int = 0
    """Calls that expired in the queue with their callers' timeout: never applied. The consumer's thread."""
    lost_replies: int = 0
    """Replies that could not be delivered to the caller. The consumer's thread."""
    published_notifications: int = 0
    """Notifications that the broker has confirmed, duplicates included. The relay's thread."""
    refused_notifications: int = 0
    """Notifications that were replaced because the bus refused them. The relay's thread."""
    unrouted_notifications: int = 0
    """Notifications that were routed to no queue. The relay's thread."""

    def snapshot(self) -> "Stats":
        """Return the counters as they are now."""
        return replace(self)
