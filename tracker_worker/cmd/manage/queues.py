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
from tracker_worker.cmd.manage.formatting import print_diagnostic, print_json, print_rows
from tracker_worker.cmd.manage.session import broker_of, snapshot
from tracker_worker.cmd.urls import url_of
from tracker_worker.core.urls import URLRefused, check_url
from tracker_worker.worker.settings import WorkerSettings


class QueueState(Struct, frozen=True):
    """A queue as it is listed.

    `ready` is None for a queue that is missing; `unacknowledged` is None, and `active` None too, where the
    management API does not answer. `active` is the host and process of the worker that gets the messages.
    """

    queue: str
    ready: int | None
    unacknowledged: int | None
    consumers: int | None
    active: str | None


def topology_of(settings: WorkerSettings, broker: BrokerSettings) -> Topology:
    """Return what the worker declares."""
    return Topology(settings.exchange, settings.partitions, broker.quorum)


def declare_all(conf: cfg.ConfigOpts, args: Any) -> int:
    """Declare the exchange and the queues as the worker does; what is there as it should be stays."""
    settings, broker = broker_of(conf)
    _refuse_other_settings(conf, settings)
    topology = topology_of(settings, broker)
    with connected(broker) as connection:
        try:
            declare(connection, topology)
        except TopologyMismatch as error:
            raise CommandFailed(str(error)) from error
    names = [queue.name for queue in topology.queues()]
    if args.format == "json":
        print_json({"exchange": topology.exchange, "queues": names})
    else:
        print_rows(("exchange", "queue"), ((topology.exchange, name) for name in names))
    return 0


def _refuse_other_settings(conf: cfg.ConfigOpts, settings: WorkerSettings) -> None:
    """Refuse to make queues that the workers of the database would stumble over. Raises CommandFailed.

    Where the database cannot be asked there is nothing to compare: queues may be made before it.
    """
    try:
        with snapshot(conf) as connection:
            found = sharing.differences(connection, sharing.shared_settings_of(conf, settings).fixed)
    except CommandFailed:
        return
    if wrong := [difference for difference in found if difference.stored is not None]:
        raise CommandFailed(sharing.refusal(wrong))


def show_list(conf: cfg.ConfigOpts, args: Any) -> int:
    """List the queues: what waits in them, and which worker is active; 1 where something is not known."""
    settings, broker = broker_of(conf)
    with connected(broker) as connection:
        depths = inspection.depths(connection, topology_of(settings, broker))
    activity = None
    try:
        url = url_of(conf, "bus", "management_url", check_url) or inspection.management_url(broker)
        activity = inspection.activity(url, inspection.virtual_host(broker), inspection.ca_file(broker))
    except (ManagementUnavailable, URLRefused) as error:
        print_diagnostic(f"who is active is not known: {error}; see [bus] management_url")
    states = [_state(depth, activity) for depth in depths]
    missing = [state.queue for state in states if state.ready is None]
    if missing:
        print_diagnostic(
            f"missing: {', '.join(missing)}; a worker that starts declares them, and so does "
            "'tracker-worker-manage queues declare'"
        )
    if args.format == "json":
        print_json(states)
    else:
        _print(states, known=activity is not None)
    return int(activity is None or bool(missing))


def _print(states: list[QueueState], *, known: bool) -> None:
    """Show what is missing, and what is not known, in words: neither is a 0."""
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
    seen = Activity(None) if activity is None else activity.get(depth.queue, Activity())
    return QueueState(
        **msgspec.structs.asdict(depth),
        unacknowledged=seen.unacknowledged,
        active=seen.active and seen.active.removesuffix(f".{depth.queue}"),
    )
