# SPDX-License-Identifier: Apache-2.0
"""What is configured about a worker and its parts: frozen values, which `configuration` makes."""

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.domain.settings import TrackerSettings

MEBIBYTE = 1024 * 1024


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


class RelaySettings(Struct, frozen=True):
    """Rows that may be published and not yet removed; seconds between looks when no lane of this process
    called; seconds after which another relay may publish if this one says nothing more; in whose name it
    tells that a row was refused.
    """

    window: int = 200
    poll_interval: float = 1.0
    retry_max: float = 5.0
    lease_seconds: float = 10.0
    publisher_id: str = "tracker-worker"


class Retention(Struct, frozen=True):
    """How long rows are kept, in days, and how many of a node's newest receipts whatever their age.

    A redelivery is of a recent event: with `newest_receipts` kept, a clock of the database that was wrong for
    a while makes none of them be applied again.
    """

    receipt_days: int = 7
    dead_letter_days: int = 30
    removed_node_days: int = 30
    newest_receipts: int = 1000


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
