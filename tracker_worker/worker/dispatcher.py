# SPDX-License-Identifier: Apache-2.0
"""The dispatcher: which lane owns which partition, and the lanes' threads."""

import time
from collections.abc import Callable, Sequence

from tracker_worker.worker.inbox import Inbox
from tracker_worker.worker.lane import Lane
from tracker_worker.worker.threads import worker_thread


class Dispatcher:
    """Knows the lanes: partition p always belongs to lane p mod the number of lanes.

    `failed` is called, on the lane's thread, when a lane ends by an error that it does not know.
    """

    def __init__(self, lanes: Sequence[Lane], failed: Callable[[], None]) -> None:
        self._lanes = lanes
        self._threads = [worker_thread(lane.activity.name, lane.run, failed) for lane in lanes]

    def start(self) -> None:
        """Start the lanes' threads."""
        for thread in self._threads:
            thread.start()

    def inbox(self, partition: int) -> Inbox:
        """Return where the deliveries of a partition go. Any thread."""
        return self._lanes[partition % len(self._lanes)].inbox

    def drain(self, timeout: float) -> bool:
        """Finish what was submitted within `timeout` seconds, else abandon it; tells whether all was
        finished.
        """
        deadline = time.monotonic() + timeout
        for lane in self._lanes:
            lane.close()
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        drained = not any(thread.is_alive() for thread in self._threads)
        if not drained:
            self.abandon()
        return drained

    def abandon(self) -> None:
        """Give up what is not committed: it stays unanswered. Nobody waits in `Inbox.put` any more."""
        for lane in self._lanes:
            lane.abandon()
