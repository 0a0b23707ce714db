# SPDX-License-Identifier: Apache-2.0
"""A standby of the database that lags behind: a failover to it loses the commits after its restore point.

Sequences of nodes and ids of the outbox are then given out a second time, for other events.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.simulation.checker import Checker, RestorePoint


class Standby:
    """A copy of a database file, and what the checker knew when it was taken."""

    def __init__(self, file: Path, checker: Checker) -> None:
        self._file = file
        self.point: RestorePoint = checker.restore_point()
        self._copy = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(file)) as primary:
            primary.backup(self._copy)

    def promote(self) -> None:
        """Make the file what the copy is. No transaction may be open."""
        with closing(sqlite3.connect(self._file)) as primary:
            self._copy.backup(primary)

    def close(self) -> None:
        self._copy.close()
