# SPDX-License-Identifier: Apache-2.0
"""What a lane retries, and when that ends; `db.back_off` has the pauses."""

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tenacity import RetryCallState
from tenacity.stop import stop_base, stop_never

from tracker_worker.core.error_text import error_text
from tracker_worker.db.back_off import Attempts, attempts_with_back_off, result_of
from tracker_worker.db.errors import (
    DATABASE_ERRORS,
    is_connection_lost,
    is_data_error,
    is_duplicate,
    is_statement_timeout,
)
from tracker_worker.db.store import StaleNode
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.worker.activity import Activity
from tracker_worker.worker.node_cache import NodeCache
from tracker_worker.worker.settings import LaneSettings

T = TypeVar("T")

LOG = logging.getLogger(__name__)


def is_server_error(error: BaseException) -> bool:
    """Tell whether an error is the database's and says nothing about the data."""
    return isinstance(error, DATABASE_ERRORS) and not is_data_error(error)


class Retries:
    """Belongs to the lane's thread. `abandoned` ends every retry with the error that it met last.

    `monotonic` is a clock in seconds that is never set back. `failed_at` is when the database failed last.
    """

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        nodes: NodeCache,
        settings: LaneSettings,
        abandoned: threading.Event,
        activity: Activity,
        monotonic: Callable[[], float],
    ) -> None:
        self.failed_at = -math.inf
        self._monotonic = monotonic
        self._unit_of_work = unit_of_work
        self._nodes = nodes
        self._settings = settings
        self._abandoned = abandoned
        self._activity = activity

    @property
    def abandoned(self) -> bool:
        """Whether the lane has been abandoned."""
        return self._abandoned.is_set()

    def persist(self, action: Callable[[], T]) -> T:
        """Run an action on the database and retry every error of the database: none is an event's fault."""
        return result_of(self._attempts(lambda error: isinstance(error, DATABASE_ERRORS), stop_never), action)

    def attempts_to_commit(self, events: int) -> Attempts:
        """Return the attempts to commit some events: server errors are tried again.

        Ends with the error when it is repeated although the database answers (RepeatedErrors).
        """
        repeated = RepeatedErrors(self._unit_of_work, self._settings.max_attempts, events)
        return self._attempts(is_server_error, repeated)

    def attempts_to_park(self) -> Attempts:
        """Return the attempts to commit a parked event: server errors are tried again for ever."""
        return self._attempts(is_server_error, stop_never)

    def _attempts(self, passes: Callable[[BaseException], bool], repeated: stop_base) -> Attempts:
        return attempts_with_back_off(
            passes,
            self._abandoned,
            initial=self._settings.retry_initial,
            most=self._settings.retry_max,
            before_sleep=self._prepare_retry,
            stop=repeated,
        )

    def _prepare_retry(self, retry_state: RetryCallState) -> None:
        """Give all connections up: what broke one has broken the others, each of which would cost a pause.

        And all cached nodes, unless it was another writer's commit: a database that was lost may come back
        without its last commits.
        """
        error = retry_state.outcome.exception() if retry_state.outcome else None
        with suppress(Exception):  # What a handler of the log raises would count as an error of the event.
            LOG.warning("Transaction is tried again (%d): %s", retry_state.attempt_number, error_text(error))
        self._activity.retrying(retry_state.attempt_number, error_text(error))
        if isinstance(error, StaleNode):
            self._unit_of_work.close()
        else:
            self.failed_at = self._monotonic()
            self._unit_of_work.discard()
            self._nodes.clear()


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
