# SPDX-License-Identifier: Apache-2.0
"""Dead letters: events that could not be applied, kept with the reason until an operator decides.

A letter is `parked` until it is `replayed` or `discarded`. A replay is a new event; its id is the letter's
id, a dot and a number. The transaction that settles the replay sets the letter to `replayed`. A replay that
is parked too becomes a new letter, so that one event has at most one parked letter.
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
_MARK_REPLAYED = bulk.update_ids(DEAD_LETTERS.c.id, state=sa.literal(REPLAYED), settled_at=UtcNow())
_DISCARD = (
    sa.update(DEAD_LETTERS)
    .where(DEAD_LETTERS.c.id.in_(sa.bindparam("letters", expanding=True)), DEAD_LETTERS.c.state == PARKED)
    .values(state=DISCARDED, settled_at=UtcNow())
)


def add(connection: sa.Connection, letters: Iterable[DeadLetter]) -> None:
    """Insert dead letters. Letters without a sequence get their node's, which takes one statement more.

    Call it after the insert of the receipts, in the same transaction: on SQLite a transaction that has only
    read may fail to become a writer.
    """
    rows = [{field: getattr(x, field) for field in DeadLetter.__struct_fields__} for x in letters]
    if names := {row["node"] for row in rows if row["sequence"] is None and row["node"] is not None}:
        known = store.tokens(connection, sorted(names))
        for row in rows:
            if row["sequence"] is None and row["node"] is not None:
                row["sequence"], _ = known.get(row["node"], NO_ROW)
    _ADD.execute(connection, rows)


def mark_replayed(connection: sa.Connection, receipts: Iterable[Receipt]) -> None:
    """Set the letters whose replays are among the receipts of a batch to `replayed`: one statement, or none.

    Call it in the transaction that inserts the receipts, so that a letter is `replayed` if and only if its
    replay is settled.
    """
    replays = [letter for receipt in receipts if (letter := replayed_letter(receipt.event_id))]
    if replays:
        _MARK_REPLAYED.execute(connection, replays)


def discard(connection: sa.Connection, letter_ids: Collection[str]) -> int:
    """Set those of the letters that are parked to `discarded`; return their number. One statement.

    Pass at most a page of ids: each one is a parameter.
    """
    return connection.execute(_DISCARD, {"letters": list(letter_ids)}).rowcount
