# SPDX-License-Identifier: Apache-2.0
"""Dead letters: events that could not be applied, kept with the reason until somebody decides.

A letter is `parked` until it is `replayed` or `discarded`. Its replay is an event of its own, whose id is the
letter's id, a dot and a number; the transaction that settles that event makes the letter `replayed`. If that
event is parked in its turn, it is a new letter: of one event there is never more than one parked letter.
"""

import re
from collections.abc import Collection, Iterable

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db import bulk, store
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.receipts import Receipt
from tracker_worker.db.tables import DEAD_LETTERS

PARKED = "parked"
REPLAYED = "replayed"
DISCARDED = "discarded"


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One parked event, as it is written.

    `code` is stable; `path` names the bad field; the body is redacted (at most 64 KiB). `sequence` is the
    node's once the event was parked, 0 where it had none: every event with a higher one came later. None: it
    is not known, and `add` looks it up. `position` orders the letters of one batch. `request_id` is the
    sender's, `reply_host` the host that waited for a reply, where its queue has told it.
    """

    id: str
    event_id: str
    code: str
    path: str
    message: str
    node: str | None
    method: str | None
    body: str
    sequence: int | None
    position: int = 0
    state: str = PARKED
    request_id: str | None = None
    reply_host: str | None = None


_REPLAY_ID = re.compile(r"([0-9a-f-]{36})\.[1-9][0-9]{0,9}")

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
                row["sequence"], _ = known.get(row["node"], store.NO_ROW)
    _ADD.execute(connection, rows)


def replay_id(letter_id: str, number: int) -> str:
    """Return the event id of a letter's replay, counted from 1."""
    return f"{letter_id}.{number}"


def replayed_letter(event_id: str) -> str | None:
    """Return the id of the letter whose replay an event is, None for any other event."""
    match = _REPLAY_ID.fullmatch(event_id)
    return match and match[1]


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
