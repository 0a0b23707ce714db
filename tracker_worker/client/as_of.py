# SPDX-License-Identifier: Apache-2.0
"""Numbers a client's events, and returns the sequence up to which the client's database is complete.

An audit contains what the database held when it was read. Events that were cast since, or were cast and not
yet saved, are missing from it. The worker does not correct these: their sequences are above the `as_of`.

To cast an event a client takes a guard, then the event's sequence, and releases the guard once the event is
cast and its change is saved. A snapshot takes a sequence of its own first, then reads the guards. For each
event one of three holds: its sequence is above the snapshot's; or the snapshot reads its guard, whose floor
is below its sequence; or it is cast and saved. The only operations are counting, adding to a set and copying
the set; each is atomic for all threads.
"""

import itertools
import logging
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

LOG = logging.getLogger(__name__)

FORGOTTEN_SECONDS = 600
"""Seconds after which a guard expires that is not used as a context manager."""


class SnapshotGuard:
    """Keeps snapshots below every event that any thread casts while the guard lasts.

    As a context manager it lasts until the block ends. Otherwise it lasts until `release`, at most for ten
    minutes.
    """

    def __init__(self, what: str, floor: int, deadline: float, holds: "set[SnapshotGuard]") -> None:
        self.what = what
        self.floor = floor
        self.deadline = deadline
        self._holds = holds
        holds.add(self)

    def release(self) -> None:
        """Release the guard. A second call does nothing."""
        self._holds.discard(self)

    def __enter__(self) -> Self:
        self.deadline = math.inf
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class EventClock:
    """The sequences of one source's events, and their guards. Any thread.

    `source` is the id of the client process; `clock` is in seconds and never set back.
    """

    def __init__(self, source: str, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._numbers = itertools.count(1)
        self._holds: set[SnapshotGuard] = set()

    def origin(self) -> dict[str, Any]:
        """Return the origin of a new event. Call it while a guard lasts."""
        return {"source": self._source, "sequence": next(self._numbers)}

    def hold(self, what: str) -> SnapshotGuard:
        """Return a guard that lasts from now on; `what` names it in the log if it expires."""
        return SnapshotGuard(what, next(self._numbers), self._clock() + FORGOTTEN_SECONDS, self._holds)

    def snapshot(self) -> int:
        """Return the highest sequence up to which every event is cast and saved. It never decreases."""
        latest = next(self._numbers)
        now = self._clock()
        for hold in self._holds.copy():
            if hold.deadline > now:
                latest = min(latest, hold.floor)
            else:
                hold.release()
                LOG.warning(
                    "%s was neither used in a with block nor closed for %d s: audits no longer wait for it",
                    hold.what,
                    FORGOTTEN_SECONDS,
                )
        return latest
