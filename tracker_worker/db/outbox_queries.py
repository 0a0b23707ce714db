# SPDX-License-Identifier: Apache-2.0
"""The operators' queries of the outbox: which notifications wait for the broker, and since when. Reads only.

The relay removes a row when the broker has confirmed its notification: of those nothing is kept here.
"""

from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.core.notification_body import created_at
from tracker_worker.db.tables import OUTBOX


class WaitingNotification(Struct, frozen=True):
    """A notification that waits to be published.

    `since` is the time (UTC) of its event's transaction; None if its body cannot be decoded.
    """

    id: int
    since: datetime | None
    event_type: str
    priority: str
    node: str | None
    message_id: str
    size: int


class WaitingGroup(Struct, frozen=True):
    """The waiting notifications of one event type, and since when (UTC) the first of them waits, if known."""

    event_type: str
    priority: str
    notifications: int
    bytes: int
    oldest: datetime | None


_SIZE = sa.func.length(OUTBOX.c.body)
_GROUPS = (
    sa.select(
        OUTBOX.c.event_type,
        OUTBOX.c.priority,
        sa.func.count().label("notifications"),
        sa.func.sum(_SIZE).label("bytes"),
        sa.func.min(OUTBOX.c.id).label("first"),
    )
    .group_by(OUTBOX.c.event_type, OUTBOX.c.priority)
    .subquery()
)
_STATS = (
    sa.select(
        _GROUPS.c.event_type, _GROUPS.c.priority, _GROUPS.c.notifications, _GROUPS.c.bytes, OUTBOX.c.body
    )
    .join(OUTBOX, OUTBOX.c.id == _GROUPS.c.first)
    .order_by(_GROUPS.c.first)
)


def oldest(connection: sa.Connection, most: int, node: str | None = None) -> list[WaitingNotification]:
    """Return the notifications that are published next, at most `most`, in their order."""
    query = sa.select(OUTBOX).order_by(OUTBOX.c.id).limit(most)
    if node is not None:
        query = query.where(OUTBOX.c.node == node)
    return [
        WaitingNotification(
            id=row.id,
            since=created_at(row.body),
            event_type=row.event_type,
            priority=row.priority,
            node=row.node,
            message_id=row.message_id,
            size=len(row.body),
        )
        for row in connection.execute(query)
    ]


def count(connection: sa.Connection, node: str | None = None) -> int:
    """Return the number of notifications that wait."""
    query = sa.select(sa.func.count()).select_from(OUTBOX)
    return connection.scalar(query if node is None else query.where(OUTBOX.c.node == node)) or 0


def stats(connection: sa.Connection) -> list[WaitingGroup]:
    """Return the waiting notifications by event type, that of the oldest first: one statement."""
    return [
        WaitingGroup(row.event_type, row.priority, row.notifications, int(row.bytes), created_at(row.body))
        for row in connection.execute(_STATS)
    ]
