# SPDX-License-Identifier: Apache-2.0
"""The single transaction of a batch: nodes first, then receipts and ledger rows, the outbox last.

The order is part of the contract. A stale writer waits for the locks of the nodes' rows, then its whole
transaction fails. Outbox ids follow the commit order of each node. Two workers lock rows in the same order
and cannot deadlock. PostgreSQL gets most lone commands as one statement, which has the same order.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa

from tracker_worker.core.quarantine import Attempts
from tracker_worker.core.records import NO_ROW, Receipt, Transaction
from tracker_worker.db import attempts, dead_letters, outbox, providers, receipts, store
from tracker_worker.db.bulk import Row
from tracker_worker.db.connection import LazyConnection
from tracker_worker.db.errors import DATABASE_ERRORS, is_duplicate
from tracker_worker.db.single_statement import Insert
from tracker_worker.db.store import AlreadyReceived, StaleNode
from tracker_worker.db.transaction_shapes import inserts_few_rows, marks_one_node
from tracker_worker.domain.node import Node
from tracker_worker.domain.report import Owner


class UnitOfWork:
    """The database access of a lane: a connection for transactions and one for statements alone,
    opened when needed.

    Only the thread of the lane may use it. Raises oslo.db's exceptions, and StaleNode.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._joins_statements = engine.dialect.name == "postgresql"
        self._connection = LazyConnection(engine)
        # A statement alone needs no transaction, which would take two more round trips to the server.
        self._alone = LazyConnection(engine.execution_options(isolation_level="AUTOCOMMIT"))

    def find_receipts(self, event_ids: Iterable[str]) -> dict[str, Receipt]:
        """Return the receipts that exist for these events."""
        with self._alone.transaction() as connection:
            return receipts.find(connection, event_ids)

    def load(self, names: Iterable[str]) -> dict[str, Node]:
        """Return the nodes of these names, untracked ones included."""
        with self._alone.transaction() as connection:
            return store.load(connection, names)

    def show(self, names: Iterable[str]) -> dict[str, Node]:
        """Return the nodes of these names without the last origins of their instances."""
        with self._alone.transaction() as connection:
            return store.load_ledgers(connection, names)

    def names(self) -> list[str]:
        """Return the names of all tracked nodes."""
        with self._alone.transaction() as connection:
            return store.names(connection)

    def uuid_owners(self, uuids: Iterable[str]) -> dict[str, Owner]:
        """Return the tracked nodes that have these uuids, by uuid."""
        with self._alone.transaction() as connection:
            return store.uuid_owners(connection, uuids)

    def attempts(self, event_ids: Iterable[str]) -> dict[str, Attempts]:
        """Return the recorded attempts by event; events without attempts are left out."""
        with self._alone.transaction() as connection:
            return attempts.find(connection, event_ids)

    def record_attempts(self, begun: Mapping[str, Attempts]) -> None:
        """Commit the attempts of events, including the attempt that begins now."""
        with self._connection.transaction() as connection:
            attempts.record(connection, begun)

    def take_back_attempts(self, event_ids: Iterable[str], begun: Attempts, before: Attempts) -> None:
        """Commit that the last attempt does not count, because the events did not run."""
        with self._connection.transaction() as connection:
            attempts.take_back(connection, event_ids, begun, before)

    def forget_attempts(self, event_ids: Iterable[str]) -> None:
        """Delete the attempts of these events and commit."""
        with self._connection.transaction() as connection:
            attempts.forget(connection, event_ids)

    def commit(self, transaction: Transaction) -> None:
        """Commit a batch in one transaction. Raises StaleNode if another writer has changed a node, and
        AlreadyReceived, or StaleNode for the mark of an audit, if the event that was not looked up has a
        receipt.

        A single statement is a transaction of its own: it takes one round trip to the server, without those
        of BEGIN and COMMIT.
        """
        if marks_one_node(transaction):
            with self._alone.transaction() as connection:
                _mark(connection, transaction)
            return
        unchecked, added = transaction.unchecked_id, transaction.receipts
        assert unchecked is None or unchecked in [each.event_id for each in added], "nothing would find it"
        if self._joins_statements and inserts_few_rows(transaction):
            with self._alone.transaction() as connection, _finding_receipt(transaction):
                store.swap_and_insert(connection, transaction.nodes[0], _inserts(transaction))
            return
        with self._connection.transaction() as connection:
            _write(connection, transaction)

    def ping(self) -> None:
        """Raise unless the database answers."""
        with self._alone.transaction() as connection:
            connection.execute(sa.text("SELECT 1"))

    def discard(self) -> None:
        """Close the connections instead of returning them to the pool."""
        self._connection.discard()
        self._alone.discard()

    def close(self) -> None:
        """Return the connections to the pool."""
        self._connection.close()
        self._alone.close()


def _mark(connection: sa.Connection, transaction: Transaction) -> None:
    if transaction.unchecked_id is None:
        store.swap(connection, transaction.nodes)
    else:
        store.swap_unless_received(connection, transaction.nodes[0], transaction.unchecked_id)


def _write(connection: sa.Connection, transaction: Transaction) -> None:
    store.swap(connection, transaction.nodes)
    if transaction.receipts:
        with _finding_receipt(transaction):
            receipts.add(connection, transaction.receipts)
        dead_letters.mark_replayed(connection, transaction.receipts)
    store.save(connection, transaction.nodes)
    if transaction.unsynced:
        providers.mark(connection, transaction.unsynced)
    if transaction.finished_attempts:
        attempts.forget(connection, transaction.finished_attempts)
    if transaction.dead_letters:
        dead_letters.add(connection, transaction.dead_letters)
    if transaction.unchanged:
        found = store.tokens(connection, transaction.unchanged)
        if any(found.get(name, NO_ROW) != seen for name, seen in transaction.unchanged.items()):
            raise StaleNode(", ".join(transaction.unchanged))
    if transaction.notifications:
        outbox.add(connection, transaction.notifications)


def _inserts(transaction: Transaction) -> list[tuple[Insert, Row]]:
    """Return the rows that a transaction inserts, in the order of the contract."""
    return [
        *map(receipts.insert_of, transaction.receipts),
        *(insert for change in transaction.nodes for insert in store.inserts_of(change)),
        *map(outbox.insert_of, transaction.notifications),
    ]


@contextmanager
def _finding_receipt(transaction: Transaction) -> Iterator[None]:
    """Raise AlreadyReceived at a duplicate, which may be the receipt, if that was not looked up."""
    try:
        yield
    except DATABASE_ERRORS as error:
        if transaction.unchecked_id is None or not is_duplicate(error):
            raise
        raise AlreadyReceived(transaction.unchecked_id) from error
