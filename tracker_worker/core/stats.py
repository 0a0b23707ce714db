# SPDX-License-Identifier: Apache-2.0
"""Counters of one worker, to which each of its parts adds."""

from msgspec import Struct
from msgspec.structs import replace


class Stats(Struct):
    """What has happened since the worker started. Each counter has one thread that adds to it, so that none
    needs a lock; any thread may take a snapshot.
    """

    expired_calls: int = 0
    """Calls that the broker gave up because their callers had: never applied. The consumer's thread."""
    lost_replies: int = 0
    """Replies that no caller got. The consumer's thread."""
    published_notifications: int = 0
    """Notifications that the bus has taken, repetitions included. The relay's thread."""
    refused_notifications: int = 0
    """Notifications that were replaced because the bus refuses them. The relay's thread."""
    unrouted_notifications: int = 0
    """Notifications that no queue took. The relay's thread."""

    def snapshot(self) -> "Stats":
        """Return the counters as they are now."""
        return replace(self)
