# SPDX-License-Identifier: Apache-2.0
"""Leases: the owner of each named task, and the time by the database's clock until which it owns the task.

A name has one row, which the first process that acquires the lease inserts.
"""

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db.clock import Seconds
from tracker_worker.db.tables import LEASES

PLACEMENT = "placement"
"""The lease of the process that syncs nodes with Placement."""
RELAY = "relay"
"""The lease of the process that publishes the outbox."""

_NAME = sa.bindparam("of", type_=sa.String)
_OWNER = sa.bindparam("by", type_=sa.String)
_UNTIL = Seconds() + sa.bindparam("seconds", type_=sa.Double)
_TAKE = (
    sa.update(LEASES)
    .where(
        LEASES.c.name == _NAME,
        # An end later than any owner can have written: the clock was set back since.
        sa.or_(LEASES.c.owner == _OWNER, LEASES.c.until <= Seconds(), LEASES.c.until > _UNTIL),
    )
    .values(owner=_OWNER, until=_UNTIL)
)
_ITS_ROW = sa.select(LEASES.c.name).where(LEASES.c.name == _NAME)
_MAKE = (
    sa.insert(LEASES)
    .from_select(["name", "owner", "until"], sa.select(_NAME, _OWNER, _UNTIL).where(~sa.exists(_ITS_ROW)))
    .execution_options(preserve_rowcount=True)
)
_HOLDER = sa.select(LEASES.c.owner, (LEASES.c.until - Seconds()).label("seconds_left")).where(
    LEASES.c.name == _NAME
)
_RELEASE = sa.delete(LEASES).where(LEASES.c.name == _NAME, LEASES.c.owner == _OWNER)


def acquire(connection: sa.Connection, name: str, owner: str, seconds: float) -> bool:
    """Acquire or renew a lease for `seconds`; return False while another owner holds it.

    Raises DBDuplicateEntry if two processes acquire a new lease at the same time: try again.
    """
    values = {"of": name, "by": owner, "seconds": seconds}
    return connection.execute(_TAKE, values).rowcount == 1 or connection.execute(_MAKE, values).rowcount == 1


class Holder(Struct, frozen=True):
    """The owner of a lease, and how many seconds are left of it; a negative number once it has run out."""

    owner: str
    seconds_left: float


def holder(connection: sa.Connection, name: str) -> Holder | None:
    """Return who holds, or held last, a lease that was not released."""
    row = connection.execute(_HOLDER, {"of": name}).first()
    return None if row is None else Holder(row.owner, row.seconds_left)


def release(connection: sa.Connection, name: str, owner: str) -> None:
    """Release a lease if `owner` holds it."""
    connection.execute(_RELEASE, {"of": name, "by": owner})
