# SPDX-License-Identifier: Apache-2.0
"""The composition root: the one place that knows concrete classes, the clock, the ids and the
configuration.
"""

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import oslo_messaging
import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace
from oslo_messaging._drivers.common import ConfigOptsProxy

from tracker_worker.bus.oslo.endpoint import Endpoint
from tracker_worker.bus.publisher import Publisher, TransportPublisher
from tracker_worker.bus.rabbit.connection import BrokerSettings, broker_settings
from tracker_worker.bus.rabbit.consumer import Consumer
from tracker_worker.bus.rabbit.publisher import ConfirmingPublisher
from tracker_worker.bus.rabbit.queues import TOPIC, Topology
from tracker_worker.bus.rabbit.subscription import SubscriptionSettings
from tracker_worker.core.batch import BatchContext
from tracker_worker.core.delivery import BARE_TOPIC, DEAD_LETTERED
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.numa.pages import parse_reserved_pages
from tracker_worker.domain.pci.specs import parse_aliases, parse_device_specs
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.worker.dispatcher import Dispatcher
from tracker_worker.worker.lane import Lane
from tracker_worker.worker.purge import Purge, Retention
from tracker_worker.worker.relay import Relay, RelaySettings
from tracker_worker.worker.settings import LaneSettings
from tracker_worker.worker.threads import worker_thread
from tracker_worker.worker.watchdog import Watchdog

LOG = logging.getLogger(__name__)

RABBIT = "rabbit"
MEBIBYTE = 1024 * 1024
CONNECTIONS_OF_A_LANE = 2
"""To the database: one for transactions and one for reads outside of them, both kept."""
OTHER_CONNECTIONS = 2
"""To the database: the relay's, which it keeps, and the purge's."""


class WorkerSettings(Struct, frozen=True):
    """Everything about one worker that is configured.

    No `preferred_partitions` means all. `memory_budget` is in bytes. `broker` and `notification_broker` are
    None on transports other than RabbitMQ.
    """

    host: str
    tracker: TrackerSettings = TrackerSettings()
    lane: LaneSettings = LaneSettings()
    relay: RelaySettings = RelaySettings()
    exchange: str = "tracker"
    partitions: int = 16
    preferred_partitions: frozenset[int] = frozenset()
    standby_delay: float = 10.0
    memory_budget: int = 256 * MEBIBYTE
    broker: BrokerSettings | None = None
    notification_broker: BrokerSettings | None = None
    lanes: int = 1
    notify: bool = True
    notification_exchange: str = "nova"
    notification_topic: str = "versioned_notifications"
    retention: Retention = Retention()
    graceful_shutdown_timeout: int = 60


def settings_from(conf: Any) -> WorkerSettings:
    """Return the settings that a configuration holds.

    Raises ValueError, in words, where options exclude each other.
    """
    worker, bus, notifications = conf.worker, conf.bus, conf.notifications
    if (conf.database.connection or "sqlite:").startswith("sqlite"):
        if worker.lanes > 1:
            raise ValueError("[worker] lanes must be 1 on SQLite: it has one writer")
    else:
        _refuse_small_pool(conf.database.max_pool_size, conf.database.max_overflow, worker.lanes)
    if worker.lanes > bus.partitions:
        raise ValueError("[worker] lanes is above [bus] partitions: the rest would stay idle")
    own = frozenset(number for numbers in worker.partitions for number in numbers)
    if own and max(own) >= bus.partitions:
        raise ValueError(f"[worker] partitions: there are {bus.partitions}, from 0 on ([bus] partitions)")
    return WorkerSettings(
        host=socket.gethostname(),
        tracker=tracker_settings(conf.tracker, conf.pci),
        lane=LaneSettings(
            batch_size=worker.batch_size,
            batch_bytes=worker.batch_bytes,
            prefetch=worker.prefetch,
            max_attempts=worker.max_attempts,
            cached_nodes=worker.cached_nodes,
        ),
        relay=RelaySettings(window=notifications.window),
        exchange=bus.exchange,
        partitions=bus.partitions,
        preferred_partitions=own,
        standby_delay=worker.standby_delay,
        memory_budget=worker.memory_budget * MEBIBYTE,
        broker=rabbit_broker(conf, conf.transport_url),
        notification_broker=rabbit_broker(
            conf, conf.oslo_messaging_notifications.transport_url or conf.transport_url
        ),
        lanes=worker.lanes,
        notify=bool(set(conf.oslo_messaging_notifications.driver) - {"noop"}),
        notification_exchange=notifications.exchange,
        notification_topic=notifications.topic,
        retention=retention_of(conf.tracker),
        graceful_shutdown_timeout=worker.graceful_shutdown_timeout,
    )


def _refuse_small_pool(size: int, overflow: int, lanes: int) -> None:
    """Raise ValueError where a lane could wait for a connection for ever. SQLite's has no bound."""
    needed = CONNECTIONS_OF_A_LANE * lanes + OTHER_CONNECTIONS
    unlimited = size == 0 or overflow == -1
    if not unlimited and size + overflow < needed:
        raise ValueError(
            f"[database] max_pool_size ({size}) + max_overflow ({overflow}) allow {size + overflow} "
            f"connections, [worker] lanes ({lanes}) need {needed}: two for each lane, one for the relay and "
            "one for the purge"
        )


def tracker_settings(tracker: Any, pci: Any) -> TrackerSettings:
    """Return the rules that the options of [tracker] and [pci] say. Raises ValueError, in words."""
    return TrackerSettings(
        capacity_check=tracker.capacity_check,
        reserved_host_memory_mb=tracker.reserved_host_memory_mb,
        reserved_host_disk_mb=tracker.reserved_host_disk_mb,
        reserved_host_cpus=tracker.reserved_host_cpus,
        cpu_allocation_ratio=tracker.cpu_allocation_ratio,
        ram_allocation_ratio=tracker.ram_allocation_ratio,
        disk_allocation_ratio=tracker.disk_allocation_ratio,
        reserved_huge_pages=parse_reserved_pages(tracker.reserved_huge_pages),
        packing_host_numa_cells_allocation_strategy=tracker.packing_host_numa_cells_allocation_strategy,
        device_specs=parse_device_specs(pci.device_spec),
        aliases=parse_aliases(pci.alias),
    )


def retention_of(tracker: Any) -> Retention:
    """Return how long rows are kept by the options of [tracker]."""
    return Retention(
        receipt_days=tracker.receipt_days,
        dead_letter_days=tracker.dead_letter_days,
        removed_node_days=tracker.removed_node_days,
    )


def rabbit_broker(conf: Any, transport_url: str) -> BrokerSettings | None:
    """Return how to reach the RabbitMQ of a transport URL, None for another transport.

    Raises ValueError, in words, for files of TLS that cannot be used.
    """
    url = oslo_messaging.TransportURL.parse(conf, transport_url)
    if url.transport != RABBIT:
        return None
    random.shuffle(url.hosts)  # As oslo.messaging does: not all workers on the first host.
    return broker_settings(url, rabbit_options(conf, url))


def rabbit_options(conf: Any, url: oslo_messaging.TransportURL) -> Any:
    """Return [oslo_messaging_rabbit]; options behind the ? of the URL override it, as in oslo.messaging."""
    return ConfigOptsProxy(conf, url, "oslo_messaging_rabbit").oslo_messaging_rabbit


def utc_now() -> datetime:
    """Return the time, UTC, without a zone as SQL columns have none."""
    return datetime.now(UTC).replace(tzinfo=None)


def new_id() -> str:
    """Return a new uuid."""
    return str(uuid.uuid4())


def batch_context_of(settings: WorkerSettings) -> BatchContext:
    """Return what a batch needs besides its events, with the real clock and real ids."""
    return BatchContext(
        tracker=settings.tracker,
        partitions=settings.partitions,
        publisher_id=f"tracker-worker:{settings.host}",
        notify=settings.notify,
        clock=utc_now,
        new_id=new_id,
    )


class Ingress(Protocol):
    """Where deliveries come from."""

    def start(self) -> None:
        """Take what comes."""
        ...

    def stop(self) -> None:
        """Take no more; what was taken is still answered."""
        ...

    def close(self, timeout: float) -> bool:
        """Send what is answered, give back the rest; tells whether `timeout` seconds were enough."""
        ...


class Worker:
    """One worker: ingress, lanes, relay, purge, watchdog on one engine. The transports and the engine stay
    the caller's.

    `failed` is called when one of its threads ends by an error that it does not know.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        engine: sa.Engine,
        transport: Any,
        notification_transport: Any,
        failed: Callable[[], None],
    ) -> None:
        self._timeout = settings.graceful_shutdown_timeout
        self._failed = threading.Event()

        def fail() -> None:
            self._failed.set()
            failed()

        def committed(_nodes: Collection[str]) -> None:
            self._relay.notify()

        publisher = _publisher(settings, notification_transport)
        context = batch_context_of(settings)
        relay = replace(settings.relay, publisher_id=context.publisher_id)
        # The id besides: in containers, processes of different workers have the same number.
        owner = f"{settings.host}:{os.getpid()}:{new_id()}"
        self._relay = Relay(engine, publisher, relay, owner, utc_now, time.monotonic, fail)
        self._purge = Purge(engine, settings.retention, fail)
        queues = [BARE_TOPIC, DEAD_LETTERED, *range(settings.partitions)]
        lanes = [
            Lane(
                f"lane-{number}",
                [queue for queue in queues if queue % settings.lanes == number],
                UnitOfWork(engine),
                context,
                settings.lane.for_lane(number),
                time.monotonic,
                committed,
            )
            for number in range(settings.lanes)
        ]
        self._dispatcher = Dispatcher(lanes, fail)
        self._watchdog = Watchdog([lane.activity for lane in lanes], fail)
        self._ingress = _ingress(settings, transport, self._dispatcher, fail)

    @property
    def published(self) -> int:
        """How many notifications the bus has taken since the start."""
        return self._relay.published

    def start(self) -> None:
        """Start: what an earlier process left is published first, commands are taken last."""
        self._relay.start()
        self._purge.start()
        self._watchdog.start()
        self._dispatcher.start()
        self._ingress.start()

    def stop(self) -> bool:
        """Drain within the graceful timeout: take no more, finish, commit, reply, publish, close.

        Tells whether all was finished. Not from a lane's thread.
        """
        deadline = time.monotonic() + self._timeout
        stopping = threading.Thread(target=self._ingress.stop, name="ingress-stop", daemon=True)
        stopping.start()
        stopping.join(self._timeout)
        taken = not stopping.is_alive()
        if not taken:
            self._dispatcher.abandon()
        self._purge.stop()
        drained = self._dispatcher.drain(max(deadline - time.monotonic(), 0.1))
        closed = self._ingress.close(max(deadline - time.monotonic(), 0.1))
        published = self._relay.drain(max(deadline - time.monotonic(), 0.1))
        self._watchdog.stop()
        drained = drained and taken and closed
        if not drained:
            LOG.error(
                "Not everything taken was finished in %d s ([worker] graceful_shutdown_timeout): the "
                "rest is taken again",
                self._timeout,
            )
        if not published:
            LOG.error("Not all notifications were published in time: they wait in the database for a relay")
        return drained and published and not self._failed.is_set()


def _ingress(
    settings: WorkerSettings, transport: Any, dispatcher: Dispatcher, failed: Callable[[], None]
) -> Ingress:
    if settings.broker is None:
        return Endpoint(transport, settings.exchange, TOPIC, range(settings.partitions), dispatcher, new_id)
    return Consumer(
        settings.broker,
        Topology(settings.exchange, settings.partitions, settings.broker.quorum),
        SubscriptionSettings(
            name=f"{settings.host}:{os.getpid()}",
            first=settings.preferred_partitions or frozenset(range(settings.partitions)),
            standby_delay=settings.standby_delay,
            prefetch=settings.lane.prefetch,
            memory_budget=settings.memory_budget,
            heartbeat_rate=settings.broker.heartbeat_rate,
        ),
        dispatcher,
        partial(worker_thread, failed=failed),
    )


def _publisher(settings: WorkerSettings, transport: Any) -> Publisher:
    exchange, topic = settings.notification_exchange, settings.notification_topic
    if settings.notification_broker is None:
        return TransportPublisher(transport, exchange, topic)
    return ConfirmingPublisher(settings.notification_broker, exchange, topic)
