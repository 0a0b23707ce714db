# SPDX-License-Identifier: Apache-2.0
"""The watchdog: it names in the log each lane that makes no progress, what the lane waits for, and where in
the code it is.
"""

import logging
from collections.abc import Callable, Sequence

from tracker_worker.private_apis.cpython import stack_of
from tracker_worker.worker.activity import Activity, Progress
from tracker_worker.worker.loop import Loop

LOG = logging.getLogger(__name__)

STALL_SECONDS = 10.0
"""A lane that has made no progress for so long is stalled; it is logged once every so many seconds."""
INTERVAL_SECONDS = 1.0


class Watchdog:
    """Owns one thread, which checks the activities of all lanes once a second, and then calls `checked`."""

    def __init__(
        self, activities: Sequence[Activity], failed: Callable[[], None], checked: Callable[[], None]
    ) -> None:
        self._activities = activities
        self._reported: dict[str, float] = {}
        self._checked = checked
        self._loop = Loop("watchdog", lambda _woken: self.check(), INTERVAL_SECONDS, failed)

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def stop(self) -> None:
        """Have the thread end. The caller need not wait for it."""
        self._loop.stop()

    def check(self) -> None:
        """Log each stalled lane every STALL_SECONDS, its stack once, and that it makes progress again."""
        for activity in self._activities:
            progress = activity.progress()
            seconds = progress.uncommitted if progress is not None else 0.0
            reported = self._reported.get(activity.name, 0.0)
            if seconds < reported:
                LOG.warning("%s makes progress again", activity.name)
                reported = self._reported[activity.name] = 0.0
            if progress is not None and seconds - reported >= STALL_SECONDS:
                self._reported[activity.name] = seconds
                _log_stall(activity.name, progress, with_stack=not reported)
        self._checked()


def _log_stall(lane: str, progress: Progress, *, with_stack: bool) -> None:
    LOG.warning("%s has made no progress for %.0f s: %s", lane, progress.uncommitted, progress.text)
    if with_stack and (stack := stack_of(progress.thread)):
        LOG.warning("%s is here:\n%s", lane, stack.rstrip())
