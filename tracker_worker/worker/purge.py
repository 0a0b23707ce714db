# SPDX-License-Identifier: Apache-2.0
"""The purge: deletes rows that are older than their retention, in small transactions, on its own thread.

The age of a receipt is counted back from the newest receipt of the same node, not from now, so that a worker
that was down for a month still has the receipt of every event that may be redelivered. Both times come from
the database. Where its clock was wrong the node's sequence decides: receipts are deleted in the order of the
sequence only, and the newest ones never.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.core.error_text import error_text
from tracker_worker.db import retention
from tracker_worker.db.errors import READ_ERRORS
from tracker_worker.db.retention import ROWS_AT_ONCE, Ages, ByTime, Sequenced
from tracker_worker.worker.loop import Loop
from tracker_worker.worker.settings import Retention

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 3600.0

T = TypeVar("T")
Rows = Callable[[sa.Connection, Sequence[str]], None]


class Purged(Struct):
    """How many rows a purge deleted, or would delete."""

    receipts: int = 0
    dead_letters: int = 0
    nodes: int = 0
    attempts: int = 0


class Purge:
    """Owns one thread, which wakes once an hour."""

    def __init__(self, engine: sa.Engine, settings: Retention, failed: Callable[[], None]) -> None:
        self._engine = engine
        self._settings = settings
        self.loop = Loop("purge", self._step, INTERVAL_SECONDS, failed)

    def start(self) -> None:
        """Start the thread; the first purge is an interval away, so that a start is never slowed by it."""
        self.loop.start()

    def stop(self) -> None:
        """Have the thread end after the statement that is running. The caller need not wait for it."""
        self.loop.stop()

    def run_once(self, *, dry_run: bool = False) -> Purged:
        """Delete expired rows, at most ROWS_AT_ONCE a transaction; return how many.

        With `dry_run` it reads and counts the same rows and deletes none. Raises the database's errors; what
        was deleted before stays deleted.
        """
        with self._engine.connect() as connection:
            run = _Run(connection, self._settings, self.loop.stopping, dry_run=dry_run)
            run.purge()
        return run.purged

    def _step(self, _woken: bool) -> None:
        failure = None
        try:
            self.run_once()
        except READ_ERRORS as error:
            failure = error_text(error)
        if failure is not None:
            LOG.warning("Old rows stay until the next purge: %s", failure)


class _Run:
    """One purge, on one connection. Every read and every removal is a transaction of its own."""

    def __init__(
        self, connection: sa.Connection, settings: Retention, stop: threading.Event, *, dry_run: bool
    ) -> None:
        self.purged = Purged()
        self._connection = connection
        self._settings = settings
        self._stop = stop
        self._dry_run = dry_run
        self._now = self._in_transaction(retention.now)
        self._newest: datetime | None = None

    def purge(self) -> None:
        """Purge receipts and removed nodes name after name, then attempts and settled letters."""
        after = ""
        while names := self._in_transaction(retention.names, after):
            for ages in self._in_transaction(retention.ages, names):
                if self._stop.is_set():
                    return
                self._purge_name(ages)
            after = names[-1]
        self._purge_name(self._in_transaction(retention.ages_of_nameless))
        if self._newest is not None:
            # Counted back from the newest receipt of all: attempts, too, do not age while no worker runs.
            cutoff = self._newest - timedelta(days=self._settings.receipt_days)
            self.purged.attempts = self._remove_older(
                retention.ATTEMPTS_BY_TIME, cutoff, retention.remove_attempts
            )
        cutoff = self._now - timedelta(days=self._settings.dead_letter_days)
        self.purged.dead_letters = self._remove_older(
            retention.CLOSED_LETTERS, cutoff, retention.remove_letters
        )

    def _purge_name(self, ages: Ages) -> None:
        age = timedelta(days=self._settings.receipt_days)
        newest = self._latest(ages.newest_at, ages.last_unsequenced_at)
        if newest is None:
            return
        self._newest = self._latest(self._newest, newest)
        forgotten = self._now - timedelta(days=self._settings.removed_node_days)
        cutoff = newest - age if ages.tracked else max(newest - age, forgotten)
        if ages.first_unsequenced_at is not None and ages.first_unsequenced_at < cutoff:
            self._purge_unsequenced(ages.node, cutoff)
        if ages.node is None or ages.sequence is None:
            return
        if not ages.tracked and newest < forgotten:
            self._remove_node(ages.node, self._before_lowest(ages.node, ages), ages.sequence)
        elif ages.newest_at is not None:
            last = ages.sequence - self._settings.newest_receipts
            cutoff = min(ages.newest_at, self._now) - age
            if self._may_have_old(ages, last, cutoff):
                self._purge_sequenced(ages.node, self._before_lowest(ages.node, ages), last, cutoff)

    def _may_have_old(self, ages: Ages, last: int, cutoff: datetime) -> bool:
        """Tell whether the oldest receipt of a node may be expired, so that the node must be read."""
        if ages.lowest is None or ages.oldest_at is None:
            return last > 0
        return ages.lowest <= last and not cutoff <= ages.oldest_at <= self._now

    def _before_lowest(self, node: str, ages: Ages) -> int:
        """Return the sequence before that of the first receipt of a node."""
        lowest = ages.lowest or self._in_transaction(retention.lowest, node) or 1
        return lowest - 1

    def _latest(self, *moments: datetime | None) -> datetime | None:
        """Return the latest of some times; one that is later than now counts as now."""
        return max((min(moment, self._now) for moment in moments if moment is not None), default=None)

    def _purge_unsequenced(self, node: str | None, cutoff: datetime) -> None:
        query, whose = (retention.NAMELESS, {}) if node is None else (retention.UNSEQUENCED, {"node": node})
        self.purged.receipts += self._remove_older(query, cutoff, retention.remove_receipts, **whose)

    def _purge_sequenced(self, node: str, after: int, last: int, cutoff: datetime) -> None:
        """Remove receipts up to the last old one before the first young one, at most up to `last`."""
        removed = after
        for rows in self._sequenced(node, after, last):
            old, all_old = last_old(rows, cutoff, self._now)
            if old is not None:
                for some in self._sequenced(node, removed, old):
                    self._remove_receipts(some)
                removed = old
            if not all_old:
                return

    def _remove_node(self, node: str, after: int, sequence: int) -> None:
        """Remove the receipts of a removed node, the last ones together with its row."""
        rows: list[Sequenced] = []
        for following in self._sequenced(node, after, sequence):
            self._remove_receipts(rows)
            rows = following
        if self._stop.is_set():
            return
        ids = [row.event_id for row in rows]
        if self._dry_run or self._in_transaction(retention.remove_node, node, sequence, ids):
            self.purged.nodes += 1
            self.purged.receipts += len(rows)

    def _sequenced(self, node: str, after: int, last: int) -> Iterator[list[Sequenced]]:
        while after < last and not self._stop.is_set():
            until = min(after + ROWS_AT_ONCE, last)
            if rows := self._in_transaction(retention.sequenced, node, after, until):
                yield rows
            after = until

    def _remove_receipts(self, rows: Sequence[Sequenced]) -> None:
        self._remove(retention.remove_receipts, [row.event_id for row in rows])
        self.purged.receipts += len(rows)

    def _remove_older(self, query: ByTime, cutoff: datetime, remove: Rows, **values: str) -> int:
        removed, since, skip = 0, retention.EARLIEST, 0
        while not self._stop.is_set():
            rows = self._in_transaction(query.older, cutoff, since, skip, **values)
            self._remove(remove, [key for key, _ in rows])
            removed += len(rows)
            if len(rows) < ROWS_AT_ONCE:
                break
            last = rows[-1][1]
            if self._dry_run:  # Rows of the same time are still there.
                skip = sum(time == last for _, time in rows) + (skip if last == since else 0)
            since = last
        return removed

    def _remove(self, remove: Rows, ids: Sequence[str]) -> None:
        if ids and not self._dry_run:
            self._in_transaction(remove, ids)

    def _in_transaction(self, action: Callable[..., T], *values: object, **more: object) -> T:
        with self._connection.begin():
            return action(self._connection, *values, **more)


def last_old(rows: Sequence[Sequenced], cutoff: datetime, now: datetime) -> tuple[int | None, bool]:
    """Return the sequence of the last old receipt before the first young one, and whether none is young.

    A receipt dated later than now has no known age: it is deleted together with an old one behind it.
    """
    old = None
    for row in rows:
        if row.recorded_at < cutoff:
            old = row.sequence
        elif row.recorded_at <= now:
            return old, False
    return old, True
