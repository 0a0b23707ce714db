# SPDX-License-Identifier: Apache-2.0
"""Asks the database every few seconds, for the health checks and metrics: whether it answers, its schema, its
outbox, and the nodes to sync with Placement. Whoever reads the state never waits for the database.
"""

from collections.abc import Callable

import sqlalchemy as sa
from msgspec.structs import replace

from tracker_worker.core.error_text import error_text
from tracker_worker.db import outbox, providers, revisions
from tracker_worker.db.connection import LazyConnection
from tracker_worker.db.errors import READ_ERRORS
from tracker_worker.worker.health import DatabaseState
from tracker_worker.worker.loop import Loop

INTERVAL_SECONDS = 5.0


class DatabaseProbe:
    """Owns one thread and one connection. `monotonic` is a clock in seconds that is never set back."""

    def __init__(self, engine: sa.Engine, monotonic: Callable[[], float], failed: Callable[[], None]) -> None:
        self._database = LazyConnection(engine.execution_options(isolation_level="AUTOCOMMIT"))
        self._monotonic = monotonic
        self._loop = Loop("health", lambda _woken: self.ask(), INTERVAL_SECONDS, failed, self.close)
        self.state = DatabaseState()
        """What the database has last answered. Any thread may read it."""

    def start(self) -> None:
        """Start the thread, which asks at once."""
        self._loop.wake()
        self._loop.start()

    def stop(self) -> None:
        """Have the thread end. The caller need not wait for it."""
        self._loop.stop()

    def close(self) -> None:
        """Close the connection. On the thread, or where there is none."""
        self._database.close()

    def ask(self) -> None:
        """Ask the database, and replace the state. After an error only that is replaced."""
        try:
            with self._database.transaction() as connection:
                revision = revisions.current(connection)
                backlog = outbox.backlog(connection)
                unsynced = providers.unsynced(connection)
        except READ_ERRORS as error:
            self.state = replace(self.state, error=error_text(error))
            return
        self.state = DatabaseState(
            at=self._monotonic(),
            revision=revision,
            outbox=backlog.rows,
            oldest=backlog.oldest,
            unsynced=unsynced.nodes,
            unsynced_since=unsynced.oldest,
        )
