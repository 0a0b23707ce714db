# SPDX-License-Identifier: Apache-2.0
"""Attempts: how often each redelivered event was in flight when a worker crashed, until it is settled.

Their ids are made of the bytes of the messages. Each change may be committed again after a commit whose
answer was lost.
"""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from tracker_worker.core.quarantine import NO_ATTEMPTS, Attempts
from tracker_worker.db import bulk
from tracker_worker.db.bulk import as_ids
from tracker_worker.db.tables import ATTEMPTS

_FIND = bulk.select(ATTEMPTS.c.event_id)
_FORGET = bulk.delete_ids(ATTEMPTS.c.event_id)
_ADD = bulk.insert(ATTEMPTS, ("event_id", "begun", "decoded"))
_DEFERRED = (ATTEMPTS.c.event_id == sa.bindparam("key"), ATTEMPTS.c.begun == sa.bindparam("b_begun"))


def find(connection: sa.Connection, event_ids: Iterable[str]) -> dict[str, Attempts]:
    """Return the attempts of those of these events that have any: one statement."""
    rows = connection.execute(_FIND, as_ids(event_ids))
    return {row.event_id: Attempts(row.begun, row.decoded) for row in rows}


def record(connection: sa.Connection, attempts: Mapping[str, Attempts]) -> None:
    """Record the attempts of events, unless more are recorded: three statements."""
    recorded = find(connection, attempts)
    forget(connection, attempts)
    kept = {key: max(new, recorded.get(key, NO_ATTEMPTS)) for key, new in attempts.items()}
    rows = [{"event_id": key, "begun": each.begun, "decoded": each.decoded} for key, each in kept.items()]
    _ADD.execute(connection, rows)


def take_back(connection: sa.Connection, event_ids: Iterable[str], begun: Attempts, before: Attempts) -> None:
    """Record `before` again for the events whose last attempt is `begun`: one statement.

    More attempts than that are another worker's, and stay.
    """
    change: sa.Update | sa.Delete = sa.delete(ATTEMPTS)
    if before.begun:
        change = sa.update(ATTEMPTS).values(begun=before.begun, decoded=before.decoded)
    keys = [{"key": key, "b_begun": begun.begun} for key in sorted(event_ids)]
    connection.execute(change.where(*_DEFERRED), keys)


def forget(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Delete the attempts of settled events."""
    _FORGET.execute(connection, event_ids)
