# SPDX-License-Identifier: Apache-2.0
"""The one transaction of a batch: nodes first, then receipts and ledger rows, the outbox last.

The order is the contract: a stale writer waits on the nodes' rows and then fails whole; outbox ids follow the
commit order of each node; two workers take rows in the same order and cannot deadlock.
"""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from tracker_worker.core.records import NO_ROW, Receipt, Transaction
from tracker_worker.db import dead_letters, outbox, receipts, store
from tracker_worker.db.connection import LazyConnection
from tracker_worker.db.store import StaleNode
from tracker_worker.domain.node import Node


class UnitOfWork:
    """A lane's way to the database: one connection, opened when needed, dropped on any error.

    Belongs to the thread of its lane. Raises oslo.db's exceptions, and StaleNode.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._connection = LazyConnection(engine)
        # Reads need no transaction, which would cost a server two round trips more than the statement.
        self._reads = LazyConnection(engine.execution_options(isolation_level="AUTOCOMMIT"))

    def known(self, event_ids: Iterable[str]) -> dict[str, Receipt]:
        """Return the receipts that exist for these events."""
        with self._reads.transaction() as connection:
            return receipts.find(connection, event_ids)

    def load(self, names: Iterable[str]) -> dict[str, Node]:
        """Return the nodes of these names, untracked ones included."""
        with self._reads.transaction() as connection:
            return store.load(connection, names)

    def show(self, names: Iterable[str]) -> dict[str, Node]:
        """Return the nodes of these names as far as they are shown."""
        with self._reads.transaction() as connection:
            return store.load_ledgers(connection, names)

    def names(self) -> list[str]:
        """Return the names of all tracked nodes."""
        with self._reads.transaction() as connection:
            return store.names(connection)

    def uuid_owners(self, uuids: Iterable[str]) -> dict[str, str]:
        """Return the names of the tracked nodes that have these uuids."""
        with self._reads.transaction() as connection:
            return store.uuid_owners(connection, uuids)

    def attempts(self, event_ids: Iterable[str]) -> dict[str, int]:
        """Return how often each of these events was under way before, where it was."""
        with self._reads.transaction() as connection:
            return receipts.attempts(connection, event_ids)

    def count_attempts(self, counts: Mapping[str, int]) -> None:
        """Commit how often each of these events was under way, this time included, before they run."""
        with self._connection.transaction() as connection:
            receipts.count_attempts(connection, counts)

    def give_back_attempts(self, event_ids: Iterable[str], least: int, most: int, before: int) -> None:
        """Commit that the last attempts of these events do not count: they did not run."""
        with self._connection.transaction() as connection:
            receipts.give_back_attempts(connection, event_ids, least, most, before)

    def forget_attempts(self, event_ids: Iterable[str]) -> None:
        """Commit that these events were never under way."""
        with self._connection.transaction() as connection:
            receipts.forget_attempts(connection, event_ids)

    def commit(self, transaction: Transaction) -> None:
        """Commit a batch, all or nothing. Raises StaleNode when another writer was here."""
        with self._connection.transaction() as connection:
            store.swap(connection, transaction.nodes)
            if transaction.receipts:
                receipts.add(connection, transaction.receipts)
                dead_letters.settle(connection, transaction.receipts)
            store.save(connection, transaction.nodes)
            if transaction.settled_attempts:
                receipts.forget_attempts(connection, transaction.settled_attempts)
            if transaction.dead_letters:
                dead_letters.add(connection, transaction.dead_letters)
            if transaction.unchanged:
                found = store.tokens(connection, transaction.unchanged)
                if any(found.get(name, NO_ROW) != seen for name, seen in transaction.unchanged.items()):
                    raise StaleNode(", ".join(transaction.unchanged))
            if transaction.notifications:
                outbox.add(connection, transaction.notifications)

    def ping(self) -> None:
        """Raise unless the database answers."""
        with self._reads.transaction() as connection:
            connection.execute(sa.text("SELECT 1"))

    def discard(self) -> None:
        """Close the connections for good."""
        self._connection.discard()
        self._reads.discard()

    def close(self) -> None:
        """Give the connections back."""
        self._connection.close()
        self._reads.close()
