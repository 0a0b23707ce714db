# SPDX-License-Identifier: Apache-2.0
"""The names of the nodes that are due, among which a worker finds those of its partitions.

The database does not know partitions. Names are read in the order in which they became due, as many at once
as it takes to come past those of other workers.
"""

from collections import deque
from collections.abc import Callable

import sqlalchemy as sa

from tracker_worker.db import providers

FEWEST = 16
"""Names read at once, at first: with a low limit PostgreSQL looks them up in the index, whatever it knows."""


class DueNodes:
    """Names that were read and not taken yet, at most `seconds` old. Belongs to the thread of the sync."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._names: deque[str] = deque()
        self._read_at = 0.0
        self._most = FEWEST

    def read(self, connection: sa.Connection, now: float) -> None:
        """Read the names, if all were taken or they are old. `now` is in seconds and never set back."""
        if self._names and now < self._read_at + self._seconds:
            return
        found = providers.due_nodes(connection, self._most)
        # There may be more, and none of these may be ours.
        self._most = max(FEWEST, 2 * len(found))
        self._names = deque(found)
        self._read_at = now

    def take(self, count: int, is_wanted: Callable[[str], bool]) -> list[str]:
        """Take at most so many names that are wanted; forget the others before them."""
        taken: list[str] = []
        while self._names and len(taken) < count:
            name = self._names.popleft()
            if is_wanted(name):
                taken.append(name)
        return taken
