# SPDX-License-Identifier: Apache-2.0
"""The resource providers of the nodes: as Placement had them last, and which nodes have changed since.

An event's transaction marks the nodes that it changes, nothing more. Who syncs a node reads its row, writes
to Placement, and writes down what Placement has. A mark that was set meanwhile stays: the node is synced
again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db import bulk
from tracker_worker.db.bulk import as_ids
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.tables import NODES, PROVIDERS

_MARK = bulk.update_ids(
    PROVIDERS.c.node,
    changes=PROVIDERS.c.changes + 1,
    changed_at=sa.func.coalesce(PROVIDERS.c.changed_at, UtcNow()),
    due_at=UtcNow(),
)
_ASK = bulk.update_ids(PROVIDERS.c.node, changes=PROVIDERS.c.changes + 1, due_at=UtcNow())
_ADD = sa.insert(PROVIDERS).from_select(
    ["node", "changed_at", "due_at"],
    sa.select(NODES.c.name, UtcNow(), UtcNow())
    .outerjoin(PROVIDERS, PROVIDERS.c.node == NODES.c.name)
    .where(NODES.c.uuid.is_not(None), PROVIDERS.c.node.is_(None)),
)
_DUE_NODES = (
    sa.select(PROVIDERS.c.node)
    # Evaluated once: PostgreSQL compares each row with a function that is not stable, and skips none.
    .where(PROVIDERS.c.due_at <= sa.select(UtcNow()).scalar_subquery())
    .order_by(PROVIDERS.c.due_at)
    .limit(sa.bindparam("most"))
    .with_hint(PROVIDERS, "FORCE INDEX (ix_providers_due_at)", "mysql")
)
_DUE = bulk.select(PROVIDERS.c.node, *PROVIDERS.c, UtcNow().label("now")).where(
    PROVIDERS.c.due_at <= UtcNow()
)
_LAST = (
    sa.select(PROVIDERS.c.due_at, UtcNow().label("now"))
    .where(PROVIDERS.c.due_at.is_not(None))
    .order_by(PROVIDERS.c.due_at.desc())
    .limit(1)
    .with_hint(PROVIDERS, "FORCE INDEX (ix_providers_due_at)", "mysql")
)
_BRING_FORWARD = (
    sa.update(PROVIDERS).where(PROVIDERS.c.due_at > sa.bindparam("latest")).values(due_at=UtcNow())
)
_RECORD = bulk.update(
    PROVIDERS,
    ("node",),
    ("digest", "known", "synced_at", "attempts", "error_code", "error", "foreign_provider"),
)
_RETRY = (
    sa.update(PROVIDERS)
    .where(PROVIDERS.c.due_at.is_(None), PROVIDERS.c.error_code.is_not(None))
    .values(due_at=UtcNow())
)
_BEGIN = bulk.update(PROVIDERS, ("node",), ("digest", "known"))
_SETTLE = bulk.update(PROVIDERS, ("node", "changes"), ("changed_at", "due_at"))
_FORGET = bulk.delete(PROVIDERS, ("node", "changes"))
_SYNCED_BEFORE_FAILURES = sa.case((PROVIDERS.c.attempts > 0, PROVIDERS.c.synced_at))
_BACKLOG = sa.select(
    sa.func.count(), sa.func.min(sa.func.coalesce(PROVIDERS.c.changed_at, _SYNCED_BEFORE_FAILURES))
).where(sa.or_(PROVIDERS.c.changed_at.is_not(None), PROVIDERS.c.error_code.is_not(None)))
_STATE_COLUMNS = tuple(column for column in PROVIDERS.c if column.name not in ("known", "digest"))
_STATES = sa.select(*_STATE_COLUMNS).order_by(PROVIDERS.c.node)
_STATES_OF = bulk.select(PROVIDERS.c.node, *_STATE_COLUMNS)


class DueProviders(Struct, frozen=True):
    """The row of a node that is to be synced now. `changes` counts its marks.

    `known` is what Placement had last, in JSON values, and `digest` that of what it was to be then; None
    before the first sync. `changed_at` is when the first of the changes was marked that Placement does not
    have; None: it has all, and is asked whether it still has. `now` is the time by the database's clock, UTC.
    """

    node: str
    changes: int
    changed_at: datetime | None
    synced_at: datetime | None
    digest: str | None
    known: Any
    attempts: int
    error_code: str | None
    error: str | None
    foreign_provider: str | None
    now: datetime


class SyncRecord(Struct, frozen=True):
    """What to write down of an attempt to sync a node, for the row that was read as `due`.

    `due_in` is in seconds from `due.now`; None: not before the node is marked again. `complete`: Placement
    has all changes that the row had. `removed`: the node is gone there and here. `asked`: Placement was
    asked what it has.
    """

    due: DueProviders
    known: Any
    digest: str | None
    due_in: float | None
    complete: bool
    removed: bool = False
    error_code: str | None = None
    error: str | None = None
    foreign_provider: str | None = None
    asked: bool = True


class Unsynced(Struct, frozen=True):
    """How many nodes are unsynced, as `ProviderState` says, and since when the first of them is, UTC."""

    nodes: int
    oldest: datetime | None


class ProviderState(Struct, frozen=True):
    """How far a node is synced. Times are UTC. `retry_at` is when it is synced next, None: not by itself."""

    node: str
    changed_at: datetime | None
    synced_at: datetime | None
    attempts: int
    retry_at: datetime | None
    error_code: str | None
    error: str | None
    foreign_provider: str | None

    @property
    def is_unsynced(self) -> bool:
        """Whether Placement lacks a change, or the last sync has ended with an error."""
        return self.changed_at is not None or self.error_code is not None

    @property
    def unsynced_since(self) -> datetime | None:
        """The first change that Placement lacks; without one, the last sync before those that failed.

        None for a node that is synced, or whose sync has only left what has allocations.
        """
        return self.changed_at or (self.synced_at if self.attempts else None)

    def is_due(self, now: datetime) -> bool:
        """Whether the node is to be synced at once, as one that `ask` has marked is."""
        return self.retry_at is not None and self.retry_at <= now


def mark(connection: sa.Connection, names: Iterable[str]) -> None:
    """Mark nodes as changed. A node without a row gets one from `add_missing`: it is not synced yet."""
    _MARK.execute(connection, names)


def ask(connection: sa.Connection, names: Iterable[str]) -> None:
    """Have nodes synced at once: marked changes are written, and what Placement has is compared."""
    _ASK.execute(connection, names)


def retry_refused(connection: sa.Connection) -> None:
    """Make the nodes due that wait for their next mark, because Placement has refused what they ask."""
    connection.execute(_RETRY)


def bring_forward(connection: sa.Connection, most: float) -> None:
    """Make the nodes due that would be due in more than so many seconds: the clock was set back since."""
    last = connection.execute(_LAST).first()
    if last is None:
        return
    latest = last.now + timedelta(seconds=most)
    if last.due_at > latest:
        connection.execute(_BRING_FORWARD, {"latest": latest})


def add_missing(connection: sa.Connection) -> None:
    """Add the rows of tracked nodes without one. Raises DBDuplicateEntry if another process does so too."""
    connection.execute(_ADD)


def due_nodes(connection: sa.Connection, most: int) -> list[str]:
    """Return at most so many names of nodes that are to be synced now, those that wait longest first."""
    return list(connection.execute(_DUE_NODES, {"most": most}).scalars())


def due(connection: sa.Connection, nodes: Iterable[str]) -> list[DueProviders]:
    """Return the rows of those of these nodes that are to be synced now."""
    rows = connection.execute(_DUE, as_ids(nodes))
    return [DueProviders(**{name: row._mapping[name] for name in _DUE_FIELDS}) for row in rows]


def begin(connection: sa.Connection, known: Mapping[str, Any]) -> None:
    """Write down, before a push, what each node's providers may become. Until its end no digest holds."""
    rows = [{"b_node": node, "digest": None, "known": providers} for node, providers in known.items()]
    _BEGIN.execute(connection, rows)


def record(connection: sa.Connection, records: Sequence[SyncRecord]) -> None:
    """Write down attempts. A node that was marked meanwhile stays marked, and due."""
    written = [_row(each) for each in records if not each.removed]
    settled = [
        {
            "b_node": each.due.node,
            "b_changes": each.due.changes,
            "changed_at": None if each.complete else each.due.changed_at,
            "due_at": None if each.due_in is None else each.due.now + timedelta(seconds=each.due_in),
        }
        for each in records
        if not each.removed
    ]
    gone = [{"b_node": each.due.node, "b_changes": each.due.changes} for each in records if each.removed]
    for statement, rows in ((_RECORD, written), (_SETTLE, settled), (_FORGET, gone)):
        if rows:
            statement.execute(connection, rows)


def unsynced(connection: sa.Connection) -> Unsynced:
    """Return how many nodes have changed, or failed, since they were last synced."""
    nodes, oldest = connection.execute(_BACKLOG).one()
    return Unsynced(nodes, oldest)


def states(connection: sa.Connection, names: Iterable[str] | None = None) -> list[ProviderState]:
    """Return how far these nodes are synced, or all nodes; those without a row are left out."""
    found = connection.execute(_STATES) if names is None else connection.execute(_STATES_OF, as_ids(names))
    return sorted(
        (
            ProviderState(
                row.node, row.changed_at, row.synced_at, row.attempts, row.due_at, row.error_code, row.error,
                row.foreign_provider,
            )
            for row in found
        ),
        key=lambda state: state.node,
    )  # fmt: skip


_DUE_FIELDS = DueProviders.__struct_fields__


def _row(each: SyncRecord) -> dict[str, Any]:
    failed = each.error_code is not None and not each.complete
    return {
        "b_node": each.due.node,
        "digest": each.digest,
        "known": each.known,
        "synced_at": each.due.now if each.complete and each.asked else each.due.synced_at,
        "attempts": each.due.attempts + 1 if failed else 0,
        "error_code": each.error_code,
        "error": each.error,
        "foreign_provider": each.foreign_provider,
    }
