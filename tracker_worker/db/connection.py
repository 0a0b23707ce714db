# SPDX-License-Identifier: Apache-2.0
"""One connection for one thread, opened when it is needed and given up on any error."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa


class LazyConnection:
    """A thread's way to the database. Raises what the engine raises."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Run the block in a transaction: committed at its end, rolled back on any error."""
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except Exception:
            # What state the connection is in is not known, and the pool looks before it lends it again.
            self.close()
            raise

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
