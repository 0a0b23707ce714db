# SPDX-License-Identifier: Apache-2.0
"""The ledger of one node: its claims, their sum, and the changes to it.

A Node is immutable. `decide.decide` returns the changes of a command; `evolve` applies them, returns the next
Node and cannot fail. Usage is computed here only: used = reserve + sum of claims.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import attrgetter
from typing import Any, assert_never

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Claim, HeldClaims, Role, count_claims
from tracker_worker.domain.objects import Origin, Resources
from tracker_worker.domain.origins import (
    AuditSeen,
    Memory,
    OriginCleared,
    OriginEvicted,
    OriginMark,
    OriginRecorded,
    Source,
)

MOST_CONFLICTS = 32


class Ratios(Struct, frozen=True):
    """Allocation ratios of a node."""

    cpu: float
    ram: float
    disk: float


class Node(Struct, frozen=True):
    """One compute node: its last report, its claims and their running sum.

    An untracked node (never reported, or removed) has no resources and no claims; its row keeps the
    sequence. `last_origins` has the origin of each instance's last event since the last audit, the newest
    last; `sources` the client processes that audit the node; `usage_sequence` is the sequence of the last
    usage notification; `conflicts` has the uuids whose reports under this name were refused, the newest last.
    `commit_id` is the id of the commit that wrote the row: a restored database does not repeat it.
    `last_audit` is a digest of the last audit, if it changed nothing and nothing was recorded since. It has
    no column: a node that is loaded has none.
    """

    name: str
    sequence: int = 0
    commit_id: str = ""
    usage_sequence: int = 0
    resources: Resources | None = None
    reserve: Amounts = Amounts()
    ratios: Ratios = Ratios(1.0, 1.0, 1.0)
    disabled: bool = False
    failed_builds: int = 0
    conflicts: tuple[str, ...] = ()
    claimed: Amounts = Amounts()
    claims: HeldClaims = HeldClaims()
    last_origins: Mapping[str, Origin] = {}
    sources: Mapping[str, Source] = {}
    last_audit: bytes = b""

    @property
    def tracked(self) -> bool:
        """Whether the hypervisor has reported the node and it was not removed since."""
        return self.resources is not None

    @property
    def known(self) -> bool:
        """Whether anything was recorded of the node. If not, it has no row and no sequence to advance."""
        return self.sequence > 0

    @property
    def used(self) -> Amounts:
        """Reserve plus claims."""
        return self.reserve.plus(self.claimed)

    def repeats(self, audit: bytes) -> bool:
        """Tell whether an audit with this digest is the last one over again, and would change nothing."""
        return bool(audit) and audit == self.last_audit and not self.last_origins

    def has_no_newer(self, origin: Origin) -> bool:
        """Tell whether an audit of this origin's client was processed before, and none with its sequence or a
        higher one. Such an audit is sent for the first time.
        """
        source = self.sources.get(origin.source)
        return source is not None and origin.sequence > source.audited

    def held(self) -> Iterator[Claim]:
        """Yield all claims in the order of their instances' uuids and of their roles."""
        return chain.from_iterable(
            sorted(self.claims[uuid], key=attrgetter("role")) for uuid in sorted(self.claims)
        )

    def claim(self, instance_uuid: str, role: Role) -> Claim | None:
        """Return the claim of an instance in a role, if it has one."""
        return self.claims.find(instance_uuid, role)


class ClaimPut(Struct, frozen=True):
    """A claim was added, or replaced the one of the same instance and role."""

    claim: Claim


class ClaimDropped(Struct, frozen=True):
    """A claim was released."""

    instance_uuid: str
    role: Role


class Reported(Struct, frozen=True):
    """The hypervisor's view of the node, its reserve or its ratios has changed."""

    resources: Resources
    reserve: Amounts
    ratios: Ratios


class BuildsCounted(Struct, frozen=True):
    """The number of failed builds in a row has changed."""

    failed_builds: int


class ServiceStatusSet(Struct, frozen=True):
    """The compute service was enabled or disabled."""

    disabled: bool


class NodeRemoved(Struct, frozen=True):
    """The node is no longer tracked, and all its claims are released."""


class ConflictNoted(Struct, frozen=True):
    """A report with this uuid was refused."""

    uuid: str


class ConflictsResolved(Struct, frozen=True):
    """The node was removed, is tracked from now on, or its host has started: earlier conflicts are over."""


LedgerChange = ClaimPut | ClaimDropped | Reported | BuildsCounted | ServiceStatusSet | NodeRemoved
Mark = OriginMark | ConflictNoted | ConflictsResolved
Change = LedgerChange | Mark


def evolve(node: Node, changes: Iterable[Change]) -> Node:
    """Return the node with the changes of one event, its sequence incremented by one. Cannot fail."""
    return replace(node, sequence=node.sequence + 1, last_audit=b"", **_changed_fields(node, changes))


def remember(node: Node, marks: Iterable[Mark]) -> Node:
    """Return the node with the marks of an event without a receipt, at the same sequence. Cannot fail."""
    return replace(node, **_changed_fields(node, marks))


def _changed_fields(node: Node, changes: Iterable[Change]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    claims = node.claims
    memory = Memory(node.last_origins, node.sources)
    claimed = node.claimed
    for change in changes:
        match change:
            case ClaimPut(claim):
                claimed = _without(claimed, claims.find(claim.instance_uuid, claim.role)).plus(claim.amounts)
                claims = claims.put(claim)
            case ClaimDropped(instance_uuid, role):
                claimed = _without(claimed, claims.find(instance_uuid, role))
                claims = claims.drop(instance_uuid, role)
            case OriginRecorded() | OriginCleared() | OriginEvicted() | AuditSeen():
                memory.note(change)
            case NodeRemoved():
                claims, claimed = HeldClaims(), Amounts()
                memory.forget_instances()
                fields |= _REMOVED
            case _:
                fields |= _node_fields(node, change)
    return fields | {"claims": claims, "claimed": claimed} | memory.fields()


_REMOVED: dict[str, Any] = {
    "resources": None,
    "reserve": Amounts(),
    "disabled": False,
    "failed_builds": 0,
}


def _without(claimed: Amounts, dropped: Claim | None) -> Amounts:
    return claimed if dropped is None else claimed.minus(dropped.amounts)


def _node_fields(
    node: Node, change: Reported | BuildsCounted | ServiceStatusSet | ConflictNoted | ConflictsResolved
) -> dict[str, Any]:
    match change:
        case Reported(resources, reserve, ratios):
            return {"resources": resources, "reserve": reserve, "ratios": ratios}
        case BuildsCounted(failed_builds):
            return {"failed_builds": failed_builds}
        case ServiceStatusSet(disabled):
            return {"disabled": disabled}
        case ConflictNoted(uuid):
            return {"conflicts": (*node.conflicts, uuid)[-MOST_CONFLICTS:]}
        case ConflictsResolved():
            return {"conflicts": ()}
        case _:
            assert_never(change)


class LedgerBroken(AssertionError):
    """A node's running sum is not the sum of its claims: a bug of this program, not of the sender."""


def sum_of(node: Node) -> Amounts:
    """Return the sum of the claims; linear in the claims."""
    vcpus = memory_mb = disk_mb = 0
    for claim in chain.from_iterable(node.claims.values()):
        amounts = claim.amounts
        vcpus += amounts.vcpus
        memory_mb += amounts.memory_mb
        disk_mb += amounts.disk_mb
    return Amounts(vcpus, memory_mb, disk_mb)


def sum_fault(node: Node) -> str | None:
    """Return a text if the running sum of a loaded node is not the sum of its claims, else None."""
    right = sum_of(node)
    if node.claimed == right:
        return None
    return (
        f"at sequence {node.sequence} its row says that {amounts_text(node.claimed)} are claimed, "
        f"its claims add up to {amounts_text(right)}"
    )


def amounts_text(amounts: Amounts) -> str:
    """Return amounts as text for people."""
    return f"{amounts.vcpus} vcpus, {amounts.memory_mb} MB of memory and {amounts.disk_mb} MB of disk"


def rebuilt(node: Node) -> Node:
    """Return a node with its running sum recomputed from its claims."""
    return replace(node, claimed=sum_of(node))


def assert_sum(node: Node) -> None:
    """Raise LedgerBroken unless the running sum and counts are those of the claims (promise 5); linear in
    the claims.
    """
    right = count_claims(chain.from_iterable(node.claims.values()))
    if node.claimed != sum_of(node) or node.claims.counts != right:
        raise LedgerBroken(f"node {node.name} at sequence {node.sequence}: {node.claimed}")


def assert_sum_follows(before: Node, after: Node, changed: Iterable[tuple[str, Role]]) -> None:
    """Raise LedgerBroken unless the running sum has changed as the claims with these keys have."""
    right = before.claimed
    for instance_uuid, role in changed:
        if (old := before.claim(instance_uuid, role)) is not None:
            right = right.minus(old.amounts)
        if (new := after.claim(instance_uuid, role)) is not None:
            right = right.plus(new.amounts)
    if after.claimed != right:
        raise LedgerBroken(f"node {after.name} at sequence {after.sequence}: {after.claimed}")


def proved(node: Node) -> Node:
    """Return a node after a proof of its whole sum. Raises LedgerBroken."""
    assert_sum(node)
    return replace(node, claims=node.claims.proved())
