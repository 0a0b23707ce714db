# SPDX-License-Identifier: Apache-2.0
"""`queues declare`, `queues list`."""

from typing import Any

from oslo_config import cfg

from tracker_worker.bus.rabbit.queues import TopologyMismatch, declare
from tracker_worker.cmd import sharing
from tracker_worker.cmd.broker import connected
from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.broker_state import QueueState, broker_state, topology_of
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.cmd.manage.session import broker_of, snapshot
from tracker_worker.worker.settings import WorkerSettings

UNKNOWN = "unknown"


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
    state = broker_state(conf, settings, broker)
    if state.unknown is not None:
        print_diagnostic(f"the active workers are unknown: {state.unknown}")
    if state.alarm is not None:
        print_diagnostic(state.alarm)
    if state.missing:
        print_diagnostic(
            f"missing: {', '.join(state.missing)}; a worker declares them when it starts, and so does "
            "'tracker-worker-manage queues declare'"
        )
    for queue in state.growing:
        print_diagnostic(growth_of(queue))
    queues = [*state.queues, *state.notifications]
    if args.format != TABLE:
        print_document(queues, args.format)
    else:
        print_queues(queues, known=state.unknown is None)
    return int(state.unknown is not None or bool(state.missing))


def growth_of(queue: QueueState) -> str:
    """Return the warning about a queue of notifications that nobody consumes and nothing bounds."""
    return (
        f"the queue {queue.queue} has {queue.ready} notifications, no consumer and no limit: it grows until "
        "the broker's disk is full. Start its consumer, or bound it with a policy (max-length, message-ttl)"
    )


def print_queues(queues: list[QueueState], *, known: bool, title: str | None = None) -> None:
    """Print the table of queues. `known`: the management API answers."""
    rows = (cells_of(state, known=known) for state in queues)
    print_rows(("queue", "ready", "unacked", "consumers", "active", "oldest"), rows, title)


def cells_of(state: QueueState, *, known: bool) -> list[Any]:
    """Return the cells of a queue: a missing queue and unknown values as words, to tell them from 0.

    The time of ready messages is unknown unless the broker stamps them.
    """
    return [
        state.queue,
        "missing" if state.ready is None else state.ready,
        state.unacknowledged if known else UNKNOWN,
        state.consumers,
        state.active if known else UNKNOWN,
        UNKNOWN if state.ready and state.oldest is None else state.oldest,
    ]
