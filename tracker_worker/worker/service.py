# SPDX-License-Identifier: Apache-2.0
"""The composition root: the only module that knows concrete classes, clocks and ids."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

import sqlalchemy as sa
from msgspec.structs import replace

from tracker_worker.bus.oslo.endpoint import Endpoint
from tracker_worker.bus.oslo.publisher import TransportPublisher
from tracker_worker.bus.publisher import Publisher
from tracker_worker.bus.rabbit.consumer import Consumer
from tracker_worker.bus.rabbit.publisher import ConfirmingPublisher
from tracker_worker.bus.rabbit.queues import Topology
from tracker_worker.bus.rabbit.subscription import SubscriptionSettings
from tracker_worker.bus.state import IngressState
from tracker_worker.core.batch import BatchContext
from tracker_worker.core.delivery import OtherQueue
from tracker_worker.core.stats import PlacementStats, Stats
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.partitions import TOPIC
from tracker_worker.placement.api import Observe, PlacementApi
from tracker_worker.placement.sync import Sync
from tracker_worker.worker.dispatcher import Dispatcher
from tracker_worker.worker.health import WorkerState, all_ok, liveness
from tracker_worker.worker.lane import Lane
from tracker_worker.worker.partition_leases import LeaseOwner
from tracker_worker.worker.provider_results import Publication
from tracker_worker.worker.provider_sync import Observation, ProviderSync
from tracker_worker.worker.provider_task import JITTER
from tracker_worker.worker.purge import Purge
from tracker_worker.worker.relay import Relay
from tracker_worker.worker.request_threads import RequestThreads
from tracker_worker.worker.settings import WorkerSettings
from tracker_worker.worker.threads import worker_thread
from tracker_worker.worker.watchdog import Watchdog

LOG = logging.getLogger(__name__)


def utc_now() -> datetime:
    """Return the time, UTC, without a zone as SQL columns have none."""
    return datetime.now(UTC).replace(tzinfo=None)


def new_id() -> str:
    """Return a new uuid. Any thread, and in a forked process another one.

    uuid4 would ask the system for each, and leave the interpreter lock to other threads meanwhile.
    """
    # The time, because a virtual machine that is restored repeats the generator's numbers.
    bits = random.getrandbits(128) ^ time.time_ns()  # noqa: S311 - unique, but no secret
    text = f"{bits:032x}"
    variant = "89ab"[int(text[16], 16) % 4]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def batch_context_of(settings: WorkerSettings) -> BatchContext:
    """Return what a batch needs besides its events, with the real clock and real ids."""
    return BatchContext(
        tracker=settings.tracker,
        partitions=settings.partitions,
        publisher_id=f"tracker-worker:{settings.host}",
        notify=settings.notify,
        clock=utc_now,
        new_id=new_id,
        mark_providers=settings.placement is not None,
    )


class Ingress(Protocol):
    """Where deliveries come from."""

    @property
    def state(self) -> IngressState:
        """What it is doing. Any thread."""
        ...

    def start(self) -> None:
        """Begin to take deliveries."""
        ...

    def stop(self) -> None:
        """Take no more deliveries; those that were taken are still answered."""
        ...

    def close(self, timeout: float) -> bool:
        """Send the answers, give the rest back to the broker; tells whether `timeout` seconds were enough."""
        ...


class Worker:
    """One worker: ingress, lanes, relay, purge and watchdog on one engine, and the sync with Placement where
    there is one. The caller closes the transports and the engine.

    `failed` is called when an unhandled exception ends one of the worker's threads, `alive` once a second
    while the worker is live. `placement` makes the way to Placement, which tells of each of its requests.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        engine: sa.Engine,
        transport: Any,
        notification_transport: Any,
        failed: Callable[[], None],
        alive: Callable[[], None] = lambda: None,
        placement: Callable[[Observe], PlacementApi] | None = None,
    ) -> None:
        self._timeout = settings.graceful_shutdown_timeout
        self._stall_limit = settings.health.stall_limit
        self._alive = alive
        self._stopping = threading.Event()
        self._failed = threading.Event()
        self._stats = Stats()

        def fail() -> None:
            self._failed.set()
            failed()

        publisher = _publisher(settings, notification_transport, self._stats)
        context = batch_context_of(settings)
        relay = replace(settings.relay, publisher_id=context.publisher_id)
        # With an id: in containers, processes of different workers have the same pid.
        owner = f"{settings.host}:{os.getpid()}:{new_id()}"
        self._relay = Relay(engine, publisher, relay, owner, utc_now, time.monotonic, fail, self._stats)
        self._purge = Purge(engine, settings.retention, fail)
        publication = Publication(settings.notify, context.publisher_id, utc_now, new_id, self._relay.notify)
        syncs = LeaseOwner(owner, settings.partitions, lambda: self._ingress.state.active)
        self._provider_sync = _provider_sync(
            settings, engine, placement, syncs, publication, fail, self._stats
        )
        queues = [OtherQueue.BARE_TOPIC, OtherQueue.DEAD_LETTERS, *range(settings.partitions)]
        self._lanes = [
            Lane(
                f"lane-{number}",
                [queue for queue in queues if queue % settings.lanes == number],
                UnitOfWork(engine),
                context,
                settings.lane.for_lane(number),
                time.monotonic,
                self._relay.notify,
                self._stats.new_lane(),
            )
            for number in range(settings.lanes)
        ]
        self._dispatcher = Dispatcher(self._lanes, time.monotonic, fail)
        self._watchdog = Watchdog([lane.activity for lane in self._lanes], fail, self._check)
        self._ingress = _ingress(settings, transport, self._dispatcher, fail, self._stats)

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters. Any thread."""
        return self._stats.snapshot()

    @property
    def state(self) -> WorkerState:
        """What the worker is doing. Any thread."""
        lanes = tuple(lane.state() for lane in self._lanes)
        ingress = self._ingress.state
        return WorkerState(time.monotonic(), lanes, ingress, self._stopping.is_set())

    def _check(self) -> None:
        if all_ok(liveness(self.state, self._stall_limit)):
            self._alive()

    def start(self) -> None:
        """Start: the relay publishes what an earlier process left first, commands are taken last."""
        self._relay.start()
        self._purge.start()
        if self._provider_sync is not None:
            self._provider_sync.start()
        self._watchdog.start()
        self._dispatcher.start()
        self._ingress.start()

    def stop(self) -> bool:
        """Drain within the graceful timeout: take no more, finish, commit, reply, publish, close.

        Tells whether all was finished. Not from a lane's thread.
        """
        self._stopping.set()
        LOG.info(
            "Stopping: what was received is processed for at most %d s ([worker] graceful_shutdown_timeout); "
            "the broker redelivers what is not acknowledged then",
            self._timeout,
        )
        deadline = time.monotonic() + self._timeout
        stopping = threading.Thread(target=self._ingress.stop, name="ingress-stop", daemon=True)
        stopping.start()
        stopping.join(self._timeout)
        taken = not stopping.is_alive()
        if not taken:
            self._dispatcher.abandon()
        self._purge.stop()
        if self._provider_sync is not None:
            self._provider_sync.stop()
        drained = self._dispatcher.drain(max(deadline - time.monotonic(), 0.1))
        closed = self._ingress.close(max(deadline - time.monotonic(), 0.1))
        if self._provider_sync is not None:
            # What it writes down last may have notifications, which the relay is to publish.
            self._provider_sync.join(max(deadline - time.monotonic(), 0.1))
        published = self._relay.drain(max(deadline - time.monotonic(), 0.1))
        self._watchdog.stop()
        drained = drained and taken and closed
        if not drained:
            LOG.error(
                "Not everything received was processed in %d s ([worker] graceful_shutdown_timeout): the "
                "broker redelivers what was not acknowledged",
                self._timeout,
            )
        if not published:
            LOG.error("Not all notifications were published in time: they wait in the database for a relay")
        return drained and published and not self._failed.is_set()


def _provider_sync(
    settings: WorkerSettings,
    engine: sa.Engine,
    placement: Callable[[Observe], PlacementApi] | None,
    owner: LeaseOwner,
    publication: Publication,
    failed: Callable[[], None],
    stats: Stats,
) -> ProviderSync | None:
    if placement is None or settings.placement is None:
        return None
    observed: SimpleQueue[Observation] = SimpleQueue()
    stats.placement = PlacementStats()
    return ProviderSync(
        engine,
        Sync(placement(lambda outcome, seconds: observed.put((outcome, seconds)))),
        RequestThreads(settings.placement.concurrency, "placement"),
        settings.placement,
        owner,
        publication,
        time.monotonic,
        partial(random.uniform, *JITTER),
        failed,
        observed,
        stats.placement,
    )


def _ingress(
    settings: WorkerSettings, transport: Any, dispatcher: Dispatcher, failed: Callable[[], None], stats: Stats
) -> Ingress:
    if settings.broker is None:
        return Endpoint(
            transport,
            settings.exchange,
            TOPIC,
            range(settings.partitions),
            dispatcher,
            new_id,
            time.monotonic,
        )
    return Consumer(
        settings.broker,
        Topology(settings.exchange, settings.partitions, settings.broker.quorum),
        SubscriptionSettings(
            name=f"{settings.host}:{os.getpid()}",
            preferred_partitions=settings.preferred_partitions or frozenset(range(settings.partitions)),
            standby_delay=settings.standby_delay,
            prefetch=settings.lane.prefetch,
            memory_budget=settings.memory_budget,
            heartbeat_rate=settings.broker.heartbeat_rate,
        ),
        dispatcher,
        partial(worker_thread, failed=failed),
        time.monotonic,
        stats,
    )


def _publisher(settings: WorkerSettings, transport: Any, stats: Stats) -> Publisher:
    exchange, topic = settings.notification_exchange, settings.notification_topic
    if settings.notification_broker is None:
        return TransportPublisher(transport, exchange, topic)
    return ConfirmingPublisher(settings.notification_broker, exchange, topic, time.monotonic, stats)
