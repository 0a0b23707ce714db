# SPDX-License-Identifier: Apache-2.0
"""The purge: forgets old receipts in small deletes, on a thread of its own, never in a lane's way.

Age is counted back from the newest receipt of the same node, not from now: a worker that was down for a month
still knows every event that may come again.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

import sqlalchemy as sa

from tracker_worker.db import receipts
from tracker_worker.db.errors import DATABASE_ERRORS, reason_of
from tracker_worker.worker.threads import worker_thread

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 3600.0
ROWS_AT_ONCE = 500


class Purge:
    """Owns one thread, which wakes once an hour."""

    def __init__(self, engine: sa.Engine, receipt_days: int, failed: Callable[[], None]) -> None:
        self._engine = engine
        self._age = timedelta(days=receipt_days)
        self._stop = threading.Event()
        self._thread = worker_thread("purge", self._run, failed)

    def start(self) -> None:
        """Start the thread; the first purge is an interval away, so that a start is never slowed by it."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end after the delete that is under way. Nobody has to wait for it."""
        self._stop.set()

    def run_once(self) -> int:
        """Delete what is too old, each transaction at most ROWS_AT_ONCE rows; return how many rows."""
        with self._engine.connect() as connection:
            with connection.begin():
                newest = receipts.newest_by_node(connection)
            deleted = 0
            for node, moment in newest.items():
                while not self._stop.is_set():
                    with connection.begin():
                        old = receipts.older(connection, node, moment - self._age, ROWS_AT_ONCE)
                    if old:
                        with connection.begin():
                            receipts.remove(connection, old)
                    deleted += len(old)
                    if len(old) < ROWS_AT_ONCE:
                        break
        return deleted

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            try:
                self.run_once()
            except DATABASE_ERRORS as error:
                LOG.warning("Old receipts stay until the next purge: %s", reason_of(error))
