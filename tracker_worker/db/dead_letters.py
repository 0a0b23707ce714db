# SPDX-License-Identifier: Apache-2.0
"""Dead letters: events that could not be applied, kept with the reason until somebody decides.

A letter is `parked` until it is `replayed` or `discarded`. Its replay is an event of its own, whose id is the
letter's id, a dot and a number; the transaction that settles that event makes the letter `replayed`. If that
event is parked in its turn, it is a new letter: of one event there is never more than one parked letter.
"""

import re
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db import bulk, store
from tracker_worker.db.bulk import as_ids
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.receipts import Receipt
from tracker_worker.db.tables import DEAD_LETTERS, RECEIPTS

PARKED = "parked"
REPLAYED = "replayed"
DISCARDED = "discarded"


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One parked event, as it is written.

    `code` is stable; `path` names the bad field; the body is redacted (at most 64 KiB). `sequence` is the
    node's once the event was parked, 0 where it had none: every event with a higher one came later. None: it
    is not known, and `add` looks it up. `position` orders the letters of one batch.
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


class StoredLetter(DeadLetter, frozen=True, kw_only=True):
    """A dead letter as it is read: with the times, by the database's clock, of its parking and settlement."""

    recorded_at: datetime
    settled_at: datetime | None

    @property
    def place(self) -> tuple[object, ...]:
        """Sorts letters of a node in the order in which they were parked: no clock decides where a sequence
        does.
        """
        return (-1 if self.sequence is None else self.sequence, self.recorded_at, self.position, self.id)


class SettledEvent(Struct, frozen=True):
    """An event that has a receipt, as far as a replay asks for it."""

    event_id: str
    sequence: int | None
    method: str | None
    outcome: str


_REPLAY_ID = re.compile(r"([0-9a-f-]{36})\.[1-9][0-9]{0,9}")
_CHANGED = ("applied", "granted")
_MOST_LATER_EVENTS = 1000
_MOST_REPLAYS = 10

_ADD = bulk.insert(DEAD_LETTERS, DeadLetter.__struct_fields__)
_SETTLE = bulk.update_ids(DEAD_LETTERS.c.id, state=sa.literal(REPLAYED), settled_at=UtcNow())
_DISCARD = (
    sa.update(DEAD_LETTERS)
    .where(DEAD_LETTERS.c.id == sa.bindparam("letter"), DEAD_LETTERS.c.state == PARKED)
    .values(state=DISCARDED, settled_at=UtcNow())
)
_FIND = bulk.select(DEAD_LETTERS.c.id)
_NEWEST_FIRST = (
    DEAD_LETTERS.c.recorded_at.desc(), DEAD_LETTERS.c.sequence.desc(), DEAD_LETTERS.c.position.desc(),
    DEAD_LETTERS.c.id.desc(),
)  # fmt: skip
_COUNT = (
    sa.select(sa.func.count()).select_from(DEAD_LETTERS).where(DEAD_LETTERS.c.state == sa.bindparam("state"))
)
_SETTLED = (RECEIPTS.c.event_id, RECEIPTS.c.sequence, RECEIPTS.c.method, RECEIPTS.c.outcome)
_REPLAYS = bulk.select(RECEIPTS.c.event_id, *_SETTLED)
_RECEIPT = sa.select(RECEIPTS.c.event_id).where(RECEIPTS.c.event_id == sa.bindparam("event"))
_LOWEST = sa.select(sa.func.min(RECEIPTS.c.sequence)).where(RECEIPTS.c.node == sa.bindparam("node"))


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


def is_replay(event_id: str) -> bool:
    """Tell whether an event is a letter's replay."""
    return _REPLAY_ID.fullmatch(event_id) is not None


def settle(connection: sa.Connection, receipts: Iterable[Receipt]) -> None:
    """Make the letters replayed whose replays are among the receipts of a batch: one statement, or none.

    Belongs into the transaction that inserts the receipts: a letter is replayed if, and only if, its replay
    is settled.
    """
    replays = [match[1] for receipt in receipts if (match := _REPLAY_ID.fullmatch(receipt.event_id))]
    if replays:
        _SETTLE.execute(connection, replays)


def discard(connection: sa.Connection, letter_id: str) -> bool:
    """Make a parked letter discarded; tells whether it was parked."""
    return connection.execute(_DISCARD, {"letter": letter_id}).rowcount == 1


def find(connection: sa.Connection, letter_ids: Iterable[str]) -> dict[str, StoredLetter]:
    """Return the letters that exist among these ids."""
    rows = connection.execute(_FIND, as_ids(letter_ids))
    return {row.id: StoredLetter(**row._mapping) for row in rows}


def newest(
    connection: sa.Connection, most: int, *, state: str | None = None, node: str | None = None
) -> list[StoredLetter]:
    """Return the newest letters, at most `most`, the oldest of them first."""
    query = sa.select(DEAD_LETTERS).order_by(*_NEWEST_FIRST).limit(most)
    if state is not None:
        query = query.where(DEAD_LETTERS.c.state == state)
    if node is not None:
        query = query.where(DEAD_LETTERS.c.node == node)
    return [StoredLetter(**row._mapping) for row in connection.execute(query).all()[::-1]]


def count(connection: sa.Connection, state: str) -> int:
    """Return how many letters have a state."""
    return connection.scalar(_COUNT, {"state": state}) or 0


def replays(connection: sa.Connection, letter_id: str) -> list[SettledEvent]:
    """Return the first replays of a letter that are settled, while their receipts are kept."""
    rows = connection.execute(_REPLAYS, as_ids(replay_id(letter_id, n) for n in range(1, _MOST_REPLAYS + 1)))
    events = [SettledEvent(**row._mapping) for row in rows]
    return sorted(events, key=lambda event: event.sequence or 0)


def has_receipt(connection: sa.Connection, letter: StoredLetter) -> bool:
    """Tell whether the receipt of a letter's event is kept still."""
    return connection.scalar(_RECEIPT, {"event": letter.event_id}) is not None


def is_history_kept(connection: sa.Connection, letter: StoredLetter, node: str) -> bool:
    """Tell whether the receipts of all events of a node since a letter are kept: they go in their order."""
    if letter.sequence is None:
        return False
    now, _ = store.tokens(connection, [node]).get(node, store.NO_ROW)
    if now <= letter.sequence:
        return now == letter.sequence  # Below it stands a node that was purged and began again.
    lowest = connection.scalar(_LOWEST, {"node": node})
    return lowest is not None and lowest <= letter.sequence + 1


def later_events(
    connection: sa.Connection, letter: StoredLetter, node: str, instance_uuid: str | None
) -> list[SettledEvent]:
    """Return what has changed the letter's instance on a node since, the oldest first, 1000 at most.

    Without an instance: what has changed the node. The replays of older letters come late by intent and do
    not count.
    """
    query = (
        sa.select(*_SETTLED)
        .where(RECEIPTS.c.node == node, RECEIPTS.c.outcome.in_(_CHANGED))
        .where(RECEIPTS.c.sequence > (letter.sequence or 0))
        .order_by(RECEIPTS.c.sequence)
        .limit(_MOST_LATER_EVENTS)
    )
    if instance_uuid is not None:
        query = query.where(RECEIPTS.c.instance_uuid == instance_uuid)
    events = [SettledEvent(**row._mapping) for row in connection.execute(query)]
    matches = {event.event_id: _REPLAY_ID.fullmatch(event.event_id) for event in events}
    letters = find(connection, {match[1] for match in matches.values() if match})
    older = {one.id for one in letters.values() if one.place <= letter.place}
    return [e for e in events if not ((match := matches[e.event_id]) and match[1] in older)]
