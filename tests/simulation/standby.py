# SPDX-License-Identifier: Apache-2.0
"""A standby of the database that lags behind: a failover to it loses the commits after its restore point.

Later events then reuse the lost sequences of nodes and ids of the outbox.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.simulation.checker import Checker, RestorePoint


class Standby:
    """A copy of a database file, with the checker's restore point of that moment."""

    def __init__(self, file: Path, checker: Checker) -> None:
        self._file = file
        self.point: RestorePoint = checker.restore_point()
        self._copy = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(file)) as primary:
            primary.backup(self._copy)

    def promote(self) -> None:
        """Replace the file by the copy. No transaction may be open."""
        with closing(sqlite3.connect(self._file)) as primary:
            self._copy.backup(primary)

    def close(self) -> None:
        self._copy.close()
