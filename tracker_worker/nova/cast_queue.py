# SPDX-License-Identifier: Apache-2.0
"""Sends what a nova-compute tells the worker, in order and on a thread of its own: Nova never waits for it.

While the broker is away the queue fills, to MOST_WAITING jobs, and one audit and one removal a node. Further
jobs are dropped, counted and logged, and the next audit that is sent corrects the ledger.
"""

import itertools
import logging
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from tracker_worker.exceptions import TrackerUnavailable, WrongPartition
from tracker_worker.nova.cast_log import CastLog
from tracker_worker.rpcapi import TrackerAPI

LOG = logging.getLogger(__name__)

Json = dict[str, Any]
Job = Callable[[TrackerAPI], Any]

MOST_WAITING = 1000
STOP_SECONDS = 5.0
IDLE_SECONDS = 300.0
"""Longer than from one audit to the next, so that the thread of a quiet host stays."""

RETRY_SECONDS = (1.0, 2.0, 5.0)
LEAST_SECONDS = 0.001


class Snapshot:
    """The `as_of` of what is read after it was queued. The sender thread takes it in order.

    `ended` is how many jobs the sender thread had ended before. A snapshot to which nothing refers any more
    is not taken.
    """

    as_of = 0
    ended = 0


class _SnapshotTurn:
    """The turn of a snapshot. It does not keep the snapshot of a superseded audit."""

    def __init__(self, snapshot: Snapshot, ended: Callable[[], int]) -> None:
        self._snapshot = weakref.ref(snapshot)
        self._ended = ended

    @property
    def is_due(self) -> bool:
        return self._snapshot() is not None

    def __call__(self, api: TrackerAPI) -> None:
        """Take it. Sender thread."""
        snapshot = self._snapshot()
        if snapshot is not None:
            snapshot.as_of, snapshot.ended = api.snapshot(), self._ended()


class _Newest:
    """A job that waits until it was sent, or until a newer one of its node supersedes it."""

    def __init__(self, job: Job) -> None:
        self._job: Job | None = job

    @property
    def is_due(self) -> bool:
        return self._job is not None

    def drop(self) -> None:
        """Keep nothing of what it was to send."""
        self._job = None

    def __call__(self, api: TrackerAPI) -> None:
        """Send it unless it is superseded. Sender thread."""
        job = self._job
        if job is not None:
            job(api)
            self.drop()


_Kind = TypeVar("_Kind", bound=_Newest)


class _Audit(_Newest):
    """An audit; a superseded one's `startup` passes to the newer one."""

    def __init__(self, send: Callable[[TrackerAPI, bool], None], startup: bool) -> None:
        super().__init__(lambda api: send(api, startup))
        self.startup = startup


class _Counted:
    """A job that takes one of the places in the queue until it has ended."""

    def __init__(self, job: Job, places: "queue.SimpleQueue[None]") -> None:
        self._job = job
        self._places = places

    def __call__(self, api: TrackerAPI) -> None:
        """Run the job. Sender thread."""
        self._job(api)

    def end(self) -> None:
        """Give the place back. Sender thread."""
        self._places.put(None)


class _Call:
    """A job with a caller. The sender thread or the caller settles it, whichever is first.

    Its turn and its reply have one deadline, on `monotonic`.
    """

    def __init__(self, job: Job, timeout: float, monotonic: Callable[[], float]) -> None:
        self._job = job
        self._timeout = timeout
        self._monotonic = monotonic
        self._deadline = monotonic() + timeout
        self._outcome: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._unsettled: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._unsettled.put(None)

    def __call__(self, api: TrackerAPI) -> None:
        """Run the job within what is left of the timeout, unless the caller has given up. Sender thread."""
        if self._settle():
            try:
                self._outcome.put((self._job(api.within(self._left())), None))
            except Exception as error:
                self._outcome.put((None, error))

    def result(self) -> Any:
        """Wait for the job's turn and its result. Raises TrackerUnavailable, and what the job raises."""
        try:
            value, failure = self._outcome.get(timeout=self._left())
        except queue.Empty:
            if self._settle():
                raise TrackerUnavailable(
                    f"The broker has not taken in {self._timeout:g} s what this nova-compute cast before: "
                    "see that it runs and that [tracker_worker] transport_url names it"
                ) from None
            value, failure = self._outcome.get()
        if failure is not None:
            raise failure
        return value

    def _left(self) -> float:
        return max(self._deadline - self._monotonic(), LEAST_SECONDS)

    def _settle(self) -> bool:
        try:
            self._unsettled.get_nowait()
        except queue.Empty:
            return False
        return True


class CastQueue:
    """Sends what one ResourceTracker tells the worker. Any thread; nothing but `call` and `drain` waits.

    `new_id` makes event ids, `sleep` waits for seconds, `monotonic` is a clock in seconds that is never set
    back; a call ends within `timeout` seconds. `sent` and `dropped` count jobs, `ended` those with which the
    sender thread is through.
    """

    def __init__(
        self,
        api: TrackerAPI,
        new_id: Callable[[], str],
        sleep: Callable[[float], None],
        monotonic: Callable[[], float],
        timeout: float,
    ) -> None:
        self.sent = 0
        self.dropped = 0
        self.ended = 0
        self._api = api
        self._new_id = new_id
        self._sleep = sleep
        self._monotonic = monotonic
        self.timeout = timeout
        self._log = CastLog(monotonic)
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._next: deque[Job] = deque()
        self._later: tuple[float, Job] | None = None
        self._audits: dict[str, _Audit] = {}
        self._removals: dict[str, _Newest] = {}
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(MOST_WAITING):
            self._places.put(None)
        self._not_running: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._not_running.put(None)

    def cast(self, context: Any, method: str, node: str, **args: Any) -> None:
        """Queue a command."""
        event_id = self._new_id()
        self.put(lambda api: api.cast(context, method, node, event_id=event_id, **args))

    def snapshot(self) -> Snapshot:
        """Queue a snapshot. Call it before reading what the audit sends."""
        snapshot = Snapshot()
        self.put_always(_SnapshotTurn(snapshot, lambda: self.ended))
        return snapshot

    def audit(self, node: str, send: Callable[[TrackerAPI, bool], None], startup: bool) -> None:
        """Queue an audit, in place of one of the node that waits. `send` gets the API and `startup`.

        Audits are queued in Nova's lock: one at a time.
        """
        before = _waiting(self._audits).get(node)
        audit = _Audit(send, startup or (before is not None and before.startup))
        self._audits = _superseded(self._audits, node, audit)
        self.put_always(audit)

    def remove_node(self, node: str, host: str) -> None:
        """Queue the removal of a node from a host, in place of one that waits: no audit corrects a lost one.

        Nova removes nodes in the thread of its periodic tasks: one at a time.
        """
        event_id, args = self._new_id(), {"host": host, "force": True}
        removal = _Newest(lambda api: api.cast({}, "remove_node", node, event_id=event_id, **args))
        self._removals = _superseded(self._removals, node, removal)
        self.put_always(removal)

    def call(self, job: Job) -> Any:
        """Run a job in the order of the queue, and return its result. Raises what it raises.

        The job gets a client whose calls end by the deadline. Raises TrackerUnavailable, and does not run it,
        if its turn has not come by then, at once if the queue is full.
        """
        asked = _Call(job, self.timeout, self._monotonic)
        if not self.put(asked):
            raise TrackerUnavailable("The broker does not take the casts of this nova-compute")
        return asked.result()

    def put(self, job: Job) -> bool:
        """Queue a job for the sender thread; tell whether it was. A full queue drops it."""
        try:
            self._places.get_nowait()
        except queue.Empty:
            if self.dropped % MOST_WAITING == 0:
                LOG.error(
                    "The broker does not take the casts of this nova-compute: %d wait, more are dropped, and "
                    "the next audit that it takes corrects the ledger",
                    MOST_WAITING,
                )
            self.dropped += 1
            return False
        self.put_always(_Counted(job, self._places))
        return True

    def put_always(self, job: Job) -> None:
        """Queue a job that a full queue does not drop: its caller bounds how many of its kind wait."""
        self._jobs.put(job)
        self._start()

    def put_later(self, seconds: float, job: Job) -> None:
        """Run a job after so many seconds, in place of one that waits for its time. Sender thread."""
        self._later = (self._monotonic() + seconds, job)

    def drain(self, timeout: float) -> bool:
        """Wait until what is queued now was sent, `timeout` seconds at most; tell whether it was."""
        drained = threading.Event()
        self.put_always(lambda api: drained.set())
        return drained.wait(timeout)

    def stop(self) -> None:
        """Send what waits, for STOP_SECONDS at most: the process ends."""
        if not self.drain(STOP_SECONDS):
            casts, audits = self._waiting()
            LOG.warning("%d casts and %d audits are lost: the next start corrects the ledger", casts, audits)

    def _waiting(self) -> tuple[int, int]:
        """Return how many casts and audits wait."""
        casts = MOST_WAITING - self._places.qsize() + len(_waiting(self._removals))
        return casts, len(_waiting(self._audits))

    def _start(self) -> None:
        """Start the sender thread unless it runs. If the system has none left, the next job tries again."""
        try:
            self._not_running.get_nowait()
        except queue.Empty:
            return
        try:
            threading.Thread(target=self._run, name="tracker-worker-casts", daemon=True).start()
        except RuntimeError as error:
            self._log.not_started(error)
            self._drop_superseded()
            self._not_running.put(None)

    def _run(self) -> None:
        """Send jobs until none has come for IDLE_SECONDS."""
        self._log.started()
        while (job := self._take()) is not None:
            self._send(job)
        self._not_running.put(None)
        if not self._jobs.empty():
            self._start()

    def _take(self) -> Job | None:
        """Return the job whose turn it is, None if none has come for IDLE_SECONDS."""
        while self._later is not None:
            due, job = self._later
            left = due - self._monotonic()
            if left <= 0:
                self._later = None
                return job
            if self._next:
                break
            with suppress(queue.Empty):
                return self._jobs.get(timeout=left)
        if self._next:
            return self._next.popleft()
        with suppress(queue.Empty):
            return self._jobs.get(timeout=IDLE_SECONDS)
        return None

    def _send(self, job: Job) -> None:
        """Run a job until the broker takes what it sends. A job that fails otherwise is dropped."""
        waits = itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1]))
        for failures, wait in enumerate(waits):
            # Of jobs that have not failed, others may succeed without the worker.
            sends = _is_due(job) and (failures > 0 or isinstance(job, _Newest))
            try:
                job(self._api)
            except (TrackerUnavailable, WrongPartition):
                self._log.unreachable(*self._waiting())
                self._sleep(wait)
                self._drop_superseded()
            except Exception:
                self._log.failed()
                self.dropped += 1
                break
            else:
                self.sent += 1
                if sends:
                    self._log.reached()
                break
        self.ended += 1
        if isinstance(job, _Counted):
            job.end()

    def _drop_superseded(self) -> None:
        """Take superseded audits and their snapshots out of the queue: each audit of an outage adds some."""
        with suppress(queue.Empty):
            while True:
                self._next.append(self._jobs.get_nowait())
        self._next = deque(job for job in self._next if _is_due(job))


def _is_due(job: Job) -> bool:
    return bool(getattr(job, "is_due", True))


def _waiting(jobs: dict[str, _Kind]) -> dict[str, _Kind]:
    return {node: job for node, job in jobs.items() if job.is_due}


def _superseded(jobs: dict[str, _Kind], node: str, job: _Kind) -> dict[str, _Kind]:
    """Drop the node's job, and return those of all nodes that wait, `job` in its place."""
    waiting = _waiting(jobs)
    if node in waiting:
        waiting[node].drop()
    return {**waiting, node: job}
