# SPDX-License-Identifier: Apache-2.0
"""Leases: for each name who may do what it stands for, and until when by the database's clock.

A name has one row, made by the first who asks. Hosts whose clocks differ agree on the database's.
"""

import sqlalchemy as sa

from tracker_worker.db.clock import Seconds
from tracker_worker.db.tables import LEASES

RELAY = "relay"
"""Publishing the outbox."""

_NAME = sa.bindparam("of", type_=sa.String)
_OWNER = sa.bindparam("by", type_=sa.String)
_UNTIL = Seconds() + sa.bindparam("seconds", type_=sa.Double)
_TAKE = (
    sa.update(LEASES)
    .where(
        LEASES.c.name == _NAME,
        # Later than anybody could have written: the clock was set back since.
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
_RELEASE = sa.delete(LEASES).where(LEASES.c.name == _NAME, LEASES.c.owner == _OWNER)


def acquire(connection: sa.Connection, name: str, owner: str, seconds: float) -> bool:
    """Take a lease for `seconds` if it is free, has run out or is the owner's already; tell whether it is.

    Raises DBDuplicateEntry when two take a lease for the first time at once: ask again.
    """
    values = {"of": name, "by": owner, "seconds": seconds}
    return connection.execute(_TAKE, values).rowcount == 1 or connection.execute(_MAKE, values).rowcount == 1


def release(connection: sa.Connection, name: str, owner: str) -> None:
    """Give a lease back if it is the owner's."""
    connection.execute(_RELEASE, {"of": name, "by": owner})
