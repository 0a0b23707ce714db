# SPDX-License-Identifier: Apache-2.0
"""`queues declare`, `queues list`."""

from typing import Any

import msgspec
from msgspec import Struct
from oslo_config import cfg

from tracker_worker.bus.rabbit import inspection
from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.bus.rabbit.inspection import Activity, ManagementUnavailable, QueueDepth
from tracker_worker.bus.rabbit.queues import Topology, TopologyMismatch, declare
from tracker_worker.cmd import sharing
from tracker_worker.cmd.broker import connected
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.cmd.manage.session import broker_of, snapshot
from tracker_worker.cmd.urls import url_of
from tracker_worker.core.urls import URLRefused, check_url
from tracker_worker.worker.settings import WorkerSettings


class QueueState(Struct, frozen=True):
    """A row of `queues list`.

    `ready` is None if the queue is missing. `unacknowledged` and `active` are None if the management API does
    not answer. `active` is the host and pid of the worker whose consumer is active.
    """

    queue: str
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    active: str | None


def topology_of(settings: WorkerSettings, broker: BrokerSettings) -> Topology:
    """Return the exchange and the queues that a worker declares."""
    return Topology(settings.exchange, settings.partitions, broker.quorum)


def declare_all(conf: cfg.ConfigOpts, args: Any) -> int:
    """Declare the exchange and the queues as a worker does; those that exist with equal arguments stay."""
    settings, broker = broker_of(conf)
    _refuse_other_settings(conf, settings)
    topology = topology_of(settings, broker)
    with connected(broker) as connection:
        try:
            declare(connection, topology)
        except TopologyMismatch as error:
            raise CommandFailed(str(error)) from error
    names = [queue.name for queue in topology.queues()]
    if args.format != TABLE:
        print_document({"exchange": topology.exchange, "queues": names}, args.format)
    else:
        print_rows(("exchange", "queue"), ((topology.exchange, name) for name in names))
    return 0


def _refuse_other_settings(conf: cfg.ConfigOpts, settings: WorkerSettings) -> None:
    """Compare the fixed settings with those in the database. Raises CommandFailed if one differs.

    If the database cannot be used there is nothing to compare: queues may be declared before it is created.
    """
    try:
        with snapshot(conf) as connection:
            found = sharing.differences(connection, sharing.shared_settings_of(conf, settings).fixed)
    except CommandFailed:
        return
    if wrong := [difference for difference in found if difference.stored is not None]:
        raise CommandFailed(sharing.refusal(wrong))


def show_list(conf: cfg.ConfigOpts, args: Any) -> int:
    """List the queues with their messages, consumers and active worker; exit code 1 if any is unknown."""
    settings, broker = broker_of(conf)
    with connected(broker) as connection:
        depths = inspection.depths(connection, topology_of(settings, broker))
    activity = None
    try:
        url = url_of(conf, "bus", "management_url", check_url) or inspection.management_url(broker)
        activity = inspection.activity(url, inspection.virtual_host(broker), inspection.ca_file(broker))
    except (ManagementUnavailable, URLRefused) as error:
        print_diagnostic(f"the active workers are unknown: {error}; see [bus] management_url")
    states = [_state(depth, activity) for depth in depths]
    missing = [state.queue for state in states if state.ready is None]
    if missing:
        print_diagnostic(
            f"missing: {', '.join(missing)}; a worker declares them when it starts, and so does "
            "'tracker-worker-manage queues declare'"
        )
    if args.format != TABLE:
        print_document(states, args.format)
    else:
        _print(states, known=activity is not None)
    return int(activity is None or bool(missing))


def _print(states: list[QueueState], *, known: bool) -> None:
    """Print missing queues and unknown values as words, to tell them from 0."""
    rows = (
        [
            state.queue,
            "missing" if state.ready is None else state.ready,
            state.unacknowledged if known else "unknown",
            state.consumers,
            state.active if known else "unknown",
        ]
        for state in states
    )
    print_rows(QueueState.__struct_fields__, rows)


def _state(depth: QueueDepth, activity: dict[str, Activity] | None) -> QueueState:
    known = Activity(None) if activity is None else activity.get(depth.queue, Activity())
    return QueueState(
        **msgspec.structs.asdict(depth),
        unacknowledged=known.unacknowledged,
        active=known.active and known.active.removesuffix(f".{depth.queue}"),
    )
