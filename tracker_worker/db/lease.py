# SPDX-License-Identifier: Apache-2.0
"""The relay's lease: who may publish the outbox, and until when by the database's clock.

One row, made by the first who asks. Hosts whose clocks differ agree on the database's.
"""

import sqlalchemy as sa

from tracker_worker.db.clock import Seconds
from tracker_worker.db.tables import RELAY_LEASE

_THE_ROW = RELAY_LEASE.c.id == 1
_OWNER = sa.bindparam("by", type_=sa.String)
_UNTIL = Seconds() + sa.bindparam("seconds", type_=sa.Double)
_TAKE = (
    sa.update(RELAY_LEASE)
    .where(
        _THE_ROW,
        # Later than anybody could have written: the clock was set back since.
        sa.or_(RELAY_LEASE.c.owner == _OWNER, RELAY_LEASE.c.until <= Seconds(), RELAY_LEASE.c.until > _UNTIL),
    )
    .values(owner=_OWNER, until=_UNTIL)
)
_FIRST = sa.select(sa.literal(1, sa.Integer), _OWNER, _UNTIL).where(~sa.exists(sa.select(RELAY_LEASE.c.id)))
_MAKE = (
    sa.insert(RELAY_LEASE)
    .from_select(["id", "owner", "until"], _FIRST)
    .execution_options(preserve_rowcount=True)
)
_RELEASE = sa.delete(RELAY_LEASE).where(_THE_ROW, RELAY_LEASE.c.owner == _OWNER)


def acquire(connection: sa.Connection, owner: str, seconds: float) -> bool:
    """Take the lease for `seconds` if it is free, has run out or is the owner's already; tell whether it is.

    Raises DBDuplicateEntry when two take the first lease of all at once: ask again.
    """
    values = {"by": owner, "seconds": seconds}
    return connection.execute(_TAKE, values).rowcount == 1 or connection.execute(_MAKE, values).rowcount == 1


def release(connection: sa.Connection, owner: str) -> None:
    """Give the lease back if it is the owner's."""
    connection.execute(_RELEASE, {"by": owner})
