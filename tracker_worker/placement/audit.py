# SPDX-License-Identifier: Apache-2.0
"""The audit: a node's claims against the allocations of its providers, consumer by consumer. Pure.

As in Nova since Queens, the consumer of an instance's allocation is the instance, and that of the source of a
move is the migration. The ledger has a migration at the destination only: `questions` returns the uuids whose
claims on all nodes `compare` needs to know.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum

from msgspec import Struct

from tracker_worker.domain.claim_places import ClaimPlace
from tracker_worker.domain.held_claims import Claim, Role
from tracker_worker.domain.node import Node
from tracker_worker.placement.sizes import CLASSES, allocation_of, differing

Resources = Mapping[str, int]

_MOVING = frozenset(
    ("resize_prep", "resize_migrating", "resize_migrated", "resize_finish", "resize_reverting", "migrating")
    + ("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning")
)
"""The tasks during which an instance's allocations are where its claims are not yet, or no longer."""
_DEFINITE_FIRST = (Role.INCOMING, Role.INSTANCE, Role.OUTGOING)


class FindingKind(StrEnum):
    """How an allocation differs from the ledger."""

    MISSING = "missing"
    """A claim has no allocation."""
    SIZE = "size"
    """An allocation has other amounts than its claim."""
    ORPHANED = "orphaned"
    """An allocation of a consumer that no node claims."""
    DOUBLE = "double"
    """An allocation that a finished move has left: another node claims the instance."""
    REMOVED_NODE = "removed_node"
    """An allocation of a node that was removed."""


class Held(Struct, frozen=True):
    """What consumers hold of a node's providers in sum, by consumer.

    `providers` are their uuids, none if Placement has no provider of the node. `compared` are the classes of
    which amounts are compared: not DISK_GB if none of the providers has it, since shared storage has.
    """

    providers: tuple[str, ...]
    consumers: Mapping[str, Resources]
    compared: tuple[str, ...] = CLASSES


class Finding(Struct, frozen=True):
    """A difference. `consumer` is None if the migration is not known that should hold a claim's allocation.

    `ledger` is what Nova allocates for the claim, `placement` what the consumer holds of the node's tree;
    None for nothing. `nodes` are the other nodes that claim the instance.
    """

    node: str
    kind: FindingKind
    consumer: str | None
    instance_uuid: str | None = None
    role: Role | None = None
    ledger: Resources | None = None
    placement: Resources | None = None
    nodes: tuple[str, ...] = ()


def questions(node: Node, held: Held) -> set[str]:
    """Return the instances and migrations of a node that its own claims do not explain."""
    explained = {
        uuid
        for uuid, claims in node.claims.items()
        if uuid in held.consumers and [claim.role for claim in claims] == [Role.INSTANCE]
    }
    return (set(node.claims) | set(held.consumers)) - explained


def compare(node: Node, held: Held, places: Iterable[ClaimPlace]) -> list[Finding]:
    """Return how the allocations of a node differ from its claims.

    `places` are the claims of the uuids of `questions`. All allocations of a node that is not tracked are
    findings.
    """
    return list(_Comparison(node, held, places).findings())


class _Comparison:
    """Claims are matched with allocations one by one; what is left on either side is a finding."""

    def __init__(self, node: Node, held: Held, places: Iterable[ClaimPlace]) -> None:
        self._node = node
        self._held = held
        self._left = dict(held.consumers)
        self._of_instance: dict[str, list[ClaimPlace]] = {}
        self._of_migration: dict[str, list[ClaimPlace]] = {}
        for place in places:
            self._of_instance.setdefault(place.instance_uuid, []).append(place)
            if place.migration_uuid is not None:
                self._of_migration.setdefault(place.migration_uuid, []).append(place)

    def findings(self) -> Iterator[Finding]:
        """Yield what differs."""
        if not self._node.tracked:
            for consumer in sorted(self._left):
                places = self._elsewhere(consumer) or self._of_migration.get(consumer, [])
                yield self._leftover(FindingKind.REMOVED_NODE, consumer, places)
            return
        without: list[Claim] = []
        claims = sorted(self._node.held(), key=lambda claim: _DEFINITE_FIRST.index(claim.role))
        for claim in claims:
            if claim.devices_only:
                continue
            holding = [uuid for uuid in self._consumers(claim) if uuid in self._left]
            if holding:
                yield from self._sized(claim, holding[0])
            else:
                without.append(claim)
        for claim in without:
            if not self._match_unknown(claim):
                yield self._missing(claim)
        for consumer in sorted(self._left):
            yield from self._unmatched(consumer)

    def _consumers(self, claim: Claim) -> list[str]:
        """Return the consumers that may hold the allocation of a claim, the likeliest first."""
        uuid = claim.instance_uuid
        arriving = self._node.claim(uuid, Role.INCOMING)
        taken = arriving is not None and not arriving.devices_only
        if claim.role is Role.INCOMING:
            return [uuid]
        if claim.role is Role.INSTANCE:
            pending = [place.migration_uuid for place in self._places(uuid, Role.INCOMING)]
            return [*([] if taken else [uuid]), *(each for each in pending if each)]
        landed = self._places(uuid, Role.INSTANCE)
        moves = [place.migration_uuid for place in (*landed, *self._places(uuid, Role.INCOMING))]
        return [*(each for each in moves if each), *([] if landed else [uuid])]

    def _places(self, instance_uuid: str, role: Role) -> list[ClaimPlace]:
        return [place for place in self._of_instance.get(instance_uuid, ()) if place.role is role]

    def _sized(self, claim: Claim, consumer: str) -> Iterator[Finding]:
        expected, found = allocation_of(claim), self._left.pop(consumer)
        if differing(expected, found, self._held.compared):
            yield self._of_claim(FindingKind.SIZE, claim, consumer, found)

    def _match_unknown(self, claim: Claim) -> bool:
        """Match the claim of a moving instance with an allocation of its size that no claim names.

        The ledger does not know a migration whose destination is not tracked, or has no claim yet.
        """
        if claim.role is Role.INCOMING or (claim.role is Role.INSTANCE and claim.task_state not in _MOVING):
            return False
        expected = allocation_of(claim)
        for consumer in sorted(self._left):
            if not self._is_named(consumer) and not differing(
                expected, self._left[consumer], self._held.compared
            ):
                del self._left[consumer]
                return True
        return False

    def _is_named(self, consumer: str) -> bool:
        return (
            consumer in self._of_instance or consumer in self._of_migration or consumer in self._node.claims
        )

    def _missing(self, claim: Claim) -> Finding:
        consumer = next(iter(self._consumers(claim)), None)
        return self._of_claim(FindingKind.MISSING, claim, consumer, None)

    def _of_claim(
        self, kind: FindingKind, claim: Claim, consumer: str | None, found: Resources | None
    ) -> Finding:
        expected = allocation_of(claim)
        return Finding(self._node.name, kind, consumer, claim.instance_uuid, claim.role, expected, found)

    def _unmatched(self, consumer: str) -> Iterator[Finding]:
        """Yield the finding of an allocation that is no claim's, unless a move explains it."""
        places = self._elsewhere(consumer)
        if places:
            if not any(map(_is_moving, places)) and any(place.role is Role.INSTANCE for place in places):
                yield self._leftover(FindingKind.DOUBLE, consumer, places)
        elif places := self._of_migration.get(consumer, []):
            if not any(map(_is_moving, places)):
                yield self._leftover(FindingKind.DOUBLE, consumer, places)
        else:
            yield self._leftover(FindingKind.ORPHANED, consumer, places)

    def _elsewhere(self, consumer: str) -> list[ClaimPlace]:
        """Return the claims of an instance on other nodes, and the one that is on its way to this node."""
        return [
            place
            for place in self._of_instance.get(consumer, ())
            if place.node != self._node.name or place.role is Role.INCOMING
        ]

    def _leftover(self, kind: FindingKind, consumer: str, places: Iterable[ClaimPlace]) -> Finding:
        instances = {place.instance_uuid for place in places}
        return Finding(
            self._node.name,
            kind,
            consumer,
            instance_uuid=min(instances, default=None),
            placement=self._left[consumer],
            nodes=tuple(sorted({place.node for place in places})),
        )


def _is_moving(place: ClaimPlace) -> bool:
    """Tell whether a claim is that of a move to its node, or of an instance that moves away."""
    return place.role is Role.INCOMING or (place.role is Role.INSTANCE and place.task_state in _MOVING)
