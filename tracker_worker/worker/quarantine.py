# SPDX-License-Identifier: Apache-2.0
"""The quarantine: isolates events that were in flight when a worker crashed, and parks poison messages.

`core.quarantine` has the rules; this class keeps the attempts in the database.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.core.decode import Event, attempts_key, decode_event, decode_in_windows, undecoded_event
from tracker_worker.core.delivery import Delivery
from tracker_worker.core.quarantine import NO_ATTEMPTS, Attempts, Counted, isolate_suspects
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.worker.activity import Activity
from tracker_worker.worker.retries import Retries
from tracker_worker.worker.settings import LaneSettings


class Attempt(Struct, frozen=True):
    """Decoded events that are committed together. `begun` are their attempts including this one."""

    events: list[Event]
    before: Attempts
    begun: Attempts


class Quarantine:
    """Belongs to the lane's thread."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        partitions: int,
        settings: LaneSettings,
        retries: Retries,
        activity: Activity,
    ) -> None:
        self._unit_of_work = unit_of_work
        self._partitions = partitions
        self._settings = settings
        self._retries = retries
        self._activity = activity

    def admit(
        self,
        deliveries: Sequence[Delivery],
        is_warm: Callable[[], bool],
        defer: Callable[[Sequence[Delivery]], None],
    ) -> Iterator[Attempt]:
        """Yield the attempts to make, in order; each is recorded before it is yielded.

        A last attempt waits until `is_warm`: `defer` takes it and all after it. Without that, a crash loop
        with another cause would park an event that it interrupts repeatedly. Each last attempt asks anew,
        because the attempts before it may have met a failure of the database.
        """
        parts = isolate_suspects(self._counted(deliveries))
        for part, before in parts:
            if before.leave_one(self._settings.max_attempts) and not is_warm():
                defer([*part, *(delivery for behind, _ in parts for delivery in behind)])
                return
            if before.begun >= self._settings.max_attempts:
                yield self._crash_loop(part[0], before)
            else:
                yield from self._attempts(part, before)

    def take_back(self, attempt: Attempt, held: Iterable[Event]) -> None:
        """Take back the attempt of held events: a crash while they are held is not charged to them."""
        keys = _keys(event.delivery for event in held)
        if keys and attempt.begun != attempt.before:
            self._activity.step = "taking back attempts of events that are held"
            self._retries.persist(
                lambda: self._unit_of_work.take_back_attempts(keys, attempt.begun, attempt.before)
            )

    def _counted(self, deliveries: Iterable[Delivery]) -> list[Counted]:
        """Return deliveries with their attempts. Only redelivered events can have any."""
        keys = {id(delivery): attempts_key(delivery) for delivery in deliveries if delivery.redelivered}
        found = self._recorded(keys.values()) if keys else {}
        return [(delivery, found.get(keys.get(id(delivery), ""), NO_ATTEMPTS)) for delivery in deliveries]

    def _recorded(self, keys: Collection[str]) -> dict[str, Attempts]:
        """Return the attempts of these deliveries.

        One that was parked undecoded, and comes again because its acknowledgement was lost, must not be
        decoded now: its receipt is found under the same key.
        """
        self._activity.step = "looking up attempts"
        known = self._retries.persist(lambda: self._unit_of_work.find_receipts(keys))
        parked = dict.fromkeys(known, Attempts(self._settings.max_attempts))
        return self._retries.persist(lambda: self._unit_of_work.attempts(keys)) | parked

    def _attempts(self, deliveries: Sequence[Delivery], before: Attempts) -> Iterator[Attempt]:
        """Record that redelivered events are in flight once more, then decode them and yield them.

        An event alone, or at its last attempt, is recorded once more when it was decoded: a crash is then not
        one of decoding.
        """
        begun = before.begin()
        self._record(_keys(deliveries), begun)
        is_last = begun.begun >= self._settings.max_attempts
        records_decoding = not begun.decoded and (before != NO_ATTEMPTS or is_last)
        for events in decode_in_windows(deliveries, self._partitions, self._settings.batch_bytes):
            if records_decoding:
                self._record(_keys(event.delivery for event in events), begun.decode())
            yield Attempt(events, before, begun)

    def _record(self, keys: Collection[str], attempts: Attempts) -> None:
        if keys:
            self._activity.step = "recording attempts"
            recorded = dict.fromkeys(keys, attempts)
            self._retries.persist(lambda: self._unit_of_work.record_attempts(recorded))

    def _crash_loop(self, delivery: Delivery, attempts: Attempts) -> Attempt:
        """Return the attempt that parks a poison message, undecoded if decoding may cause the crashes."""
        most = self._settings.max_attempts
        text = f"the worker died {most} times while this event was in flight"
        bad = BadMessage(ErrorCode.WORKER_DIED, "$", text)
        event = undecoded_event(delivery, bad)
        if attempts.decoded:
            event = replace(decode_event(delivery, self._partitions), error=bad)
        return Attempt([event], attempts, attempts)


def _keys(deliveries: Iterable[Delivery]) -> list[str]:
    """Return the keys of the attempts of those deliveries that are redelivered."""
    return [attempts_key(delivery) for delivery in deliveries if delivery.redelivered]
