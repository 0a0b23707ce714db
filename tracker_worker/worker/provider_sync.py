# SPDX-License-Identifier: Apache-2.0
"""Tells Placement of the nodes that have changed, beside the lanes: no event waits for a request.

The worker that gets the commands of a partition syncs its nodes: it holds the partition's lease. Its thread
reads which nodes are due, and writes down what became of them; threads of an executor make the requests. What
is lost with the process is asked for again.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import Empty, SimpleQueue

import sqlalchemy as sa
from oslo_db.exception import DBDuplicateEntry

from tracker_worker.core.error_text import error_text
from tracker_worker.core.stats import PlacementStats
from tracker_worker.db import providers, store
from tracker_worker.db.connection import LazyConnection
from tracker_worker.db.errors import DATABASE_ERRORS, READ_ERRORS
from tracker_worker.db.providers import DueProviders, SyncRecord
from tracker_worker.db.store import NodesBroken
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.domain.node import Node
from tracker_worker.domain.provider_facts import provider_facts
from tracker_worker.domain.report import Owner
from tracker_worker.placement.errors import DesiredStateInvalid, PlacementUnavailable
from tracker_worker.placement.known_tree import without_trees
from tracker_worker.placement.provider import desired, digest
from tracker_worker.placement.sync import Sync, Synced, SyncInterrupted, in_flight
from tracker_worker.worker.due_nodes import DueNodes
from tracker_worker.worker.loop import Loop
from tracker_worker.worker.partition_leases import LeaseOwner, PartitionLeases
from tracker_worker.worker.provider_results import ProviderResults, Publication
from tracker_worker.worker.provider_task import (
    ProviderTask,
    Request,
    failed_record,
    former_roots,
    interrupted_record,
    known_of,
    longest_wait,
    pause,
    stored,
    synced_record,
    unchanged_record,
)
from tracker_worker.worker.settings import PlacementSettings

LOG = logging.getLogger(__name__)

COALESCE_SECONDS = 0.05
"""How long the thread waits for more results before it writes them down: some statements for all of them."""
UNEXPECTED = ErrorCode.INTERNAL_ERROR.value
"""The code of an exception that is a fault of this program."""

Observation = tuple[str, float]
"""The outcome of a request to Placement, and its seconds."""


class ProviderSync:
    """Owns one thread, one connection and the executor that it is given, whose threads make the requests.

    `monotonic` is in seconds and never set back; `jitter` returns factors around 1 for the times of
    refreshes. The threads of the requests put into `observed` what became of each.
    """

    def __init__(
        self,
        engine: sa.Engine,
        sync: Sync,
        executor: Executor,
        settings: PlacementSettings,
        owner: LeaseOwner,
        publication: Publication,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        failed: Callable[[], None],
        observed: SimpleQueue[Observation],
        stats: PlacementStats,
    ) -> None:
        self._database = LazyConnection(engine)
        self._sync = sync
        self._settings = settings
        self._longest_wait = longest_wait(settings.refresh_interval, settings.retry_max)
        self._monotonic = monotonic
        self._jitter = jitter
        self._observed = observed
        self._stats = stats
        self._leases = PartitionLeases(owner, settings.lease_seconds, self._database.transaction, monotonic)
        self._executor = executor
        self._running: dict[str, tuple[ProviderTask, Future[Synced]]] = {}
        self._results = ProviderResults(self._database.transaction, publication)
        self._due_nodes = DueNodes(settings.poll_interval)
        self._has_begun = False
        self._outage: str | None = None
        self._failures = 0
        self._paused_until = 0.0
        self._database_failure: str | None = None
        self.loop = Loop("placement-sync", self._step, settings.poll_interval, failed, self._finish)

    def start(self) -> None:
        """Start the thread."""
        self.loop.wake()
        self.loop.start()

    def stop(self) -> None:
        """Begin no more requests. What is not written down is asked for again."""
        self.loop.stop()

    def join(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until the results are written down; for no request that is running."""
        self.loop.join(timeout)

    def run_once(self) -> None:
        """Write down what has ended, and begin what is due. On the loop's thread; raises database errors."""
        self._leases.renew(self._running)
        self._end()
        if self._leases.any_held and self._monotonic() >= self._paused_until:
            self._begin()

    def _end(self) -> None:
        """Write down what has ended, but for nodes whose lease another process may have by now."""
        self._collect()
        self._count()
        self._results.keep(self._leases.holds)
        self._results.write()

    def _step(self, woken: bool) -> None:
        if woken:
            self.loop.stopping.wait(COALESCE_SECONDS)
        failure = None
        try:
            self.run_once()
        except READ_ERRORS as error:
            failure = error_text(error)
        if (failure is None) != (self._database_failure is None):
            if failure is None:
                LOG.info("Nodes are synced with Placement again")
            else:
                LOG.warning("No node is synced with Placement while the database fails: %s", failure)
        self._database_failure = failure

    def _finish(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        failure = None
        try:
            self._end()
            self._leases.release(self._in_flight())
        except DATABASE_ERRORS as error:
            failure = error_text(error)
        if failure is not None:
            LOG.warning(
                "The last results of Placement are not recorded, and are asked for again: %s", failure
            )
        self._database.close()

    def _begin(self) -> None:
        """Begin the requests of nodes that are due, as many as there is room for."""
        room = self._room() - len(self._running)
        if room <= 0:
            return
        try:
            due = self._due(room)
        except DBDuplicateEntry:
            # Another worker has added the rows of the same nodes. The next step finds them.
            return
        if not self._has_begun:
            self._has_begun = True
            LOG.info("This worker syncs nodes with Placement")
        if not due:
            return
        tasks = self._tasks(due)
        pushes = {
            t.due.node: stored(in_flight(t.desired, t.known)) for t in tasks if t.request is Request.PUSH
        }
        if pushes:
            with self._database.transaction() as connection:
                providers.begin(connection, pushes)
        for task in tasks:
            # The transactions may have lasted for longer than the lease. What they began is due as before.
            if self._leases.holds(task.due.node):
                self._submit(task)
        self._results.write()

    def _due(self, room: int) -> list[DueProviders]:
        """Return the rows of nodes that this process is to sync now, as many as there is room for."""
        with self._database.transaction() as connection:
            if not self._has_begun:
                # What was refused may be allowed now: a right, or an option, that somebody has corrected.
                providers.retry_refused(connection)
            providers.bring_forward(connection, self._longest_wait)
            providers.add_missing(connection)
            self._due_nodes.read(connection, self._monotonic())
            return providers.due(connection, self._due_nodes.take(room, self._may_begin))

    def _may_begin(self, node: str) -> bool:
        return node not in self._running and self._leases.may_begin(node)

    def _room(self) -> int:
        """Return how many nodes may be under way: one where Placement was away, to see whether it is back."""
        return 1 if self._failures else self._settings.concurrency * 4

    def _tasks(self, due: Sequence[DueProviders]) -> list[ProviderTask]:
        """Return the tasks of nodes. Those whose providers cannot be computed are written down as failed."""
        tasks = []
        nodes, owners = self._load(due)
        for each in due:
            if (node := nodes.get(each.node)) is None:
                continue
            try:
                tasks.append(self._task(each, node, owners))
            except DesiredStateInvalid as error:
                # It may be the fault of provider.yaml, which is read again at a start: no event says so.
                again = self._settings.refresh_interval
                self._results.add(node, failed_record(each, error.code, str(error), again))
            except Exception as error:
                self._results.add(node, self._unexpected(each, error))
        return tasks

    def _task(self, due: DueProviders, node: Node, owners: Mapping[str, Owner]) -> ProviderTask:
        facts = provider_facts(node)
        wanted = desired(facts, self._settings.provider_configs) if facts is not None else ()
        theirs = {uuid for uuid, owner in owners.items() if owner.name != due.node}
        known = known_of(due)
        if theirs:
            known = without_trees(known, theirs)
        return ProviderTask(due, node, wanted, digest(wanted) if wanted else None, known)

    def _load(self, due: Iterable[DueProviders]) -> tuple[Mapping[str, Node], Mapping[str, Owner]]:
        """Return the nodes without their claims, and which nodes own the trees that they had before. Nodes
        that cannot be read are written down as failed.
        """
        rows = {each.node: each for each in due}
        try:
            with self._database.transaction() as connection:
                nodes = store.load_reports(connection, rows)
                former = former_roots(due, nodes)
                return nodes, store.uuid_owners(connection, former) if former else {}
        except NodesBroken as error:
            broken = error.reasons
        for name, reason in broken.items():
            code, seconds = ErrorCode.LEDGER_BROKEN.value, self._settings.refresh_interval
            self._results.add(Node(name), failed_record(rows[name], code, reason, seconds))
        return {}, {}

    def _submit(self, task: ProviderTask) -> None:
        if task.digest is None and not task.known:
            self._results.add(task.node, synced_record(task, Synced(()), self._refresh_in()))
            return
        if task.request is Request.NOTHING:
            self._results.add(task.node, unchanged_record(task, self._refresh_in()))
            return
        run = self._sync.push if task.request is Request.PUSH else self._sync.refresh
        future = self._executor.submit(run, task.desired, task.known)
        self._running[task.due.node] = task, future
        future.add_done_callback(lambda _: self.loop.wake())

    def _collect(self) -> None:
        """Take the results of the requests that have ended."""
        for name, (task, future) in list(self._running.items()):
            if future.done() and not future.cancelled():
                del self._running[name]
                self._results.add(task.node, self._record(task, future))

    def _in_flight(self) -> list[str]:
        """Return the nodes whose requests Placement may carry out yet."""
        return [name for name, (_, future) in self._running.items() if not future.cancelled()]

    def _count(self) -> None:
        """Add the requests that have ended to the counters, which this thread alone does."""
        with suppress(Empty):
            while True:
                outcome, seconds = self._observed.get_nowait()
                counts = self._stats.requests
                counts[outcome] = counts.get(outcome, 0) + 1
                self._stats.seconds.observe(seconds)

    def _record(self, task: ProviderTask, future: Future[Synced]) -> SyncRecord:
        error = future.exception()
        if error is None:
            self._is_back()
            return synced_record(task, future.result(), self._refresh_in())
        if isinstance(error, SyncInterrupted):
            if isinstance(error.cause, PlacementUnavailable):
                self._is_away(error.cause)
            else:
                self._is_back()
            return interrupted_record(task, error, self._refresh_in(), self._settings.retry_max)
        return self._unexpected(task.due, error)

    def _unexpected(self, due: DueProviders, error: BaseException) -> SyncRecord:
        """A fault of this program concerns one node; the others are synced."""
        LOG.error("Node %s was not synced with Placement", due.node, exc_info=error)
        text = f"{type(error).__name__}: see the worker's log"
        return failed_record(due, UNEXPECTED, text, self._settings.refresh_interval)

    def _is_away(self, error: PlacementUnavailable) -> None:
        """Pause, each time for longer: other nodes would wait for the same answer."""
        now = self._monotonic()
        if now < self._paused_until:  # This request began before the pause.
            return
        if error.code != self._outage:
            # One that has a way out does not end by itself.
            level = logging.ERROR if error.way_out else logging.WARNING
            LOG.log(
                level, "Placement cannot be used, changes wait in the database: %s: %s", error.code, error
            )
        self._outage = error.code
        self._paused_until = now + min(pause(self._failures), self._settings.retry_max)
        self._failures += 1

    def _is_back(self) -> None:
        if self._failures:
            LOG.info("Placement answers again")
        self._outage = None
        self._failures = 0
        self._paused_until = 0.0

    def _refresh_in(self) -> float:
        return self._settings.refresh_interval * self._jitter()
