# SPDX-License-Identifier: Apache-2.0
"""`status`: the database, the workers, the queues, the outbox and the nodes, and what needs a person."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import IntEnum, auto
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import astuple
from oslo_config import cfg

from tracker_worker.bus.rabbit.inspection import ConsumingWorker
from tracker_worker.cmd.failures import INTERRUPTED, CommandFailed
from tracker_worker.cmd.manage.broker_state import BrokerState, QueueState, broker_state
from tracker_worker.cmd.manage.formatting import (
    TABLE,
    clear_terminal,
    print_document,
    print_fields,
    print_rows,
)
from tracker_worker.cmd.manage.hardware import ranges
from tracker_worker.cmd.manage.node_list import quiet_nodes
from tracker_worker.cmd.manage.queues import growth_of, print_queues
from tracker_worker.cmd.manage.session import settings_of, snapshot
from tracker_worker.core.records import PARKED
from tracker_worker.core.times import time_text
from tracker_worker.db import dead_letter_queries, leases, outbox_queries, providers, queries
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.dead_letter_queries import LetterGroup, Wanted
from tracker_worker.db.queries import NodeSummary
from tracker_worker.domain.partitions import partition_of, server_of

_MOST_NAMES = 10
"""Names in a line about nodes; the line has the number of all."""

_LOOK_AGAIN_SECONDS = 6.0
"""The management API renews its figures every 5 s: a command that was only in flight is gone from them."""

T = TypeVar("T")


class Limits(Struct, frozen=True):
    """How long something may wait, and how long a node may have no event, until a person is needed.

    What is wrong with the nodes in `except_nodes` needs none.
    """

    waiting: timedelta
    quiet: timedelta | None
    except_nodes: frozenset[str] = frozenset()


class LedgerState(Struct, frozen=True):
    """What the database says, at a time by its own clock. All times are UTC.

    `publisher` is the owner of the relay's lease, which is host, pid and an id; None if it has run out.
    """

    now: datetime
    last_commit: datetime | None
    outbox: int
    oldest_notification: datetime | None
    publisher: str | None
    parked: list[LetterGroup]
    nodes: list[NodeSummary]
    unsynced: list[str] = []
    """The nodes that cannot be synced with Placement, or whose providers somebody else changes."""
    untold: dict[str, datetime] = {}
    """The nodes with changes that Placement does not have, and since when; none where it is not used."""


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show the status once, or every --watch seconds until Ctrl-C; exit code 1 if a person is needed."""
    limits = Limits(
        timedelta(seconds=args.max_wait),
        None if args.quiet_nodes is None else timedelta(minutes=args.quiet_nodes),
        frozenset(args.except_node),
    )
    if args.watch is None:
        return _show_once(conf, args, limits, lambda: None)
    code = INTERRUPTED
    try:
        while True:
            code = _show_once(conf, args, limits, clear_terminal)
            time.sleep(args.watch)
    except KeyboardInterrupt:
        return code


def _show_once(conf: cfg.ConfigOpts, args: Any, limits: Limits, prepare: Callable[[], None]) -> int:
    ledger, broker, failures = _states(conf)
    if ledger is not None and broker is not None and _stuck(broker, ledger, limits):
        time.sleep(_LOOK_AGAIN_SECONDS)
        ledger, broker, failures = _states(conf)
    problems = problems_of(ledger, broker, limits, failures)
    prepare()
    if args.format != TABLE:
        print_document(_document(ledger, broker) | {"problems": problems}, args.format)
    else:
        _print(ledger, broker, problems)
    return int(bool(problems))


def _states(conf: cfg.ConfigOpts) -> tuple[LedgerState | None, BrokerState | None, list[str]]:
    """Return the states of the database and the broker, and why one cannot be used."""
    failures: list[str] = []
    ledger = _unless_failed(failures, lambda: _ledger_state(conf))
    broker = _unless_failed(failures, lambda: _broker_state(conf))
    return ledger, broker, failures


def _unless_failed(failures: list[str], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except CommandFailed as error:
        failures.append(str(error))
        return None


def _ledger_state(conf: cfg.ConfigOpts) -> LedgerState:
    with snapshot(conf) as connection:
        oldest = outbox_queries.oldest(connection, 1)
        lease = leases.holder(connection, leases.RELAY)
        nodes = queries.nodes(connection)
        states = providers.states(connection)
        return LedgerState(
            now=connection.execute(sa.select(UtcNow())).scalar_one(),
            last_commit=max((node.last_event for node in nodes if node.last_event), default=None),
            outbox=outbox_queries.count(connection),
            oldest_notification=oldest[0].since if oldest else None,
            publisher=lease.owner if lease is not None and lease.seconds_left > 0 else None,
            parked=dead_letter_queries.summary(connection, Wanted(PARKED)),
            nodes=nodes,
            unsynced=[
                state.node
                for state in states
                if state.error_code is not None or state.foreign_provider is not None
            ],
            untold={
                state.node: state.changed_at
                for state in states
                if state.changed_at is not None and conf.placement.enabled
            },
        )


def _broker_state(conf: cfg.ConfigOpts) -> BrokerState | None:
    settings = settings_of(conf)
    return None if settings.broker is None else broker_state(conf, settings, settings.broker)


class Severity(IntEnum):
    """What a problem does, the worst first."""

    WORK_STOPS = auto()  #: commands are not applied
    NODES_STOP = auto()  #: commands of some nodes are not applied
    COMMANDS_FAIL = auto()  #: commands of some nodes are refused or were parked
    NOTIFICATIONS_STOP = auto()  #: consumers, or Placement, learn nothing, or the broker fills up
    UNKNOWN = auto()  #: something may be wrong


Problem = tuple[Severity, str]


def problems_of(
    ledger: LedgerState | None, broker: BrokerState | None, limits: Limits, failures: Sequence[str] = ()
) -> list[str]:
    """Return a line for each thing that needs a person, with what to do, the worst first. Pure.

    `failures` says why the database or the broker cannot be used.
    """
    found = [(Severity.WORK_STOPS, failure) for failure in failures]
    if broker is not None:
        found += _problems_of_broker(broker, ledger, limits)
    if ledger is not None:
        found += _problems_of_ledger(ledger, limits)
    return [text for _, text in sorted(found, key=itemgetter(0))]


def _problems_of_ledger(ledger: LedgerState, limits: Limits) -> Iterator[Problem]:
    oldest = ledger.oldest_notification
    if oldest is not None and ledger.now - oldest > limits.waiting:
        who = f"{ledger.publisher} publishes them" if ledger.publisher else "no worker publishes them"
        text = f"{ledger.outbox} notifications wait, the oldest since {time_text(oldest)}; {who}: see its log"
        yield Severity.NOTIFICATIONS_STOP, text
    if letters := sum(group.letters for group in ledger.parked):
        codes = ", ".join(sorted({group.code for group in ledger.parked}))
        yield Severity.COMMANDS_FAIL, f"{letters} events are parked ({codes}): see 'dead-letter summary'"
    nodes = [node for node in ledger.nodes if node.name not in limits.except_nodes]
    yield from _problems_of_nodes(nodes, ledger.now, limits.quiet)
    late = [name for name, since in ledger.untold.items() if ledger.now - since > limits.waiting]
    if unsynced := {*ledger.unsynced, *late} - limits.except_nodes:
        text = f"nodes are not in sync with Placement: {_names(sorted(unsynced))}; see 'placement status'"
        yield Severity.NOTIFICATIONS_STOP, text


def _problems_of_nodes(
    nodes: list[NodeSummary], now: datetime, quiet_for: timedelta | None
) -> Iterator[Problem]:
    if broken := [node.name for node in nodes if node.broken]:
        text = f"the events of broken nodes are held: {_names(broken)}; see 'node rebuild'"
        yield Severity.NODES_STOP, text
    if conflicts := [node.name for node in nodes if node.conflicts]:
        advice = "see 'node history NODE --outcome refused' for both uuids and hosts"
        yield Severity.COMMANDS_FAIL, f"reports of nodes conflict: {_names(conflicts)}; {advice}"
    if oversized := [node.name for node in nodes if node.reserve_too_large]:
        text = f"the reserve exceeds the size of nodes: {_names(oversized)}; see 'node show'"
        yield Severity.COMMANDS_FAIL, text
    if quiet_for is not None and (quiet := quiet_nodes(nodes, now, quiet_for)):
        names = _names([node.name for node in quiet])
        yield Severity.UNKNOWN, f"nodes without an event for {quiet_for}: {names}; check their hosts"


def _problems_of_broker(broker: BrokerState, ledger: LedgerState | None, limits: Limits) -> Iterator[Problem]:
    if broker.alarm is not None:
        yield Severity.WORK_STOPS, broker.alarm
    if broker.missing:
        text = f"queues are missing: {_names(broker.missing)}; start a worker, or see 'queues declare'"
        yield Severity.WORK_STOPS, text
    if idle := [state.queue for state in broker.queues if state.consumers == 0]:
        text = f"no worker consumes {_names(idle)}: start one, or see the log of one that runs"
        yield Severity.WORK_STOPS, text
    if ledger is not None and (stuck := _stuck(broker, ledger, limits)):
        names = _names([state.queue for state in stuck])
        workers = _names(sorted({state.active for state in stuck if state.active})) or "the active workers"
        text = f"commands wait on {names}, and none is acknowledged: see the log of {workers}"
        yield Severity.WORK_STOPS, text
    for queue in broker.growing:
        yield Severity.NOTIFICATIONS_STOP, growth_of(queue)
    if broker.unknown is not None:
        yield Severity.UNKNOWN, f"the workers are unknown: {broker.unknown}"


def _stuck(broker: BrokerState, ledger: LedgerState, limits: Limits) -> list[QueueState]:
    """Return the consumed queues whose commands wait for longer than the limit while none is acknowledged.

    The next message's time says how long. Without it the partition's last commit does, which may be old
    although all is well: audits that change nothing leave no receipt.
    """
    commits = _last_commits(broker, ledger)
    found = []
    for state in broker.queues:
        if not state.consumers or not (state.ready or state.unacknowledged) or state.acknowledged_per_second:
            continue
        since = state.oldest or commits.get(_server(state.queue), ledger.last_commit)
        if since is None or ledger.now - since > limits.waiting:
            found.append(state)
    return found


def _last_commits(broker: BrokerState, ledger: LedgerState) -> dict[str, datetime | None]:
    """Return the time of the last event of each partition's nodes, by server; None without one."""
    servers = {_server(state.queue) for state in broker.queues}
    partitions = sum(server[:1] == "p" and server[1:].isdecimal() for server in servers)
    commits: dict[str, datetime | None] = {server_of(number): None for number in range(partitions)}
    for node in ledger.nodes if partitions else ():
        server = server_of(partition_of(node.name, partitions))
        commits[server] = max(filter(None, (commits[server], node.last_event)), default=None)
    return commits


def _server(queue: str) -> str:
    """Return the end of a queue's name: p0 of tracker.p0."""
    return queue.rpartition(".")[2]


def _names(names: list[str]) -> str:
    rest = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _document(ledger: LedgerState | None, broker: BrokerState | None) -> dict[str, Any]:
    return {
        "database": None if ledger is None else _ledger_fields(ledger),
        "workers": None if broker is None else broker.workers,
        "queues": None if broker is None else [*broker.queues, *broker.notifications],
        "parked": None if ledger is None else ledger.parked,
    }


def _ledger_fields(ledger: LedgerState) -> dict[str, Any]:
    nodes = [node for node in ledger.nodes if node.uuid is not None]
    return {
        "now": ledger.now,
        "last_commit": ledger.last_commit,
        "outbox": ledger.outbox,
        "oldest_notification": ledger.oldest_notification,
        "publisher": ledger.publisher,
        "nodes": len(nodes),
        "disabled": sum(node.disabled for node in nodes),
        "broken": [node.name for node in ledger.nodes if node.broken],
        "conflicts": [node.name for node in ledger.nodes if node.conflicts],
        "reserve_too_large": [node.name for node in ledger.nodes if node.reserve_too_large],
    }


def _print(ledger: LedgerState | None, broker: BrokerState | None, problems: list[str]) -> None:
    if ledger is not None:
        print_fields(_ledger_fields(ledger), "Database")
    if broker is not None:
        if broker.workers is not None:
            columns = ("worker", "version", "since", "active", "standby")
            print_rows(columns, map(_row, broker.workers), "Workers")
        print_queues([*broker.queues, *broker.notifications], known=broker.unknown is None, title="Queues")
    if ledger is not None and ledger.parked:
        print_rows(LetterGroup.__struct_fields__, map(astuple, ledger.parked), "Parked events")
    print_rows(("needs a person",), [[problem] for problem in problems or ["nothing"]])


def _row(worker: ConsumingWorker) -> list[Any]:
    queues = (_short(worker.active), _short(worker.standby))
    return [worker.name, worker.version, worker.since, *queues]


def _short(queues: list[str]) -> str:
    """Return the names of queues without the exchange, the partitions as ranges: dead, p0-3."""
    ends = {_server(queue) for queue in queues}
    partitions = {int(end[1:]) for end in ends if end[:1] == "p" and end[1:].isdecimal()}
    others = sorted(end for end in ends if not (end[:1] == "p" and end[1:].isdecimal()))
    return ",".join([*others, *([f"p{ranges(partitions)}"] if partitions else [])])
