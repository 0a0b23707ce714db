# SPDX-License-Identifier: Apache-2.0
"""Options to settings: what a configuration says about a worker, checked across options."""

import random
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import oslo_messaging

from tracker_worker.bus.rabbit.connection import BrokerSettings, broker_settings
from tracker_worker.domain.numa.pages import parse_reserved_pages
from tracker_worker.domain.pci.specs import parse_aliases, parse_device_specs
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.placement.provider_config import NO_CONFIGS
from tracker_worker.placement.provider_config_files import read_provider_configs
from tracker_worker.private_apis.oslo_messaging import rabbit_options
from tracker_worker.worker.health import HealthSettings
from tracker_worker.worker.settings import (
    MEBIBYTE,
    LaneSettings,
    PlacementSettings,
    RelaySettings,
    Retention,
    WorkerSettings,
)

RABBIT = "rabbit"
CONNECTIONS_OF_A_LANE = 2
"""To the database: one for transactions and one for single statements, both kept."""
OTHER_CONNECTIONS = 2
"""To the database: the relay's, which it keeps, and the purge's. The health checks and the sync with
Placement have one more each."""


def settings_from(conf: Any) -> WorkerSettings:
    """Return the settings that a configuration holds.

    Raises ValueError where options exclude each other, with a text for the user: all of them, each with its
    option, its value, the reason and the way out.
    """
    if faults := "; ".join(_faults(conf)):
        raise ValueError(faults)
    worker, bus, notifications = conf.worker, conf.bus, conf.notifications
    return WorkerSettings(
        host=socket.gethostname(),
        tracker=tracker_settings(conf.tracker, conf.pci),
        lane=LaneSettings(
            batch_size=worker.batch_size,
            batch_bytes=worker.batch_bytes,
            prefetch=worker.prefetch,
            max_attempts=worker.max_attempts,
            cached_nodes=worker.cached_nodes,
            slow_event=conf.health.slow_event,
        ),
        relay=RelaySettings(window=notifications.window),
        exchange=bus.exchange,
        partitions=bus.partitions,
        preferred_partitions=preferred_partitions(worker),
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
        placement=placement_of(conf.placement),
        health=HealthSettings(
            port=conf.health.port,
            host=conf.health.host,
            stall_limit=conf.health.stall_limit,
            outbox_age_limit=conf.health.outbox_age_limit,
        ),
    )


def placement_of(placement: Any) -> PlacementSettings | None:
    """Return how nodes are synced with Placement by the options of [placement], None if they are not.

    Reads the files of `provider_config_location`. Raises ValueError for one that cannot be used.
    """
    if not placement.enabled:
        return None
    directory = placement.provider_config_location
    return PlacementSettings(
        refresh_interval=placement.refresh_interval,
        concurrency=placement.concurrency,
        provider_configs=NO_CONFIGS if directory is None else read_provider_configs(Path(directory)),
    )


def preferred_partitions(worker: Any) -> frozenset[int]:
    """Return the numbers in `[worker] partitions`; empty for all."""
    return frozenset(number for numbers in worker.partitions for number in numbers)


def _faults(conf: Any) -> Iterator[str]:
    """Yield the combinations of options, and values of oslo's, with which no worker can work."""
    worker, bus, notifications = conf.worker, conf.bus, conf.notifications
    users = {"[health] port": conf.health.port is not None, "[placement] enabled": conf.placement.enabled}
    yield from _database_faults(conf.database, worker.lanes, [user for user, is_on in users.items() if is_on])
    if worker.lanes > bus.partitions:
        yield (
            f"[worker] lanes ({worker.lanes}) is above [bus] partitions ({bus.partitions}), so that some "
            "lanes would have no work: lower it"
        )
    if beyond := sorted(number for number in preferred_partitions(worker) if number >= bus.partitions):
        yield (
            f"[worker] partitions ({', '.join(map(str, beyond))}): [bus] partitions is {bus.partitions}, and "
            f"they count from 0 to {bus.partitions - 1}"
        )
    if notifications.exchange == bus.exchange:
        yield (
            f"[notifications] exchange and [bus] exchange are both {bus.exchange}, and consumers of "
            "notifications may declare theirs otherwise: give one of them another name"
        )


def _database_faults(database: Any, lanes: int, more: Sequence[str]) -> Iterator[str]:
    """`more` are the options that take one more connection each."""
    for option in ("retry_interval", "pool_timeout", "max_pool_size"):
        if (value := getattr(database, option) or 0) < 0:
            yield f"[database] {option} ({value}) must not be negative"
    if (database.connection or "sqlite:").startswith("sqlite"):
        if lanes > 1:
            yield (
                f"[worker] lanes ({lanes}) must be 1 on SQLite, which has one writer: for more set "
                "[database] connection to a PostgreSQL or MariaDB"
            )
        return
    # With fewer connections a lane could wait for one for ever. SQLite's pool has no bound.
    size, overflow = database.max_pool_size or 0, database.max_overflow
    needed = CONNECTIONS_OF_A_LANE * lanes + OTHER_CONNECTIONS + len(more)
    unlimited = size == 0 or overflow == -1
    if not unlimited and size + overflow < needed:
        yield (
            f"[database] max_pool_size ({size}) + max_overflow ({overflow}) allow {size + overflow} "
            f"connections, [worker] lanes ({lanes}) need {needed}: two for each lane, one for the relay and "
            f"one for the purge{''.join(f', and one for {user}' for user in more)}"
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

    Raises ValueError, with a text for the user, for files of TLS that cannot be used and for options that
    no connection can have.
    """
    url = oslo_messaging.TransportURL.parse(conf, transport_url)
    if url.transport != RABBIT:
        return None
    random.shuffle(url.hosts)  # As oslo.messaging does: not all workers on the first host.
    options = rabbit_options(conf, url)
    if faults := "; ".join(_rabbit_faults(options)):
        raise ValueError(faults)
    return broker_settings(url, options)


def _rabbit_faults(options: Any) -> Iterator[str]:
    if options.rabbit_quorum_queue and options.rabbit_ha_queues:
        yield (
            "[oslo_messaging_rabbit] rabbit_quorum_queue and rabbit_ha_queues are both true, and a queue has "
            "one type: unset rabbit_ha_queues"
        )
    if (seconds := options.heartbeat_timeout_threshold) < 0:
        yield f"[oslo_messaging_rabbit] heartbeat_timeout_threshold ({seconds}) must not be negative"
