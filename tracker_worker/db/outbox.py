# SPDX-License-Identifier: Apache-2.0
"""The outbox: notifications wait here, in commit order, until the broker confirmed them."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db import bulk
from tracker_worker.db.bulk import TEXT_IDS, as_ids
from tracker_worker.db.tables import OUTBOX


class OutboxRow(Struct, frozen=True):
    """A notification as it will be published: body and message id never change.

    `id` is 0 before the insert.
    """

    node: str | None
    event_type: str
    priority: str
    message_id: str
    body: bytes
    id: int = 0


_COLUMNS = ("node", "event_type", "priority", "message_id", "body")
_ADD = bulk.insert(OUTBOX, _COLUMNS)
_WINDOW = (
    sa.select(OUTBOX)
    .where(OUTBOX.c.message_id.not_in(TEXT_IDS))
    .order_by(OUTBOX.c.id)
    .limit(sa.bindparam("size"))
)
_REMOVE = bulk.delete(OUTBOX, ("id", "message_id"))


def add(connection: sa.Connection, rows: Iterable[OutboxRow]) -> None:
    """Insert notifications in the order given; the ids follow it."""
    _ADD.execute(connection, [{column: getattr(row, column) for column in _COLUMNS} for row in rows])


def window(connection: sa.Connection, but: Iterable[str], size: int) -> Sequence[OutboxRow]:
    """Return the oldest notifications in id order, at most `size`, without those of the message ids `but`.

    Not those above the last id published: where ids are given out before the commit, a lower one may come
    later.
    """
    rows = connection.execute(_WINDOW, {**as_ids(but), "size": size})
    return [OutboxRow(**row._mapping) for row in rows]


def remove(connection: sa.Connection, published: Mapping[str, int]) -> None:
    """Delete notifications, given as message id and row id.

    After a failover that lost commits the row id may be another notification's, which stays.
    """
    rows = [{"b_id": row_id, "b_message_id": message_id} for message_id, row_id in published.items()]
    _REMOVE.execute(connection, rows)
