# SPDX-License-Identifier: Apache-2.0
"""`node list`."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from oslo_config import cfg

from tracker_worker.cmd.manage.formatting import TABLE, print_document, print_rows
from tracker_worker.cmd.manage.session import snapshot
from tracker_worker.db import queries
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.queries import NodeSummary


class Column(Struct, frozen=True):
    """A column of the list: its cell in a table, and the fields that it stands for in a document."""

    cell: Callable[[NodeSummary], Any]
    fields: tuple[str, ...]


def _usage(used: int, total: int | None) -> str | None:
    return None if total is None else f"{used}/{total}"


def _flags(node: NodeSummary) -> list[str]:
    flags = {
        "disabled": node.disabled,
        "conflict": bool(node.conflicts),
        "broken": node.broken,
        "reserve": bool(node.reserve_too_large),
    }
    return [name for name, is_set in flags.items() if is_set]


_COLUMNS = {
    "name": Column(lambda node: node.name, ("name",)),
    "host": Column(lambda node: node.host, ("host",)),
    "uuid": Column(lambda node: node.uuid, ("uuid",)),
    "vcpus": Column(lambda node: _usage(node.vcpus_used, node.vcpus), ("vcpus", "vcpus_used")),
    "memory_mb": Column(
        lambda node: _usage(node.memory_mb_used, node.memory_mb), ("memory_mb", "memory_mb_used")
    ),
    "local_gb": Column(lambda node: _usage(node.local_gb_used, node.local_gb), ("local_gb", "local_gb_used")),
    "vms": Column(lambda node: node.running_vms, ("running_vms",)),
    "fullness": Column(lambda node: None if node.fullness is None else f"{node.fullness:.0%}", ("fullness",)),
    "flags": Column(_flags, ("disabled", "conflicts", "broken", "reserve_too_large")),
    "disabled": Column(lambda node: node.disabled, ("disabled",)),
    "conflicts": Column(lambda node: node.conflicts, ("conflicts",)),
    "broken": Column(lambda node: node.broken, ("broken",)),
    "reserve_too_large": Column(lambda node: node.reserve_too_large, ("reserve_too_large",)),
    "last_event": Column(lambda node: node.last_event, ("last_event",)),
}
_DEFAULT = ("name", "host", "vcpus", "memory_mb", "local_gb", "vms", "flags")
_FULLEST_FIRST: dict[str, Callable[[NodeSummary], float]] = {
    "fullness": lambda node: node.fullness or 0,
    "vcpus": lambda node: node.vcpus_used,
    "memory_mb": lambda node: node.memory_mb_used,
    "local_gb": lambda node: node.local_gb_used,
    "vms": lambda node: node.running_vms,
}
"""The keys of --sort by which the largest comes first."""


def show_list(conf: cfg.ConfigOpts, args: Any) -> int:
    """List the nodes that are tracked, or whose reports were refused as conflicts."""
    with snapshot(conf) as connection:
        found = queries.nodes(connection)
        if args.older_than is not None:
            now = connection.execute(sa.select(UtcNow())).scalar_one()
            found = quiet_nodes(found, now, timedelta(minutes=args.older_than))
    found = _sorted([node for node in found if _is_wanted(node, args)], args.sort)
    if args.format == TABLE:
        names = args.columns or _DEFAULT
        rows = ([_COLUMNS[name].cell(node) for name in names] for node in found)
        print_rows(names, rows, keep=args.columns)
    elif args.columns is None:
        print_document(found, args.format)
    else:
        fields = [field for name in args.columns for field in _COLUMNS[name].fields]
        print_document([{field: getattr(node, field) for field in fields} for node in found], args.format)
    return 0


def quiet_nodes(nodes: list[NodeSummary], now: datetime, quiet: timedelta) -> list[NodeSummary]:
    """Return the tracked nodes that have had no event for longer than a time."""
    return [
        node
        for node in nodes
        if node.uuid is not None and (node.last_event is None or now - node.last_event > quiet)
    ]


def _is_wanted(node: NodeSummary, args: Any) -> bool:
    return (
        (args.host is None or node.host == args.host)
        and (not args.disabled or node.disabled)
        and (not args.broken or node.broken or bool(node.conflicts) or bool(node.reserve_too_large))
    )


def _sorted(nodes: list[NodeSummary], key: str) -> list[NodeSummary]:
    if key == "name":
        return nodes
    if key == "last_event":
        return sorted(nodes, key=lambda node: node.last_event or datetime.min)
    return sorted(nodes, key=_FULLEST_FIRST[key], reverse=True)
