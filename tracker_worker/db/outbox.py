# SPDX-License-Identifier: Apache-2.0
"""The outbox: notifications wait here, in commit order, until the broker confirmed them."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from msgspec import Struct, json

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


_ADD = sa.insert(OUTBOX)
_IDS = sa.func.json_each(sa.bindparam("ids")).table_valued("value")
_WINDOW = (
    sa.select(OUTBOX)
    .where(OUTBOX.c.id.not_in(sa.select(_IDS.c.value)))
    .order_by(OUTBOX.c.id)
    .limit(sa.bindparam("size"))
)
_REMOVE = sa.delete(OUTBOX).where(OUTBOX.c.id.in_(sa.select(_IDS.c.value)))


def add(connection: sa.Connection, rows: Iterable[OutboxRow]) -> None:
    """Insert notifications in the order given; the ids follow it."""
    connection.execute(
        _ADD,
        [
            {
                "node": row.node,
                "event_type": row.event_type,
                "priority": row.priority,
                "message_id": row.message_id,
                "body": row.body,
            }
            for row in rows
        ],
    )


def window(connection: sa.Connection, but: Iterable[int], size: int) -> Sequence[OutboxRow]:
    """Return the oldest notifications in id order, at most `size`, `but` those of some ids.

    Not those above the last id published: where ids are given out before the commit, a lower one may come
    later.
    """
    rows = connection.execute(_WINDOW, {"ids": _as_json(but), "size": size})
    return [OutboxRow(**row._mapping) for row in rows]


def remove(connection: sa.Connection, ids: Iterable[int]) -> None:
    """Delete the notifications of these ids."""
    connection.execute(_REMOVE, {"ids": _as_json(ids)})


def _as_json(ids: Iterable[int]) -> str:
    return json.encode(list(ids)).decode()
