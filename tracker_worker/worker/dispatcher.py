# SPDX-License-Identifier: Apache-2.0
"""The dispatcher: maps partitions to lanes, and runs the lanes' threads."""

from collections.abc import Callable, Sequence

from tracker_worker.worker.inbox import Inbox
from tracker_worker.worker.lane import Lane
from tracker_worker.worker.threads import worker_thread


class Dispatcher:
    """Owns the lanes' threads. Partition p belongs to lane p mod the number of lanes.

    `monotonic` is a clock in seconds that is never set back. `failed` is called on a lane's thread if an
    unhandled exception ends it.
    """

    def __init__(
        self, lanes: Sequence[Lane], monotonic: Callable[[], float], failed: Callable[[], None]
    ) -> None:
        self._lanes = lanes
        self._monotonic = monotonic
        self._threads = [worker_thread(lane.activity.name, lane.run, failed) for lane in lanes]

    def start(self) -> None:
        """Start the lanes' threads."""
        for thread in self._threads:
            thread.start()

    def inbox(self, partition: int) -> Inbox:
        """Return the inbox of a partition. Any thread."""
        return self._lanes[partition % len(self._lanes)].inbox

    def drain(self, timeout: float) -> bool:
        """Commit what the inboxes hold within `timeout` seconds, else abandon it; tells whether all was
        committed.
        """
        deadline = self._monotonic() + timeout
        for lane in self._lanes:
            lane.close()
        for thread in self._threads:
            thread.join(max(deadline - self._monotonic(), 0.0))
        drained = not any(thread.is_alive() for thread in self._threads)
        if not drained:
            self.abandon()
        return drained

    def abandon(self) -> None:
        """Abandon all lanes: what is not committed is not answered, and `Inbox.put` no longer blocks."""
        for lane in self._lanes:
            lane.abandon()
