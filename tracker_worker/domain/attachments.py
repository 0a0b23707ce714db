# SPDX-License-Identifier: Apache-2.0
"""PCI devices claimed and freed apart from an instance's other resources: attach, detach, live migration.

Source: nova.compute.resource_tracker: claim_pci_devices, allocate_pci_devices_for_instance,
unclaim_pci_devices, free_pci_device_allocations_for_instance and free_pci_device_claims_for_instance.
"""

from collections.abc import Collection, Sequence
from itertools import zip_longest

from msgspec.structs import replace

from tracker_worker.domain.claims import PCI_REFUSED, ClaimResult, takes_what_is_not_free
from tracker_worker.domain.commands import ClaimPciDevices
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.held_claims import Claim, Role
from tracker_worker.domain.moves import Changes
from tracker_worker.domain.node import ClaimDropped, ClaimPut, Node
from tracker_worker.domain.objects import PciRequest
from tracker_worker.domain.pci.pools import HeldDevice
from tracker_worker.domain.pci.requests import choose, taken_for, unmet, with_ids
from tracker_worker.domain.usage import affinity_of, cell_ids, devices_of


def check_devices(node: Node, command: ClaimPciDevices) -> ClaimResult:
    """Decide claim_pci_devices on a tracked node. A repeated request takes no further devices.

    Requests are the same if their ids are equal, those without an id if their contents are. The devices join
    the instance's incoming claim, else its instance claim. Without either they become an incoming claim of
    devices only, for a move that has not claimed yet.
    """
    uuid = command.instance_uuid
    here = node.claim(uuid, Role.INCOMING) or node.claim(uuid, Role.INSTANCE)
    held = here or _devices_only(uuid)
    if command.pci_devices is not None:
        return _record(node, held, with_ids(command.pci_requests), command.pci_devices)
    assert node.resources is not None
    missing = unmet(with_ids(command.pci_requests), held.pci_devices)
    if here is not None and not missing:
        return ClaimResult(here)
    if not node.resources.available:
        return ClaimResult(None, f"Node {node.name} is not available")
    cells = cell_ids(command.numa_topology or held.numa_topology)
    affinity = affinity_of(node, cells) if cells else None
    devices = choose(devices_of(node, node.held()), missing, affinity)
    if not devices:
        return ClaimResult(None, PCI_REFUSED)
    taken = taken_for(missing, devices, allocated=False)
    return ClaimResult(replace(held, pci_devices=(*held.pci_devices, *taken)))


def _record(node: Node, held: Claim, requests: Sequence[PciRequest], addresses: Sequence[str]) -> ClaimResult:
    """Grant devices that another tracker has taken; `conflict` if one of them is not free for the claim.

    They are allocated if those that they replace were.
    """
    ids = [request.request_id for request in requests for _ in range(request.count)]
    allocated = {device.request_id: device.allocated for device in held.pci_devices}
    taken = tuple(
        HeldDevice(address, allocated.get(request_id, False), request_id, tentative=True)
        for address, request_id in zip_longest(addresses, ids[: len(addresses)])
    )
    kept = tuple(
        device
        for device in held.pci_devices
        if device.request_id not in ids and device.address not in addresses
    )
    others = [claim for claim in node.held() if claim is not held]
    apart = replace(held, numa_topology=None, pci_devices=taken)
    claim = replace(held, pci_devices=(*kept, *taken))
    return ClaimResult(claim, conflict=takes_what_is_not_free(node, apart, others))


def allocate(held: Collection[Claim], addresses: Collection[str] | None) -> Changes:
    """Return the changes that mark devices of an instance allocated: those of `addresses`, all if None."""
    return tuple(
        ClaimPut(
            replace(
                claim,
                pci_devices=tuple(
                    replace(device, allocated=device.allocated or _intended(device.address, addresses))
                    for device in claim.pci_devices
                ),
            )
        )
        for claim in held
        if any(not d.allocated and _intended(d.address, addresses) for d in claim.pci_devices)
    )


def unclaim(held: Collection[Claim], addresses: Collection[str] | None) -> Changes:
    """Return the changes that free devices of an instance: those of `addresses`, all if None.

    A claim of devices only is dropped with its last device.
    """
    changes: list[ClaimPut | ClaimDropped] = []
    for claim in held:
        kept = tuple(d for d in claim.pci_devices if not _intended(d.address, addresses))
        if len(kept) == len(claim.pci_devices):
            continue
        if not kept and claim.devices_only:
            changes.append(ClaimDropped(claim.instance_uuid, claim.role))
        else:
            changes.append(ClaimPut(replace(claim, pci_devices=kept)))
    return tuple(changes)


def _intended(address: str, addresses: Collection[str] | None) -> bool:
    return addresses is None or address in addresses


def _devices_only(instance_uuid: str) -> Claim:
    return Claim(
        instance_uuid=instance_uuid,
        role=Role.INCOMING,
        flavor=Flavor(0, 0, 0),
        volume_backed=False,
        project_id="",
        vm_state="",
    )
