# SPDX-License-Identifier: Apache-2.0
"""The watchdog: it names in the log each lane that makes no progress, and what that lane waits for."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from tracker_worker.worker.loop import Loop

LOG = logging.getLogger(__name__)

STALL_SECONDS = 10.0
"""A lane that has made no progress for so long is stalled; it is logged once every so many seconds."""
INTERVAL_SECONDS = 1.0
_MOST_NAMES = 3


class Activity:
    """What one lane is working on, since when, and at which step. Written by the lane, read by any thread.

    `step` may be set at any time: it names the statement or the pause that the lane is in.
    """

    def __init__(self, name: str, monotonic: Callable[[], float]) -> None:
        self.name = name
        self.step = ""
        self._monotonic = monotonic
        self._current: tuple[float, str] | None = None

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Work on something until the block ends."""
        self._current = (self._monotonic(), what)
        try:
            yield
        finally:
            self._current = None

    def progressed(self) -> None:
        """Note that a part of the work is committed: a long piece of work is not a stall."""
        current = self._current
        if current is not None:
            self._current = (self._monotonic(), current[1])

    def stalled(self) -> tuple[float, str] | None:
        """Return for how many seconds there has been no progress, and in what; None for an idle lane."""
        current = self._current
        if current is None:
            return None
        since, what = current
        return self._monotonic() - since, f"{what}, at: {self.step or 'deciding'}"


class Watchdog:
    """Owns one thread, which checks the activities of all lanes once a second."""

    def __init__(self, activities: Sequence[Activity], failed: Callable[[], None]) -> None:
        self._activities = activities
        self._reported: dict[str, float] = {}
        self._loop = Loop("watchdog", lambda _woken: self.check(), INTERVAL_SECONDS, failed)

    def start(self) -> None:
        """Start the thread."""
        self._loop.start()

    def stop(self) -> None:
        """Have the thread end. The caller need not wait for it."""
        self._loop.stop()

    def check(self) -> None:
        """Log each stalled lane every STALL_SECONDS, and once that it makes progress again."""
        for activity in self._activities:
            stalled = activity.stalled()
            seconds, what = stalled if stalled is not None else (0.0, "")
            reported = self._reported.get(activity.name, 0.0)
            if seconds < reported:
                LOG.warning("%s makes progress again", activity.name)
                reported = self._reported[activity.name] = 0.0
            if seconds - reported >= STALL_SECONDS:
                self._reported[activity.name] = seconds
                LOG.warning("%s has made no progress for %.0f s: %s", activity.name, seconds, what)


def named(nodes: Iterable[str]) -> str:
    """Return nodes as a log line names them: the first few, and how many more."""
    names = sorted(nodes)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "no node") + more
