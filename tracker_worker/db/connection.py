# SPDX-License-Identifier: Apache-2.0
"""One connection for one thread, opened when it is needed and given up on any error."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from tracker_worker.db.errors import is_data_error
from tracker_worker.db.store import StaleNode


class LazyConnection:
    """A thread's way to the database. Raises what the engine raises."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Run the block in a transaction: committed at its end, rolled back on any error.

        An error that is the server's trouble costs the connection: the next transaction gets a new one.
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
        """Close the connection for good: in which state it, or a pooler behind it, is, is not known."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
