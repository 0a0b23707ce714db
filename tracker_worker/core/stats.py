# SPDX-License-Identifier: Apache-2.0
"""Counters of one worker: what metrics, reports and tests read.

A single thread adds to each counter, so that no lock is needed. Any thread may take a snapshot, whose
counters may differ by the batch that is being counted.
"""

from bisect import bisect_left

from msgspec import Struct, field
from msgspec.structs import replace

from tracker_worker.core.event_counts import EventCounts

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of durations."""
EVENTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0)
"""Upper bounds of the buckets of batch sizes."""


class Histogram(Struct):
    """Counts of observed values by bucket, and their sum. The last bucket has no upper bound."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> "Histogram":
        """Return an empty histogram with these upper bounds, which ascend."""
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def plus(self, other: "Histogram") -> "Histogram":
        """Return the sum of two histograms with the same bounds."""
        counts = [one + another for one, another in zip(self.counts, other.counts, strict=True)]
        return Histogram(self.bounds, counts, self.total + other.total)


class LaneStats(Struct):
    """Counters of one lane, which its thread increments after each commit."""

    counts: EventCounts = field(default_factory=EventCounts)
    wait: Histogram = field(default_factory=lambda: Histogram.of(SECONDS))
    """Seconds from the receipt of an event until a lane took it the last time."""
    run: Histogram = field(default_factory=lambda: Histogram.of(SECONDS))
    """Seconds from there until its answer: the time of its batch."""
    batch: Histogram = field(default_factory=lambda: Histogram.of(EVENTS))
    """Events of a transaction."""
    commit: Histogram = field(default_factory=lambda: Histogram.of(SECONDS))
    """Seconds of a transaction that was committed."""
    retries: int = 0
    """Transactions that were tried again after an error of the database."""

    def add(self, other: "LaneStats") -> None:
        """Add the counters of another lane."""
        self.counts.add(other.counts)
        self.wait = self.wait.plus(other.wait)
        self.run = self.run.plus(other.run)
        self.batch = self.batch.plus(other.batch)
        self.commit = self.commit.plus(other.commit)
        self.retries += other.retries


class PlacementStats(Struct):
    """Counters of the requests to Placement, to which the thread of the sync adds."""

    requests: dict[str, int] = field(default_factory=dict)
    """Requests by outcome."""
    seconds: Histogram = field(default_factory=lambda: Histogram.of(SECONDS))
    """Seconds of a request."""


class Stats(Struct):
    """Counters since the start of the worker. The lanes' are added up in a snapshot."""

    expired_calls: int = 0
    """Calls that expired in the queue with their callers' timeout: never applied. The consumer's thread."""
    lost_replies: int = 0
    """Replies that could not be delivered to the caller. The consumer's thread."""
    connections: int = 0
    """Connections to the broker of commands that were opened. The consumer's thread."""
    published_notifications: int = 0
    """Notifications that the broker has confirmed, duplicates included. The relay's thread."""
    refused_notifications: int = 0
    """Notifications that were replaced because the bus refused them. The relay's thread."""
    unrouted_notifications: int = 0
    """Notifications that were routed to no queue. The relay's thread."""
    placement: PlacementStats | None = None
    """Counters of the sync with Placement; None where no node is synced."""
    lanes: list[LaneStats] = field(default_factory=list)

    def new_lane(self) -> LaneStats:
        """Return the counters of one more lane."""
        self.lanes.append(LaneStats())
        return self.lanes[-1]

    def snapshot(self) -> "Stats":
        """Return the counters as they are now, those of all lanes as one. `placement` is not a copy."""
        lane = LaneStats()
        for each in self.lanes:
            lane.add(each)
        return replace(self, lanes=[lane])
