# SPDX-License-Identifier: Apache-2.0
"""A lane: ONE thread that owns the nodes of its partitions, so that nothing needs a lock.

It takes the deliveries that are waiting, up to a batch, never waits for more, and keeps a batch until it is
committed. Nothing is answered before the commit, nothing is dropped, and order is kept.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from tracker_worker.core.batch import BatchContext
from tracker_worker.core.error_text import error_text
from tracker_worker.core.held import repairs
from tracker_worker.core.stats import LaneStats
from tracker_worker.db.errors import DATABASE_ERRORS
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.worker.activity import Activity
from tracker_worker.worker.broken_nodes import BrokenNodes
from tracker_worker.worker.committer import Committer
from tracker_worker.worker.health import LaneState
from tracker_worker.worker.inbox import Inbox
from tracker_worker.worker.node_cache import NodeCache
from tracker_worker.worker.quarantine import Quarantine
from tracker_worker.worker.retries import Retries
from tracker_worker.worker.settings import LaneSettings

LOG = logging.getLogger(__name__)


class Lane:
    """Applies the events of its partitions in order: inbox -> quarantine -> committer.

    `close`, `abandon`, `state` and those methods of `inbox` that say so may be called from any thread,
    everything else from the lane's only. `monotonic` is a clock in seconds that is never set back. The lane
    calls `committed` after each commit of notifications, and adds to `stats`. `activity` is what the lane is
    doing now.
    """

    def __init__(
        self,
        name: str,
        partitions: Iterable[int],
        unit_of_work: UnitOfWork,
        context: BatchContext,
        settings: LaneSettings,
        monotonic: Callable[[], float],
        committed: Callable[[], None],
        stats: LaneStats,
    ) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._unit_of_work = unit_of_work
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._started_at = monotonic()
        self._recheck_at = 0.0
        self.activity = activity = Activity(name, monotonic, stats, settings.slow_event)
        self.inbox = Inbox(partitions, settings.prefetch, self._abandoned)
        self.nodes = NodeCache(unit_of_work, settings.cached_nodes, activity)
        self._retries = retries = Retries(
            unit_of_work, self.nodes, settings, self._abandoned, activity, monotonic
        )
        self._quarantine = Quarantine(unit_of_work, context.partitions, settings, retries, activity)
        self.broken = BrokenNodes(unit_of_work, self.nodes, context, retries, activity, committed)
        self._committer = Committer(
            unit_of_work, self.nodes, self.broken, context, retries, activity, committed
        )

    def run(self) -> None:
        """Work until closed and drained, or abandoned: the body of the lane's thread."""
        while not self._abandoned.is_set():
            self.inbox.wait(self._seconds_to_wait())
            while not self._abandoned.is_set() and self.step():
                pass
            if self._closing.is_set():
                break
        self._unit_of_work.close()

    def step(self) -> bool:
        """Take the waiting deliveries, at most a batch, and commit them; False if there were none."""
        if self._is_warm():
            self.inbox.resume()
        if self.broken and self._monotonic() >= self._recheck_at:
            with self._given_up_when_abandoned("held nodes"):
                self.inbox.put_back(self.broken.recheck())
            self._recheck_at = self._monotonic() + self._settings.recheck_seconds
        deliveries = self.inbox.take(self._settings.batch_size, self._settings.batch_bytes)
        if self.inbox.was_dropped():  # Another worker may have consumed these partitions since.
            self.nodes.clear()
            self.nodes.faults.clear()
            self.broken.drop_dead()
        if not deliveries:
            return False
        with self._given_up_when_abandoned(f"a batch of {len(deliveries)}"):
            has_repairs = False
            for attempt in self._quarantine.admit(deliveries, self._is_warm, self.inbox.defer):
                held = self._committer.commit(attempt.events)
                self._quarantine.take_back(attempt, held)
                has_repairs |= any(map(repairs, held))
            if has_repairs:
                self.inbox.put_back(self.broken.repair())
        return True

    def state(self) -> LaneState:
        """Return what the lane is doing. Any thread."""
        committed_at = self.activity.committed_at
        committed = None if committed_at is None else self._monotonic() - committed_at
        broken: dict[str, int] = {ErrorCode.LEDGER_BROKEN: len(self.broken.held.nodes)}
        return LaneState(
            self.activity.name,
            self.activity.progress(),
            self.inbox.waiting,
            committed,
            broken | self.nodes.faults.counts(),
        )

    def close(self) -> None:
        """Commit what is in the inbox, then end. Nothing may be put into the inbox after this call."""
        self._closing.set()
        self.inbox.wake()

    def abandon(self) -> None:
        """End as soon as possible. What is not committed is not answered, and the broker redelivers it."""
        self._abandoned.set()
        self.close()

    def _is_warm(self) -> bool:
        """Tell whether last attempts may be made: not by a lane that is abandoned in the middle of a step."""
        draining = self._closing.is_set() and not self._abandoned.is_set()
        return draining or self._monotonic() >= self._warm_at

    @property
    def _warm_at(self) -> float:
        """When last attempts may be made.

        An outage of the database starts the wait again: if the worker is killed while an event waits for the
        database, the kill counts as an attempt of that event.
        """
        return max(self._started_at, self._retries.failed_at) + self._settings.min_uptime

    def _seconds_to_wait(self) -> float | None:
        """Return the seconds until deferred or held events are due; None if there are none."""
        times = [self._warm_at] if self.inbox.has_deferred else []
        times += [self._recheck_at] if self.broken else []
        return max(min(times) - self._monotonic(), 0.0) if times else None

    @contextmanager
    def _given_up_when_abandoned(self, what: str) -> Iterator[None]:
        """Run the block as the lane's activity.

        Once the lane is abandoned, an error of the database ends it.
        """
        failure = None
        try:
            with self.activity.on(what):
                yield
        except DATABASE_ERRORS as error:
            if not self._abandoned.is_set():
                raise
            failure = error_text(error)
        if failure is not None:
            LOG.warning("Gave up on %s, it was not answered: %s", what, failure)
