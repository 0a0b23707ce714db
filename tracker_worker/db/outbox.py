# SPDX-License-Identifier: Apache-2.0
"""The outbox: it stores notifications in commit order until the broker has confirmed them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.core.notification_body import created_at
from tracker_worker.core.records import OutboxRow
from tracker_worker.db import bulk
from tracker_worker.db.bulk import UUID_IDS, Row, as_ids
from tracker_worker.db.single_statement import Insert
from tracker_worker.db.tables import OUTBOX

_COLUMNS = ("node", "event_type", "priority", "message_id", "body")
_ADD = bulk.insert(OUTBOX, _COLUMNS)
_ADD_ONE = Insert(OUTBOX, _COLUMNS)
# Without the hint MariaDB scans a table that it takes for small.
_BY_ID = ("FORCE INDEX (PRIMARY)", "mysql")
_WAITING = (
    sa.select(OUTBOX.c.id, sa.func.length(OUTBOX.c.body).label("bytes"))
    .with_hint(OUTBOX, *_BY_ID)
    .where(OUTBOX.c.message_id.not_in(UUID_IDS))
    .order_by(OUTBOX.c.id)
    .limit(sa.bindparam("rows"))
    .subquery("waiting")
)
_SUM = sa.func.sum(_WAITING.c.bytes).over(order_by=_WAITING.c.id, rows=(None, 0))
_SUMMED = sa.select(_WAITING, _SUM.label("bytes_so_far")).subquery("summed")
_WINDOW = (
    sa.select(*(OUTBOX.c[name] for name in OutboxRow.__struct_fields__))
    .select_from(_SUMMED.join(OUTBOX, _SUMMED.c.id == OUTBOX.c.id))
    .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    .with_hint(OUTBOX, *_BY_ID)
    .where(sa.or_(_SUMMED.c.bytes_so_far <= sa.bindparam("most"), _SUMMED.c.bytes_so_far == _SUMMED.c.bytes))
    .order_by(OUTBOX.c.id)
)
_REPLACE = (
    sa.update(OUTBOX)
    .where(OUTBOX.c.id == sa.bindparam("b_id"), OUTBOX.c.message_id == sa.bindparam("b_message_id"))
    .values({name: sa.bindparam(name) for name in ("event_type", "priority", "body")})
)
_REMOVE = bulk.delete(OUTBOX, ("id", "message_id"))

MOST_COUNTED = 10_000
"""A larger backlog is not counted to its end: on PostgreSQL that would read the whole table."""
_FIRST_IDS = sa.select(OUTBOX.c.id).order_by(OUTBOX.c.id).limit(MOST_COUNTED).subquery("first_ids")
_COUNT = sa.select(sa.func.count()).select_from(_FIRST_IDS)
_OLDEST = sa.select(OUTBOX.c.body).with_hint(OUTBOX, *_BY_ID).order_by(OUTBOX.c.id).limit(1)


class Backlog(Struct, frozen=True):
    """The notifications in the outbox, MOST_COUNTED for that many or more, and when the first was committed.

    Some may be published already: the relay deletes a window of them at a time. `oldest` is by the clock of
    the worker that committed it, UTC; None for an empty outbox, or a row that cannot be decoded.
    """

    rows: int
    oldest: datetime | None


def backlog(connection: sa.Connection) -> Backlog:
    """Return how many notifications wait, and since when."""
    body = connection.execute(_OLDEST).scalar()
    rows = connection.execute(_COUNT).scalar_one()
    return Backlog(rows, None if body is None else created_at(body))


def add(connection: sa.Connection, rows: Iterable[OutboxRow]) -> None:
    """Insert notifications in the order given; the ids follow it."""
    _ADD.execute(connection, [_inserted(row) for row in rows])


def insert_of(row: OutboxRow) -> tuple[Insert, Row]:
    """Return the insert of one notification, and its row."""
    return _ADD_ONE, _inserted(row)


def window(connection: sa.Connection, but: Iterable[str], rows: int, size: int) -> Sequence[OutboxRow]:
    """Return the oldest notifications in id order, without those of the message ids `but`.

    Returns at most `rows` notifications with at most `size` bytes of bodies; the first may have any size.

    The query has no lower bound for the id: a server assigns ids before the commit, so that a lower id may
    become visible after a higher one was published.
    """
    found = connection.execute(_WINDOW, {**as_ids(but), "rows": rows, "most": size})
    return [OutboxRow(*row) for row in found.all()]


def replace(connection: sa.Connection, row: OutboxRow) -> None:
    """Update type, priority and body of the notification with this id and message id."""
    values = {name: getattr(row, name) for name in ("event_type", "priority", "body")}
    connection.execute(_REPLACE, {**values, "b_id": row.id, "b_message_id": row.message_id})


def remove(connection: sa.Connection, published: Mapping[int, str]) -> None:
    """Delete notifications, given as row id and message id.

    After a failover that lost commits, another notification may have the row id; it stays. Two rows have one
    message id where a commit was repeated because the answer to it was lost.
    """
    rows = [{"b_id": row_id, "b_message_id": message_id} for row_id, message_id in published.items()]
    _REMOVE.execute(connection, rows)


def _inserted(row: OutboxRow) -> Row:
    return {column: getattr(row, column) for column in _COLUMNS}
