# SPDX-License-Identifier: Apache-2.0
"""Broken nodes: the events of a node whose ledger is inconsistent are held until the ledger is repaired."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from tracker_worker.core.batch import Batch, BatchContext, Snapshot
from tracker_worker.core.decode import Event, attempts_key
from tracker_worker.core.delivery import Delivery
from tracker_worker.core.error_text import error_text
from tracker_worker.core.held import HeldEvents
from tracker_worker.db.store import NodesBroken
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.node import Node, amounts_text, rebuilt
from tracker_worker.exceptions import NodeBroken
from tracker_worker.worker.activity import Activity, named
from tracker_worker.worker.answers import send_answer
from tracker_worker.worker.event_log import extra_of
from tracker_worker.worker.node_cache import NodeCache, sum_faults
from tracker_worker.worker.retries import Retries

LOG = logging.getLogger(__name__)

NOTHING = Snapshot({}, {}, {})


class BrokenNodes:
    """Belongs to the lane's thread.

    Calls `committed` after each commit of notifications.
    """

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        nodes: NodeCache,
        context: BatchContext,
        retries: Retries,
        activity: Activity,
        committed: Callable[[], None],
    ) -> None:
        self._unit_of_work = unit_of_work
        self._nodes = nodes
        self._context = context
        self._retries = retries
        self._activity = activity
        self._committed = committed
        self.held = HeldEvents()

    def __bool__(self) -> bool:
        """Tell whether events are held."""
        return bool(self.held)

    def drop_dead(self) -> None:
        """Drop held events whose channel is closed: the broker redelivers them."""
        self.held.drop_dead()

    def admit(self, events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
        """Hold the events of broken nodes and answer the reads of such nodes with NodeBroken.

        Return the events that are held, and the events of other nodes.
        """
        held, reads, others = self.held.admit(events)
        if reads:
            self._answer_reads(reads)
        return held, others

    def hold(self, reasons: Mapping[str, str], events: Sequence[Event]) -> None:
        """Hold the events of these nodes from now on, and publish one error for each node.

        `reasons` says why, by node; `events` are the batch in which the fault was found.
        """
        first = {event.node: event for event in reversed(events) if event.node and event.node in reasons}
        self.held.hold(reasons)
        batch = Batch(NOTHING, self._context)
        for name, event in first.items():
            LOG.error("Node %s and its events are held: %s", name, reasons[name], extra=extra_of(event))
            batch.report_broken(event, reasons[name])
        self._activity.step = f"reporting that {named(first)} are held"
        # Made once: if the answer to a COMMIT is lost, the repetition has the same message ids.
        transaction = batch.transaction()
        self._retries.persist(lambda: self._unit_of_work.commit(transaction))
        self._committed()

    def repair(self) -> list[Delivery]:
        """Rebuild the broken nodes that have a held audit with `startup`.

        Return the held deliveries of the nodes that are consistent now, in order.
        """
        self.held.drop_dead()
        names = self.held.repairable()
        for name in names:
            self._try_to_rebuild(name)
        return self._release(names)

    def recheck(self) -> list[Delivery]:
        """Do what `repair` does, then load the other broken nodes: an operator may have rebuilt them."""
        return self.repair() + self._release(self.held.nodes)

    def _answer_reads(self, reads: Sequence[Event]) -> None:
        """Answer reads with an error instead of holding them: a read changes nothing, its caller waits."""
        if keys := [attempts_key(event.delivery) for event in reads if event.delivery.redelivered]:
            self._activity.step = "deleting attempts of reads"
            self._retries.persist(lambda: self._unit_of_work.forget_attempts(keys))
        for event in reads:
            text = f"the ledger of node {event.node} is broken: see 'tracker-worker-manage node rebuild'"
            send_answer(event.delivery, NodeBroken(text))

    def _release(self, nodes: Iterable[str]) -> list[Delivery]:
        """Return the held deliveries of nodes whose ledger is consistent now, and stop holding them."""
        names = set(nodes)
        while names:
            try:
                self._retries.persist(partial(self._nodes.load, sorted(names)))
                break
            except NodesBroken as broken:
                names -= broken.reasons.keys()
        for name in sorted(names):
            LOG.warning("The ledger of node %s is consistent again: its events are applied", name)
        return [delivery for name in sorted(names) for delivery in self.held.release(name)]

    def _try_to_rebuild(self, name: str) -> None:
        """Rebuild a node.

        It stays broken if its rows cannot be read, or the database refuses the new ones.
        """
        try:
            for attempt in self._retries.attempts_to_commit(1):
                with attempt:
                    wrong = self._rebuild(name)
        except NodesBroken:
            return
        except Exception as error:
            if self._retries.abandoned:
                raise
            failure = error_text(error)
        else:
            if wrong is not None:
                self._committed()
                before, after = amounts_text(wrong.used), amounts_text(rebuilt(wrong).used)
                LOG.warning("Node %s is rebuilt from its claims: %s used, it was %s", name, after, before)
            return
        LOG.error("Node %s cannot be rebuilt from its claims: %s", name, failure)

    def _rebuild(self, name: str) -> Node | None:
        """Set the usage of a node to the sum of its claims and commit it, as `node rebuild` does.

        Return the node as it was, None if its usage was right.
        """
        self._activity.step = f"rebuilding {name}"
        node = self._nodes.load_unchecked([name])[name]
        if not sum_faults([node]):
            return None
        batch = Batch(Snapshot({}, {name: node}, {}), self._context)
        batch.rebuild(name, self._context.new_id())
        self._unit_of_work.commit(batch.transaction())
        self._activity.progressed()
        return node
