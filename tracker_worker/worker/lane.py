# SPDX-License-Identifier: Apache-2.0
"""A lane: ONE thread that owns the nodes of its partitions, so that nothing needs a lock.

It takes what is waiting, never waits for more, and holds a batch until it is committed: nothing is answered
before that, nothing is dropped, order is kept.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace
from oslo_db import exception as db_exception
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_any,
    stop_when_event_set,
    wait_exponential_jitter,
)
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_base, stop_never

from tracker_worker.bus.delivery import Answer, Delivery
from tracker_worker.db.dead_letters import DeadLetter
from tracker_worker.db.errors import TRANSIENT, reason_of
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.commands import UpdateAvailableResource
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.domain.ledger import Node
from tracker_worker.worker.batch import Batch, Rules, Snapshot
from tracker_worker.worker.events import Event, attempts_key, internal_error, read_event, unread_event
from tracker_worker.worker.suspects import (
    begin,
    deaths_of,
    decoded,
    in_parts,
    undecoded,
    was_decoded,
    without_the_last,
)
from tracker_worker.worker.waiting import Waiting

T = TypeVar("T")

LOG = logging.getLogger(__name__)

SUBMIT_SECONDS = 0.5
"""How long a full partition may keep a listener from noticing that its lane was abandoned."""


class LaneSettings(Struct, frozen=True):
    """Bounds of a lane: events, bytes, tries of an event that kills; seconds between tries, and of calm."""

    batch_size: int = 256
    batch_bytes: int = 1024 * 1024
    prefetch: int = 256
    max_attempts: int = 3
    retry_initial: float = 0.05
    retry_max: float = 3.0
    calm_seconds: float = 5.0
    """How long a worker has lived before it runs what one more death would park."""

    def for_lane(self, number: int) -> "LaneSettings":
        """Return those of one lane of a process, counted from 0: each has its own moment for last attempts.

        What runs in one lane while another's kills the process would share the blame.
        """
        return replace(self, calm_seconds=self.calm_seconds * (number + 1))


class Lane:
    """Applies the events of its partitions in order. `submit` may be called from any thread, the rest is
    its own.

    `monotonic` is a clock in seconds that is never set. `committed` is called after each commit, so that the
    relay need not poll.
    """

    def __init__(
        self,
        partitions: Iterable[int],
        unit_of_work: UnitOfWork,
        rules: Rules,
        settings: LaneSettings,
        monotonic: Callable[[], float],
        committed: Callable[[], None],
    ) -> None:
        self._waiting = Waiting(partitions, settings.prefetch)
        self._unit_of_work = unit_of_work
        self._rules = rules
        self._settings = settings
        self._monotonic = monotonic
        self._committed = committed
        self._nodes: dict[str, Node] = {}
        self._work = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._calm_at = monotonic() + settings.calm_seconds

    def submit(self, delivery: Delivery) -> bool:
        """Queue a delivery; blocks while its partition already has `prefetch` waiting.

        False once the lane is abandoned: the delivery was not taken.
        """
        while not self._abandon.is_set():
            if self._waiting.put(delivery, SUBMIT_SECONDS):
                self._work.set()
                return True
        return False

    def drop(self, partition: int) -> None:
        """Forget what waits for a partition and is not under way. Any thread."""
        self._waiting.drop(partition)

    def run(self) -> None:
        """Work until closed and drained, or abandoned: the body of the lane's thread."""
        while not self._abandon.is_set():
            self._work.wait(max(self._calm_at - self._monotonic(), 0.0) if self._waiting.resting else None)
            self._work.clear()
            while not self._abandon.is_set() and self.step():
                pass
            if self._closing.is_set():
                break
        self._unit_of_work.close()

    def step(self) -> bool:
        """Take what is waiting, at most a batch, and settle it; False when nothing was waiting."""
        if self._is_calm():
            self._waiting.wake()
        deliveries = self._waiting.take(self._settings.batch_size, self._settings.batch_bytes)
        if not deliveries:
            return False
        try:
            self._run(deliveries)
        except TRANSIENT:
            if not self._abandon.is_set():
                raise
            LOG.warning("Gave up on a batch of %d: it was not answered", len(deliveries))
        return True

    def close(self) -> None:
        """Finish what is waiting, then end. Nothing may be submitted any more."""
        self._closing.set()
        self._work.set()

    def abandon(self) -> None:
        """End as soon as possible: what is not committed stays unanswered, for the broker to hand out
        again.
        """
        self._abandon.set()
        self.close()

    def _run(self, deliveries: Sequence[Delivery]) -> None:
        """Run deliveries that may have killed a worker alone, the others together."""
        keys = {id(delivery): attempts_key(delivery) for delivery in deliveries if delivery.redelivered}
        counts = self._deaths(keys.values()) if keys else {}
        counted = [(delivery, counts.get(keys.get(id(delivery), ""), 0)) for delivery in deliveries]
        if not self._is_calm():
            counted, later = without_the_last(counted, self._settings.max_attempts)
            self._waiting.rest(later)
        for part, count in in_parts(counted):
            if deaths_of(count) >= self._settings.max_attempts:
                self._park_killer(part[0], count)
            else:
                self._attempt(part, count)

    def _is_calm(self) -> bool:
        """Tell whether the worker has lived for a while, so that kills do not follow each other, or ends."""
        return self._closing.is_set() or self._monotonic() >= self._calm_at

    def _deaths(self, keys: Collection[str]) -> dict[str, int]:
        """Return what is kept of the attempts of each of these deliveries that was under way at a death.

        One that was parked undecoded, and comes again because nobody heard of that, must not be decoded now.
        """
        known = self._persist(lambda: self._unit_of_work.known(keys))
        parked = dict.fromkeys(known, undecoded(self._settings.max_attempts))
        return self._persist(lambda: self._unit_of_work.attempts(keys)) | parked

    def _attempt(self, deliveries: Sequence[Delivery], count: int) -> None:
        """Commit that redelivered events are under way once more, then decode and settle them.

        Only those that run now are counted: one that waits behind an event that kills is not to blame. That
        one alone, or at its last attempt, was decoded is noted too, once: it then is no death of decoding.
        """
        again = [attempts_key(delivery) for delivery in deliveries if delivery.redelivered]
        begun = begin(count)
        self._count(again, begun)
        events = [read_event(delivery, self._rules.partitions) for delivery in deliveries]
        if (count or deaths_of(begun) >= self._settings.max_attempts) and not was_decoded(begun):
            self._count(again, decoded(begun))
        self._settle(events)

    def _count(self, keys: Collection[str], count: int) -> None:
        if keys:
            counts = dict.fromkeys(keys, count)
            self._persist(lambda: self._unit_of_work.count_attempts(counts))

    def _park_killer(self, delivery: Delivery, count: int) -> None:
        """Park what workers died of; undecoded if nobody has survived decoding it."""
        most = self._settings.max_attempts
        text = f"the worker died {most} times while this event was under way"
        bad = BadMessage(ErrorCode.WORKER_DIED, "$", text)
        if was_decoded(count):
            self._park(read_event(delivery, self._rules.partitions), bad)
        else:
            self._park(unread_event(delivery, bad), bad)

    def _settle(self, events: Sequence[Event]) -> None:
        """Commit events together; if the data is at fault halve them until the one at fault is alone and
        parked.
        """
        if not events:
            return
        blamed = _EventsToBlame(self._unit_of_work, self._settings.max_attempts)
        try:
            self._persist(lambda: self._commit(events), blamed)
        except TRANSIENT:
            if self._abandon.is_set():
                raise
            text = "the database rejects what this event writes"
            self._split(events, BadMessage(ErrorCode.DATABASE_REJECTS, "$", text))
        except Exception as error:
            self._split(events, internal_error(error))

    def _split(self, events: Sequence[Event], bad: BadMessage) -> None:
        if len(events) == 1:
            self._park(events[0], bad)
            return
        half = len(events) // 2
        self._settle(events[:half])
        self._settle(events[half:])

    def _park(self, event: Event, bad: BadMessage) -> None:
        """Keep an event as a dead letter; without its node's row where that cannot be read or written."""
        letter = replace(event, bad=bad)
        if bad.code is not ErrorCode.DATABASE_REJECTS:
            try:
                self._persist(lambda: self._commit([letter]))
                return
            except TRANSIENT:
                raise
            except Exception as error:
                LOG.critical("Node %s cannot be used: %s", event.node, internal_error(error))
        self._persist(lambda: self._commit([replace(letter, owned=False)]))

    def _persist(self, action: Callable[[], T], blamed: stop_base = stop_never) -> T:
        """Do something to the database until it works, or the lane is abandoned.

        Ends early, with the error, when the events are `blamed` for it.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(TRANSIENT),
            wait=wait_exponential_jitter(
                multiplier=self._settings.retry_initial,
                max=self._settings.retry_max,
                jitter=self._settings.retry_initial,
            ),
            stop=stop_any(stop_when_event_set(self._abandon), blamed),
            sleep=sleep_using_event(self._abandon),
            before_sleep=self._prepare_retry,
            reraise=True,
        )
        return retrying(action)

    def _prepare_retry(self, retry_state: RetryCallState) -> None:
        """Give all connections up: what broke one has broken the others, each of which would cost a pause."""
        _log_retry(retry_state)
        self._unit_of_work.close()

    def _commit(self, events: Sequence[Event]) -> None:
        """Decide and commit events, then answer them. On any error the cached nodes are forgotten."""
        try:
            batch = Batch(self._snapshot(events), self._rules)
            for event in events:
                batch.apply(event)
            work = batch.work()
            self._unit_of_work.commit(work)
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
        self._committed()
        for letter in work.dead_letters:
            _log_dead_letter(letter)

    def _snapshot(self, events: Sequence[Event]) -> Snapshot:
        """Read what the batch needs and the cache has not: at most six statements, however many events."""
        known = self._unit_of_work.known([event.event_id for event in events])
        reused = [e.digest for e in events if e.event_id in known and known[e.event_id].digest != e.digest]
        if reused:
            known |= self._unit_of_work.known(reused)
        names = {event.node for event in events if event.node is not None and event.owned}
        nodes = {name: self._nodes[name] for name in names if name in self._nodes}
        if missing := names - nodes.keys():
            nodes |= self._unit_of_work.load(sorted(missing))
        uuids = [uuid for event in events if (uuid := _new_uuid(event, nodes))]
        owners = self._unit_of_work.uuid_owners(uuids) if uuids else {}
        return Snapshot(known, nodes, owners)


class _EventsToBlame(stop_base):
    """Counts errors that repeat because of what is written: a connection lost although the database answers
    afterwards, and a duplicate row although everything was read again."""

    def __init__(self, unit_of_work: UnitOfWork, most: int) -> None:
        self._unit_of_work = unit_of_work
        self._most = most
        self._count = 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, db_exception.DBConnectionError):
            self._count += self._answers()
        elif isinstance(error, db_exception.DBDuplicateEntry):
            self._count += 1
        return self._count >= self._most

    def _answers(self) -> bool:
        try:
            self._unit_of_work.ping()
        except TRANSIENT:
            return False
        return True


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
        letter.event_id, letter.method, letter.node, letter.id, letter.code, letter.path, letter.message,
    )  # fmt: skip


def _log_retry(retry_state: RetryCallState) -> None:
    error = retry_state.outcome.exception() if retry_state.outcome else None
    LOG.warning("Batch is tried again (%d): %s", retry_state.attempt_number, reason_of(error))


def _answer(delivery: Delivery, answer: Answer) -> None:
    """A reply that cannot be sent is the caller's time-out; the event is committed all the same."""
    try:
        delivery.settle(answer)
    except Exception:
        LOG.exception("A reply could not be sent")
