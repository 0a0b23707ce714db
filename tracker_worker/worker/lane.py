# SPDX-License-Identifier: Apache-2.0
"""A lane: ONE thread that owns the nodes of its partitions, so that nothing needs a lock.

It takes what is waiting, never waits for more, and holds a batch until it is committed: nothing is answered
before that, nothing is dropped, order is kept.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence

from tracker_worker.core.batch import BatchContext
from tracker_worker.core.decode import attempts_key, read_event, read_in_windows, unread_event
from tracker_worker.core.delivery import Delivery
from tracker_worker.core.quarantine import (
    begin,
    deaths_of,
    decoded,
    in_parts,
    undecoded,
    was_decoded,
    without_the_last,
)
from tracker_worker.db.errors import DATABASE_ERRORS, reason_of
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.worker.committer import Committer
from tracker_worker.worker.held import repairs
from tracker_worker.worker.inbox import Waiting
from tracker_worker.worker.settings import LaneSettings
from tracker_worker.worker.watchdog import Activity

LOG = logging.getLogger(__name__)

SUBMIT_SECONDS = 0.5
"""How long a full partition may keep a listener from noticing that its lane was abandoned."""


class Lane:
    """Applies the events of its partitions in order. `submit` may be called from any thread, the rest is
    its own.

    `monotonic` is a clock in seconds that is never set. `committed` is called after each commit, so that the
    relay need not poll. `activity` is what the lane is doing now, for the watchdog.
    """

    def __init__(
        self,
        name: str,
        partitions: Iterable[int],
        unit_of_work: UnitOfWork,
        context: BatchContext,
        settings: LaneSettings,
        monotonic: Callable[[], float],
        committed: Callable[[], None],
    ) -> None:
        self._waiting = Waiting(partitions, settings.prefetch)
        self._unit_of_work = unit_of_work
        self._partitions = context.partitions
        self._settings = settings
        self._monotonic = monotonic
        self._work = threading.Event()
        self._dropped = threading.Event()
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._calm_at = monotonic() + settings.calm_seconds
        self._recheck_at = 0.0
        self._repairs = False
        self.activity = Activity(name, monotonic)
        self._committer = Committer(unit_of_work, context, settings, self._abandon, self.activity, committed)

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
        self._dropped.set()

    def run(self) -> None:
        """Work until closed and drained, or abandoned: the body of the lane's thread."""
        while not self._abandon.is_set():
            self._work.wait(self._seconds_to_wait())
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
        if self._committer.holds and self._monotonic() >= self._recheck_at:
            self._guarded("held nodes", lambda: self._waiting.put_back(self._committer.recheck()))
            self._recheck_at = self._monotonic() + self._settings.recheck_seconds
        deliveries = self._waiting.take(self._settings.batch_size, self._settings.batch_bytes)
        if self._dropped.is_set():
            # Another worker may have had these partitions since.
            self._dropped.clear()
            self._committer.forget_nodes()
        if not deliveries:
            return False
        self._guarded(f"a batch of {len(deliveries)}", lambda: self._run(deliveries))
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

    def _seconds_to_wait(self) -> float | None:
        """Return when there is something to do although nothing comes; None when there is not."""
        times = [self._calm_at] if self._waiting.resting else []
        times += [self._recheck_at] if self._committer.holds else []
        return max(min(times) - self._monotonic(), 0.0) if times else None

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """Do something in sight of the watchdog; an abandoned lane gives it up."""
        failure = None
        try:
            with self.activity.on(what):
                action()
        except DATABASE_ERRORS as error:
            if not self._abandon.is_set():
                raise
            failure = reason_of(error)
        if failure is not None:
            LOG.warning("Gave up on %s, it was not answered: %s", what, failure)

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
        if self._repairs:
            self._repairs = False
            self._waiting.put_back(self._committer.repair())

    def _is_calm(self) -> bool:
        """Tell whether the worker has lived for a while, so that kills do not follow each other, or ends."""
        return self._closing.is_set() or self._monotonic() >= self._calm_at

    def _deaths(self, keys: Collection[str]) -> dict[str, int]:
        """Return what is kept of the attempts of each of these deliveries that was under way at a death.

        One that was parked undecoded, and comes again because nobody heard of that, must not be decoded now.
        """
        self.activity.step = "looking up attempts"
        known = self._committer.persist(lambda: self._unit_of_work.known(keys))
        parked = dict.fromkeys(known, undecoded(self._settings.max_attempts))
        return self._committer.persist(lambda: self._unit_of_work.attempts(keys)) | parked

    def _attempt(self, deliveries: Sequence[Delivery], count: int) -> None:
        """Commit that redelivered events are under way once more, then decode and settle them.

        Only those that run now are counted: one that waits behind an event that kills is not to blame. That
        one alone, or at its last attempt, was decoded is noted too, once: it then is no death of decoding.
        """
        begun = begin(count)
        self._count(_keys(deliveries), begun)
        noted = was_decoded(begun) or not (count or deaths_of(begun) >= self._settings.max_attempts)
        for events in read_in_windows(deliveries, self._partitions, self._settings.batch_bytes):
            if not noted:
                self._count(_keys(event.delivery for event in events), decoded(begun))
            held = self._committer.settle(events)
            self._give_back(_keys(event.delivery for event in held), begun, count)
            self._repairs |= any(map(repairs, held))

    def _count(self, keys: Collection[str], count: int) -> None:
        if keys:
            self.activity.step = "counting attempts"
            counts = dict.fromkeys(keys, count)
            self._committer.persist(lambda: self._unit_of_work.count_attempts(counts))

    def _give_back(self, keys: Collection[str], begun: int, before: int) -> None:
        """Held is not under way: a worker that ends meanwhile has not died of these events."""
        if keys:
            self.activity.step = "giving back attempts of events that are held"
            most = decoded(begun)
            self._committer.persist(lambda: self._unit_of_work.give_back_attempts(keys, begun, most, before))

    def _park_killer(self, delivery: Delivery, count: int) -> None:
        """Park what workers died of; undecoded if nobody has survived decoding it."""
        most = self._settings.max_attempts
        text = f"the worker died {most} times while this event was under way"
        bad = BadMessage(ErrorCode.WORKER_DIED, "$", text)
        if was_decoded(count):
            held = self._committer.park(read_event(delivery, self._partitions), bad)
            self._repairs |= any(map(repairs, held))
        else:
            self._committer.park(unread_event(delivery, bad), bad)


def _keys(deliveries: Iterable[Delivery]) -> list[str]:
    """Return under which ids the attempts of these deliveries are counted: of those that came before."""
    return [attempts_key(delivery) for delivery in deliveries if delivery.redelivered]
