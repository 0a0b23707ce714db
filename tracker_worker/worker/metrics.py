# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics: a table of families, each read from the worker's counters and states when it is asked.

Nothing is counted here, so that an event costs what `core.stats` costs. No label has a value that a client
chooses: no node, no instance, no text.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from typing import Any, get_args

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tracker_worker.bus.state import IngressState
from tracker_worker.core.event_counts import EventCounts
from tracker_worker.core.stats import Histogram, LaneStats, PlacementStats, Stats
from tracker_worker.domain.audit import Reason
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.domain.refusal_reasons import RefusalReason
from tracker_worker.placement.api import OUTCOMES
from tracker_worker.worker.health import DatabaseState, LaneState, WorkerState, outbox_age

PREFIX = "tracker_worker_"
REASONS: tuple[str, ...] = get_args(Reason)
NODE_FAULTS = (ErrorCode.LEDGER_BROKEN, ErrorCode.NODE_CONFLICT, ErrorCode.RESERVE_TOO_LARGE)


class Scrape(Struct, frozen=True):
    """All that one scrape reads. `utc` is the time."""

    stats: Stats
    worker: WorkerState
    database: DatabaseState
    live: bool
    ready: bool
    utc: datetime

    @property
    def lane(self) -> LaneStats:
        """The counters of all lanes."""
        return self.stats.lanes[0]

    @property
    def placement(self) -> PlacementStats | None:
        """The counters of the sync with Placement, if there is one."""
        return self.stats.placement

    @property
    def counts(self) -> EventCounts:
        """What became of the events of all lanes."""
        return self.lane.counts


Labels = tuple[str, ...]
Values = Mapping[Any, float] | float | None
"""A value, one for each label or tuple of labels, or nothing while it is not known."""


class Counter(Struct, frozen=True):
    """A number that only grows."""

    name: str
    text: str
    read: Callable[[Scrape], Values]
    labels: Labels = ()
    kind = "counter"

    def metric(self, scrape: Scrape) -> Metric:
        """Return the family with its samples."""
        return _with_samples(
            CounterMetricFamily(PREFIX + self.name, self.text, labels=self.labels), self.read(scrape)
        )


class Gauge(Struct, frozen=True):
    """A number at the moment of the scrape. Absent while it is not known."""

    name: str
    text: str
    read: Callable[[Scrape], Values]
    labels: Labels = ()
    kind = "gauge"

    def metric(self, scrape: Scrape) -> Metric:
        """Return the family with its samples."""
        return _with_samples(
            GaugeMetricFamily(PREFIX + self.name, self.text, labels=self.labels), self.read(scrape)
        )


class Buckets(Struct, frozen=True):
    """A histogram. Absent while there is none."""

    name: str
    text: str
    read: Callable[[Scrape], Histogram | None]
    labels: Labels = ()
    kind = "histogram"

    def metric(self, scrape: Scrape) -> Metric:
        """Return the family with its samples."""
        family = HistogramMetricFamily(PREFIX + self.name, self.text)
        found = self.read(scrape)
        if found is not None:
            bounds = [*map(str, found.bounds), "+Inf"]
            family.add_metric((), list(zip(bounds, accumulate(found.counts), strict=True)), found.total)
        return family


FAMILIES: tuple[Counter | Gauge | Buckets, ...] = (
    Counter(
        "events",
        "Events that were answered, by method and outcome. The outcome `duplicate` is a redelivered event "
        "whose receipt existed, `answered` a question, `parked` a dead letter.",
        lambda s: s.counts.events,
        ("method", "outcome"),
    ),
    Buckets(
        "event_wait_seconds",
        "Seconds that an event waited in the worker, from its receipt until a lane took it.",
        lambda s: s.lane.wait,
    ),
    Buckets(
        "event_run_seconds",
        "Seconds that an event ran, from there until its answer: the time of its batch, retries included.",
        lambda s: s.lane.run,
    ),
    Buckets("batch_events", "Events of a committed transaction.", lambda s: s.lane.batch),
    Buckets("commit_seconds", "Seconds of a committed transaction.", lambda s: s.lane.commit),
    Counter(
        "database_retries",
        "Transactions that were tried again after an error of the database, or another worker's commit.",
        lambda s: s.lane.retries,
    ),
    Counter(
        "refusals",
        "Refused commands, by what they lack. A claim that lacks several things is counted for each.",
        lambda s: _each(RefusalReason, s.counts.refusals),
        ("reason",),
    ),
    Counter(
        "corrections",
        "Corrections of audits, by reason.",
        lambda s: _each(REASONS, s.counts.corrections),
        ("reason",),
    ),
    Counter(
        "dead_letters",
        "Parked events, by code.",
        lambda s: _each(ErrorCode, s.counts.dead_letters),
        ("code",),
    ),
    Counter(
        "published_notifications",
        "Notifications that the broker has confirmed, duplicates included.",
        lambda s: s.stats.published_notifications,
    ),
    Counter(
        "refused_notifications",
        "Notifications that were replaced by an error because the broker refused them.",
        lambda s: s.stats.refused_notifications,
    ),
    Counter(
        "unrouted_notifications",
        "Published notifications that no queue took.",
        lambda s: s.stats.unrouted_notifications,
    ),
    Counter(
        "unanswered_calls",
        "Calls whose caller was gone, by reason. An `expired` one timed out in the queue and was not "
        "applied; one of a `lost_reply` was.",
        lambda s: {"expired": s.stats.expired_calls, "lost_reply": s.stats.lost_replies},
        ("reason",),
    ),
    Counter(
        "broker_connections",
        "Connections to the broker of commands that were opened.",
        lambda s: s.stats.connections,
    ),
    Gauge(
        "faulty_nodes",
        "Nodes that need an operator, by code, of those that the worker has committed or whose events it "
        "holds.",
        lambda s: _faulty_nodes(s.worker.lanes),
        ("code",),
    ),
    Gauge("live", "Whether /livez answers 200: 1 or 0.", lambda s: float(s.live)),
    Gauge("ready", "Whether /readyz answers 200: 1 or 0.", lambda s: float(s.ready)),
    Gauge(
        "connected",
        "Whether the broker of commands serves the worker, by use: 1 or 0. `consume`: the worker is "
        "connected. `publish`: the broker also takes messages, which it does not while it has a memory or "
        "disk alarm.",
        lambda s: _connected(s.worker.ingress),
        ("use",),
    ),
    Gauge(
        "partitions",
        "Partitions that the worker consumes, or stands by for.",
        lambda s: len(s.worker.ingress.partitions),
    ),
    Gauge(
        "unacknowledged_messages",
        "Messages that the worker has received and not acknowledged.",
        lambda s: sum(s.worker.ingress.unacknowledged.values()),
    ),
    Gauge(
        "oldest_unacknowledged_seconds",
        "Seconds since the receipt of the oldest of these messages, 0 if there is none.",
        lambda s: _age(s.worker.ingress.oldest_at, s.worker.now),
    ),
    Gauge(
        "ready_messages",
        "Messages that wait in the broker's queues of commands, as of half a minute ago at most.",
        lambda s: sum(s.worker.ingress.ready.values()),
    ),
    Gauge(
        "uncommitted_seconds",
        "Seconds since the last commit of the lane that has worked longest without one, 0 if all are idle.",
        lambda s: max((p.uncommitted for lane in s.worker.lanes if (p := lane.progress)), default=0.0),
    ),
    Gauge(
        "outbox_notifications",
        "Notifications that wait in the database to be published; 10000 for that many or more.",
        lambda s: s.database.outbox if s.database.error is None else None,
    ),
    Gauge(
        "outbox_age_seconds",
        "Seconds since the commit of the first notification that waits, 0 if none does.",
        lambda s: (outbox_age(s.database, s.utc) or 0.0) if s.database.error is None else None,
    ),
    Gauge(
        "placement_unsynced_nodes",
        "Nodes with changes that Placement does not have, or whose last sync has failed. Absent without "
        "[placement] enabled, as are the other metrics of Placement.",
        lambda s: s.database.unsynced if s.placement and s.database.error is None else None,
    ),
    Gauge(
        "placement_unsynced_seconds",
        "Seconds since the first of these changes, or since the last sync of a node without a change that "
        "now fails; 0 if there is none.",
        lambda s: _unsynced_age(s.database, s.utc) if s.placement and s.database.error is None else None,
    ),
    Counter(
        "placement_requests",
        "Requests to Placement, by outcome. A `conflict` is answered by another request.",
        lambda s: _each(OUTCOMES, s.placement.requests) if s.placement else None,
        ("outcome",),
    ),
    Buckets(
        "placement_request_seconds",
        "Seconds of a request to Placement.",
        lambda s: s.placement.seconds if s.placement else None,
    ),
)


class WorkerCollector(Collector):
    """Makes the samples of all families from one scrape."""

    def __init__(self, scrape: Callable[[], Scrape]) -> None:
        self._scrape = scrape

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        scrape = self._scrape()
        for family in FAMILIES:
            yield family.metric(scrape)

    def describe(self) -> list[Metric]:
        """Return nothing: the registry need not collect to learn the names."""
        return []


def registry_of(scrape: Callable[[], Scrape]) -> CollectorRegistry:
    """Return a registry of its own for one worker: the process may have several."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(scrape))
    return registry


def _each(labels: Iterable[str], counts: Mapping[str, float]) -> dict[str, float]:
    """Return a count for each label: a series that began with its first event would show no increase."""
    return {str(label): counts.get(label, 0) for label in labels}


def _faulty_nodes(lanes: Iterable[LaneState]) -> dict[str, float]:
    return {code.value: sum(lane.faulty_nodes.get(code, 0) for lane in lanes) for code in NODE_FAULTS}


def _connected(ingress: IngressState) -> dict[str, float]:
    return {
        "consume": float(ingress.connected),
        "publish": float(ingress.connected and ingress.alarm is None),
    }


def _age(at: float | None, now: float) -> float:
    return 0.0 if at is None else max(now - at, 0.0)


def _unsynced_age(database: DatabaseState, utc: datetime) -> float:
    """The clocks of hosts differ a little: an age is never negative."""
    since = database.unsynced_since
    return 0.0 if since is None else max((utc - since).total_seconds(), 0.0)


def _with_samples(family: CounterMetricFamily | GaugeMetricFamily, values: Values) -> Metric:
    if isinstance(values, Mapping):
        for labels, value in values.items():
            family.add_metric((labels,) if isinstance(labels, str) else labels, value)
    elif values is not None:
        family.add_metric((), values)
    return family
