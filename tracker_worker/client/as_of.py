# SPDX-License-Identifier: Apache-2.0
"""Numbers a client's events, and tells up to which of them its database can be trusted.

An audit says what was in the database when it was read. What was cast since, or was cast but not yet
saved, is not in it, and the worker must leave it alone: that is everything above the audit's `as_of`.

Whoever casts an event holds snapshots back first, takes the event's number then, and lets go once the event
is cast and its change is saved. A snapshot takes a number of its own and looks at the holds after that. So
for each event its number is above the snapshot's; or its hold was there to be seen, and lies below the
event's number; or the event is done. All that takes is to count, to add to a set and to copy it, each of
which is one step for all threads.
"""

import itertools
import logging
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

LOG = logging.getLogger(__name__)

FORGOTTEN_SECONDS = 600
"""How long a hold lasts that nobody uses as a context."""


class SnapshotGuard:
    """Keeps snapshots below every event that is cast while it lasts, by whichever thread.

    As a context it lasts until the block ends. One that is never entered lasts until `release`, for at most
    ten minutes.
    """

    def __init__(self, what: str, floor: int, deadline: float, holds: "set[SnapshotGuard]") -> None:
        self.what = what
        self.floor = floor
        self.deadline = deadline
        self._holds = holds
        holds.add(self)

    def release(self) -> None:
        """Let go. Once more does nothing."""
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
    """The numbers of one source's events, and the holds on them. Any thread.

    `source` is the id of the client process; `clock` gives seconds that never go back.
    """

    def __init__(self, source: str, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._numbers = itertools.count(1)
        self._holds: set[SnapshotGuard] = set()

    def origin(self) -> dict[str, Any]:
        """Return the origin of a new event, to be asked for while a hold lasts."""
        return {"source": self._source, "sequence": next(self._numbers)}

    def hold(self, what: str) -> SnapshotGuard:
        """Hold snapshots back from now on; `what` is for the log when it is forgotten."""
        return SnapshotGuard(what, next(self._numbers), self._clock() + FORGOTTEN_SECONDS, self._holds)

    def snapshot(self) -> int:
        """Return the highest number up to which every event is cast and saved. It never falls."""
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
