# SPDX-License-Identifier: Apache-2.0
"""What a lane is doing: the progress that the watchdog and the health checks read, and what events took."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct

from tracker_worker.core.decode import Event
from tracker_worker.core.event_counts import EventCounts
from tracker_worker.core.stats import LaneStats
from tracker_worker.worker.event_log import extra_of

LOG = logging.getLogger(__name__)

_MOST_NAMES = 3


class Progress(Struct, frozen=True):
    """What a busy lane is doing.

    `uncommitted`: seconds without a commit; `silent`: seconds in the same step, which is a statement, a
    decision or a pause between retries; `thread`: the identifier of its thread.
    """

    uncommitted: float
    silent: float
    text: str
    thread: int


class Activity:
    """What one lane is working on, since when, and at which step. Written by the lane, read by any thread.

    `monotonic` is a clock in seconds that is never set back. An event that takes more than `slow` seconds
    from its receipt to its answer is logged.
    """

    def __init__(
        self, name: str, monotonic: Callable[[], float], stats: LaneStats, slow: float = float("inf")
    ) -> None:
        self.name = name
        self.committed_at: float | None = None
        """When the lane has committed last; None before its first commit."""
        self._monotonic = monotonic
        self._stats = stats
        self._slow = slow
        self._taken_at = 0.0
        self._current: tuple[float, str, int] | None = None
        self._step = (0.0, "")

    @property
    def step(self) -> str:
        """The statement or the pause that the lane is in. May be set at any time."""
        return self._step[1]

    @step.setter
    def step(self, step: str) -> None:
        self._step = (self._monotonic(), step)

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Work on something until the block ends."""
        self._taken_at = self._monotonic()
        self._step = (self._taken_at, "")
        self._current = (self._taken_at, what, threading.get_ident())
        try:
            yield
        finally:
            self._current = None

    def progressed(self) -> None:
        """Note that a part of the work is committed: a long piece of work is not a stall."""
        self.committed_at = self._monotonic()
        current = self._current
        if current is not None:
            self._current = (self.committed_at, *current[1:])

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Measure the block, which commits a transaction. A failed one is not counted."""
        started = self._monotonic()
        yield
        self._stats.commit.observe(self._monotonic() - started)

    def retrying(self, number: int, reason: str) -> None:
        """Note that a transaction is tried again after a pause."""
        self._stats.retries += 1
        self.step = f"pause before retry {number}, after {reason}"

    def answered(self, events: Sequence[Event], counts: EventCounts) -> None:
        """Note that events are committed and answered: count them, and log if they were slow."""
        self.progressed()
        now = self._monotonic()
        run = now - self._taken_at
        for event in events:
            self._stats.wait.observe(self._taken_at - event.delivery.received_at)
        self._stats.run.observe(run, len(events))
        self._stats.batch.observe(len(events))
        self._stats.counts.add(counts)
        first = min(events, key=lambda event: event.delivery.received_at)
        if now - first.delivery.received_at > self._slow:
            wait = self._taken_at - first.delivery.received_at
            LOG.warning(
                "Event %s (%s) of node %s was slow: it waited %.3f s and ran %.3f s, in a batch of %d",
                first.event_id, first.method or "unknown", first.node or "unknown", wait, run, len(events),
                extra=extra_of(first),
            )  # fmt: skip

    def progress(self) -> Progress | None:
        """Return what the lane is doing; None for an idle lane."""
        current = self._current
        if current is None:
            return None
        since, what, thread = current
        step_since, step = self._step
        now = self._monotonic()
        return Progress(now - since, now - step_since, f"{what}, at: {step or 'its beginning'}", thread)


def named(nodes: Iterable[str]) -> str:
    """Return nodes as a log line names them: the first few, and how many more."""
    names = sorted(nodes)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "no node") + more
