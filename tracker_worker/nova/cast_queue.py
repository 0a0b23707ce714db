# SPDX-License-Identifier: Apache-2.0
"""Sends what a nova-compute tells the worker, in order and on a thread of its own: Nova never waits for it.

While the broker is away the queue fills, to MOST_WAITING jobs and one audit a node. Further jobs are dropped,
counted and logged, and the next audit that is sent corrects the ledger.
"""

import itertools
import logging
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tracker_worker.exceptions import TrackerUnavailable, WrongPartition
from tracker_worker.rpcapi import TrackerAPI

LOG = logging.getLogger(__name__)

Json = dict[str, Any]
Job = Callable[[TrackerAPI], Any]

MOST_WAITING = 1000
STOP_SECONDS = 5.0
IDLE_SECONDS = 60.0
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


class _Audit:
    """An audit that waits until it was sent, or until a newer one of its node supersedes it."""

    def __init__(self, send: Callable[[TrackerAPI, bool], None], startup: bool) -> None:
        self._send: Callable[[TrackerAPI, bool], None] | None = send
        self.startup = startup

    @property
    def is_due(self) -> bool:
        return self._send is not None

    def drop(self) -> None:
        """Keep nothing of what it was to send."""
        self._send = None

    def __call__(self, api: TrackerAPI) -> None:
        """Send it unless it is superseded. Sender thread."""
        send = self._send
        if send is not None:
            send(api, self.startup)
            self.drop()


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
        self._timeout = timeout
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._next: deque[Job] = deque()
        self._later: tuple[float, Job] | None = None
        self._audits: dict[str, _Audit] = {}
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
        waiting = {name: each for name, each in self._audits.items() if each.is_due}
        before = waiting.get(node)
        audit = _Audit(send, startup or (before is not None and before.startup))
        self.put_always(audit)
        if before is not None:
            before.drop()
        self._audits = {**waiting, node: audit}

    def call(self, job: Job) -> Any:
        """Run a job in the order of the queue, and return its result. Raises what it raises.

        The job gets a client whose calls end by the deadline. Raises TrackerUnavailable, and does not run it,
        if its turn has not come by then, at once if the queue is full.
        """
        asked = _Call(job, self._timeout, self._monotonic)
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
            LOG.warning("%d casts are lost: the next start corrects the ledger", self._waiting())

    def _waiting(self) -> int:
        return MOST_WAITING - self._places.qsize()

    def _start(self) -> None:
        """Start the sender thread unless it runs."""
        try:
            self._not_running.get_nowait()
        except queue.Empty:
            return
        threading.Thread(target=self._run, name="tracker-worker-casts", daemon=True).start()

    def _run(self) -> None:
        """Send jobs until none has come for IDLE_SECONDS."""
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
        for wait in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
            try:
                job(self._api)
            except (TrackerUnavailable, WrongPartition):
                LOG.warning("Cannot reach the worker: %d casts wait", self._waiting())
                self._sleep(wait)
                self._drop_superseded()
            except Exception:
                LOG.exception(
                    "A cast to the worker failed and is dropped: the next audit corrects the ledger"
                )
                self.dropped += 1
                break
            else:
                self.sent += 1
                break
        self.ended += 1
        if isinstance(job, _Counted):
            job.end()

    def _drop_superseded(self) -> None:
        """Take superseded audits and their snapshots out of the queue: each audit of an outage adds some."""
        with suppress(queue.Empty):
            while True:
                self._next.append(self._jobs.get_nowait())
        self._next = deque(job for job in self._next if getattr(job, "is_due", True))
