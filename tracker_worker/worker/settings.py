# SPDX-License-Identifier: Apache-2.0
"""The bounds of a lane."""

from msgspec import Struct
from msgspec.structs import replace


class LaneSettings(Struct, frozen=True):
    """Bounds of a lane: events and bytes of a batch, attempts of an event, cached nodes; seconds between
    retries, of uptime before last attempts, between looks at held nodes.
    """

    batch_size: int = 256
    batch_bytes: int = 1024 * 1024
    prefetch: int = 256
    max_attempts: int = 3
    cached_nodes: int = 10_000
    retry_initial: float = 0.05
    retry_max: float = 3.0
    min_uptime: float = 5.0
    """Seconds of uptime before the worker makes the last attempt of an event."""
    recheck_seconds: float = 5.0
    """How often a node whose ledger is broken is loaded again, while its events are held."""

    def for_lane(self, number: int) -> "LaneSettings":
        """Return those of one lane of a process, counted from 0.

        Lanes are staggered, so that two lanes do not make a last attempt at the same time and a crash is
        charged to one event only.
        """
        return replace(self, min_uptime=self.min_uptime * (number + 1))
