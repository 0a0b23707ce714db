# SPDX-License-Identifier: Apache-2.0
"""What an ingress is doing, as the health checks and reports read it."""

from collections.abc import Mapping

from msgspec import Struct


class IngressState(Struct, frozen=True):
    """The ingress of commands at one moment. All times are seconds of the worker's monotonic clock."""

    at: float
    """When its thread was last seen at work: it has read from the broker, or failed to connect."""
    since: float
    """Since when it is connected, or is not."""
    connected: bool
    partitions: frozenset[int] = frozenset()
    """Partitions that it consumes or stands by for."""
    active: frozenset[int] = frozenset()
    """Those of them whose messages it gets. The broker has one active consumer of a queue, and tells it by
    the first delivery; it stays active until its channel is closed."""
    unacknowledged: Mapping[int, int] = {}
    """Deliveries that are not acknowledged, by partition or OtherQueue, without those that have none."""
    oldest_at: float | None = None
    """When the oldest of them was received."""
    ready: Mapping[int, int] = {}
    """Messages that wait in the broker's queues, as the broker has last said, by partition or OtherQueue."""
    alarm: str | None = None
    """Why the broker takes no messages, in its own words, while it has a memory or disk alarm; else None."""
