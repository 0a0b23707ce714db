# SPDX-License-Identifier: Apache-2.0
"""Rows past their retention. Each query reads a bounded number of index entries, the oldest first.

A statement reads entries in proportion to the rows that it returns, whatever the size of the tables and the
optimizer's statistics. A name without expired rows costs a few index lookups. All times are the database's.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from tracker_worker.db import bulk
from tracker_worker.db.bulk import as_ids
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.tables import ATTEMPTS, DEAD_LETTERS, NODES, RECEIPTS, TOUCHED

ROWS_AT_ONCE = 500
NAMES_AT_ONCE = 200
_EXAMINED = 50
"""The number of receipts in which MariaDB looks for the next names."""

_BY_NODE = "FORCE INDEX (ix_receipts_node_sequence_recorded_at)"
EARLIEST = datetime(1, 1, 1)


class Ages(Struct, frozen=True):
    """Sequences and times of a name's receipts; the name None stands for receipts without a node.

    `sequence`: the node's, which is also its newest receipt's; None for a name without a node. `lowest` and
    `oldest_at`: sequence and time of the oldest receipt; None if some receipts have no sequence, and then the
    caller has to look them up. The other times are those of the newest receipt, and of the first and the last
    receipt without a sequence.
    """

    node: str | None
    tracked: bool = False
    sequence: int | None = None
    lowest: int | None = None
    oldest_at: datetime | None = None
    newest_at: datetime | None = None
    first_unsequenced_at: datetime | None = None
    last_unsequenced_at: datetime | None = None


class Sequenced(Struct, frozen=True):
    """The fields of a receipt with a sequence that its retention depends on."""

    event_id: str
    sequence: int
    recorded_at: datetime


class _AllNull(FunctionElement[Any]):
    """A leading column of an index that is NULL in all rows of the query, for ORDER BY.

    PostgreSQL needs it to use the order of the index; with it, MariaDB sorts. There it compiles to NULL.
    """

    inherit_cache = True


@compiles(_AllNull)
def _all_null(element: _AllNull, compiler: SQLCompiler, **how: Any) -> str:
    return str(compiler.process(element.clauses, **how))


@compiles(_AllNull, "mysql")
def _all_null_in_mariadb(_element: _AllNull, _compiler: SQLCompiler, **_how: Any) -> str:
    return "NULL"


class ByTime:
    """The query for rows of a table by time, the oldest first.

    `prefix`: the columns of the index before the time that are NULL in all of these rows.
    """

    def __init__(
        self,
        key: sa.Column[str],
        time: sa.Column[Any],
        index: str,
        *where: sa.ColumnElement[bool],
        prefix: Sequence[sa.Column[Any]] = (),
    ) -> None:
        since, cutoff = (sa.bindparam(name, type_=time.type) for name in ("since", "cutoff"))
        self.query = (
            sa.select(key, time)
            .where(*where, time >= since, time < cutoff)
            .order_by(*map(_AllNull, prefix), time)
            .limit(ROWS_AT_ONCE)
            .offset(sa.bindparam("skip"))
            .with_hint(key.table, index, "mysql")
        )

    def older(
        self, connection: sa.Connection, cutoff: datetime, since: datetime, skip: int, **values: str
    ) -> Sequence[tuple[str, datetime]]:
        """Return key and time of the oldest rows since `since` and before `cutoff`, but the first `skip`."""
        bounds = {"cutoff": cutoff, "since": since, "skip": skip}
        return [(key, time) for key, time in connection.execute(self.query, {**bounds, **values})]


_UNSEQUENCED = RECEIPTS.c.sequence.is_(None)
UNSEQUENCED = ByTime(
    RECEIPTS.c.event_id, RECEIPTS.c.recorded_at, _BY_NODE,
    RECEIPTS.c.node == sa.bindparam("node"), _UNSEQUENCED,
    prefix=(RECEIPTS.c.sequence,),
)  # fmt: skip
NAMELESS = ByTime(
    RECEIPTS.c.event_id, RECEIPTS.c.recorded_at, _BY_NODE,
    RECEIPTS.c.node.is_(None), _UNSEQUENCED,
    prefix=(RECEIPTS.c.node, RECEIPTS.c.sequence),
)  # fmt: skip
CLOSED_LETTERS = ByTime(
    DEAD_LETTERS.c.id, DEAD_LETTERS.c.settled_at, "FORCE INDEX (ix_dead_letters_settled_at)"
)
ATTEMPTS_BY_TIME = ByTime(ATTEMPTS.c.event_id, ATTEMPTS.c.counted_at, "FORCE INDEX (ix_attempts_counted_at)")


def _skip_scan() -> sa.Select[Any]:
    """Return the recursive query for the next names: it looks up each name after the previous one."""
    first = sa.select(sa.func.min(RECEIPTS.c.node)).where(RECEIPTS.c.node > sa.bindparam("after"))
    names = sa.select(first.scalar_subquery().label("node"), sa.literal(1).label("number")).cte(
        "names", recursive=True
    )
    following = sa.select(sa.func.min(RECEIPTS.c.node)).where(RECEIPTS.c.node > names.c.node)
    names = names.union_all(
        sa.select(following.scalar_subquery(), names.c.number + 1).where(
            names.c.node.is_not(None), names.c.number < NAMES_AT_ONCE
        )
    )
    return sa.select(names.c.node).where(names.c.node.is_not(None))


def _first_names() -> sa.Select[Any]:
    """Return MariaDB's query for the names of the next receipts; it returns one name at least.

    For the skip scan MariaDB would read the whole index, unless the name to start from is a constant; and it
    uses a loose index scan (GROUP BY) only if its statistics favour that.
    """
    some = (
        sa.select(RECEIPTS.c.node)
        .where(RECEIPTS.c.node > sa.bindparam("after"))
        .order_by(RECEIPTS.c.node)
        .limit(_EXAMINED)
        .with_hint(RECEIPTS, _BY_NODE, "mysql")
        .subquery("some")
    )
    return sa.select(some.c.node).distinct().order_by(some.c.node)


_SKIP_SCAN = _skip_scan()
_FIRST_NAMES = _first_names()


def _ages() -> sa.Select[Any]:
    names = bulk.IDS
    receipt = RECEIPTS.alias("r")
    its = receipt.c.node == names.c.value

    def one(
        column: sa.Column[Any], order: Iterable[sa.ColumnElement[Any]], *where: sa.ColumnElement[bool]
    ) -> sa.ScalarSelect[Any]:
        query = sa.select(column).where(its, *where).order_by(*order).limit(1)
        return query.with_hint(receipt, _BY_NODE, "mysql").correlate(names, NODES).scalar_subquery()

    at, sequence = receipt.c.recorded_at, receipt.c.sequence
    first_unsequenced_at = one(at, (_AllNull(sequence), at), sequence.is_(None))
    return (
        sa.select(
            names.c.value.label("node"),
            NODES.c.uuid.is_not(None).label("tracked"),
            NODES.c.sequence,
            # In this order MariaDB would read the receipts without a sequence first.
            sa.case((first_unsequenced_at.is_(None), one(sequence, (sequence,)))).label("lowest"),
            sa.case((first_unsequenced_at.is_(None), one(at, (sequence,)))).label("oldest_at"),
            one(at, (sequence,), sequence == NODES.c.sequence).label("newest_at"),
            first_unsequenced_at.label("first_unsequenced_at"),
            one(at, (_AllNull(sequence).desc(), at.desc()), sequence.is_(None)).label("last_unsequenced_at"),
        )
        .select_from(names.outerjoin(NODES, NODES.c.name == names.c.value))
        .prefix_with("STRAIGHT_JOIN", dialect="mysql")
    )


_AGES = _ages()
_NAMELESS_AT = (
    sa.select(RECEIPTS.c.recorded_at)
    .where(RECEIPTS.c.node.is_(None), _UNSEQUENCED)
    .limit(1)
    .with_hint(RECEIPTS, _BY_NODE, "mysql")
)
_INDEXED = (_AllNull(RECEIPTS.c.node), _AllNull(RECEIPTS.c.sequence), RECEIPTS.c.recorded_at)
_AGES_OF_NAMELESS = sa.select(
    _NAMELESS_AT.order_by(*_INDEXED).scalar_subquery(),
    _NAMELESS_AT.order_by(*(column.desc() for column in _INDEXED)).scalar_subquery(),
)
_SEQUENCED = (
    sa.select(RECEIPTS.c.event_id, RECEIPTS.c.sequence, RECEIPTS.c.recorded_at)
    .where(
        RECEIPTS.c.node == sa.bindparam("node"),
        RECEIPTS.c.sequence > sa.bindparam("after"),
        RECEIPTS.c.sequence <= sa.bindparam("last"),
    )
    .order_by(RECEIPTS.c.sequence)
    .with_hint(RECEIPTS, _BY_NODE, "mysql")
)
_LOWEST = sa.select(sa.func.min(RECEIPTS.c.sequence)).where(RECEIPTS.c.node == sa.bindparam("node"))
_REMOVE_RECEIPTS = bulk.delete_ids(RECEIPTS.c.event_id)
_REMOVE_LETTERS = bulk.delete_ids(DEAD_LETTERS.c.id)
_REMOVE_ATTEMPTS = bulk.delete_ids(ATTEMPTS.c.event_id)
_REMOVE_TOUCHED = bulk.delete_ids(TOUCHED.c.node)
_REMOVE_NODE = sa.delete(NODES).where(
    NODES.c.name == sa.bindparam("node"),
    NODES.c.sequence == sa.bindparam("seen"),
    NODES.c.uuid.is_(None),
)


def now(connection: sa.Connection) -> datetime:
    """Return the time by the database's clock, UTC."""
    moment: datetime = connection.execute(sa.select(UtcNow())).scalar_one()
    return moment


def names(connection: sa.Connection, after: str) -> list[str]:
    """Return the next names of receipts after `after`, in the database's order; none at the end."""
    if connection.dialect.name != "mysql":
        return list(connection.scalars(_SKIP_SCAN, {"after": after}))
    found: list[str] = []
    while len(found) < NAMES_AT_ONCE and (some := connection.scalars(_FIRST_NAMES, {"after": after}).all()):
        found += some
        after = some[-1]
    return found


def ages(connection: sa.Connection, some: Iterable[str]) -> list[Ages]:
    """Return the ages of the receipts of these names: one statement."""
    return [Ages(**row._mapping) for row in connection.execute(_AGES, as_ids(some))]


def ages_of_nameless(connection: sa.Connection) -> Ages:
    """Return the ages of the receipts without a node."""
    first, last = connection.execute(_AGES_OF_NAMELESS).one()
    return Ages(None, first_unsequenced_at=first, last_unsequenced_at=last)


def lowest(connection: sa.Connection, node: str) -> int | None:
    """Return the sequence of a node's oldest receipt that has one."""
    sequence: int | None = connection.scalar(_LOWEST, {"node": node})
    return sequence


def sequenced(connection: sa.Connection, node: str, after: int, last: int) -> list[Sequenced]:
    """Return a node's receipts after the sequence `after`, up to `last`, in order.

    The two must not be more than ROWS_AT_ONCE apart, which bounds what any plan reads.
    """
    bounds = {"node": node, "after": after, "last": last}
    return [Sequenced(**row._mapping) for row in connection.execute(_SEQUENCED, bounds)]


# Rows are found and deleted in separate transactions: SQLite may refuse a write after a read.


def remove_receipts(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Delete receipts."""
    _REMOVE_RECEIPTS.execute(connection, event_ids)


def remove_letters(connection: sa.Connection, letter_ids: Iterable[str]) -> None:
    """Delete dead letters."""
    _REMOVE_LETTERS.execute(connection, letter_ids)


def remove_attempts(connection: sa.Connection, event_ids: Iterable[str]) -> None:
    """Delete the attempts of events."""
    _REMOVE_ATTEMPTS.execute(connection, event_ids)


def remove_node(connection: sa.Connection, node: str, sequence: int, event_ids: Iterable[str]) -> bool:
    """Delete the row of a removed node with its last receipts; return False if the node has changed since.

    The purge finds receipts by node name: no receipt may stay without the row, nor the row without a receipt.
    """
    if connection.execute(_REMOVE_NODE, {"node": node, "seen": sequence}).rowcount != 1:
        return False
    _REMOVE_TOUCHED.execute(connection, [node])
    _REMOVE_RECEIPTS.execute(connection, event_ids)
    return True
