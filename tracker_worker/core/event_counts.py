# SPDX-License-Identifier: Apache-2.0
"""Counts of what became of events, by labels from closed sets: never by a node, an instance or a text."""

from collections import Counter

from msgspec import Struct, field

from tracker_worker.domain.decide import Audited, Decision
from tracker_worker.domain.refusal_reasons import refusal_reasons

DUPLICATE = "duplicate"
"""Outcome of an event whose receipt existed: nothing changed, and the first reply was sent again."""
ANSWERED = "answered"
"""Outcome of a question (get_node, a ping): nothing changed, and no receipt is left."""
NO_METHOD = "unknown"
"""Method of an event whose method does not exist, or which could not be decoded."""


class EventCounts(Struct):
    """What became of events. All keys are from closed sets: no name of a node, no id."""

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

    def count_decision(self, decision: Decision) -> None:
        """Count why a command was refused, and what an audit corrected."""
        if decision.refusal is not None:
            self.refusals.update(refusal_reasons(decision.refusal, decision.reason or ""))
        for effect in decision.effects:
            if isinstance(effect, Audited):
                self.corrections.update(each.reason for each in effect.corrections)

    def add(self, other: "EventCounts") -> None:
        """Add the counts of another."""
        for key, count in other.events.items():  # Counter.update takes ten times as long for a few keys.
            self.events[key] += count
        if other.refusals:
            self.refusals.update(other.refusals)
        if other.corrections:
            self.corrections.update(other.corrections)
        if other.dead_letters:
            self.dead_letters.update(other.dead_letters)
