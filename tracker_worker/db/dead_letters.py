# SPDX-License-Identifier: Apache-2.0
"""Dead letters: events that could not be applied, kept with the reason until somebody decides.

A letter is `parked` until it is `replayed` or `discarded`. Its replay is an event of its own, whose id is the
letter's id, a dot and a number; the transaction that settles that event makes the letter `replayed`. If that
event is parked in its turn, it is a new letter: of one event there is never more than one parked letter.
"""

from collections.abc import Collection, Iterable

import sqlalchemy as sa

from tracker_worker.core.records import (
    DISCARDED,
    NO_ROW,
    PARKED,
    REPLAYED,
    DeadLetter,
    Receipt,
    replayed_letter,
)
from tracker_worker.db import bulk, store
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.tables import DEAD_LETTERS

_ADD = bulk.insert(DEAD_LETTERS, DeadLetter.__struct_fields__)
_SETTLE = bulk.update_ids(DEAD_LETTERS.c.id, state=sa.literal(REPLAYED), settled_at=UtcNow())
_DISCARD = (
    sa.update(DEAD_LETTERS)
    .where(DEAD_LETTERS.c.id.in_(sa.bindparam("letters", expanding=True)), DEAD_LETTERS.c.state == PARKED)
    .values(state=DISCARDED, settled_at=UtcNow())
)


def add(connection: sa.Connection, letters: Iterable[DeadLetter]) -> None:
    """Insert dead letters; those that do not know their node's sequence get it: one statement more, or none.

    Belongs into the transaction that inserts their receipts, behind those: on SQLite it is a writer already.
    """
    rows = [{field: getattr(x, field) for field in DeadLetter.__struct_fields__} for x in letters]
    if names := {row["node"] for row in rows if row["sequence"] is None and row["node"] is not None}:
        known = store.tokens(connection, sorted(names))
        for row in rows:
            if row["sequence"] is None and row["node"] is not None:
                row["sequence"], _ = known.get(row["node"], NO_ROW)
    _ADD.execute(connection, rows)


def settle(connection: sa.Connection, receipts: Iterable[Receipt]) -> None:
    """Make the letters replayed whose replays are among the receipts of a batch: one statement, or none.

    Belongs into the transaction that inserts the receipts: a letter is replayed if, and only if, its replay
    is settled.
    """
    replays = [letter for receipt in receipts if (letter := replayed_letter(receipt.event_id))]
    if replays:
        _SETTLE.execute(connection, replays)


def discard(connection: sa.Connection, letter_ids: Collection[str]) -> int:
    """Make those of these letters discarded that are parked, and return how many: one statement.

    As many ids as a page has: each is a parameter of its own.
    """
    return connection.execute(_DISCARD, {"letters": list(letter_ids)}).rowcount
