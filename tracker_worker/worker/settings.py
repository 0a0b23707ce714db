# SPDX-License-Identifier: Apache-2.0
"""Settings of a worker and its parts: frozen values, which `configuration` makes from the options."""

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.domain.partitions import DEFAULT_EXCHANGE, DEFAULT_PARTITIONS
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.placement.provider_config import NO_CONFIGS, ProviderConfigs
from tracker_worker.worker.health import HealthSettings

MEBIBYTE = 1024 * 1024


class LaneSettings(Struct, frozen=True):
    """Settings of a lane: events and bytes of a batch, deliveries of a partition in the inbox, attempts of an
    event, cached nodes, seconds of the first and the longest pause between retries.
    """

    batch_size: int = 256
    batch_bytes: int = 1024 * 1024
    prefetch: int = 256
    max_attempts: int = 3
    cached_nodes: int = 10_000
    retry_initial: float = 0.05
    retry_max: float = 3.0
    min_uptime: float = 5.0
    """Seconds of uptime, and without an error of the database, before the last attempt of an event."""
    slow_event: float = 5.0
    """Seconds from the receipt of an event to its answer above which it is logged."""
    recheck_seconds: float = 5.0
    """Interval at which a broken node is loaded again while its events are held, in seconds."""

    def for_lane(self, number: int) -> "LaneSettings":
        """Return the settings of one lane of a process, counted from 0.

        Lanes are staggered, so that two lanes do not make a last attempt at the same time and a crash is
        charged to one event only.
        """
        return replace(self, min_uptime=self.min_uptime * (number + 1))


class RelaySettings(Struct, frozen=True):
    """Settings of the relay: rows that may be published and not yet deleted (`window`), seconds between polls
    when no lane wakes it, longest pause between retries, seconds that a lease lasts without renewal, and the
    publisher id of the errors that replace refused rows.
    """

    window: int = 200
    poll_interval: float = 1.0
    retry_max: float = 5.0
    lease_seconds: float = 10.0
    publisher_id: str = "tracker-worker"


class PlacementSettings(Struct, frozen=True):
    """Settings of the sync with Placement: seconds between two refreshes of a node, requests at once, seconds
    between polls, longest pause while Placement is away, seconds of a lease, and Nova's provider.yaml.
    """

    refresh_interval: float = 300.0
    concurrency: int = 4
    poll_interval: float = 1.0
    retry_max: float = 30.0
    lease_seconds: float = 10.0
    provider_configs: ProviderConfigs = NO_CONFIGS


class Retention(Struct, frozen=True):
    """Days that rows are kept, and how many of a node's newest receipts are kept whatever their age.

    Redelivered events are recent: `newest_receipts` keeps them from being applied twice even where the clock
    of the database was wrong for a while.
    """

    receipt_days: int = 7
    dead_letter_days: int = 30
    removed_node_days: int = 30
    newest_receipts: int = 1000


class WorkerSettings(Struct, frozen=True):
    """Everything about one worker that is configured.

    No `preferred_partitions` means all. `memory_budget` is in bytes. `broker` and `notification_broker` are
    None on transports other than RabbitMQ. `placement` is None where no node is synced with Placement.
    """

    host: str
    tracker: TrackerSettings = TrackerSettings()
    lane: LaneSettings = LaneSettings()
    relay: RelaySettings = RelaySettings()
    exchange: str = DEFAULT_EXCHANGE
    partitions: int = DEFAULT_PARTITIONS
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
    placement: PlacementSettings | None = None
    graceful_shutdown_timeout: int = 60
    health: HealthSettings = HealthSettings()
