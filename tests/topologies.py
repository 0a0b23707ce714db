# SPDX-License-Identifier: Apache-2.0
"""Host cells, guests, devices and what claims hold of them: small values of the domain for every test.

A cell's cpus are numbered from ten times its id: the shared ones, then the dedicated ones. Cell 1 of two
shared and four dedicated cpus has 10, 11 and 12 to 15. Nothing here is a mock.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from tests.builders import a_node, claims_of, some_resources
from tracker_worker.domain.fields import CpuPolicy, PciDeviceType, PciNumaPolicy, RequestSource
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.numa.topology import cpus_of, request_of
from tracker_worker.domain.objects import (
    GuestCell,
    GuestTopology,
    HostCell,
    HostTopology,
    PageSize,
    PciDevice,
    PciRequest,
    Resources,
)
from tracker_worker.domain.pci.pools import HeldDevice
from tracker_worker.domain.pci.specs import Alias
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.domain.usage import cells_of, devices_of

SMALL_KB, HUGE_KB = 4, 2048
DEDICATED = {"hw:cpu_policy": "dedicated"}
MB_OF_A_CELL = 4096
PAGES = {SMALL_KB: 524288, HUGE_KB: 1024}
"""The pages of a cell, half of its memory in each size."""

GPU: dict[str, Any] = {"vendor_id": "10de", "product_id": "20b5"}
WITH_GPU = {"pci_passthrough:alias": "gpu:1"}
GPU_REQUEST = PciRequest(
    1, [GPU], numa_policy=PciNumaPolicy.LEGACY, alias_name="gpu", source=RequestSource.ALIAS
)
"""What a flavor asks for with WITH_GPU."""

WITH_ALIASES = TrackerSettings(
    aliases={
        "gpu": Alias("gpu", (GPU,)),
        "near": Alias("near", ({"vendor_id": "10de"},), PciNumaPolicy.REQUIRED),
    }
)


def a_host_cell(
    id: int = 0,
    *,
    shared: int = 2,
    dedicated: int = 4,
    memory: int = MB_OF_A_CELL,
    threads: int = 1,
    socket: int | None = None,
    pages: Mapping[int, int] | None = None,
) -> HostCell:
    """A host cell; `pages` are numbers of pages by their size in KiB."""
    cpus = list(range(10 * id, 10 * id + shared + dedicated))
    return HostCell(
        id=id,
        cpuset=cpus[:shared],
        pcpuset=cpus[shared:],
        memory=memory,
        siblings=[cpus[at : at + threads] for at in range(0, len(cpus), threads)],
        socket=socket,
        mempages=[PageSize(size, total) for size, total in (pages or {}).items()],
    )


def a_host(cells: int = 2, **of_each: Any) -> HostTopology:
    """A host of equal cells."""
    return HostTopology([a_host_cell(number, **of_each) for number in range(cells)])


def a_guest(
    cells: int = 1, cpus: int = 2, memory: int = 1024, *, policy: str | None = "dedicated", **of_each: Any
) -> GuestTopology:
    """What a guest of equal cells asks for; `cpus` and `memory` are those of one cell."""
    numbers = [list(range(cell * cpus, (cell + 1) * cpus)) for cell in range(cells)]
    pinned = policy == "dedicated"
    return GuestTopology(
        [
            GuestCell(
                id=cell,
                cpuset=[] if pinned else numbers[cell],
                pcpuset=numbers[cell] if pinned else [],
                memory=memory,
                cpu_policy=None if policy is None else CpuPolicy(policy),
                **of_each,
            )
            for cell in range(cells)
        ]
    )


def placed(guest: GuestTopology, places: Mapping[int, Sequence[int]], **of_each: Any) -> GuestTopology:
    """A guest on host cells: of each the host cpus for the dedicated ones of its own."""
    cells = [
        replace(
            cell,
            id=id,
            cpu_pinning={str(vcpu): cpu for vcpu, cpu in zip(cell.pcpuset, cpus, strict=True)}
            if cell.pcpuset
            else None,
            **of_each,
        )
        for cell, (id, cpus) in zip(guest.cells, places.items(), strict=True)
    ]
    return replace(guest, cells=cells)


def a_pinned_guest(places: Mapping[int, Sequence[int]], memory: int = 1024) -> GuestTopology:
    """A guest with a cell for each of these host cells, pinned to these cpus."""
    (count,) = {len(cpus) for cpus in places.values()}
    return placed(a_guest(len(places), count, memory), places)


def a_device(address: str = "d1", dev_type: str = "type-PCI", **more: Any) -> PciDevice:
    """A device that does not tell on which cell it is."""
    fields: dict[str, Any] = {"vendor_id": "8086", "product_id": "1572", **more}
    return PciDevice(address=address, dev_type=PciDeviceType(dev_type), **fields)


def a_vf(address: str = "vf1", parent: str = "pf", **more: Any) -> PciDevice:
    """A virtual function."""
    return a_device(address, "type-VF", parent_addr=parent, **more)


def a_card(pf: str = "pf", vfs: Sequence[str] = ("vf1", "vf2"), **of_each: Any) -> list[PciDevice]:
    """A network card: its physical function, then the virtual ones."""
    return [a_device(pf, "type-PF", **of_each), *(a_vf(address, pf, **of_each) for address in vfs)]


def a_request(
    count: int = 1,
    request_id: str | None = None,
    *,
    policy: str | None = None,
    source: str | None = None,
    **spec: Any,
) -> PciRequest:
    """A request for devices; without a spec for any that need not be named."""
    return PciRequest(
        count,
        [spec],
        request_id=request_id,
        numa_policy=None if policy is None else PciNumaPolicy(policy),
        source=None if source is None else RequestSource(source),
    )


def a_port(request_id: str = "port-1", **more: Any) -> PciRequest:
    """A request of a Neutron port, by default for a virtual function."""
    return a_request(request_id=request_id, source="neutron_port", **{"dev_type": "type-VF", **more})


def host_resources(
    host: HostTopology | None = None, devices: Iterable[PciDevice] = (), **more: Any
) -> Resources:
    """A report of a host, by default of two cells, and its devices."""
    return some_resources(numa_topology=host or a_host(), pci_devices=list(devices), **more)


def a_numa_node(
    *claims: Claim, host: HostTopology | None = None, devices: Iterable[PciDevice] = (), **more: Any
) -> Node:
    """A tracked node of a host, by default of two cells, and its devices."""
    return a_node(*claims, resources=host_resources(host, devices), **more)


def holding(
    claim: Claim,
    topology: GuestTopology | None = None,
    devices: Iterable[PciDevice | HeldDevice | str] = (),
    *,
    assigned: bool = True,
    requests: Iterable[PciRequest] = (),
) -> Claim:
    """A claim that has got a topology and devices; `assigned` when this worker chose them."""
    return replace(
        claim,
        numa_request=request_of(topology),
        numa_topology=topology,
        pci_requests=tuple(requests),
        pci_devices=tuple(held_device(device, tentative=not assigned) for device in devices),
        assigned=assigned,
    )


def held_device(device: PciDevice | HeldDevice | str, tentative: bool = False) -> HeldDevice:
    """A device as a claim holds it; of an address alone nothing else is known."""
    match device:
        case HeldDevice():
            return device
        case PciDevice():
            return HeldDevice(device.address, device=device, tentative=tentative)
        case _:
            return HeldDevice(device, tentative=tentative)


def pins_of(claim: Claim | None) -> dict[int, list[int]]:
    """The host cpus that a claim has for itself, by host cell; empty without a topology."""
    topology = claim.numa_topology if claim else None
    cells = topology.cells if topology else []
    return {cell.id: sorted(cpus_of(cell, HostCell(cell.id, [], [], 0))) for cell in cells}


def addresses_of(claim: Claim | None) -> list[str]:
    """The addresses of a claim's devices, in their order."""
    return [device.address for device in claim.pci_devices] if claim else []


def has(claim: Claim) -> tuple[dict[int, list[int]], list[str]]:
    """The pins and the devices of a claim."""
    return pins_of(claim), addresses_of(claim)


def held(node: Node) -> dict[str, tuple[dict[int, list[int]], list[str]]]:
    """The pins and the devices of each of the instance's claims, by role."""
    return {role: has(claim) for role, claim in claims_of(node).items()}


def statuses_of(node: Node) -> dict[str, str]:
    """The status of each device of a node."""
    return {each.address: each.status for each in devices_of(node, node.held())}


def pinned_on(node: Node) -> dict[int, list[int]]:
    """The pinned cpus of each host cell."""
    return {usage.cell.id: sorted(usage.pinned_cpus) for usage in cells_of(node, node.held())}


def memory_on(node: Node) -> dict[int, int]:
    """The used memory of each host cell, in MB."""
    return {usage.cell.id: usage.memory_usage for usage in cells_of(node, node.held())}


def pages_on(node: Node, size_kb: int = HUGE_KB) -> dict[int, int]:
    """The used pages of a size of each host cell."""
    return {usage.cell.id: usage.pages.get(size_kb, 0) for usage in cells_of(node, node.held())}
