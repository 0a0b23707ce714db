# SPDX-License-Identifier: Apache-2.0
"""Claim tests: whether a request fits on a node, and the topology and devices that its claim gets.

A claim is all or nothing: memory, disk, vcpus, CPUs of host cells, pages, devices.
Source: nova.compute.claims (Claim and MoveClaim): its tests and wording, in its order.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.capacity import shortages
from tracker_worker.domain.commands import LiveMigrationClaim
from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.fields import PciDeviceStatus
from tracker_worker.domain.flavors import requested_amounts, same_numbers
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.moves import with_states
from tracker_worker.domain.node import Node
from tracker_worker.domain.numa.fitting import Preference, fit
from tracker_worker.domain.numa.networks import are_near
from tracker_worker.domain.numa.topology import cpus_of, request_of
from tracker_worker.domain.objects import GuestTopology, Limits, PciRequest
from tracker_worker.domain.pci.pools import HeldDevice, free_devices
from tracker_worker.domain.pci.requests import (
    are_there,
    choose,
    taken_for,
    unmet,
    without_alias_ids,
)
from tracker_worker.domain.requests import AnyClaim, decided_claim, flavor_of, wanted_claim
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.domain.usage import affinity_of, cell_ids, cells_of, devices_of

NUMA_REFUSED = "Requested instance NUMA topology cannot fit the given host NUMA topology"
NUMA_AND_PCI_REFUSED = (
    "Requested instance NUMA topology together with requested PCI devices cannot fit the given host"
    " NUMA topology"
)
PCI_REFUSED = "Claim pci failed"
PAGE_SIZE_REFUSED = "Requested page size is different from current page size"


class ClaimResult(Struct, frozen=True):
    """Either the claim to store, or the reason of the refusal.

    `conflict`: a claim that another tracker granted takes a CPU or a device that is not free here.
    """

    claim: Claim | None
    reason: str | None = None
    conflict: bool = False


def check_claim(node: Node, command: AnyClaim, settings: TrackerSettings) -> ClaimResult:
    """Decide a claim on a tracked node: a repeated one, a new one, or an atomic replacement of another."""
    if command.decided:
        return _record(node, command)
    return _grant(node, command, settings)


def _grant(node: Node, command: AnyClaim, settings: TrackerSettings) -> ClaimResult:
    try:
        wanted = wanted_claim(command, settings)
    except RequestRefused as refused:
        return ClaimResult(None, str(refused))
    held = node.claim(wanted.instance_uuid, wanted.role)
    if held is not None and _same(held, wanted, command):
        again = with_states(held, command.instance)
        return ClaimResult(replace(again, migration_uuid=wanted.migration_uuid or held.migration_uuid))
    assert node.resources is not None
    if not node.resources.available:
        return ClaimResult(None, f"Node {node.name} is not available")
    return _test(node, held, wanted, command, settings)


def _same(held: Claim, wanted: Claim, command: AnyClaim) -> bool:
    """Tell whether a command repeats the held claim; its NUMA request may be the topology that was assigned.

    A live migration's claim has no devices yet: another migration that requests some does not repeat it.
    """
    return (
        held.volume_backed == wanted.volume_backed
        and same_numbers(held.flavor, wanted.flavor)
        and wanted.numa_request in (held.numa_request, request_of(held.numa_topology))
        and without_alias_ids(held.pci_requests) == without_alias_ids(wanted.pci_requests)
        and (
            isinstance(command, LiveMigrationClaim)
            or held.migration_uuid == wanted.migration_uuid
            or len(held.pci_devices) >= sum(request.count for request in wanted.pci_requests)
        )
    )


def _test(
    node: Node, held: Claim | None, wanted: Claim, command: AnyClaim, settings: TrackerSettings
) -> ClaimResult:
    """Test a claim against a node without the claim that it replaces, whose attached devices it keeps."""
    used = node.used.minus(held.amounts) if held is not None else node.used
    requested = requested_amounts(flavor_of(command), wanted.volume_backed)
    reasons = list(shortages(node, used, wanted.amounts, requested, command.limits, settings.capacity_check))
    attached = () if held is None else _attached(held, wanted, command)
    requests = unmet(wanted.pci_requests, attached)
    if wanted.numa_request is None and not requests:
        claim = replace(wanted, pci_devices=attached)
        return ClaimResult(None, "; ".join(reasons)) if reasons else ClaimResult(claim)
    others = [claim for claim in node.held() if claim is not held]
    if held is not None:
        others.append(replace(held, numa_topology=None, pci_devices=attached))
    room = _Room(node, others, settings)
    topology = room.topology_for(wanted.numa_request, requests, command.limits or Limits())
    if wanted.numa_request is not None and room.cells and topology is None:
        reasons.append(NUMA_AND_PCI_REFUSED if wanted.pci_requests else NUMA_REFUSED)
        if room.devices_for(requests, frozenset()) is None:
            reasons.append(PCI_REFUSED)
        return ClaimResult(None, "; ".join(reasons))
    devices = room.devices_for(requests, cell_ids(topology))
    if devices is None:
        reasons.append(PCI_REFUSED)
    if isinstance(command, LiveMigrationClaim):
        reasons += _page_size_differs(topology, command.instance.numa_topology)
        devices = ()
    if reasons or devices is None:
        return ClaimResult(None, "; ".join(reasons))
    devices, assigned = (*attached, *devices), topology is not None
    return ClaimResult(replace(wanted, numa_topology=topology, pci_devices=devices, assigned=assigned))


def _attached(held: Claim, wanted: Claim, command: AnyClaim) -> tuple[HeldDevice, ...]:
    """Return the devices of a held claim that claim_pci_devices took: the claim that replaces it keeps them.

    The claim of a live migration takes no devices, so all devices of the same move are such. For other claims
    they are the devices of requests that the held claim does not have.
    """
    if isinstance(command, LiveMigrationClaim):
        same_move = held.devices_only or held.migration_uuid == wanted.migration_uuid
        return held.pci_devices if same_move else ()
    own = {None, *(request.request_id for request in held.pci_requests)}
    return tuple(device for device in held.pci_devices if device.request_id not in own)


def _page_size_differs(topology: GuestTopology | None, current: GuestTopology | None) -> Iterator[str]:
    """Source: MoveClaim._test_live_migration_page_size: a running guest cannot change its page size."""
    pairs = zip(topology.cells if topology else (), current.cells if current else (), strict=False)
    if any(claimed.pagesize != now.pagesize for claimed, now in islice(pairs, 1)):
        yield PAGE_SIZE_REFUSED


class _Room:
    """The host cells and devices of a node, with their usage by the given claims."""

    def __init__(self, node: Node, claims: Sequence[Claim], settings: TrackerSettings) -> None:
        self._node = node
        self._devices = devices_of(node, claims)
        self._pack = settings.packing_host_numa_cells_allocation_strategy
        self.cells = cells_of(node, claims)

    def topology_for(
        self, asked: GuestTopology | None, requests: Sequence[PciRequest], limits: Limits
    ) -> GuestTopology | None:
        """Return a guest's topology, with affinity to its devices and networks; None if it does not fit."""
        if asked is None or not self.cells:
            return None
        host = [usage.cell for usage in self.cells]
        return fit(
            self.cells,
            asked,
            limits.numa_topology,
            Preference(self._devices_by_cell(), bool(requests), self._pack),
            lambda cells: (
                are_near(host, cells, limits.networks)
                and are_there(self._devices, requests, affinity_of(self._node, cells))
            ),
            lambda cells: (
                are_near(host, cells, limits.networks) and self.devices_for(requests, cells) is not None
            ),
        )

    def devices_for(
        self, requests: Sequence[PciRequest], cells: frozenset[int]
    ) -> tuple[HeldDevice, ...] | None:
        """Return devices for all requests of a guest on these cells (any if empty), None if too few."""
        if not requests:
            return ()
        affinity = affinity_of(self._node, cells) if cells else None
        devices = choose(self._devices, requests, affinity)
        return None if devices is None else taken_for(requests, devices, allocated=True)

    def _devices_by_cell(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for device in free_devices(self._devices):
            if device.numa_node is not None:
                counts[device.numa_node] = counts.get(device.numa_node, 0) + 1
        return counts


def _record(node: Node, command: AnyClaim) -> ClaimResult:
    """Grant a claim that another tracker granted; `conflict` if it takes a CPU or device that is not free."""
    claim = decided_claim(command)
    held = node.claim(claim.instance_uuid, claim.role)
    if held is not None:
        claim = replace(claim, pci_devices=_with_attached(held, claim, command))
    if not claim.pci_devices and claim.numa_topology is None:
        return ClaimResult(claim)
    others = [other for other in node.held() if other is not held]
    return ClaimResult(claim, conflict=takes_what_is_not_free(node, claim, others))


def _with_attached(held: Claim, claim: Claim, command: AnyClaim) -> tuple[HeldDevice, ...]:
    """Return the devices of a decided claim, and those that claim_pci_devices took for the one it replaces.

    Only claim_pci_devices records a request with these devices: a decided claim comes with addresses only.
    """
    attached = held.pci_devices
    if held.pci_requests != claim.pci_requests or isinstance(command, LiveMigrationClaim):
        attached = _attached(held, claim, command)
    kept = {device.address: device for device in claim.pci_devices}
    kept |= {device.address: device for device in attached if device.request_id is not None}
    in_order = dict.fromkeys([*(device.address for device in held.pci_devices), *kept])
    return tuple(kept[address] for address in in_order if address in kept)


def takes_what_is_not_free(node: Node, claim: Claim, others: Sequence[Claim]) -> bool:
    """Tell whether a claim has a device or a CPU of the node that is not free beside the other claims."""
    tracked = devices_of(node, others)
    free = {each.address for each in tracked if each.status == PciDeviceStatus.AVAILABLE}
    if any(device.address not in free for device in claim.pci_devices):
        return True
    usages = {usage.cell.id: usage for usage in cells_of(node, others)}
    cells = claim.numa_topology.cells if claim.numa_topology else []
    return any(
        not cpus_of(cell, usages[cell.id].cell) <= usages[cell.id].free_pcpus
        for cell in cells
        if cell.id in usages
    )
