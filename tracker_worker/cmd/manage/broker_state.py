# SPDX-License-Identifier: Apache-2.0
"""The state of the broker: its queues, those of notifications included, and the workers that consume them."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import amqp
from msgspec import Struct
from oslo_config import cfg

from tracker_worker.bus.rabbit import inspection, permissions
from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.bus.rabbit.inspection import (
    Activities,
    Activity,
    ConsumingWorker,
    ManagementUnavailable,
    QueueDepth,
)
from tracker_worker.bus.rabbit.permissions import BrokerAlarm
from tracker_worker.bus.rabbit.queues import Topology, notification_queue
from tracker_worker.cmd.broker import connected, try_to_publish
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.urls import url_of
from tracker_worker.core.envelope import REPLY_QUEUE_PREFIX
from tracker_worker.core.urls import URLRefused, check_url
from tracker_worker.worker.settings import WorkerSettings

_PRIORITIES = ("info", "error")


class QueueState(Struct, frozen=True):
    """A queue: its ready messages and consumers are current, the rest may be some seconds old.

    `ready` is None if the queue is missing; what is neither `ready` nor `consumers` is None if the management
    API does not answer. `active` is the host and pid of the worker whose consumer is active. `oldest` is the
    time (UTC) of the next ready message; None if there is none, or if the broker does not stamp messages.
    """

    queue: str
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    active: str | None
    oldest: datetime | None = None
    acknowledged_per_second: float | None = None


class BrokerState(Struct, frozen=True):
    """The queues of commands and of notifications, and the workers, or why they are unknown.

    `growing` are the queues of notifications that have messages, no consumer and no limit. `alarm` is why the
    broker takes no messages, with where to look, None while it takes them.
    """

    queues: list[QueueState]
    notifications: list[QueueState]
    growing: list[QueueState]
    workers: list[ConsumingWorker] | None
    unknown: str | None
    alarm: str | None = None

    @property
    def missing(self) -> list[str]:
        """The queues of commands that do not exist."""
        return [state.queue for state in self.queues if state.ready is None]


def topology_of(settings: WorkerSettings, broker: BrokerSettings) -> Topology:
    """Return the exchange and the queues that a worker declares."""
    return Topology(settings.exchange, settings.partitions, broker.quorum)


def broker_state(conf: cfg.ConfigOpts, settings: WorkerSettings, broker: BrokerSettings) -> BrokerState:
    """Return the state of the broker. Raises CommandFailed if it cannot be used."""
    with connected(broker) as connection:
        commands = inspection.depths(connection, topology_of(settings, broker).queues())
        notifications = _notification_depths(settings, broker, connection)
    known, unknown = management_state(conf, broker)
    activities = known.queues if known is not None else None
    states = [_state(depth, activities) for depth in notifications]
    return BrokerState(
        queues=[_state(depth, activities) for depth in commands],
        notifications=states,
        growing=[state for state in states if _grows(state, activities or {})],
        workers=known.workers if known is not None else None,
        unknown=unknown,
        alarm=_alarm(broker, known),
    )


def _alarm(broker: BrokerSettings, known: Activities | None) -> str | None:
    """Return why the broker takes no messages, None if it does.

    It publishes only if the management API does not say. A user who may not publish learns of no alarm: the
    upgrade check names the missing right.
    """
    if known is not None and known.low_on is not None:
        return known_alarm(broker, known)
    try:
        try_to_publish(broker, "", [REPLY_QUEUE_PREFIX])
    except CommandFailed as error:
        if not isinstance(error.__cause__, amqp.AccessRefused):
            raise
        return None
    except BrokerAlarm as alarm:
        return str(alarm)
    return None


def known_alarm(broker: BrokerSettings, known: Activities | None) -> str | None:
    """Return the alarm that the management API tells of, None if it tells of none."""
    if known is None or not known.low_on:
        return None
    return permissions.alarm_text(broker.name, f"low on {' & '.join(known.low_on)}")


def management_state(conf: cfg.ConfigOpts, broker: BrokerSettings) -> tuple[Activities | None, str | None]:
    """Return what the management API says of a broker, or why it says nothing."""
    try:
        url = url_of(conf, "bus", "management_url", check_url) or inspection.management_url(broker)
        host, file = inspection.virtual_host(broker), inspection.ca_file(broker)
        return inspection.activities(url, host, file), None
    except (ManagementUnavailable, URLRefused) as error:
        return None, f"{error}; see [bus] management_url"


def is_same_broker(one: BrokerSettings, other: BrokerSettings) -> bool:
    """Tell whether two settings name the same virtual host on the same hosts, in any order."""
    return set(one.urls) == set(other.urls)


def _notification_depths(
    settings: WorkerSettings, broker: BrokerSettings, connection: amqp.Connection
) -> Iterable[QueueDepth]:
    """Return the depths of the queues of notifications that exist on the broker of the commands."""
    own = settings.notification_broker
    if not settings.notify or own is None or not is_same_broker(own, broker):
        return []
    keys = [f"{settings.notification_topic}.{priority}" for priority in _PRIORITIES]
    queues = [notification_queue(own, settings.notification_exchange, key) for key in keys]
    return [depth for depth in inspection.depths(connection, queues) if depth.ready is not None]


def _state(depth: QueueDepth, activities: dict[str, Activity] | None) -> QueueState:
    known = Activity(None) if activities is None else activities.get(depth.queue, Activity())
    return QueueState(
        queue=depth.queue,
        ready=depth.ready,
        unacknowledged=known.unacknowledged,
        consumers=depth.consumers,
        active=known.active and known.active.removesuffix(f".{depth.queue}"),
        oldest=known.oldest,
        acknowledged_per_second=known.acknowledged_per_second,
    )


def _grows(state: QueueState, activities: Mapping[str, Activity]) -> bool:
    """Without the management API a limit is unknown: then nothing is said of it."""
    if not state.ready or state.consumers:
        return False
    activity = activities.get(state.queue)
    return activity is not None and not activity.is_bounded
