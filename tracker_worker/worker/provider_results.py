# SPDX-License-Identifier: Apache-2.0
"""What became of syncs with Placement, written down: the nodes' rows, notifications, and lines of the log.

An error is notified once, however often it is met, and so is its end. An error that another one follows has
ended.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.core.notification_body import Header, encode_bounded
from tracker_worker.core.records import OutboxRow
from tracker_worker.db import outbox, providers
from tracker_worker.db.providers import SyncRecord
from tracker_worker.domain.node import Node
from tracker_worker.domain.notifications import Notification, sync_end_notification, sync_error_notification

LOG = logging.getLogger(__name__)

_FINE = "the providers are as they shall be"


class Publication(Struct, frozen=True):
    """What notifications need: a publisher id, the clock (UTC), and new ids. `enabled`: there are any.

    `committed` is called after each commit of notifications.
    """

    enabled: bool
    publisher_id: str
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    committed: Callable[[], None]


class _Result(Struct, frozen=True):
    """What an attempt to sync a node came to. Its notifications are made once: if the answer to a COMMIT is
    lost, the repetition has the same message ids.
    """

    node: Node
    record: SyncRecord
    rows: list[OutboxRow]


class ProviderResults:
    """The results that are not written down yet. Belongs to the thread of the sync.

    `transaction` yields a connection, on which all results are written down at once.
    """

    def __init__(
        self, transaction: Callable[[], AbstractContextManager[sa.Connection]], publication: Publication
    ) -> None:
        self._transaction = transaction
        self._publication = publication
        self._unwritten: list[_Result] = []

    def add(self, node: Node, record: SyncRecord) -> None:
        """Take what an attempt to sync a node came to."""
        rows = self._outbox_rows(node, record) if self._publication.enabled else []
        self._unwritten.append(_Result(node, record, rows))

    def keep(self, is_ours: Callable[[str], bool]) -> None:
        """Forget the results of nodes that are not ours: another process has begun them again."""
        self._unwritten = [each for each in self._unwritten if is_ours(each.node.name)]

    def write(self) -> None:
        """Write all results down in one transaction, and log them. They are kept if it fails.

        Raises errors of the database.
        """
        if not self._unwritten:
            return
        rows = [row for each in self._unwritten for row in each.rows]
        with self._transaction() as connection:
            providers.record(connection, [each.record for each in self._unwritten])
            if rows:
                outbox.add(connection, rows)
        if rows:
            self._publication.committed()
        for each in self._unwritten:
            _log(each.node, each.record)
        self._unwritten.clear()

    def _outbox_rows(self, node: Node, record: SyncRecord) -> list[OutboxRow]:
        publication, rows = self._publication, []
        for notification in _notifications(node, record):
            header = Header(publication.new_id(), publication.publisher_id, publication.clock())
            sent, body = encode_bounded(header, notification)
            rows.append(OutboxRow(node.name, sent.event_type, sent.priority, header.message_id, body))
        return rows


class _Change(Struct, frozen=True):
    """The codes of the error that an attempt has ended, and of the one that begins with it."""

    ended: str | None
    begun: str | None


def _change(record: SyncRecord) -> _Change:
    before, after = record.due.error_code, record.error_code
    return _Change(None, None) if before == after else _Change(before, after)


def _notifications(node: Node, record: SyncRecord) -> list[Notification]:
    change, found = _change(record), []
    if change.ended is not None:
        now = _FINE if change.begun is None else f"now it is {change.begun}"
        found.append(sync_end_notification(node, change.ended, now))
    if change.begun is not None:
        found.append(sync_error_notification(node, change.begun, record.error or change.begun))
    return found


def _log(node: Node, record: SyncRecord) -> None:
    change = _change(record)
    if change.begun is not None:
        LOG.warning("Node %s is not synced with Placement, %s: %s", node.name, change.begun, record.error)
    elif change.ended is not None:
        LOG.info("Node %s is synced with Placement again", node.name)
    if record.foreign_provider is not None and record.due.foreign_provider is None:
        text = "Somebody else changes provider %s of node %s: two writers undo each other's changes"
        LOG.warning(text, record.foreign_provider, node.name)
