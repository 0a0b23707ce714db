# SPDX-License-Identifier: Apache-2.0
"""`placement status` and `placement sync`: how far nodes are synced to Placement, and syncing at once."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec.structs import astuple
from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.every_node import NODES_AT_ONCE
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.cmd.manage.loading import loaded, untracked
from tracker_worker.cmd.manage.session import engine_at_head, snapshot, snapshot_of
from tracker_worker.core.times import time_text
from tracker_worker.db import providers
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.providers import ProviderState
from tracker_worker.domain.node import Node

_A_WORKER_DOES = "a worker with [placement] enabled = true does it at its next poll"


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show the nodes that wait to be synced, or have an error; exit code 1 if one has an error."""
    with snapshot(conf) as connection:
        for name in args.names:
            _raise_unless_known(loaded(connection, name))
        now = connection.execute(sa.select(UtcNow())).scalar_one()
        states = providers.states(connection, sorted(set(args.names)) or None)
    waiting = [state for state in states if state.is_unsynced or state.is_due(now)]
    interesting = {state.node for state in waiting} | {state.node for state in states if _has_error(state)}
    shown = [state for state in states if args.names or args.all_nodes or state.node in interesting]
    if args.format != TABLE:
        print_document(shown, args.format)
    elif shown:
        print_rows(ProviderState.__struct_fields__, map(astuple, shown), "Nodes in Placement")
    for name in sorted({*args.names} - {state.node for state in states}):
        print_diagnostic(_never_synced(name))
    print_diagnostic(_summary(waiting, len(states), now))
    if not conf.placement.enabled:
        print_diagnostic(
            "[placement] enabled is false in this configuration: workers that have it sync no node"
        )
    return 1 if any(map(_has_error, states)) else 0


def sync(conf: cfg.ConfigOpts, args: Any) -> int:
    """Have a worker sync nodes at once; exit code 1 if no worker has ever synced one of them."""
    with engine_at_head(conf) as engine:
        with snapshot_of(engine) as connection:
            for name in args.names:
                _raise_unless_known(loaded(connection, name))
            marked = [each.node for each in providers.states(connection, sorted({*args.names}) or None)]
        if not marked:
            never = map(_never_synced, args.names)
            raise CommandFailed("; ".join(never) or f"no node was ever synced: {_A_WORKER_DOES}")
        for start in range(0, len(marked), NODES_AT_ONCE):
            with engine.begin() as connection:
                providers.ask(connection, marked[start : start + NODES_AT_ONCE])
    never_synced = sorted({*args.names} - {*marked})
    if args.format != TABLE:
        asked = {**dict.fromkeys(never_synced, False), **dict.fromkeys(marked, True)}
        print_document([{"node": name, "marked": asked[name]} for name in sorted(asked)], args.format)
    for name in never_synced:
        print_diagnostic(_never_synced(name))
    which = f"node '{marked[0]}'" if len(marked) == 1 else f"{len(marked)} nodes"
    shows = f"placement status {marked[0]}" if len(marked) == 1 else "placement status"
    print_diagnostic(
        f"marked: a worker with [placement] enabled = true syncs {which}, '{shows}' shows the outcome"
    )
    return 1 if never_synced else 0


def _raise_unless_known(node: Node) -> None:
    if not node.known:
        raise untracked(node)


def _never_synced(name: str) -> str:
    return f"node '{name}' was never synced: {_A_WORKER_DOES}"


def _summary(waiting: list[ProviderState], nodes: int, now: datetime) -> str:
    """Return how many nodes wait, since when, and how many of them have an error."""
    due = [state.retry_at for state in waiting if state.retry_at is not None and state.is_due(now)]
    times = [state.unsynced_since for state in waiting if state.unsynced_since is not None] or due
    since = f", the first since {time_text(min(times))}" if times else ""
    failed = sum(state.error_code is not None for state in waiting)
    errors = f"; {failed} of them with an error" if failed else ""
    return f"{len(waiting)} of {nodes} nodes wait to be synced{since}{errors}"


def _has_error(state: ProviderState) -> bool:
    return state.error_code is not None or state.foreign_provider is not None
