# SPDX-License-Identifier: Apache-2.0
"""Receipts: one row an event, written with its effects; the memory that makes a redelivery harmless."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from tracker_worker.core.records import Receipt
from tracker_worker.db import bulk
from tracker_worker.db.bulk import as_ids
from tracker_worker.db.tables import ATTEMPTS, RECEIPTS

_FIND = bulk.select(RECEIPTS.c.event_id, *(RECEIPTS.c[field] for field in Receipt.__struct_fields__))
_FIND_ATTEMPTS = bulk.select(ATTEMPTS.c.event_id)
_FORGET = bulk.delete_ids(ATTEMPTS.c.event_id)
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


def count_attempts(connection: sa.Connection, counts: Mapping[str, int]) -> None:
    """Keep how often each of these events was under way, unless more is kept: three statements.

    Their ids are made of the bytes of their messages. Done again after a commit whose answer was lost, it
    changes nothing.
    """
    kept = attempts(connection, counts)
    forget_attempts(connection, counts)
    rows = [{"event_id": key, "count": max(count, kept.get(key, 0))} for key, count in counts.items()]
    _ADD_ATTEMPTS.execute(connection, rows)


def give_back_attempts(
    connection: sa.Connection, event_ids: Iterable[str], least: int, most: int, before: int
) -> None:
    """Keep `before` for the events of which `least` to `most` is kept, 0 as nothing: one statement.

    A higher count is another worker's. Done again after a commit whose answer was lost, it changes nothing.
    """
    change = sa.update(ATTEMPTS).values(count=before) if before else sa.delete(ATTEMPTS)
    one = change.where(ATTEMPTS.c.event_id == sa.bindparam("key"), ATTEMPTS.c.count.between(least, most))
    connection.execute(one, [{"key": key} for key in sorted(event_ids)])


def forget_attempts(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Delete the attempts of settled events."""
    _FORGET.execute(connection, event_ids)
