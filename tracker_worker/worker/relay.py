# SPDX-License-Identifier: Apache-2.0
"""The relay: publishes the outbox in id order and deletes each row once the broker has confirmed it.

One relay at a time publishes for a database: the one that holds the lease. A relay that lost its lease
without noticing, because its process was stopped, may repeat notifications; it cannot skip one or publish one
for the first time out of order.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from msgspec.structs import replace
from oslo_messaging.exceptions import MessagingException
from tenacity import RetryCallState

from tracker_worker.bus.publisher import NotificationRefused, Publisher
from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS
from tracker_worker.bus.rabbit.queues import TopologyMismatch
from tracker_worker.core.error_text import error_text
from tracker_worker.core.notification_body import MAX_BODY_BYTES, Header, encode_refused
from tracker_worker.core.records import OutboxRow
from tracker_worker.core.stats import Stats
from tracker_worker.db import leases, outbox
from tracker_worker.db.back_off import attempts_with_back_off, result_of
from tracker_worker.db.connection import LazyConnection
from tracker_worker.db.errors import DATABASE_ERRORS
from tracker_worker.worker.lease import Lease
from tracker_worker.worker.loop import Loop
from tracker_worker.worker.settings import RelaySettings

LOG = logging.getLogger(__name__)

T = TypeVar("T")


class NotConfirmed(Exception):
    """The broker did not confirm all notifications of a window: the rest is published again."""


RETRIED = (
    *DATABASE_ERRORS, *CONNECTION_ERRORS, MessagingException, TopologyMismatch, NotConfirmed,
    NotificationRefused,
)  # fmt: skip
"""The relay retries whatever the database and the broker answer: if it ended, the process would end, and the
next process would meet the same row."""

WINDOW_BYTES = 8 * 1024 * 1024
"""Most bytes of bodies in a window: it bounds the memory of the relay, and what is in flight unconfirmed."""
RETRY_INITIAL = 0.05
COALESCE_SECONDS = 0.03
"""How long the relay waits for further commits before it reads a window. Sequential calls are a fifth faster
for it, because the relay does not run at the same time as the answer."""


class Relay:
    """Owns one thread and one connection. A crash repeats at most a window of rows, and skips none.

    Rows are deleted half a window or more at a time, by the transaction that reads the next ones, or when
    there is nothing to publish, so that a lone command does not wait for a delete. When the connection to the
    database is lost the relay forgets which rows it has published, and repeats at most a window: the next
    connection may reach a server that lost the last commits and assigns their row ids again.

    A row that the broker refuses is replaced by a `compute_node.event.error`, so that it does not block the
    rows behind it.

    `owner` is an id that no other relay has; `clock` is UTC, `monotonic` is in seconds and never set back.
    """

    def __init__(
        self,
        engine: sa.Engine,
        publisher: Publisher,
        settings: RelaySettings,
        owner: str,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        failed: Callable[[], None],
        stats: Stats,
    ) -> None:
        self._database = LazyConnection(engine)
        self._publisher = publisher
        self._settings = settings
        self._clock = clock
        self._lease = Lease(leases.RELAY, owner, settings.lease_seconds, self._transaction, monotonic)
        self._unremoved: dict[int, str] = {}
        self._substitute: bytes | None = None
        self._nothing_left = False
        self._committed = threading.Event()
        self._abandoned = threading.Event()
        self.loop = Loop("relay", self._step, settings.poll_interval, failed, self._finish)
        self._stats = stats

    def start(self) -> None:
        """Start the thread; it first publishes what an earlier process left in the outbox."""
        self.loop.wake()
        self.loop.start()

    def notify(self) -> None:
        """Wake the relay after a commit. Any thread."""
        self._committed.set()
        self.loop.wake()

    def drain(self, timeout: float) -> bool:
        """Publish what is committed within `timeout` seconds; tells whether all was published.

        It is where the last look at the outbox left nothing to publish and nothing was committed since, also
        if the database has gone away then.
        """
        self.loop.stop()
        self.loop.join(timeout)
        self._abandoned.set()
        # In this order: a look that begins meanwhile says that something is left before it clears the event.
        return not self._committed.is_set() and self._nothing_left

    def publish_window(self) -> bool:
        """Publish at most a window of the outbox; False if it is empty, or another relay holds the lease.

        Raises NotConfirmed if the broker confirmed only a part of the window.
        """
        if self._committed.is_set():
            self._nothing_left = False
            self._committed.clear()  # Before the look at what was committed.
        if not self._owns_lease():
            self._nothing_left = True
            return False
        with self._transaction() as connection:
            if 2 * len(self._unremoved) >= self._settings.window:
                self._remove(connection)
            most = self._settings.window - len(self._unremoved)
            rows = outbox.window(connection, self._unremoved.values(), most, WINDOW_BYTES)
        self._nothing_left = not rows
        if rows:
            self._publish(rows)
            # Less than a window is all that there was.
            size = sum(len(row.body) for row in rows)
            self._nothing_left = len(rows) < most and size + MAX_BODY_BYTES <= WINDOW_BYTES
        return bool(rows)

    def remove_published(self) -> None:
        """Delete the rows that the broker has confirmed."""
        if self._unremoved:
            with self._transaction() as connection:
                self._remove(connection)

    def _remove(self, connection: sa.Connection) -> None:
        outbox.remove(connection, self._unremoved)
        self._unremoved.clear()

    def _publish(self, rows: Sequence[OutboxRow]) -> None:
        """Publish rows. If the broker refuses one, split them until that one is alone, and replace it."""
        try:
            self._send(rows)
            return
        except NotificationRefused as refusal:
            if len(rows) == 1 and rows[0].body == self._substitute:
                raise
            reason = str(refusal)
        if len(rows) > 1:
            middle = len(rows) // 2
            self._publish(rows[:middle])
            self._publish(rows[middle:])
        else:
            self._send([self._replace(rows[0], reason)])

    def _send(self, rows: Sequence[OutboxRow]) -> None:
        confirmed = self._publisher.publish(rows)
        self._stats.published_notifications += confirmed
        self._unremoved |= {row.id: row.message_id for row in rows[:confirmed]}
        if confirmed < len(rows):
            raise NotConfirmed(f"{confirmed} of {len(rows)} notifications were confirmed")

    def _replace(self, row: OutboxRow, reason: str) -> OutboxRow:
        """Replace a row that the broker refuses by an error notification with the same message id."""
        header = Header(row.message_id, self._settings.publisher_id, self._clock())
        notification, body = encode_refused(header, row.event_type, row.node, row.body, reason)
        substitute = replace(
            row, event_type=notification.event_type, priority=notification.priority, body=body
        )
        with self._transaction() as connection:
            outbox.replace(connection, substitute)
        self._substitute = body
        self._stats.refused_notifications += 1
        LOG.error(
            "The bus refuses notification %s of node %s (%s, %d bytes), an error is sent in its place: %s",
            row.message_id, row.node, row.event_type, len(row.body), reason,
        )  # fmt: skip
        return substitute

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """Run the block in a transaction; forget which rows were published if it fails."""
        try:
            with self._database.transaction() as connection:
                yield connection
        except Exception:
            self._unremoved.clear()
            raise

    def _owns_lease(self) -> bool:
        """Tell whether this relay may publish; renews the lease before it runs out."""
        refused = self._lease.was_refused
        owned = self._lease.owned()
        if not owned and not refused:
            LOG.info("Another worker publishes the notifications of this database")
        return owned

    def _step(self, woken: bool) -> None:
        # Time for the answers of the commit that woke the relay, and for the next commits to join the window.
        self.loop.stopping.wait(COALESCE_SECONDS)
        self._publisher.keep_alive()
        self._publish_all()
        if not woken:
            self._until_it_works(self.remove_published)

    def _finish(self) -> None:
        """Publish what is left, then give back the lease and close the connections."""
        self._publish_all()
        self._until_it_works(self.remove_published)
        self._until_it_works(self._lease.release)
        self._publisher.close()
        self._database.close()

    def _publish_all(self) -> None:
        while not self._abandoned.is_set() and self._until_it_works(self.publish_window):
            if self._nothing_left and not self._committed.is_set():
                break

    def _until_it_works(self, action: Callable[[], T]) -> T | None:
        """Run an action and retry it while broker or database fail; notifications wait in the outbox.

        Return None once the relay is abandoned.
        """
        attempts = attempts_with_back_off(
            lambda error: isinstance(error, RETRIED),
            self._abandoned,
            initial=RETRY_INITIAL,
            most=self._settings.retry_max,
            before_sleep=_log_retry,
        )
        try:
            return result_of(attempts, action)
        except RETRIED:
            return None


def _log_retry(retry_state: RetryCallState) -> None:
    error = retry_state.outcome.exception() if retry_state.outcome else None
    LOG.warning("Notifications wait, attempt %d: %s", retry_state.attempt_number, error_text(error))
