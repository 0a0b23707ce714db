# SPDX-License-Identifier: Apache-2.0
"""The relay: publishes the outbox in id order and forgets a notification once the bus has it."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa
from msgspec import Struct
from oslo_messaging.exceptions import MessagingException
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_exponential_jitter,
)
from tenacity.nap import sleep_using_event

from tracker_worker.bus.publisher import Publisher
from tracker_worker.db import outbox
from tracker_worker.worker.lane import TRANSIENT
from tracker_worker.worker.threads import worker_thread

LOG = logging.getLogger(__name__)

T = TypeVar("T")


class RelaySettings(Struct, frozen=True):
    """Rows that may be published and not yet removed; seconds between looks when no lane of this process
    called.
    """

    window: int = 200
    poll_interval: float = 1.0
    retry_max: float = 5.0


class Relay:
    """Owns one thread and one connection. A crash repeats at most a window of rows, and skips none.

    Rows are removed a window at a time, or when there is nothing to publish: a lane's commit should not
    have to wait for a delete after each of its batches. `published` counts what the bus has taken,
    repetitions included.
    """

    def __init__(
        self,
        engine: sa.Engine,
        publisher: Publisher,
        settings: RelaySettings,
        failed: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._publisher = publisher
        self._settings = settings
        self._connection: sa.Connection | None = None
        self._unremoved: list[int] = []
        self._work = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._thread = worker_thread("relay", self._run, failed)
        self.published = 0

    def start(self) -> None:
        """Start the thread; it begins with what an earlier process left."""
        self._work.set()
        self._thread.start()

    def notify(self) -> None:
        """Tell that a lane has committed. Any thread."""
        self._work.set()

    def drain(self, timeout: float) -> bool:
        """Publish what is committed within `timeout` seconds; tells whether all was published."""
        self._closing.set()
        self._work.set()
        self._thread.join(timeout)
        drained = not self._thread.is_alive()
        self._abandon.set()
        return drained

    def publish_window(self) -> bool:
        """Publish what is waiting, at most a window; False when nothing was."""
        if len(self._unremoved) >= self._settings.window:
            self.remove_published()
        size = self._settings.window - len(self._unremoved)
        with self._transaction() as connection:
            rows = outbox.window(connection, self._unremoved, size)
        if not rows:
            return False
        self._publisher.publish(rows)
        self.published += len(rows)
        self._unremoved += [row.id for row in rows]
        return True

    def remove_published(self) -> None:
        """Remove the rows that the bus has taken."""
        if self._unremoved:
            with self._transaction() as connection:
                outbox.remove(connection, self._unremoved)
            self._unremoved = []

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        if self._connection is None:
            self._connection = self._engine.connect()
        try:
            with self._connection.begin():
                yield self._connection
        except Exception:
            self._close()
            raise

    def _close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _run(self) -> None:
        while not self._abandon.is_set():
            called = self._work.wait(self._settings.poll_interval)
            self._work.clear()
            closing = self._closing.is_set()
            while not self._abandon.is_set() and self._until_it_works(self.publish_window):
                pass
            if closing or not called:
                self._until_it_works(self.remove_published)
            if closing:
                break
        self._close()

    def _until_it_works(self, action: Callable[[], T]) -> T | None:
        """Broker or database away: try again until they are back, notifications wait in the outbox."""
        retrying = Retrying(
            retry=retry_if_exception_type((*TRANSIENT, MessagingException, OSError)),
            wait=wait_exponential_jitter(multiplier=0.05, max=self._settings.retry_max, jitter=0.05),
            stop=stop_when_event_set(self._abandon),
            sleep=sleep_using_event(self._abandon),
            before_sleep=_log_retry,
            retry_error_callback=lambda _: None,
        )
        return retrying(action)


def _log_retry(retry_state: RetryCallState) -> None:
    error = retry_state.outcome and retry_state.outcome.exception()
    LOG.warning("Notifications wait (%d): %s", retry_state.attempt_number, type(error).__name__)
