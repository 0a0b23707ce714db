# SPDX-License-Identifier: Apache-2.0
"""Receipts: a row for each event, committed with its effects. They make the handling of events idempotent."""

from collections.abc import Iterable

import sqlalchemy as sa

from tracker_worker.core.records import Receipt
from tracker_worker.db import bulk
from tracker_worker.db.bulk import Row, as_ids
from tracker_worker.db.single_statement import Insert
from tracker_worker.db.tables import RECEIPTS

_FIND = bulk.select(RECEIPTS.c.event_id, *(RECEIPTS.c[field] for field in Receipt.__struct_fields__))
_ADD = bulk.insert(RECEIPTS, Receipt.__struct_fields__)
_ADD_ONE = Insert(RECEIPTS, Receipt.__struct_fields__)


def find(connection: sa.Connection, event_ids: Iterable[str]) -> dict[str, Receipt]:
    """Return the receipts that exist among the events of a batch: one statement."""
    rows = connection.execute(_FIND, as_ids(event_ids))
    return {row.event_id: Receipt(**row._mapping) for row in rows}


def add(connection: sa.Connection, receipts: Iterable[Receipt]) -> None:
    """Insert receipts. Raises DBDuplicateEntry if one exists: its event was committed before."""
    _ADD.execute(connection, [_row(receipt) for receipt in receipts])


def insert_of(receipt: Receipt) -> tuple[Insert, Row]:
    """Return the insert of one receipt, and its row."""
    return _ADD_ONE, _row(receipt)


def _row(receipt: Receipt) -> Row:
    return {field: getattr(receipt, field) for field in Receipt.__struct_fields__}
