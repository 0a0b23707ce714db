# SPDX-License-Identifier: Apache-2.0
"""The reference model of a node's ledger: its claims after each event, what they add up to, the outcomes.

It is written from the documented transitions and imports nothing of the worker, so that it shares no fault
with the rules that it checks. Values are immutable: an event returns the next ledger. The topologies and
devices of claims are not computed here; `tests.properties.hardware` checks those.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

Json = dict[str, Any]
Key = tuple[str, str]
"""Instance uuid and role."""
States = tuple[str, str | None]
"""vm_state and task_state."""
Origin = tuple[str, int]
"""The client that sent an event, and its number there."""

INSTANCE, INCOMING, OUTGOING = "instance", "incoming", "outgoing"
ROLES = (INSTANCE, INCOMING, OUTGOING)


class Amounts(NamedTuple):
    """What a claim counts for, or what is used of a node: memory and disk in MB."""

    vcpus: int = 0
    memory_mb: int = 0
    disk_mb: int = 0

    @property
    def shown(self) -> tuple[int, int, int]:
        """As vcpus_used, memory_mb_used and local_gb_used show them: disk in whole GB."""
        return self.vcpus, self.memory_mb, self.disk_mb // 1024

    def within(self, limits: "Amounts") -> bool:
        """Whether none of the amounts exceeds its limit."""
        return all(amount <= limit for amount, limit in zip(self, limits, strict=True))


DEFAULT_RESERVE = Amounts(memory_mb=512)
"""What a worker reserves of a node whose report says nothing of it."""


def amounts_of(flavor: Json, volume_backed: bool = False) -> Amounts:
    """What an instance of a flavor counts for: a root disk on a volume does not, ephemeral and swap do."""
    gigabytes = flavor.get("ephemeral_gb", 0) + (0 if volume_backed else flavor["root_gb"])
    disk_mb = gigabytes * 1024 + flavor.get("swap_mb", 0)
    return Amounts(flavor["vcpus"], flavor["memory_mb"], disk_mb)


def total(amounts: Iterable[Amounts]) -> Amounts:
    """The sum, resource by resource."""
    return Amounts(*(sum(column) for column in zip(Amounts(), *amounts, strict=True)))


class Counted(Protocol):
    """What a model of a claim has to know of itself."""

    @property
    def amounts(self) -> Amounts: ...


C = TypeVar("C", bound=Counted)


@dataclass(frozen=True)
class Claims(Generic[C]):
    """The claims of a node by instance and role, and how the events of a move change the roles."""

    by_key: Mapping[Key, C] = field(default_factory=dict)

    def used(self, reserve: Amounts) -> Amounts:
        """The reserve and the sum of all claims."""
        return total([reserve, *(claim.amounts for claim in self.by_key.values())])

    def get(self, uuid: str, role: str) -> C | None:
        """The claim of an instance in a role."""
        return self.by_key.get((uuid, role))

    def of(self, uuid: str) -> dict[str, C]:
        """The claims of an instance by role."""
        return {role: self.by_key[uuid, role] for role in ROLES if (uuid, role) in self.by_key}

    def put(self, uuid: str, role: str, claim: C) -> "Claims[C]":
        """Add a claim; one that is there in that role is replaced."""
        return Claims({**self.by_key, (uuid, role): claim})

    def drop(self, uuid: str, *roles: str) -> "Claims[C]":
        """Release the claims of an instance in these roles, if there are any."""
        gone = {(uuid, role) for role in roles}
        return Claims({key: claim for key, claim in self.by_key.items() if key not in gone})

    def turn(self, uuid: str, old: str, new: str) -> "Claims[C]":
        """Change the role of a claim, which replaces one in the new role; without one nothing happens."""
        claim = self.get(uuid, old)
        return self if claim is None else self.drop(uuid, old).put(uuid, new, claim)

    def start_move(self, uuid: str) -> "Claims[C]":
        """The instance leaves."""
        return self.turn(uuid, INSTANCE, OUTGOING)

    def finish_move(self, uuid: str) -> "Claims[C]":
        """The incoming claim becomes the instance's; what was here before is the outgoing one."""
        return self.turn(uuid, INSTANCE, OUTGOING).turn(uuid, INCOMING, INSTANCE)

    def drop_move_claim_at_dest(self, uuid: str) -> "Claims[C]":
        """A finished move is reverted: what it brought is released, what was here before is back."""
        return self.drop(uuid, INSTANCE).turn(uuid, OUTGOING, INSTANCE)

    def finish_revert_move(self, uuid: str) -> "Claims[C]":
        """The instance is back at the source of its move."""
        return self.turn(uuid, OUTGOING, INSTANCE)


@dataclass(frozen=True)
class Claim:
    """A claim: its flavor, the move that brought it, and the last reported states of its instance."""

    flavor: Json
    migration: str | None
    states: States
    volume_backed: bool = False

    @cached_property
    def amounts(self) -> Amounts:
        return amounts_of(self.flavor, self.volume_backed)

    @property
    def row(self) -> tuple[object, ...]:
        """vcpus, memory_mb, disk_mb, migration_uuid, vm_state and task_state of its row in SQL."""
        return (*self.amounts, self.migration, *self.states)


Next = tuple["Ledger", str]
"""The ledger after an event, and the event's outcome."""


@dataclass(frozen=True)
class Ledger:
    """A node: its claims, its failed builds, and the origin of the last event of each instance.

    A method that is named after a command, or says what one does, returns the next ledger and the outcome.
    """

    claims: Claims[Claim] = field(default_factory=lambda: Claims[Claim]())
    failed_builds: int = 0
    origins: Mapping[str, Origin] = field(default_factory=dict)
    reserve: Amounts = DEFAULT_RESERVE

    @cached_property
    def used(self) -> Amounts:
        """What the node's row must say is used."""
        return self.claims.used(self.reserve)

    @cached_property
    def rows(self) -> dict[Key, tuple[object, ...]]:
        """What the rows of its claims must say."""
        return {key: claim.row for key, claim in self.claims.by_key.items()}

    def differs(self, other: "Ledger") -> bool:
        """Whether a notification has to tell the difference."""
        return (self.claims, self.failed_builds) != (other.claims, other.failed_builds)

    def claim(self, uuid: str, role: str, wanted: Claim, limits: Amounts | None = None) -> Next:
        """An equal claim is granted again; a new or different one is granted within the limits."""
        held = self.claims.get(uuid, role)
        if held is not None and (held.flavor, held.volume_backed) == (wanted.flavor, wanted.volume_backed):
            wanted = replace(wanted, migration=wanted.migration or held.migration)
        elif limits is not None and not self._with(uuid, role, wanted).used.within(limits):
            return self, "refused"
        return self._with(uuid, role, wanted), "granted"

    def release(self, uuid: str, *roles: str) -> Next:
        """An abort, a drop of a move's claim, a confirm, a deletion."""
        return self._after(self.claims.drop(uuid, *roles))

    def take_states(self, uuid: str, states: States) -> Next:
        """An update of an instance that stays."""
        held = self.claims.get(uuid, INSTANCE)
        return (self, "ignored") if held is None else self._after(self._says(self.claims, uuid, states))

    def start_move(self, uuid: str) -> Next:
        return self._after(self.claims.start_move(uuid))

    def finish_move(self, uuid: str, states: States) -> Next:
        return self._after(self._says(self.claims.finish_move(uuid), uuid, states))

    def drop_move_claim_at_dest(self, uuid: str) -> Next:
        return self._after(self.claims.drop_move_claim_at_dest(uuid))

    def finish_revert_move(self, uuid: str, states: States) -> Next:
        return self._after(self._says(self.claims.finish_revert_move(uuid), uuid, states))

    def build_failed(self) -> Next:
        return replace(self, failed_builds=self.failed_builds + 1), "applied"

    def audit(self, listed: Mapping[str, tuple[Json, States]], source: str, as_of: int) -> Next:
        """An audit without migrations: flavor and states of each instance as of an event of its source.

        Instances of which that source has sent newer events keep their claims.
        """
        newer = newer_than(self.origins, source, as_of)
        claims = self.claims
        for uuid, role in self.claims.by_key:
            if uuid not in newer and (uuid not in listed or role != INSTANCE):
                claims = claims.drop(uuid, role)
        for uuid, (flavor, states) in listed.items():
            if uuid not in newer:
                claims = claims.put(uuid, INSTANCE, Claim(flavor, self._migration(uuid, flavor), states))
        after, outcome = self._after(claims)
        return replace(after, origins=newer), outcome

    def record(self, uuid: str, origin: Origin) -> "Ledger":
        """Remember the origin of an instance's event."""
        return replace(self, origins=with_origin(self.origins, uuid, origin))

    def _with(self, uuid: str, role: str, claim: Claim) -> "Ledger":
        return replace(self, claims=self.claims.put(uuid, role, claim))

    def _after(self, claims: Claims[Claim]) -> Next:
        return (self, "ignored") if claims == self.claims else (replace(self, claims=claims), "applied")

    @staticmethod
    def _says(claims: Claims[Claim], uuid: str, states: States) -> Claims[Claim]:
        return claims.put(uuid, INSTANCE, replace(claims.by_key[uuid, INSTANCE], states=states))

    def _migration(self, uuid: str, flavor: Json) -> str | None:
        """The move of the claim that stays in an audit: the one of that flavor, else the instance's."""
        held = [
            (claim.flavor != flavor, role != INSTANCE, claim) for role, claim in self.claims.of(uuid).items()
        ]
        return min(held, key=lambda each: each[:2])[2].migration if held else None


def with_origin(origins: Mapping[str, Origin], uuid: str, origin: Origin) -> Mapping[str, Origin]:
    """The origins with that of an instance's event, unless a later one of the same client is known."""
    last = origins.get(uuid)
    if last is not None and last[0] == origin[0] and last[1] >= origin[1]:
        return origins
    return {**origins, uuid: origin}


def newer_than(origins: Mapping[str, Origin], source: str, as_of: int | None) -> dict[str, Origin]:
    """The origins of one client behind a number; without a number there are none."""
    if as_of is None:
        return {}
    return {uuid: origin for uuid, origin in origins.items() if origin[0] == source and origin[1] > as_of}
