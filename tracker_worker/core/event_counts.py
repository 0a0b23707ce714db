# SPDX-License-Identifier: Apache-2.0
"""Counts of what became of events, by labels from closed sets: never by a node, an instance or a text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from msgspec import Struct, field

from tracker_worker.core.decode import Event
from tracker_worker.core.envelope import PING
from tracker_worker.core.records import PARKED, DeadLetter
from tracker_worker.domain.commands import GetNode
from tracker_worker.domain.decision import Audited, Decision
from tracker_worker.domain.refusal_reasons import refusal_reasons

K = TypeVar("K")

DUPLICATE = "duplicate"
"""Outcome of an event whose receipt existed: nothing changed, and the first reply was sent again."""
ANSWERED = "answered"
"""Outcome of a question (get_node, a ping): nothing changed, and no receipt is left."""
NO_METHOD = "unknown"
"""Method of an event whose method does not exist, or which could not be decoded."""


class EventCounts(Struct):
    """What became of events."""

    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By method and outcome."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Refused commands, by each of their reasons."""
    corrections: Counter[str] = field(default_factory=Counter)
    """Corrections of audits, by reason."""
    dead_letters: Counter[str] = field(default_factory=Counter)
    """By code."""

    def count(self, method: str | None, outcome: str) -> None:
        """Count an event."""
        self.events[method or NO_METHOD, outcome] += 1

    def add(self, other: "EventCounts") -> None:
        """Add the counts of another, to which its thread may add meanwhile."""
        _add(self.events, other.events)
        _add(self.refusals, other.refusals)
        _add(self.corrections, other.corrections)
        _add(self.dead_letters, other.dead_letters)


def _add(own: Counter[K], others: Counter[K]) -> None:
    # dict() copies in one step: another thread may add a key, which is an error during an iteration.
    for key, count in dict(others).items():  # Counter.update takes ten times as long for a few keys.
        own[key] += count


class SettledEvent(Struct, frozen=True):
    """An event and its outcome. `reason` is why it was refused or ignored, or the code of its dead letter."""

    event: Event
    method: str | None
    outcome: str
    reason: str | None = None


def settled(
    events: Iterable[Event], decisions: Iterable[tuple[Event, Decision]], letters: Iterable[DeadLetter]
) -> Iterator[SettledEvent]:
    """Yield what became of each event of a batch: decided, parked, answered, or a duplicate."""
    decided = {id(event.delivery): decision for event, decision in decisions}
    parked = {letter.event_id: letter.code for letter in letters}
    for event in events:
        # An event whose id was used before is parked under its digest.
        key = event.event_id if event.event_id in parked else event.digest
        if (decision := decided.get(id(event.delivery))) is not None:
            yield SettledEvent(event, event.method, decision.outcome.value, decision.reason)
        elif (code := parked.pop(key, None)) is not None:
            yield SettledEvent(event, event.method, PARKED, code)
        elif event.is_ping:
            yield SettledEvent(event, PING, ANSWERED)
        elif event.is_question or isinstance(event.command, GetNode):
            yield SettledEvent(event, event.method, ANSWERED)
        else:
            yield SettledEvent(event, event.method, DUPLICATE)


def counts_of(
    events: Iterable[Event], decisions: Sequence[tuple[Event, Decision]], letters: Sequence[DeadLetter]
) -> EventCounts:
    """Return what became of the events of a batch, counted."""
    counts = EventCounts()
    for each in settled(events, decisions, letters):
        counts.count(each.method, each.outcome)
    for _, decision in decisions:
        _count_decision(counts, decision)
    for letter in letters:
        counts.dead_letters[letter.code] += 1
    return counts


def _count_decision(counts: EventCounts, decision: Decision) -> None:
    if decision.refusal is not None:
        counts.refusals.update(refusal_reasons(decision.refusal, decision.reason or ""))
    for effect in decision.effects:
        if isinstance(effect, Audited):
            counts.corrections.update(each.reason for each in effect.corrections)
