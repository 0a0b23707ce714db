# SPDX-License-Identifier: Apache-2.0
"""A connection for one thread: opened at the first transaction, released after an error."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from tracker_worker.db.errors import is_data_error
from tracker_worker.db.store import StaleNode


class LazyConnection:
    """A connection of one thread, opened at its first transaction. Raises what the engine raises."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Run the block in a transaction: commit at its end, roll back on any error.

        After a data error or StaleNode the connection returns to the pool. After any other error it is
        closed, and the next transaction opens a new one.
        """
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except Exception as error:
            if isinstance(error, StaleNode) or is_data_error(error):
                self.close()
            else:
                self.discard()
            raise

    def discard(self) -> None:
        """Close the connection instead of returning it to the pool: its state is unknown."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def close(self) -> None:
        """Return the connection to the pool."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
