# SPDX-License-Identifier: Apache-2.0
"""The queries for the history of nodes and instances, which receipts keep. Reads only.

A receipt whose columns cannot be decoded is an event with a `fault`: the others are shown nevertheless.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.core.history import StoredEvent
from tracker_worker.core.records import NO_DELTA, PARKED, decode_delta
from tracker_worker.db.tables import RECEIPTS, Json
from tracker_worker.domain.decision import Outcome
from tracker_worker.domain.deltas import Delta

ROWS_AT_ONCE = 1000
RECEIPTS_AT_ONCE = 10_000
_UNCHANGED = "nothing had to change"
"""The reason of an ignored event whose receipt has none, as of a repeated command."""
_MAY_CHANGE = (Outcome.APPLIED, Outcome.GRANTED)


class _NoneIfDamaged(sa.types.TypeDecorator[Any]):
    """Reads None where the type in `impl` raises an exception, which does not say of which row."""

    cache_ok = True

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any] | None:
        decode = super().result_processor(dialect, coltype)
        if decode is None:
            return None

        def decoded(value: Any) -> Any:
            try:
                return decode(value)
            except (ValueError, TypeError, RecursionError):
                return None

        return decoded


class _Time(_NoneIfDamaged):
    impl = sa.DateTime
    cache_ok = True


class StoredReply(_NoneIfDamaged):
    """The reply of a receipt; None if it is damaged."""

    impl = Json
    cache_ok = True


class _Reply(Struct):
    outcome: str
    reason: str | None = None


class _ParkedReply(Struct):
    code: str
    path: str
    message: str


_COLUMNS = (
    RECEIPTS.c.sequence,
    sa.type_coerce(RECEIPTS.c.recorded_at, _Time).label("recorded_at"),
    RECEIPTS.c.node,
    RECEIPTS.c.method,
    RECEIPTS.c.event_id,
    RECEIPTS.c.request_id,
    RECEIPTS.c.outcome,
    sa.type_coerce(RECEIPTS.c.reply, StoredReply).label("reply"),
    RECEIPTS.c.instance_uuid,
    RECEIPTS.c.delta,
)
_OF_NODE = sa.select(*_COLUMNS).where(RECEIPTS.c.node == sa.bindparam("node")).limit(ROWS_AT_ONCE)
_SEQUENCED = _OF_NODE.where(RECEIPTS.c.sequence < sa.bindparam("below")).order_by(RECEIPTS.c.sequence.desc())
_UNSEQUENCED = (
    _OF_NODE.where(RECEIPTS.c.sequence.is_(None))
    .order_by(RECEIPTS.c.recorded_at.desc(), RECEIPTS.c.event_id)
    .offset(sa.bindparam("skip"))
)


def sequenced(connection: sa.Connection, node: str) -> Iterator[StoredEvent]:
    """Yield the events of a node that have a sequence, the newest first; a statement for ROWS_AT_ONCE."""
    below = 2**63 - 1
    while rows := connection.execute(_SEQUENCED, {"node": node, "below": below}).all():
        yield from map(_event, rows)
        below = rows[-1].sequence


def unsequenced(connection: sa.Connection, node: str) -> Iterator[StoredEvent]:
    """Yield the events of a node that have no sequence, the newest first; a statement for ROWS_AT_ONCE."""
    skip = 0
    while rows := connection.execute(_UNSEQUENCED, {"node": node, "skip": skip}).all():
        yield from map(_event, rows)
        skip += len(rows)


def of_instance(connection: sa.Connection, instance_uuid: str) -> list[StoredEvent]:
    """Return the events that are an instance's or may have changed its claims, the newest first.

    All receipts are read, for an index by instance would cost each event more than it is worth. Two
    statements read RECEIPTS_AT_ONCE of them: databases limit the time of a statement.
    """
    mentioned = RECEIPTS.c.delta.contains(instance_uuid, autoescape=True)
    query = sa.select(*_COLUMNS).where(sa.or_(RECEIPTS.c.instance_uuid == instance_uuid, mentioned))
    ids = sa.select(RECEIPTS.c.event_id).order_by(RECEIPTS.c.event_id).limit(1).offset(RECEIPTS_AT_ONCE - 1)
    found: list[StoredEvent] = []
    after: sa.ColumnElement[bool] = sa.true()
    while (last := connection.scalar(ids.where(after))) is not None:
        found += map(_event, connection.execute(query.where(after, RECEIPTS.c.event_id <= last)))
        after = RECEIPTS.c.event_id > last
    found += map(_event, connection.execute(query.where(after)))
    return sorted(found, key=_order, reverse=True)


def _order(event: StoredEvent) -> tuple[datetime, int, str]:
    return event.recorded_at or datetime.min, event.sequence or 0, event.event_id


def _event(row: Any) -> StoredEvent:
    damaged, reason = [], None
    # MariaDB's driver returns a date that does not exist as a text.
    recorded_at = row.recorded_at if isinstance(row.recorded_at, datetime) else None
    if recorded_at is None:
        damaged.append("recorded_at")
    try:
        reason = reason_of(row.reply)
    except msgspec.ValidationError:
        damaged.append("reply")
    fault = f"its receipt cannot be read: {' and '.join(damaged)}" if damaged else None
    return StoredEvent(
        sequence=row.sequence,
        recorded_at=recorded_at,
        node=row.node,
        method=row.method,
        event_id=row.event_id,
        request_id=row.request_id,
        outcome=row.outcome,
        reason=fault or reason,
        instance_uuid=row.instance_uuid,
        delta=None if fault else _delta(row),
        fault=fault,
    )


def reason_of(reply: object) -> str | None:
    """Return why an event was refused, ignored or parked, from the reply of its receipt.

    Raises msgspec.ValidationError.
    """
    read = msgspec.convert(reply, _Reply)
    if read.outcome == Outcome.IGNORED:
        return read.reason or _UNCHANGED
    if read.outcome != PARKED:
        return read.reason
    parked = msgspec.convert(reply, _ParkedReply)
    return f"{parked.code} at {parked.path}: {parked.message}"


def _delta(row: Any) -> Delta | None:
    text = row.delta
    if text is None and row.outcome not in _MAY_CHANGE:
        text = NO_DELTA
    try:
        return None if text is None else decode_delta(text)
    except msgspec.DecodeError:
        return None
