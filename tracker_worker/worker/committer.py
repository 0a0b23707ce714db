# SPDX-License-Identifier: Apache-2.0
"""The committer: commits each batch of a lane in one transaction.

It classifies errors, and nothing below it does: a data error splits the batch until the event that causes it
is alone, and that event is parked; every other error is the server's, and the transaction is retried.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from tracker_worker.core.batch import Batch, BatchContext, Snapshot
from tracker_worker.core.decode import Event, internal_error, read, read_unless_repeated
from tracker_worker.core.error_text import error_text
from tracker_worker.core.event_counts import counts_of
from tracker_worker.core.records import Receipt, Transaction
from tracker_worker.core.replies import WORKER_FAULTS
from tracker_worker.core.unread_audit import UnreadAudit
from tracker_worker.db.errors import DATABASE_ERRORS, is_data_error
from tracker_worker.db.store import AlreadyReceived, NodesBroken
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.commands import GetNode, UpdateAvailableResource
from tracker_worker.domain.decision import Decision
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.domain.node import Node
from tracker_worker.worker.activity import Activity, named
from tracker_worker.worker.answers import send_answer
from tracker_worker.worker.broken_nodes import BrokenNodes
from tracker_worker.worker.event_log import extra_of, log_dead_letters, log_decisions, log_settled
from tracker_worker.worker.node_cache import NodeCache
from tracker_worker.worker.retries import Retries

LOG = logging.getLogger(__name__)

_SELDOM_RECORDED = UpdateAvailableResource, GetNode
"""Commands that mostly leave no receipt: their commit would not run into an earlier one."""


class _Committed(NamedTuple):
    events: Sequence[Event]
    decisions: Sequence[tuple[Event, Decision]]
    transaction: Transaction


class Committer:
    """Belongs to the lane's thread. Calls `committed` after each commit of notifications."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        nodes: NodeCache,
        broken: BrokenNodes,
        context: BatchContext,
        retries: Retries,
        activity: Activity,
        committed: Callable[[], None],
    ) -> None:
        self._unit_of_work = unit_of_work
        self._nodes = nodes
        self._broken = broken
        self._context = context
        self._retries = retries
        self._activity = activity
        self._committed = committed

    def commit(self, events: Sequence[Event]) -> list[Event]:
        """Commit events in one transaction, or park or hold them; return the events that are held.

        A data error splits the batch until the event that causes it is alone, and parks that event. Events of
        a node whose ledger is broken are held. Raises the database's errors once the lane is abandoned.
        """
        held, events = self._broken.admit(events)
        if not events:
            return held
        if len(events) == 1 and _is_crash_loop(events[0]):
            return held + self._park(events[0])
        try:
            for attempt in self._retries.attempts_to_commit(len(events)):
                with attempt:
                    committed = self._commit_batch(events)
        except Exception as error:
            failure = error
        else:
            self._report(committed)
            return held
        # Out here: oslo.log adds the error that is being handled to all that is logged meanwhile.
        if isinstance(failure, NodesBroken):
            return held + self._hold(failure.reasons, events)
        # Whatever is parked is parked with its command: an audit that was not decoded has none.
        return held + self._split([read(event, self._context.partitions) for event in events], failure)

    def _split(self, events: Sequence[Event], error: Exception) -> list[Event]:
        """Park a single event that causes an error; commit each half of a larger batch on its own."""
        bad = internal_error(error)
        if not is_data_error(error):
            if self._retries.abandoned:
                raise error
            text = "the database rejects what this event writes"
            bad = BadMessage(ErrorCode.DATABASE_REJECTS, "$", text)
        if len(events) == 1:
            if isinstance(error, DATABASE_ERRORS):
                text = "The database refuses event %s of node %s: %s"
                only = events[0]
                LOG.error(text, only.event_id, only.node, error_text(error), extra=extra_of(only))
            return self._park(replace(events[0], error=bad))
        middle = len(events) // 2
        return self.commit(events[:middle]) + self.commit(events[middle:])

    def _park(self, event: Event) -> list[Event]:
        """Park an event as a dead letter. If the row of its node is broken, hold the event and return it.

        If the row of its node cannot be read or written, only the dead letter and the receipt are written.
        """
        if event.error is None or event.error.code is not ErrorCode.DATABASE_REJECTS:
            try:
                for attempt in self._retries.attempts_to_park():
                    with attempt:
                        committed = self._commit_batch([event])
            except Exception as error:
                failure = error
                if not isinstance(error, NodesBroken) and not is_data_error(error):
                    raise
            else:
                self._report(committed)
                return []
            if isinstance(failure, NodesBroken):
                return self._hold(failure.reasons, [event])
            text = "Node %s cannot be used: %s"
            LOG.critical(text, event.node, internal_error(failure), extra=extra_of(event))
        self._report(self._retries.persist(partial(self._commit_batch, [replace(event, belongs_here=False)])))
        return []

    def _hold(self, reasons: Mapping[str, str], events: Sequence[Event]) -> list[Event]:
        """Hold the events of broken nodes, and commit the others."""
        self._broken.hold(reasons, events)
        return self.commit(events)

    def _commit_batch(self, events: Sequence[Event]) -> _Committed:
        """Decide events, commit them, then answer them. On any error, drop their nodes from the cache."""
        decided = None
        try:
            if (presumed := self._presumed_new(events)) is not None:
                with suppress(AlreadyReceived):  # It is looked up then.
                    decided = self._commit_snapshot(presumed, events)
            if decided is None:
                snapshot, events = self._snapshot(events)
                decided = self._commit_snapshot(snapshot, events)
        except Exception:
            self._nodes.forget(event.node for event in events if event.node is not None)
            raise
        batch, transaction = decided
        self._nodes.keep(batch.nodes())
        for delivery, answer in batch.answers():
            send_answer(delivery, answer)
        return _Committed(events, batch.decisions(), transaction)

    def _report(self, committed: _Committed) -> None:
        """Count and log what was committed and answered. An error here says nothing about the events: a
        handler of the log may raise it.
        """
        events, decisions, transaction = committed
        self._activity.answered(events, counts_of(events, decisions, transaction.dead_letters))
        if transaction.notifications:
            self._committed()
        # Gives the GIL to the consumer's thread: it sends the replies before the log is written.
        time.sleep(0)
        log_settled(events, decisions, transaction.dead_letters)
        log_decisions(decisions)
        log_dead_letters(transaction.dead_letters)
        for event in events:
            if event.is_question and event.error is not None and event.error.code in WORKER_FAULTS:
                text = "A question about node %s was not answered: %s"
                LOG.error(text, event.node, event.error, extra=extra_of(event))

    def _commit_snapshot(self, snapshot: Snapshot, events: Sequence[Event]) -> tuple[Batch, Transaction]:
        """Decide events on a snapshot, and commit that."""
        batch = Batch(snapshot, self._context)
        self._activity.step = "deciding"
        for event in events:
            batch.apply(event)
        transaction = batch.transaction()
        self._activity.step = f"committing {named([node.name for node in batch.nodes()])}"
        with self._activity.committing():
            self._unit_of_work.commit(transaction)
        return batch, transaction

    def _snapshot(self, events: Sequence[Event]) -> tuple[Snapshot, Sequence[Event]]:
        """Read receipts, nodes that are not cached, and owners of uuids: at most six statements for any
        batch. Return them, and the events without unread audits but those that repeat an earlier one.
        """
        self._activity.step = "looking up receipts"
        known = self._unit_of_work.find_receipts([event.event_id for event in events])
        nodes = self._nodes.get(
            {event.node for event in events if event.node is not None and event.belongs_here}
        )
        events = [self._read(event, known, nodes) for event in events]
        reused = [e.digest for e in events if e.event_id in known and known[e.event_id].digest != e.digest]
        if reused:
            known |= self._unit_of_work.find_receipts(reused)
        uuids = [uuid for event in events if (uuid := _new_uuid(event, nodes))]
        owners = self._unit_of_work.uuid_owners(uuids) if uuids else {}
        return Snapshot(known, nodes, owners), events

    def _presumed_new(self, events: Sequence[Event]) -> Snapshot | None:
        """Return the snapshot for a command that comes alone and is presumed to have no receipt; None for all
        else. Reads nothing.

        That is a command to a cached node which the broker delivers for the first time. Of the audits it is
        one that repeats the last one of its node, and is newer than all of its client's. The commit fails if
        there is a receipt all the same.
        """
        if len(events) != 1 or events[0].delivery.redelivered or not events[0].belongs_here:
            return None
        event, command = events[0], events[0].command
        if command is None or event.error is not None or isinstance(command, _SELDOM_RECORDED):
            return None
        node = self._nodes.cached(command.node)
        if node is None:
            return None
        if isinstance(command, UnreadAudit) and not _is_next_repetition(command, event, node):
            return None
        return Snapshot({}, {node.name: node}, {}, unchecked_id=event.event_id)

    def _read(self, event: Event, known: Mapping[str, Receipt], nodes: Mapping[str, Node]) -> Event:
        if not isinstance(event.command, UnreadAudit):
            return event
        node = nodes[event.command.node]
        return read_unless_repeated(event, known.get(event.event_id), node, self._context.partitions)


def _is_crash_loop(event: Event) -> bool:
    """Tell whether an event is to be parked because workers crashed while it was in flight."""
    return event.error is not None and event.error.code is ErrorCode.WORKER_DIED


def _is_next_repetition(audit: UnreadAudit, event: Event, node: Node) -> bool:
    """Tell whether an audit repeats the last one of its node, and is newer than all of its client's."""
    return node.repeats(event.audit) and node.has_no_newer(audit.origin)


def _new_uuid(event: Event, nodes: Mapping[str, Node]) -> str | None:
    """Return the uuid that an audit reports, if its node does not have that uuid yet."""
    if not event.belongs_here or not isinstance(event.command, UpdateAvailableResource):
        return None
    known = nodes[event.command.node].resources
    uuid = event.command.resources.uuid
    return None if known is not None and known.uuid == uuid else uuid
