# SPDX-License-Identifier: Apache-2.0
"""Sends what a nova-compute tells the worker, in order and on a thread of its own: Nova never waits for it.

While the broker is away the queue fills, to MOST_WAITING jobs and one audit a node. What comes then is
dropped, counted and logged, and the next audit that is sent corrects the ledger.
"""

import itertools
import logging
import queue
import threading
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
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)


class Snapshot:
    """The `as_of` of what is read after it was queued. The sender thread takes it in order."""

    def __init__(self) -> None:
        self.as_of: int | None = None

    def __call__(self, api: TrackerAPI) -> None:
        """Take it. Sender thread."""
        self.as_of = api.snapshot()


class _Audit:
    """An audit that waits. A newer one of its node supersedes it."""

    def __init__(self, send: Callable[[TrackerAPI, bool], None], startup: bool) -> None:
        self.send = send
        self.startup = startup
        self.superseded = False
        self.sent = False


class _Call:
    """A job with a caller. The sender thread or the caller settles it, whichever is first."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._outcome: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()
        self._unsettled: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._unsettled.put(None)

    def __call__(self, api: TrackerAPI) -> None:
        """Run the job, unless the caller has given up. Sender thread."""
        if self._settle():
            try:
                self._outcome.put((self._job(api), None))
            except Exception as error:
                self._outcome.put((None, error))

    def result(self, timeout: float) -> Any:
        """Wait for the job's turn for `timeout` seconds, then for its result."""
        try:
            value, failure = self._outcome.get(timeout=timeout)
        except queue.Empty:
            if self._settle():
                raise TrackerUnavailable(
                    f"The broker has not taken in {timeout} s what this nova-compute cast before: see that "
                    "it runs and that [tracker_worker] transport_url names it"
                ) from None
            value, failure = self._outcome.get()
        if failure is not None:
            raise failure
        return value

    def _settle(self) -> bool:
        try:
            self._unsettled.get_nowait()
        except queue.Empty:
            return False
        return True


class CastQueue:
    """Sends what one ResourceTracker tells the worker. Any thread; nothing but `call` and `drain` waits.

    `new_id` makes event ids, `sleep` waits for seconds; a call
    waits `timeout` seconds for its turn. `sent` and `dropped` count jobs.
    """

    def __init__(
        self, api: TrackerAPI, new_id: Callable[[], str], sleep: Callable[[float], None], timeout: float
    ) -> None:
        self.sent = 0
        self.dropped = 0
        self._api = api
        self._new_id = new_id
        self._sleep = sleep
        self._timeout = timeout
        self._jobs: queue.Queue[Job] = queue.Queue(MOST_WAITING)
        self._audits: dict[str, _Audit] = {}
        self._not_running: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._not_running.put(None)

    def cast(self, context: Any, method: str, node: str, **args: Any) -> None:
        """Queue a command."""
        event_id = self._new_id()
        self.put(lambda api: api.cast(context, method, node, event_id=event_id, **args))

    def snapshot(self) -> Snapshot:
        """Queue a snapshot. Call it before reading what the audit sends."""
        snapshot = Snapshot()
        self.put(snapshot)
        return snapshot

    def audit(self, node: str, send: Callable[[TrackerAPI, bool], None], startup: bool) -> None:
        """Queue an audit, in place of one of the node that waits. `send` gets the API and `startup`."""
        before = self._audits.get(node)
        audit = _Audit(send, startup or (before is not None and before.startup and not before.sent))
        if self.put(lambda api: self._send_audit(api, node, audit)):
            self._audits[node] = audit
            if before is not None:
                before.superseded = True

    def call(self, job: Job) -> Any:
        """Run a job in the order of the queue, and return its result. Raises what it raises.

        Raises TrackerUnavailable if its turn does not come within the timeout: then it is not run.
        """
        asked = _Call(job)
        return asked.result(self._timeout if self.put(asked) else 0.0)

    def put(self, job: Job) -> bool:
        """Queue a job for the sender thread; tell whether it was. A full queue drops it."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            if self.dropped % MOST_WAITING == 0:
                LOG.error(
                    "The broker does not take the casts of this nova-compute: %d wait, more are dropped, and "
                    "the next audit that it takes corrects the ledger",
                    MOST_WAITING,
                )
            self.dropped += 1
            return False
        finally:
            self._start()
        return True

    def drain(self, timeout: float) -> bool:
        """Wait until what is queued now was sent, `timeout` seconds at most; tell whether it was."""
        drained = threading.Event()
        self.put(lambda api: drained.set())
        return drained.wait(timeout)

    def stop(self) -> None:
        """Send what waits, for STOP_SECONDS at most: the process ends."""
        if not self.drain(STOP_SECONDS):
            LOG.warning("%d casts are lost: the next start corrects the ledger", self._jobs.qsize())

    def _start(self) -> None:
        """Start the sender thread unless it runs."""
        try:
            self._not_running.get_nowait()
        except queue.Empty:
            return
        threading.Thread(target=self._run, name="tracker-worker-casts", daemon=True).start()

    def _run(self) -> None:
        """Send jobs until none has come for IDLE_SECONDS."""
        with suppress(queue.Empty):
            while True:
                self._send(self._jobs.get(timeout=IDLE_SECONDS))
        self._not_running.put(None)
        if not self._jobs.empty():
            self._start()

    def _send(self, job: Job) -> None:
        """Run a job until the broker takes what it sends. A job that fails otherwise is dropped."""
        for wait in itertools.chain(RETRY_SECONDS, itertools.repeat(RETRY_SECONDS[-1])):
            try:
                job(self._api)
            except (TrackerUnavailable, WrongPartition):
                LOG.warning("Cannot reach the worker: %d casts wait", self._jobs.qsize())
                self._sleep(wait)
            except Exception:
                LOG.exception(
                    "A cast to the worker failed and is dropped: the next audit corrects the ledger"
                )
                self.dropped += 1
                return
            else:
                self.sent += 1
                return

    def _send_audit(self, api: TrackerAPI, node: str, audit: _Audit) -> None:
        if self._audits.get(node) is audit:
            del self._audits[node]
        if not audit.superseded:
            audit.send(api, audit.startup)
            audit.sent = True
