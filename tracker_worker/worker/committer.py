# SPDX-License-Identifier: Apache-2.0
"""The committer: one lane's batches, each in one transaction, tried until it is committed, parked or held.

Errors are told apart once: what speaks of the data splits a batch until the event at fault is alone, and
parks it; everything else is the server's trouble, and is waited for.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from cachetools import LRUCache
from msgspec.structs import replace
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_any,
    stop_when_event_set,
    wait_exponential_jitter,
)
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_base, stop_never

from tracker_worker.core.batch import Batch, BatchContext, Snapshot
from tracker_worker.core.decode import Event, attempts_key, internal_error
from tracker_worker.core.delivery import Answer, Delivery
from tracker_worker.core.records import DeadLetter
from tracker_worker.core.replies import WORKER_FAULTS
from tracker_worker.db.errors import (
    DATABASE_ERRORS,
    is_data_error,
    reason_of,
)
from tracker_worker.db.store import UNTIL_READABLE, NodesBroken, StaleNode
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.commands import UpdateAvailableResource
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.domain.node import Node, rebuilt, shown, sum_fault
from tracker_worker.exceptions import NodeBroken
from tracker_worker.worker.held import HeldEvents
from tracker_worker.worker.repeated import RepeatedErrors
from tracker_worker.worker.settings import LaneSettings
from tracker_worker.worker.watchdog import Activity, named

T = TypeVar("T")

LOG = logging.getLogger(__name__)

_UNTIL_REPAIRED = (
    "its events wait until 'tracker-worker-manage node rebuild' or an audit with startup has repaired it"
)
NOTHING = Snapshot({}, {}, {})


class Committer:
    """Belongs to the lane's thread; `abandon` ends its retries with the error that they met last.

    `committed` is called after each commit. Nodes are cached as their last commit left them.
    """

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        context: BatchContext,
        settings: LaneSettings,
        abandon: threading.Event,
        activity: Activity,
        committed: Callable[[], None],
    ) -> None:
        self._unit_of_work = unit_of_work
        self._context = context
        self._settings = settings
        self._abandon = abandon
        self._activity = activity
        self._committed = committed
        self._nodes: LRUCache[str, Node] = LRUCache(settings.cached_nodes)
        self._held = HeldEvents()

    @property
    def holds(self) -> bool:
        """Whether events are held because the ledger of their node is broken."""
        return bool(self._held)

    def forget_nodes(self) -> None:
        """Load every node again: what is cached may be another history than the database's."""
        self._nodes.clear()
        self._held.drop_dead()

    def persist(self, action: Callable[[], T]) -> T:
        """Do something to the database until it works, or the lane is abandoned: no error of it blames an
        event.
        """
        return self._until_done(action, lambda error: isinstance(error, DATABASE_ERRORS))

    def settle(self, events: Sequence[Event]) -> list[Event]:
        """Commit events together; if the data is at fault halve them until the one at fault is alone and
        parked. Those of a node whose ledger is broken are held, and returned.
        """
        held, reads, events = self._held.admit(events)
        if reads:
            self._answer_reads(reads)
        if not events:
            return held
        repeated = RepeatedErrors(self._unit_of_work, self._settings.max_attempts, len(events))
        try:
            self._until_done(lambda: self._commit(events), _is_the_servers, repeated)
            return held
        except Exception as error:
            failure = error
        # Out here: oslo.log adds the error that is being handled to all that is logged meanwhile.
        if isinstance(failure, NodesBroken):
            return held + self._hold(failure.reasons, events)
        return held + self._split(events, failure)

    def park(self, event: Event, bad: BadMessage) -> list[Event]:
        """Keep an event as a dead letter; without its node's row where that cannot be read or written.

        It is held, and returned, if that row is broken.
        """
        letter = replace(event, bad=bad)
        held, reads, _ = self._held.admit([letter])
        if reads:
            self._answer_reads(reads)
        return held if held or reads else self._park(letter, bad)

    def _park(self, letter: Event, bad: BadMessage) -> list[Event]:
        if bad.code is not ErrorCode.DATABASE_REJECTS:
            try:
                self._until_done(lambda: self._commit([letter]), _is_the_servers)
                return []
            except Exception as error:
                failure = error
                if not isinstance(error, NodesBroken) and not is_data_error(error):
                    raise
            if isinstance(failure, NodesBroken):
                return self._hold(failure.reasons, [letter])
            LOG.critical("Node %s cannot be used: %s", letter.node, internal_error(failure))
        self.persist(lambda: self._commit([replace(letter, owned=False)]))
        return []

    def repair(self) -> list[Delivery]:
        """Rebuild the held nodes for which an audit with `startup` waits.

        Return what was held of them, in order: it runs as if it came now.
        """
        self._held.drop_dead()
        names = self._held.repairable()
        for name in names:
            self._try_to_rebuild(name)
        return self._release(names)

    def recheck(self) -> list[Delivery]:
        """Do as `repair` does, and load all other held nodes again: somebody may have rebuilt them."""
        return self.repair() + self._release(self._held.nodes)

    def _release(self, nodes: Iterable[str]) -> list[Delivery]:
        """Hold those of some nodes no more that are whole; return what was held of them."""
        names = set(nodes)
        while names:
            try:
                self.persist(partial(self._load, sorted(names)))
                break
            except NodesBroken as broken:
                names -= broken.reasons.keys()
        for name in sorted(names):
            LOG.warning("The ledger of node %s is whole again: its events are applied", name)
        return [delivery for name in sorted(names) for delivery in self._held.release(name)]

    def _split(self, events: Sequence[Event], error: Exception) -> list[Event]:
        """Find the event at fault: alone it is parked, a half of a batch is settled as a batch is."""
        bad = internal_error(error)
        if not is_data_error(error):
            if self._abandon.is_set():
                raise error
            text = "the database rejects what this event writes"
            bad = BadMessage(ErrorCode.DATABASE_REJECTS, "$", text)
        if len(events) == 1:
            if isinstance(error, DATABASE_ERRORS):
                LOG.error("The database refuses event %s: %s", events[0].event_id, reason_of(error))
            return self._park(replace(events[0], bad=bad), bad)
        half = len(events) // 2
        return self.settle(events[:half]) + self.settle(events[half:])

    def _hold(self, reasons: Mapping[str, str], events: Sequence[Event]) -> list[Event]:
        """Hold the events of broken nodes, tell the world of each node once, and settle the others."""
        first = {event.node: event for event in reversed(events) if event.node and event.node in reasons}
        self._held.hold(reasons)
        batch = Batch(NOTHING, self._context)
        for name, event in first.items():
            LOG.error("Node %s and its events are held: %s", name, reasons[name])
            batch.report_broken(event, reasons[name])
        self._activity.step = f"telling that {named(first)} are held"
        self.persist(lambda: self._unit_of_work.commit(batch.transaction()))
        self._committed()
        return self.settle(events)

    def _answer_reads(self, reads: Sequence[Event]) -> None:
        """A question need not wait for its node to be rebuilt: it changes nothing, and its caller waits."""
        if keys := [attempts_key(event.delivery) for event in reads if event.delivery.redelivered]:
            self._activity.step = "forgetting attempts of reads"
            self.persist(lambda: self._unit_of_work.forget_attempts(keys))
        for event in reads:
            text = f"the ledger of node {event.node} is broken: see 'tracker-worker-manage node rebuild'"
            _answer(event.delivery, NodeBroken(text))

    def _try_to_rebuild(self, name: str) -> None:
        """Rebuild a node; it stays as it is when its rows cannot be read, or the database refuses them."""
        repeated = RepeatedErrors(self._unit_of_work, self._settings.max_attempts, 1)
        try:
            self._until_done(partial(self._rebuild, name), _is_the_servers, repeated)
            return
        except NodesBroken:
            return
        except Exception as error:
            if self._abandon.is_set():
                raise
            failure = reason_of(error)
        LOG.error("Node %s cannot be rebuilt from its claims: %s", name, failure)

    def _rebuild(self, name: str) -> None:
        """Commit that what is claimed of a node is the sum of its claims, as `node rebuild` does."""
        self._activity.step = f"rebuilding {name}"
        node = self._readable([name])[name]
        if not _sum_faults([node]):
            return
        batch = Batch(Snapshot({}, {name: node}, {}), self._context)
        batch.rebuild(name, self._context.new_id())
        self._unit_of_work.commit(batch.transaction())
        self._activity.progressed()
        self._committed()
        before, after = shown(node.used), shown(rebuilt(node).used)
        LOG.warning("Node %s is rebuilt from its claims: %s used, it was %s", name, after, before)

    def _until_done(
        self,
        action: Callable[[], T],
        passes: Callable[[BaseException], bool],
        repeated: stop_base = stop_never,
    ) -> T:
        """Try again, for ever, while an error `passes`; raise it when it is `repeated` too often."""
        retrying = Retrying(
            retry=retry_if_exception(passes),
            wait=wait_exponential_jitter(
                multiplier=self._settings.retry_initial,
                max=self._settings.retry_max,
                jitter=self._settings.retry_initial,
            ),
            stop=stop_any(stop_when_event_set(self._abandon), repeated),
            sleep=sleep_using_event(self._abandon),
            before_sleep=self._prepare_retry,
            reraise=True,
        )
        return retrying(action)

    def _prepare_retry(self, retry_state: RetryCallState) -> None:
        """Give all connections up: what broke one has broken the others, each of which would cost a pause.

        And all cached nodes, unless it was another writer's commit: a database that was lost may come back
        without its last commits.
        """
        error = retry_state.outcome.exception() if retry_state.outcome else None
        LOG.warning("Batch is tried again (%d): %s", retry_state.attempt_number, reason_of(error))
        self._activity.step = f"pause before retry {retry_state.attempt_number}, after {reason_of(error)}"
        if isinstance(error, StaleNode):
            self._unit_of_work.close()
        else:
            self._unit_of_work.discard()
            self._nodes.clear()

    def _commit(self, events: Sequence[Event]) -> None:
        """Decide and commit events, then answer them. On any error their cached nodes are forgotten."""
        try:
            batch = Batch(self._snapshot(events), self._context)
            for event in events:
                batch.apply(event)
            transaction = batch.transaction()
            self._activity.step = f"committing {named(node.name for node in batch.nodes())}"
            self._unit_of_work.commit(transaction)
        except Exception:
            for event in events:
                self._nodes.pop(event.node or "", None)
            raise
        for node in batch.nodes():
            if node.tracked:
                self._nodes[node.name] = node
            else:
                self._nodes.pop(node.name, None)
        for delivery, answer in batch.answers():
            _answer(delivery, answer)
        self._activity.progressed()
        self._committed()
        for letter in transaction.dead_letters:
            _log_dead_letter(letter)
        for event in events:
            if event.is_question and event.bad is not None and event.bad.code in WORKER_FAULTS:
                LOG.error("A question about node %s was not answered: %s", event.node, event.bad)

    def _snapshot(self, events: Sequence[Event]) -> Snapshot:
        """Read what the batch needs and the cache has not: at most six statements, however many events."""
        self._activity.step = "looking up receipts"
        known = self._unit_of_work.known([event.event_id for event in events])
        reused = [e.digest for e in events if e.event_id in known and known[e.event_id].digest != e.digest]
        if reused:
            known |= self._unit_of_work.known(reused)
        names = {event.node for event in events if event.node is not None and event.owned}
        nodes = {name: self._nodes[name] for name in names if name in self._nodes}
        if missing := names - nodes.keys():
            nodes |= self._load(sorted(missing))
        uuids = [uuid for event in events if (uuid := _new_uuid(event, nodes))]
        owners = self._unit_of_work.uuid_owners(uuids) if uuids else {}
        return Snapshot(known, nodes, owners)

    def _load(self, names: Collection[str]) -> dict[str, Node]:
        """Return nodes whose sums are right. Raises NodesBroken.

        They are read by several statements, between which another writer may commit: a broken one is loaded
        once more before it is believed.
        """
        self._activity.step = f"loading {named(names)}"
        nodes = self._readable(names)
        if broken := _sum_faults(nodes.values()):
            nodes |= self._unit_of_work.load(sorted(broken))
            if broken := _sum_faults(nodes.values()):
                raise NodesBroken(broken)
        return nodes

    def _readable(self, names: Collection[str]) -> dict[str, Node]:
        """Return nodes. Raises NodesBroken; those whose rows the driver cannot read are found one by one."""
        try:
            return self._unit_of_work.load(names)
        except (NodesBroken, *DATABASE_ERRORS):
            raise
        except Exception:
            return self._readable_one_by_one(names)

    def _readable_one_by_one(self, names: Iterable[str]) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        reasons: dict[str, str] = {}
        for name in names:
            try:
                nodes |= self._unit_of_work.load([name])
            except NodesBroken as broken:
                reasons |= broken.reasons
            except DATABASE_ERRORS:
                raise
            except Exception as error:
                reasons[name] = _unreadable(error)
        if reasons:
            raise NodesBroken(reasons)
        return nodes


def _is_the_servers(error: BaseException) -> bool:
    return isinstance(error, DATABASE_ERRORS) and not is_data_error(error)


def _sum_faults(nodes: Iterable[Node]) -> dict[str, str]:
    return {node.name: reason for node in nodes if (reason := _why_broken(node)) is not None}


def _why_broken(node: Node) -> str | None:
    try:
        fault = sum_fault(node)
    except Exception as error:  # SQLite stores a text in a column of numbers.
        return _unreadable(error)
    return None if fault is None else f"{fault}; {_UNTIL_REPAIRED}"


def _unreadable(error: Exception) -> str:
    return f"its rows cannot be read ({type(error).__name__}); {UNTIL_READABLE}"


def _new_uuid(event: Event, nodes: Mapping[str, Node]) -> str | None:
    """Return the uuid of a report whose node is not yet known by it."""
    if not event.owned or not isinstance(event.command, UpdateAvailableResource):
        return None
    known = nodes[event.command.node].resources
    uuid = event.command.resources.uuid
    return None if known is not None and known.uuid == uuid else uuid


def _log_dead_letter(letter: DeadLetter) -> None:
    LOG.error(
        "Event %s (%s) of node %s is parked as dead letter %s: %s at %s: %s",
        letter.event_id, letter.method or "unknown", letter.node or "unknown", letter.id, letter.code,
        letter.path, letter.message,
    )  # fmt: skip


def _answer(delivery: Delivery, answer: Answer) -> None:
    """A reply that cannot be sent is the caller's time-out; the event is committed all the same."""
    try:
        delivery.settle(answer)
    except Exception:
        LOG.exception("A reply could not be sent")
