# SPDX-License-Identifier: Apache-2.0
"""The devices of a node: what the hypervisor reports, and what claims hold of it.

A claim keeps each of its devices as it was when it was taken. So one that vanishes or changes while it is in
use stays what it is until it is freed (bugs 1633120, 2115905), and there is no status that could drift.
Source: nova.pci.manager and nova.objects.pci_device.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from tracker_worker.domain.fields import Name, PciDeviceStatus, PciDeviceType
from tracker_worker.domain.objects import PciDevice

CHILDREN = (PciDeviceType.VF, PciDeviceType.VDPA)
NETWORK = (PciDeviceType.PF, *CHILDREN)
REMOTE_MANAGED = "remote_managed"


class HeldDevice(Struct, frozen=True, omit_defaults=True):
    """A device that a claim holds, and the request that it is for.

    `device` is what it was when it was taken; None for an address that was decided elsewhere and that no
    report has shown. `tentative`: an audit may know better, for the device was decided elsewhere, or
    Placement chose, by what a report does not tell.
    """

    address: Name
    allocated: bool = True
    request_id: Name | None = None
    device: PciDevice | None = None
    tentative: bool = False


class TrackedDevice(Struct, frozen=True):
    """A device of a node and who has it. Beside what claims hold, a parent excludes its children."""

    address: str
    status: PciDeviceStatus
    instance_uuid: str | None
    device: PciDevice | None


def tracked_devices(
    reported: Iterable[PciDevice], held: Iterable[tuple[str, HeldDevice]]
) -> list[TrackedDevice]:
    """Return the devices of a node: in the report's order, then those that are still held and gone.

    `held` are the claims' devices with their instances; of two claims for one device the first is shown.
    """
    devices: dict[str, PciDevice | None] = {device.address: device for device in reported}
    owners: dict[str, tuple[str, HeldDevice]] = {}
    kept: dict[str, PciDevice] = {}
    for uuid, taken in held:
        owners.setdefault(taken.address, (uuid, taken))
        devices.setdefault(taken.address, None)
        if taken.device is not None:
            kept.setdefault(taken.address, taken.device)
    devices |= kept
    relatives = _relatives(devices, owners)
    return [
        TrackedDevice(
            address,
            _status(address, owners, relatives),
            owners[address][0] if address in owners else None,
            device,
        )
        for address, device in devices.items()
    ]


def _relatives(
    devices: Mapping[str, PciDevice | None], owners: Mapping[str, tuple[str, HeldDevice]]
) -> dict[str, bool]:
    """Return the parents and children of what is held, and whether one that excludes them is allocated."""
    excluded: dict[str, bool] = {}
    for address, device in devices.items():
        parent = device.parent_addr if device is not None and device.dev_type in CHILDREN else None
        if parent is None:
            continue
        for one, other in ((address, parent), (parent, address)):
            if one in owners:
                excluded[other] = excluded.get(other, False) or owners[one][1].allocated
    return excluded


def _status(
    address: str, owners: Mapping[str, tuple[str, HeldDevice]], relatives: Mapping[str, bool]
) -> PciDeviceStatus:
    if address in owners:
        return PciDeviceStatus.ALLOCATED if owners[address][1].allocated else PciDeviceStatus.CLAIMED
    if address in relatives:
        return PciDeviceStatus.UNAVAILABLE if relatives[address] else PciDeviceStatus.UNCLAIMABLE
    return PciDeviceStatus.AVAILABLE


def free_devices(tracked: Iterable[TrackedDevice]) -> list[PciDevice]:
    """Return the devices that can be taken."""
    return [
        each.device
        for each in tracked
        if each.status == PciDeviceStatus.AVAILABLE and each.device is not None
    ]


class Pool(Struct, frozen=True):
    """Devices that are alike: one of them, its tags, and those that are free."""

    device: PciDevice
    tags: Mapping[str, str | None]
    free: list[PciDevice]


def pools_of(tracked: Iterable[TrackedDevice]) -> list[Pool]:
    """Return the pools of a node, those without a free device too. Source: PciDeviceStats."""
    pools: dict[tuple[object, ...], Pool] = {}
    for each in tracked:
        device = each.device
        if device is None:
            continue
        pool = pools.setdefault(pool_key(device), Pool(device, tags_of(device), []))
        if each.status == PciDeviceStatus.AVAILABLE:
            pool.free.append(device)
    return list(pools.values())


def pool_key(device: PciDevice) -> tuple[object, ...]:
    """Return what devices of one pool have in common."""
    kind = (device.vendor_id, device.product_id, device.numa_node, device.dev_type, device.parent_addr)
    return (*kind, *sorted(tags_of(device).items(), key=lambda tag: tag[0]))


def tags_of(device: PciDevice) -> dict[str, str | None]:
    """Return a device's tags; a network device that nobody tagged so is managed by its own host."""
    tags = dict(device.tags or {})
    if device.dev_type in NETWORK and tags.get(REMOTE_MANAGED) is None:
        tags[REMOTE_MANAGED] = "false"
    return tags
