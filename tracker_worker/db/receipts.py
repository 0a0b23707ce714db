# SPDX-License-Identifier: Apache-2.0
"""Receipts: one row an event, written with its effects; the memory that makes a redelivery harmless."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db import bulk
from tracker_worker.db.bulk import TEXT_IDS, as_ids
from tracker_worker.db.tables import ATTEMPTS, RECEIPTS


class Receipt(Struct, frozen=True):
    """What became of an event. `digest` covers method, node and arguments; `reply` is the first reply.

    `instance_uuid`: the instance that the event was about, where it was about one.
    """

    event_id: str
    digest: str
    node: str | None
    sequence: int | None
    method: str | None
    outcome: str
    reply: dict[str, Any]
    recorded_at: datetime
    instance_uuid: str | None = None


_FIND = sa.select(RECEIPTS).where(RECEIPTS.c.event_id.in_(TEXT_IDS))
_FIND_ATTEMPTS = sa.select(ATTEMPTS).where(ATTEMPTS.c.event_id.in_(TEXT_IDS))
_FORGET = sa.delete(ATTEMPTS).where(ATTEMPTS.c.event_id.in_(TEXT_IDS))
_COUNT = sa.update(ATTEMPTS).where(ATTEMPTS.c.event_id.in_(TEXT_IDS))
_ADD = bulk.insert(RECEIPTS, Receipt.__struct_fields__)
_ADD_ATTEMPTS = bulk.insert(ATTEMPTS, ("event_id", "count"))


def find(connection: sa.Connection, event_ids: Iterable[str]) -> dict[str, Receipt]:
    """Return the receipts that exist among the events of a batch: one statement."""
    rows = connection.execute(_FIND, as_ids(event_ids))
    return {row.event_id: Receipt(**row._mapping) for row in rows}


def add(connection: sa.Connection, receipts: Iterable[Receipt]) -> None:
    """Insert receipts; one that exists fails the transaction, as it must."""
    _ADD.execute(
        connection, [{field: getattr(r, field) for field in Receipt.__struct_fields__} for r in receipts]
    )


def attempts(connection: sa.Connection, event_ids: Iterable[str]) -> dict[str, int]:
    """Return how often each of these events was under way before, where it was."""
    rows = connection.execute(_FIND_ATTEMPTS, as_ids(event_ids))
    return {row.event_id: row._mapping["count"] for row in rows}


def add_attempt(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Count one more attempt for each event."""
    ids = list(dict.fromkeys(event_ids))
    before = attempts(connection, ids)
    if before:
        connection.execute(_COUNT.values(count=ATTEMPTS.c.count + 1), as_ids(before))
    new = [{"event_id": event_id, "count": 1} for event_id in ids if event_id not in before]
    if new:
        _ADD_ATTEMPTS.execute(connection, new)


def forget_attempts(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Delete the attempts of settled events."""
    connection.execute(_FORGET, as_ids(event_ids))


_NEWEST = sa.select(RECEIPTS.c.node, sa.func.max(RECEIPTS.c.recorded_at)).group_by(RECEIPTS.c.node)


def _old(whose: sa.ColumnElement[bool]) -> sa.Select[tuple[str]]:
    query = sa.select(RECEIPTS.c.event_id).where(whose, RECEIPTS.c.recorded_at < sa.bindparam("cutoff"))
    return query.order_by(RECEIPTS.c.sequence).limit(sa.bindparam("most"))


# Apart, because PostgreSQL uses no index for IS NOT DISTINCT FROM.
_OLD_OF_NODE = _old(RECEIPTS.c.node == sa.bindparam("node"))
_OLD_OF_NONE = _old(RECEIPTS.c.node.is_(None))
_REMOVE = sa.delete(RECEIPTS).where(RECEIPTS.c.event_id.in_(TEXT_IDS))


def newest_by_node(connection: sa.Connection) -> dict[str | None, datetime]:
    """Return when each node's newest receipt was written; None stands for events that named no node."""
    return {node: newest for node, newest in connection.execute(_NEWEST)}


def older(connection: sa.Connection, node: str | None, cutoff: datetime, most: int) -> list[str]:
    """Return the ids of a node's receipts from before `cutoff`, at most `most`."""
    bounds = {"cutoff": cutoff, "most": most}
    if node is None:
        return list(connection.scalars(_OLD_OF_NONE, bounds))
    return list(connection.scalars(_OLD_OF_NODE, {**bounds, "node": node}))


def remove(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Delete receipts; not in the transaction that found them, for SQLite lets no reader become a writer."""
    connection.execute(_REMOVE, as_ids(event_ids))
