# SPDX-License-Identifier: Apache-2.0
"""Deltas: what an event changed of a node's usage, as its receipt keeps it.

A delta has what usage is computed from (amounts, host cells, devices), and no request, state or project. An
event that changes none of this has no delta. `rewind` computes earlier states of a node from deltas.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from tracker_worker.domain.decision import Audited, Decision
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Claim, Role
from tracker_worker.domain.node import ClaimDropped, ClaimPut, LedgerChange, Node, NodeRemoved
from tracker_worker.domain.numa.topology import cpus_of, page_size_of
from tracker_worker.domain.objects import GuestCell, HostCell, HostTopology


class HeldCell(Struct, frozen=True, array_like=True):
    """A claim's part of a host cell: memory in MB, shared CPUs, pinned host CPUs, page size in KiB."""

    id: int
    memory_mb: int
    shared_cpus: int
    pinned_cpus: tuple[int, ...]
    page_kb: int | None


class Holding(Struct, frozen=True, omit_defaults=True):
    """What a claim holds: amounts, host cells, PCI addresses. `migration` is the claim's `migration_uuid`."""

    amounts: Amounts
    migration: str | None = None
    cells: tuple[HeldCell, ...] = ()
    devices: tuple[str, ...] = ()


class ClaimDelta(Struct, frozen=True, omit_defaults=True):
    """A claim that was added (`old` is None), released (`new` is None) or changed.

    `instance_uuid` is None if it is the event's own instance; `reason` is that of an audit's correction.
    """

    role: Role
    old: Holding | None = None
    new: Holding | None = None
    instance_uuid: str | None = None
    reason: str | None = None


class Totals(Struct, frozen=True, array_like=True):
    """The totals, reserve and allocation ratios of a node."""

    vcpus: int
    memory_mb: int
    local_gb: int
    reserved_vcpus: int
    reserved_memory_mb: int
    reserved_disk_mb: int
    cpu_ratio: float
    ram_ratio: float
    disk_ratio: float


class Delta(Struct, frozen=True, omit_defaults=True):
    """The changes of one event. `totals`: the old and the new ones, None for a node that is not tracked."""

    claims: tuple[ClaimDelta, ...] = ()
    totals: tuple[Totals | None, Totals | None] | None = None


def delta_of(before: Node, after: Node, decision: Decision, instance_uuid: str | None) -> Delta | None:
    """Return what an event changed, None if it changed no usage. `instance_uuid` is the event's instance."""
    if not decision.changes:
        return None
    reasons = _reasons(decision) if decision.effects else {}
    claims = []
    for uuid, role in dict.fromkeys((*_keys(before, decision.changes), *_rehosted(before, after))):
        old, new = _held(before, before.claim(uuid, role)), _held(after, after.claim(uuid, role))
        if old != new:
            named = None if uuid == instance_uuid else uuid
            claims.append(ClaimDelta(role, old, new, named, reasons.get((uuid, role))))
    totals = _totals(before, after)
    return Delta(tuple(claims), totals) if claims or totals else None


def _keys(before: Node, changes: Iterable[LedgerChange]) -> Iterator[tuple[str, Role]]:
    for change in changes:
        match change:
            case ClaimPut(claim):
                yield claim.instance_uuid, claim.role
            case ClaimDropped(uuid, role):
                yield uuid, role
            case NodeRemoved():
                for claim in before.held():
                    yield claim.instance_uuid, claim.role
            case _:
                pass


def _rehosted(before: Node, after: Node) -> Iterator[tuple[str, Role]]:
    """Yield the claims with a topology if the host's has changed: what they hold of its cells may change."""
    if before.resources is after.resources or _host(before) == _host(after):
        return
    for claim in before.held():
        if claim.numa_topology is not None:
            yield claim.instance_uuid, claim.role


def _host(node: Node) -> HostTopology | None:
    return None if node.resources is None else node.resources.numa_topology


def _reasons(decision: Decision) -> dict[tuple[str, str], str]:
    """Return the reasons of corrections by instance and role: of a change the new role."""
    return {
        (each.instance_uuid, claim.role): each.reason
        for effect in decision.effects
        if isinstance(effect, Audited)
        for each in effect.corrections
        if (claim := each.new or each.old) is not None
    }


def _totals(before: Node, after: Node) -> tuple[Totals | None, Totals | None] | None:
    if before.resources is after.resources:
        return None
    old, new = totals_of(before), totals_of(after)
    return None if old == new else (old, new)


def _held(node: Node, claim: Claim | None) -> Holding | None:
    return None if claim is None else holding_of(node, claim)


def holding_of(node: Node, claim: Claim) -> Holding:
    """Return what a claim holds of a node."""
    if claim.numa_topology is None and not claim.pci_devices:
        return Holding(claim.amounts, claim.migration_uuid)
    cells: tuple[HeldCell, ...] = ()
    host = _host(node)
    if claim.numa_topology is not None and host:
        of_host = {cell.id: cell for cell in host.cells}
        guests = claim.numa_topology.cells
        cells = tuple(_held_cell(guest, of_host[guest.id]) for guest in guests if guest.id in of_host)
    devices = tuple(device.address for device in claim.pci_devices)
    return Holding(claim.amounts, claim.migration_uuid, cells, devices)


def _held_cell(guest: GuestCell, host: HostCell) -> HeldCell:
    pinned = tuple(sorted(cpus_of(guest, host)))
    return HeldCell(guest.id, guest.memory, len(guest.cpuset), pinned, page_size_of(guest, host))


def totals_of(node: Node) -> Totals | None:
    """Return the totals of a node, None if it is not tracked."""
    report, reserve, ratios = node.resources, node.reserve, node.ratios
    if report is None:
        return None
    return Totals(
        report.vcpus, report.memory_mb, report.local_gb,
        reserve.vcpus, reserve.memory_mb, reserve.disk_mb,
        ratios.cpu, ratios.ram, ratios.disk,
    )  # fmt: skip
