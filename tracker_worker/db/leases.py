# SPDX-License-Identifier: Apache-2.0
"""Leases: the owner of each named task, and the time by the database's clock until which it owns the task.

A name has one row, which the first process that acquires the lease inserts.
"""

from collections.abc import Collection

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db.clock import Seconds
from tracker_worker.db.tables import LEASES

PLACEMENT = "placement"
"""The leases of the processes that sync nodes with Placement begin with it: one for each partition."""
RELAY = "relay"
"""The lease of the process that publishes the outbox."""

_NAME = sa.bindparam("of", type_=sa.String)
_NAMES = sa.bindparam("names", type_=sa.String, expanding=True)
_OWNER = sa.bindparam("by", type_=sa.String)
_UNTIL = Seconds() + sa.bindparam("seconds", type_=sa.Double)
_FREE = sa.bindparam("free", type_=sa.Double)
_TAKE = (
    sa.update(LEASES)
    .where(
        LEASES.c.name.in_(_NAMES),
        # An end later than any owner can have written: the clock was set back since.
        sa.or_(LEASES.c.owner == _OWNER, LEASES.c.until <= Seconds() - _FREE, LEASES.c.until > _UNTIL),
    )
    .values(owner=_OWNER, until=_UNTIL)
)
_OWNERS = sa.select(LEASES.c.name, LEASES.c.owner).where(LEASES.c.name.in_(_NAMES))
_MAKE = sa.insert(LEASES).values(name=_NAME, owner=_OWNER, until=_UNTIL)
_HOLDER = sa.select(LEASES.c.owner, (LEASES.c.until - Seconds()).label("seconds_left")).where(
    LEASES.c.name == _NAME
)
_RELEASE = sa.delete(LEASES).where(LEASES.c.name.in_(_NAMES), LEASES.c.owner == _OWNER)


def acquire(connection: sa.Connection, name: str, owner: str, seconds: float) -> bool:
    """Acquire or renew a lease for `seconds`; return False while another owner holds it.

    Raises DBDuplicateEntry if two processes acquire a new lease at the same time: try again.
    """
    return name in acquire_all(connection, [name], owner, seconds)


def acquire_all(
    connection: sa.Connection, names: Collection[str], owner: str, seconds: float, free: float = 0.0
) -> set[str]:
    """Acquire or renew leases for `seconds`; return those that `owner` holds now.

    Another owner's lease is acquired once it has been free for `free` seconds: those who ask for it without
    such a delay come first. Raises DBDuplicateEntry if two processes acquire a new lease at the same time:
    try again.
    """
    connection.execute(_TAKE, {"names": list(names), "by": owner, "seconds": seconds, "free": free})
    owners = {row.name: row.owner for row in connection.execute(_OWNERS, {"names": list(names)})}
    new = [name for name in names if name not in owners]
    if new:
        connection.execute(_MAKE, [{"of": name, "by": owner, "seconds": seconds} for name in new])
    return {*new, *(name for name, held_by in owners.items() if held_by == owner)}


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
    release_all(connection, [name], owner)


def release_all(connection: sa.Connection, names: Collection[str], owner: str) -> None:
    """Release those of the leases that `owner` holds."""
    connection.execute(_RELEASE, {"names": list(names), "by": owner})
