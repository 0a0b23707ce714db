# SPDX-License-Identifier: Apache-2.0
"""When to give a batch up: its errors repeat although the database answers meanwhile."""

from tenacity import RetryCallState
from tenacity.stop import stop_base

from tracker_worker.db.errors import (
    DATABASE_ERRORS,
    is_connection_lost,
    is_duplicate,
    is_statement_timeout,
)
from tracker_worker.db.unit_of_work import UnitOfWork


class RepeatedErrors(stop_base):
    """Counts errors that repeat although the database answers meanwhile, and stops at `most` of a kind.

    Connections that are lost, and rows that exist although everything was read again, speak against an event.
    Statements that take too long speak against the size of a batch: one event alone is waited for.
    """

    def __init__(self, unit_of_work: UnitOfWork, most: int, events: int) -> None:
        self._unit_of_work = unit_of_work
        self._most = most
        self._alone = events == 1
        self._lost = 0
        self._slow = 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Count the error of an attempt; tell whether it was one too many."""
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if is_connection_lost(error):
            self._lost += self._answers()
        elif is_statement_timeout(error) and not self._alone:
            self._slow += self._answers()
        elif error is not None and is_duplicate(error):
            self._lost += 1
        return max(self._lost, self._slow) >= self._most

    def _answers(self) -> bool:
        try:
            self._unit_of_work.ping()
        except DATABASE_ERRORS:
            return False
        return True
