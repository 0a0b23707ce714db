# SPDX-License-Identifier: Apache-2.0
"""`node history`: the events of a node and what each changed, the node at an earlier time, differences."""

from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

import sqlalchemy as sa
from msgspec.structs import asdict
from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.changes import (
    Change,
    Entry,
    change_of,
    devices_text,
    entry_of,
    holding_view,
    line_of,
    of_instance,
    totals_change,
)
from tracker_worker.cmd.manage.formatting import (
    TABLE,
    print_diagnostic,
    print_document,
    print_fields,
    print_rows,
)
from tracker_worker.cmd.manage.hardware import page_size_text, ranges
from tracker_worker.cmd.manage.loading import loaded
from tracker_worker.cmd.manage.session import snapshot
from tracker_worker.core.history import NotKept, PastNode, Point, Walk, past_nodes
from tracker_worker.db import receipt_queries
from tracker_worker.domain.flavors import Amounts

_EVENT = ("sequence", "recorded_at", "method", "outcome", "instance_uuid")
_CAUSE = ("request_id", "event_id", "reason")
_AMOUNTS = Amounts.__struct_fields__
_CLAIM = ("instance_uuid", "role", *_AMOUNTS, "migration_uuid", "devices")
_CELL = ("cell", "memory_mb", "shared cpus", "pinned cpus", "pages")
_CHANGE = ("action", "instance_uuid", "role", *_AMOUNTS)


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show what the events of a node changed, and its usage after each; or the node at an earlier time."""
    with snapshot(conf) as connection:
        if args.diff is not None:
            return _show_difference(args, _past(connection, args.name_of_node, args.diff))
        if args.at is not None:
            return _show_past(args, _past(connection, args.name_of_node, [args.at])[0])
        walk = _walk(connection, args.name_of_node)
        events = _wanted(args, _entries(walk, connection, args.name_of_node))
        found = list(islice(events, args.limit))[::-1]
        more = next(events, None) is not None
    if not found:
        raise CommandFailed(_nothing(args))
    if args.format != TABLE:
        print_document(found, args.format)
    else:
        columns = (*_EVENT, "changes", *(f"{name}_used" for name in _AMOUNTS), *_CAUSE)
        print_rows(columns, map(_row, found), f"History of node {args.name_of_node}")
    if more:
        print_diagnostic(f"the newest {len(found)} events: --limit shows more")
    if walk.lost is not None:
        print_diagnostic(f"the usage is not known before that: {walk.lost}")
    return 0


def _walk(connection: sa.Connection, name: str) -> Walk:
    """Return the walk through the history of a node; one whose rows cannot be read has no known state."""
    try:
        node = loaded(connection, name)
    except CommandFailed as error:
        print_diagnostic(str(error))
        node = None
    return Walk(node, receipt_queries.sequenced(connection, name))


def _entries(walk: Walk, connection: sa.Connection, name: str) -> Iterator[Entry]:
    """Yield all events of a node, the newest first; those without a sequence are merged by their time.

    An event without a readable time comes right after the newer one of its kind.
    """
    unsequenced = map(entry_of, receipt_queries.unsequenced(connection, name))
    return merge(
        _sequenced(walk), unsequenced, key=lambda entry: entry.recorded_at or datetime.max, reverse=True
    )


def _sequenced(walk: Walk) -> Iterator[Entry]:
    for event in walk:
        yield entry_of(event, None if walk.state is None else walk.state.used)


def _wanted(args: Any, entries: Iterator[Entry]) -> Iterator[Entry]:
    for entry in entries:
        at = entry.recorded_at
        if args.since is not None and at is not None and at < args.since:
            return
        if (
            (args.until is None or at is None or at <= args.until)
            and args.method in (None, entry.method)
            and args.outcome in (None, entry.outcome)
            and args.request_id in (None, entry.request_id)
            and (args.instance is None or of_instance(entry, args.instance))
        ):
            yield entry


def _nothing(args: Any) -> str:
    name = args.name_of_node
    if any((args.since, args.until, args.method, args.outcome, args.request_id, args.instance)):
        return f"no event of node '{name}' matches these options"
    return (
        f"node '{name}' has no receipts: 'node list' lists the nodes; receipts are kept for "
        "[tracker] receipt_days"
    )


def _row(entry: Entry) -> list[Any]:
    used = entry.used or {}
    return [
        *(getattr(entry, name) for name in _EVENT),
        line_of(entry),
        *(used.get(name) for name in _AMOUNTS),
        *(getattr(entry, name) for name in _CAUSE),
    ]


def _past(connection: sa.Connection, name: str, points: list[Point]) -> list[PastNode]:
    node = loaded(connection, name)
    try:
        found = past_nodes(node, receipt_queries.sequenced(connection, name), points)
    except NotKept as error:
        raise CommandFailed(str(error)) from error
    return [found[point] for point in points]


def _show_past(args: Any, past: PastNode) -> int:
    document = {
        "name": args.name_of_node,
        "sequence": past.sequence,
        "event": past.event and entry_of(past.event, past.used),
        "totals": past.totals and asdict(past.totals),
        "used": asdict(past.used),
        "claims": [
            {"instance_uuid": uuid, "role": role.value, **holding_view(holding)}
            for (uuid, role), holding in past.claims.items()
        ],
        "cells": [{"id": number, **asdict(cell)} for number, cell in past.cells.items()],
    }
    if args.format != TABLE:
        print_document(document, args.format)
        return 0
    title = f"Node {args.name_of_node} at sequence {past.sequence}"
    print_fields(_past_fields(past), title)
    print_rows(_CLAIM, ([claim.get(key) for key in _CLAIM] for claim in document["claims"]), "Claims")
    if past.cells:
        print_rows(_CELL, _cells(past), "Held of NUMA cells")
    return 0


def _cells(past: PastNode) -> Iterator[list[Any]]:
    for number, cell in past.cells.items():
        pinned = ranges(cell.pinned_cpus) or None
        yield [number, cell.memory_usage, cell.cpu_usage, pinned, _pages(cell.pages)]


def _pages(pages: dict[int, int]) -> str:
    return ", ".join(f"{count} of {page_size_text(size_kb)}" for size_kb, count in pages.items())


def _past_fields(past: PastNode) -> dict[str, Any]:
    event, total, used = past.event, past.totals, past.used
    fields: dict[str, Any] = {"recorded_at": event and event.recorded_at, "method": event and event.method}
    for name in ("instance_uuid", "event_id", "request_id"):
        fields[name] = event and getattr(event, name)
    if total is None:
        return {**fields, "tracked": False}
    return {
        **fields,
        "vcpus": f"{used.vcpus} used of {total.vcpus}",
        "memory_mb": f"{used.memory_mb} used of {total.memory_mb}",
        "disk_mb": f"{used.disk_mb} used of {total.local_gb * 1024}",
        "reserved": f"{total.reserved_vcpus} vcpus, {total.reserved_memory_mb} MB, "
        f"{total.reserved_disk_mb} MB disk",
        "ratios": f"cpu {total.cpu_ratio}, ram {total.ram_ratio}, disk {total.disk_ratio}",
    }


def _show_difference(args: Any, points: list[PastNode]) -> int:
    before, after = points
    keys = dict.fromkeys((*before.claims, *after.claims))
    changed = [
        change_of(key, before.claims.get(key), after.claims.get(key))
        for key in keys
        if before.claims.get(key) != after.claims.get(key)
    ]
    totals = None if before.totals == after.totals else totals_change((before.totals, after.totals))
    if args.format != TABLE:
        document = {
            "name": args.name_of_node,
            "sequences": [before.sequence, after.sequence],
            "changes": changed,
            "totals": totals,
            "used": {"old": asdict(before.used), "new": asdict(after.used)},
        }
        print_document(document, args.format)
        return 0
    title = f"Node {args.name_of_node} from sequence {before.sequence} to {after.sequence}"
    print_rows((*_CHANGE, "devices"), map(_change_row, changed), title, keep=("instance_uuid",))
    print_rows(("used", "before", "after", "change"), _used_rows(before.used, after.used), "Usage")
    if totals is not None:
        print_rows(("totals", "before", "after"), _totals_rows(totals), "Totals")
    return 0


def _change_row(change: Change) -> list[Any]:
    return [*(getattr(change, name) for name in _CHANGE), devices_text(change) or None]


def _used_rows(before: Amounts, after: Amounts) -> Iterator[list[Any]]:
    by = after.minus(before)
    for name in _AMOUNTS:
        yield [name, getattr(before, name), getattr(after, name), getattr(by, name)]


def _totals_rows(totals: dict[str, Any]) -> Iterator[list[Any]]:
    old, new = totals["old"] or {}, totals["new"] or {}
    for name in old or new:
        if old.get(name) != new.get(name):
            yield [name, old.get(name), new.get(name)]
