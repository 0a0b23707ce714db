# SPDX-License-Identifier: Apache-2.0
"""The outbox: notifications wait here, in commit order, until the broker confirmed them."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db import bulk
from tracker_worker.db.bulk import NUMBER_IDS, as_ids
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
    sa.select(OUTBOX).where(OUTBOX.c.id.not_in(NUMBER_IDS)).order_by(OUTBOX.c.id).limit(sa.bindparam("size"))
)
_REMOVE = bulk.delete_ids(OUTBOX.c.id)


def add(connection: sa.Connection, rows: Iterable[OutboxRow]) -> None:
    """Insert notifications in the order given; the ids follow it."""
    _ADD.execute(connection, [{column: getattr(row, column) for column in _COLUMNS} for row in rows])


def window(connection: sa.Connection, but: Iterable[int], size: int) -> Sequence[OutboxRow]:
    """Return the oldest notifications in id order, at most `size`, `but` those of some ids.

    Not those above the last id published: where ids are given out before the commit, a lower one may come
    later.
    """
    rows = connection.execute(_WINDOW, {**as_ids(but), "size": size})
    return [OutboxRow(**row._mapping) for row in rows]


def remove(connection: sa.Connection, ids: Iterable[int]) -> None:
    """Delete the notifications of these ids."""
    _REMOVE.execute(connection, ids)
