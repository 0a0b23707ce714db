# SPDX-License-Identifier: Apache-2.0
"""The operators' queries of dead letters: which exist, and what has happened since they were parked.

Reads only. Lists that may be long are read in pages of a fixed size.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.core.records import DeadLetter, replay_id, replayed_letter
from tracker_worker.db import bulk, store
from tracker_worker.db.bulk import as_ids
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.receipt_queries import StoredReply, reason_of
from tracker_worker.db.tables import DEAD_LETTERS, RECEIPTS
from tracker_worker.domain.decision import Outcome

IDS_AT_ONCE = 500
LETTERS_AT_ONCE = 100
"""The page size for letters with their bodies; a body may have 64 KiB."""


class StoredLetter(DeadLetter, frozen=True, kw_only=True):
    """A stored dead letter, with the times of its parking and settlement by the database's clock."""

    recorded_at: datetime
    settled_at: datetime | None

    @property
    def place(self) -> tuple[object, ...]:
        """The sort key of a node's letters, in the order of their parking: the sequence, then the time."""
        return (-1 if self.sequence is None else self.sequence, self.recorded_at, self.position, self.id)


class Wanted(Struct, frozen=True):
    """A filter of letters; None matches all. `since` and `until` bound the time of parking, in UTC."""

    state: str | None = None
    code: str | None = None
    node: str | None = None
    method: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> list[sa.ColumnElement[bool]]:
        """Return the filter's SQL conditions."""
        columns = DEAD_LETTERS.c
        same = {"state": columns.state, "code": columns.code, "node": columns.node, "method": columns.method}
        found = [
            column == value for name, column in same.items() if (value := getattr(self, name)) is not None
        ]
        found += [columns.recorded_at >= self.since] if self.since is not None else []
        found += [columns.recorded_at <= self.until] if self.until is not None else []
        return found


class LetterGroup(Struct, frozen=True):
    """The number of letters with the same state, code and method, of their nodes, and the time they span."""

    state: str
    code: str
    method: str | None
    letters: int
    nodes: int
    oldest: datetime
    newest: datetime


class AppliedEvent(Struct, frozen=True):
    """The fields of an event's receipt that a replay needs."""

    event_id: str
    sequence: int | None
    method: str | None
    outcome: str


class SettledReplay(AppliedEvent, frozen=True):
    """A replay of a dead letter. `reason` is why it was refused, ignored or parked again."""

    reason: str | None


class LetterHistory(Struct, frozen=True):
    """What has happened to the events and nodes of some letters since.

    `replays`: the settled replays of each letter, in order; `receipts`: the events that still have receipts;
    `sequences`: the current sequence of each node; `lowest`: the sequence of each node's oldest receipt.
    """

    replays: dict[str, list[SettledReplay]]
    receipts: set[str]
    sequences: dict[str, int]
    lowest: dict[str, int]

    def has_receipt(self, letter: DeadLetter) -> bool:
        """Tell whether the receipt of a letter's event still exists."""
        return letter.event_id in self.receipts

    def is_history_kept(self, letter: DeadLetter) -> bool:
        """Tell whether all receipts of the node since the letter exist: the purge deletes oldest first."""
        if letter.sequence is None or letter.node is None:
            return False
        now = self.sequences.get(letter.node, 0)
        if now <= letter.sequence:
            return now == letter.sequence  # A lower one: the node was purged and was created again.
        return self.lowest.get(letter.node, now + 1) <= letter.sequence + 1


_CHANGED = (Outcome.APPLIED.value, Outcome.GRANTED.value)
_MOST_LATER_EVENTS = 1000
_MOST_REPLAYS = 10

_FIND = bulk.select(DEAD_LETTERS.c.id)
_NEWEST_FIRST = (
    DEAD_LETTERS.c.recorded_at.desc(), DEAD_LETTERS.c.sequence.desc(), DEAD_LETTERS.c.position.desc(),
    DEAD_LETTERS.c.id.desc(),
)  # fmt: skip
_PLACE = (
    sa.func.coalesce(DEAD_LETTERS.c.sequence, -1), DEAD_LETTERS.c.recorded_at, DEAD_LETTERS.c.position,
    DEAD_LETTERS.c.id,
)  # fmt: skip
_SETTLED = (RECEIPTS.c.event_id, RECEIPTS.c.sequence, RECEIPTS.c.method, RECEIPTS.c.outcome)
_REPLAYS = bulk.select(
    RECEIPTS.c.event_id, *_SETTLED, sa.type_coerce(RECEIPTS.c.reply, StoredReply).label("reply")
)
_RECEIPTS = bulk.select(RECEIPTS.c.event_id, RECEIPTS.c.event_id)
_LOWEST = sa.select(
    bulk.IDS.c.value,
    sa.select(RECEIPTS.c.sequence)
    .where(RECEIPTS.c.node == bulk.IDS.c.value, RECEIPTS.c.sequence.is_not(None))
    .order_by(RECEIPTS.c.sequence)
    .limit(1)
    .scalar_subquery(),
)


def find(connection: sa.Connection, letter_ids: Iterable[str]) -> dict[str, StoredLetter]:
    """Return the letters that exist among these ids."""
    rows = connection.execute(_FIND, as_ids(letter_ids))
    return {row.id: StoredLetter(**row._mapping) for row in rows}


def newest(connection: sa.Connection, wanted: Wanted, most: int) -> list[StoredLetter]:
    """Return the newest letters, at most `most`, the oldest of them first."""
    query = sa.select(DEAD_LETTERS).where(*wanted.where()).order_by(*_NEWEST_FIRST).limit(most)
    return [StoredLetter(**row._mapping) for row in connection.execute(query).all()[::-1]]


def count(connection: sa.Connection, wanted: Wanted) -> int:
    """Return the number of matching letters."""
    query = sa.select(sa.func.count()).select_from(DEAD_LETTERS).where(*wanted.where())
    return connection.scalar(query) or 0


def summary(connection: sa.Connection, wanted: Wanted) -> list[LetterGroup]:
    """Return the number of letters by state, code and method, largest first: one statement."""
    columns = DEAD_LETTERS.c
    group = (columns.state, columns.code, columns.method)
    letters = sa.func.count().label("letters")
    query = (
        sa.select(
            *group,
            letters,
            sa.func.count(columns.node.distinct()).label("nodes"),
            sa.func.min(columns.recorded_at).label("oldest"),
            sa.func.max(columns.recorded_at).label("newest"),
        )
        .where(*wanted.where())
        .group_by(*group)
        .order_by(letters.desc(), *group)
    )
    return [LetterGroup(**row._mapping) for row in connection.execute(query)]


def as_of_now(connection: sa.Connection, wanted: Wanted) -> Wanted:
    """Return the filter without letters that are parked from now on, such as replays that are parked again.

    The time is the database's.
    """
    return replace(wanted, until=connection.execute(sa.select(UtcNow())).scalar_one())


def pages_of_ids(engine: sa.Engine, wanted: Wanted) -> Iterator[list[str]]:
    """Yield the ids of all letters in pages, in any order. Between two pages no transaction is open."""
    return _pages(engine, wanted.where(), (DEAD_LETTERS.c.id,), IDS_AT_ONCE)


def pages_in_order(engine: sa.Engine, wanted: Wanted) -> Iterator[list[str]]:
    """Yield the ids of all letters in pages, by node and in the order of their parking.

    Letters without a node come last. Between two pages no transaction is open.
    """
    node = DEAD_LETTERS.c.node
    yield from _pages(engine, [*wanted.where(), node.is_not(None)], (node, *_PLACE), LETTERS_AT_ONCE)
    yield from _pages(engine, [*wanted.where(), node.is_(None)], _PLACE, LETTERS_AT_ONCE)


def _pages(
    engine: sa.Engine,
    where: list[sa.ColumnElement[bool]],
    key: tuple[sa.ColumnElement[Any], ...],
    most: int,
) -> Iterator[list[str]]:
    """Yield ids, the last column of the key, in the order of the key, with keyset pagination."""
    query = sa.select(*key).where(*where).order_by(*key).limit(most)
    behind: list[sa.ColumnElement[bool]] = []
    while True:
        with engine.connect() as connection:
            places = connection.execute(query.where(*behind)).all()
        if not places:
            return
        yield [place[-1] for place in places]
        last = [sa.literal(value, part.type) for value, part in zip(places[-1], key, strict=True)]
        # The first column's bound limits the scan: not every database derives it from the row comparison.
        behind = [key[0] >= last[0], sa.tuple_(*key) > sa.tuple_(*last)]


def letter_history(connection: sa.Connection, letters: Collection[StoredLetter]) -> LetterHistory:
    """Return what has happened to the events and nodes of some letters: four statements."""
    ids = [replay_id(letter.id, n) for letter in letters for n in range(1, _MOST_REPLAYS + 1)]
    replays: dict[str, list[SettledReplay]] = {letter.id: [] for letter in letters}
    for row in connection.execute(_REPLAYS, as_ids(ids)):
        replays[replayed_letter(row.event_id) or ""].append(_settled_replay(row))
    names = {letter.node for letter in letters if letter.node is not None}
    return LetterHistory(
        replays={
            letter_id: sorted(events, key=lambda event: event.sequence or 0)
            for letter_id, events in replays.items()
        },
        receipts=set(connection.scalars(_RECEIPTS, as_ids(letter.event_id for letter in letters))),
        sequences={name: sequence for name, (sequence, _) in store.tokens(connection, names).items()},
        lowest={row[0]: row[1] for row in connection.execute(_LOWEST, as_ids(names)) if row[1] is not None},
    )


def _settled_replay(row: Any) -> SettledReplay:
    reason = None
    with suppress(msgspec.ValidationError):  # The receipt is damaged, and 'node history' says so.
        reason = reason_of(row.reply)
    return SettledReplay(row.event_id, row.sequence, row.method, row.outcome, reason)


def later_events(
    connection: sa.Connection, letter: StoredLetter, instance_uuid: str | None
) -> list[AppliedEvent]:
    """Return the events since the letter that changed its instance on its node, oldest first, 1000 at most.

    Without an instance, return the events that changed the node. Replays of older letters are left out: an
    operator has applied them late on purpose.
    """
    query = (
        sa.select(*_SETTLED)
        .where(RECEIPTS.c.node == letter.node, RECEIPTS.c.outcome.in_(_CHANGED))
        .where(RECEIPTS.c.sequence > (letter.sequence or 0))
        .order_by(RECEIPTS.c.sequence)
        .limit(_MOST_LATER_EVENTS)
    )
    if instance_uuid is not None:
        query = query.where(RECEIPTS.c.instance_uuid == instance_uuid)
    events = [AppliedEvent(**row._mapping) for row in connection.execute(query)]
    origins = {event.event_id: replayed_letter(event.event_id) for event in events}
    letters = find(connection, {origin for origin in origins.values() if origin})
    older = {one.id for one in letters.values() if one.place <= letter.place}
    return [event for event in events if origins[event.event_id] not in older]
