# SPDX-License-Identifier: Apache-2.0
"""Each node's events in cast order, and what the ledger model makes of them: one ledger for each sequence.

A node's events take effect in the order in which they were cast, each once. So every state of a node that
SQL may show is known when its events are cast. Nothing of the worker is imported.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.ledger_model import Ledger, Next


@dataclass(frozen=True)
class Entry:
    """An event of a node, and the node after it. `code` is that of a dead letter."""

    event_id: str
    method: str
    outcome: str
    ledger: Ledger
    code: str | None = None
    looks: tuple["Look", ...] = ()


@dataclass(frozen=True)
class Look:
    """An audit that changed nothing after an event, and the ledger before it, which had other origins."""

    event_id: str
    source: str
    number: int
    before: Ledger


class History:
    """All events of one node in cast order: the entry n-1 has sequence n."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.entries: list[Entry] = []
        self.unrecorded: dict[str, tuple[str, int]] = {}
        """Source and number of each audit that changes nothing, and so leaves no receipt."""

    @property
    def ledger(self) -> Ledger:
        """The node after everything that was cast so far."""
        return self.entries[-1].ledger if self.entries else Ledger()

    def append(self, event_id: str, method: str, after: Next) -> None:
        """Note an event that will be applied, granted, refused or ignored."""
        self.entries.append(Entry(event_id, method, after[1], after[0]))

    def look(self, event_id: str, ledger: Ledger, source: str, number: int) -> None:
        """Note an audit that changes nothing: the node remembers it and keeps its sequence."""
        last = self.entries[-1]
        looks = (*last.looks, Look(event_id, source, number, last.ledger))
        self.entries[-1] = replace(last, ledger=ledger, looks=looks)
        self.unrecorded[event_id] = source, number

    def roll_back(self, sequence: int, has_seen: Callable[[str, str, int], bool]) -> None:
        """Forget what came after a sequence, and the audits that the node does not remember then."""
        del self.entries[sequence:]
        while self.entries and (looks := self.entries[-1].looks):
            if has_seen(self.node, looks[-1].source, looks[-1].number):
                return
            self.entries[-1] = replace(self.entries[-1], ledger=looks[-1].before, looks=looks[:-1])

    def park(self, event_id: str, method: str, code: str) -> None:
        """Note an event that will be a dead letter."""
        self.entries.append(Entry(event_id, method, "parked", self.ledger, code))

    def at(self, sequence: int) -> Ledger:
        """The node at a sequence."""
        return self.entries[sequence - 1].ledger

    def last_change(self, sequence: int) -> int:
        """The sequence of the last event up to this one that a notification has to cover."""
        for number in range(sequence, 1, -1):
            if self.at(number).differs(self.at(number - 1)):
                return number
        return 1 if sequence else 0
