# SPDX-License-Identifier: Apache-2.0
"""What must come of the casts: each node's ledger after each of its events. Nothing here is the project's.

A node's events take effect in the order in which they were cast, each once. So everything that SQL may ever
show of a node is known when its events are cast: one state for each sequence.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

VCPUS, MEMORY_MB, LOCAL_GB = 8, 16384, 100
RESERVED_MEMORY_MB = 512
FLAVORS = (
    {"vcpus": 1, "memory_mb": 1024, "root_gb": 10},
    {"vcpus": 2, "memory_mb": 4096, "root_gb": 20},
    {"vcpus": 4, "memory_mb": 6144, "root_gb": 30},
)
BUILDING = ("building", "spawning")
ACTIVE = ("active", None)
STOPPED = ("stopped", None)
RESIZED = ("resized", None)

Json = dict[str, Any]
Key = tuple[str, str]
States = tuple[str, str | None]


@dataclass(frozen=True)
class Held:
    """A claim: which flavor, the move that brought it, the states of its instance."""

    flavor: int
    migration: str | None
    states: States

    @property
    def row(self) -> tuple[object, ...]:
        flavor = FLAVORS[self.flavor]
        sizes = (flavor["vcpus"], flavor["memory_mb"], flavor["root_gb"] * 1024)
        return (*sizes, self.migration, *self.states)


@dataclass(frozen=True)
class Ledger:
    """A node's claims by instance and role, its failed builds, and which event touched an instance last."""

    claims: dict[Key, Held] = field(default_factory=dict)
    failed_builds: int = 0
    touched: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def used(self) -> tuple[int, int, int]:
        """vcpus, memory in MB, disk in MB, with what is reserved."""
        flavors = [FLAVORS[held.flavor] for held in self.claims.values()]
        return (
            sum(each["vcpus"] for each in flavors),
            sum(each["memory_mb"] for each in flavors) + RESERVED_MEMORY_MB,
            sum(each["root_gb"] for each in flavors) * 1024,
        )

    def visible(self, other: "Ledger") -> bool:
        """Whether somebody who looks sees a difference."""
        return (self.claims, self.failed_builds) != (other.claims, other.failed_builds)

    def roles(self, uuid: str) -> set[str]:
        return {role for instance, role in self.claims if instance == uuid}

    def put(self, uuid: str, role: str, held: Held) -> "Ledger":
        return replace(self, claims={**self.claims, (uuid, role): held})

    def drop(self, uuid: str, *roles: str) -> "Ledger":
        gone = {(uuid, role) for role in roles}
        return replace(self, claims={key: held for key, held in self.claims.items() if key not in gone})

    def touch(self, uuid: str, source: str, number: int) -> "Ledger":
        last = self.touched.get(uuid)
        if last is not None and last[0] == source and last[1] >= number:
            return self
        return replace(self, touched={**self.touched, uuid: (source, number)})

    def fits(self, uuid: str, role: str, flavor: int) -> bool:
        vcpus, memory_mb, disk_mb = self.drop(uuid, role).used
        wanted = FLAVORS[flavor]
        return (
            vcpus + wanted["vcpus"] <= VCPUS
            and memory_mb + wanted["memory_mb"] <= MEMORY_MB
            and disk_mb + wanted["root_gb"] * 1024 <= LOCAL_GB * 1024
        )


Next = tuple[Ledger, str]
"""A ledger and the outcome that led to it."""


def report(ledger: Ledger) -> Next:
    """The first report of a node."""
    return ledger, "applied"


def claim(ledger: Ledger, uuid: str, role: str, flavor: int, migration: str | None, states: States) -> Next:
    """An instance_claim or a resize_claim: the same again, a replacement, or a new one."""
    held = ledger.claims.get((uuid, role))
    if held is not None and held.flavor == flavor:
        again = Held(flavor, migration or held.migration, states)
        return ledger.put(uuid, role, again), "granted"
    if not ledger.fits(uuid, role, flavor):
        return ledger, "refused"
    return ledger.put(uuid, role, Held(flavor, migration, states)), "granted"


def release(ledger: Ledger, uuid: str, *roles: str) -> Next:
    """An abort, a drop of a claim, a confirm, a deletion."""
    return ledger.drop(uuid, *roles), "applied" if ledger.roles(uuid) & set(roles) else "ignored"


def take_states(ledger: Ledger, uuid: str, states: States) -> Next:
    """An update of an instance that stays."""
    held = ledger.claims.get((uuid, "instance"))
    if held is None or held.states == states:
        return ledger, "ignored"
    return ledger.put(uuid, "instance", replace(held, states=states)), "applied"


def finish_move(ledger: Ledger, uuid: str, states: States) -> Next:
    """An incoming claim arrives; what was here before becomes the outgoing one."""
    arrived = replace(ledger.claims[uuid, "incoming"], states=states)
    left = ledger.claims.get((uuid, "instance"))
    after = ledger.drop(uuid, "incoming").put(uuid, "instance", arrived)
    return after if left is None else after.put(uuid, "outgoing", left), "applied"


def build_failed(ledger: Ledger) -> Next:
    return replace(ledger, failed_builds=ledger.failed_builds + 1), "applied"


def _label(ledger: Ledger, uuid: str, flavor: int) -> str | None:
    """The move that brought an instance: of its claims that one stays which has its size, or its role."""
    held = [
        (h.flavor != flavor, role != "instance", h) for (u, role), h in ledger.claims.items() if u == uuid
    ]
    return min(held, key=lambda each: each[:2])[2].migration if held else None


def audit(ledger: Ledger, listed: dict[str, tuple[int, States]], source: str, as_of: int) -> Next:
    """An audit that lists instances and no move, all as they were at `as_of` of its source."""
    newer = {uuid: touch for uuid, touch in ledger.touched.items() if touch[0] == source and touch[1] > as_of}
    after = ledger
    for uuid, role in ledger.claims:
        if uuid not in newer and (uuid not in listed or role != "instance"):
            after = after.drop(uuid, role)
    for uuid, (flavor, states) in listed.items():
        if uuid in newer:
            continue
        after = after.put(uuid, "instance", Held(flavor, _label(ledger, uuid, flavor), states))
    after = replace(after, touched=newer)
    return after, "applied" if after.visible(ledger) else "ignored"


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
    """An audit that changed nothing after an event, and the ledger before it: it had other touches."""

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
        """Source and number of each audit that changes nothing: no receipt tells of it."""

    @property
    def ledger(self) -> Ledger:
        """The node after everything that was cast so far."""
        return self.entries[-1].ledger if self.entries else Ledger()

    def append(self, event_id: str, method: str, after: Next) -> None:
        """Note an event that will be applied, granted, refused or ignored."""
        self.entries.append(Entry(event_id, method, after[1], after[0]))

    def look(self, event_id: str, ledger: Ledger, source: str, number: int) -> None:
        """Note an audit that changes nothing: the node stays at its sequence, and has seen it."""
        last = self.entries[-1]
        looks = (*last.looks, Look(event_id, source, number, last.ledger))
        self.entries[-1] = replace(last, ledger=ledger, looks=looks)
        self.unrecorded[event_id] = source, number

    def roll_back(self, sequence: int, has_seen: Callable[[str, str, int], bool]) -> None:
        """Forget what came after a sequence, and the audits that the node has not seen then."""
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

    def last_visible(self, sequence: int) -> int:
        """The sequence of the last event up to this one that a notification has to cover."""
        for number in range(sequence, 1, -1):
            if self.at(number).visible(self.at(number - 1)):
                return number
        return 1 if sequence else 0
