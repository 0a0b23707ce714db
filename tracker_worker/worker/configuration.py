# SPDX-License-Identifier: Apache-2.0
"""Options to settings: what a configuration says about a worker, checked across options."""

import random
import socket
from typing import Any

import oslo_messaging

from tracker_worker.bus.rabbit.connection import BrokerSettings, broker_settings
from tracker_worker.domain.numa.pages import parse_reserved_pages
from tracker_worker.domain.pci.specs import parse_aliases, parse_device_specs
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.private_apis.oslo_messaging import rabbit_options
from tracker_worker.worker.settings import MEBIBYTE, LaneSettings, RelaySettings, Retention, WorkerSettings

RABBIT = "rabbit"
CONNECTIONS_OF_A_LANE = 2
"""To the database: one for transactions and one for reads outside of them, both kept."""
OTHER_CONNECTIONS = 2
"""To the database: the relay's, which it keeps, and the purge's."""


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
    if conf.database.retry_interval < 0:
        raise ValueError("[database] retry_interval must not be negative: it is a pause in seconds")
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
