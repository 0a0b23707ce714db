# SPDX-License-Identifier: Apache-2.0
"""Attempts: how often each redelivered event was in flight when a worker crashed, until it is settled.

An event's key here is a hash of the bytes of its message. Every change is idempotent: the caller repeats a
commit whose outcome it does not know.
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
    """Return the recorded attempts by event; events without attempts are left out. One statement."""
    rows = connection.execute(_FIND, as_ids(event_ids))
    return {row.event_id: Attempts(row.begun, row.decoded) for row in rows}


def record(connection: sa.Connection, attempts: Mapping[str, Attempts]) -> None:
    """Record the attempts of events; a higher number that is recorded already stays. Three statements."""
    recorded = find(connection, attempts)
    forget(connection, attempts)
    kept = {key: max(new, recorded.get(key, NO_ATTEMPTS)) for key, new in attempts.items()}
    rows = [{"event_id": key, "begun": each.begun, "decoded": each.decoded} for key, each in kept.items()]
    _ADD.execute(connection, rows)


def take_back(connection: sa.Connection, event_ids: Iterable[str], begun: Attempts, before: Attempts) -> None:
    """Reset the attempts of the events that are recorded as `begun` to `before`: one statement.

    If another worker has recorded more attempts since, its number stays.
    """
    change: sa.Update | sa.Delete = sa.delete(ATTEMPTS)
    if before.begun:
        change = sa.update(ATTEMPTS).values(begun=before.begun, decoded=before.decoded)
    keys = [{"key": key, "b_begun": begun.begun} for key in sorted(event_ids)]
    connection.execute(change.where(*_DEFERRED), keys)


def forget(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Delete the attempts of settled events."""
    _FORGET.execute(connection, event_ids)
