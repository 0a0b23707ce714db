# SPDX-License-Identifier: Apache-2.0
"""The devices of a node: those that the hypervisor reports, and those that claims hold.

A claim keeps a copy of each device as of its assignment. A device that vanishes or changes while it is in use
keeps the properties of that copy until it is freed (bugs 1633120, 2115905). The status is computed from the
claims, so that it cannot drift. Source: nova.pci.manager and nova.objects.pci_device.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from tracker_worker.domain.fields import Name, PciDeviceStatus, PciDeviceType
from tracker_worker.domain.objects import PciDevice

CHILDREN = (PciDeviceType.VF, PciDeviceType.VDPA)
NETWORK = (PciDeviceType.PF, *CHILDREN)
REMOTE_MANAGED = "remote_managed"


class HeldDevice(Struct, frozen=True, omit_defaults=True):
    """A device that a claim holds, and the request that it meets.

    `device` is the copy as of its assignment; None for an address that was decided elsewhere and is in no
    report. `tentative`: an audit may replace the device, because it was decided elsewhere, or because
    Placement chose it by properties that a report does not have.
    """

    address: Name
    allocated: bool = True
    request_id: Name | None = None
    device: PciDevice | None = None
    tentative: bool = False


class TrackedDevice(Struct, frozen=True):
    """A device of a node, and the instance that holds it. A held device excludes its parent and children."""

    address: str
    status: PciDeviceStatus
    instance_uuid: str | None
    device: PciDevice | None


def tracked_devices(
    reported: Iterable[PciDevice], held: Iterable[tuple[str, HeldDevice]]
) -> list[TrackedDevice]:
    """Return the reported devices of a node in their order, then those that are held but no longer reported.

    `held` are the claims' devices with their instances. If two claims hold a device the first is shown.
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
    """Return the parents and children of held devices, each with whether an excluding device is allocated."""
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
    """Return the available devices."""
    return [
        each.device
        for each in tracked
        if each.status == PciDeviceStatus.AVAILABLE and each.device is not None
    ]


class Pool(Struct, frozen=True):
    """A pool of interchangeable devices: one of them, its tags, and the free ones."""

    device: PciDevice
    tags: Mapping[str, str | None]
    free: list[PciDevice]


def pools_of(tracked: Iterable[TrackedDevice]) -> list[Pool]:
    """Return the pools of a node, including pools without a free device. Source: PciDeviceStats."""
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
    """Return the key of a device's pool: the properties that all devices of the pool share."""
    kind = (device.vendor_id, device.product_id, device.numa_node, device.dev_type, device.parent_addr)
    return (*kind, *sorted(tags_of(device).items(), key=lambda tag: tag[0]))


def tags_of(device: PciDevice) -> dict[str, str | None]:
    """Return a device's tags; `remote_managed` of a network device defaults to false."""
    tags = dict(device.tags or {})
    if device.dev_type in NETWORK and tags.get(REMOTE_MANAGED) is None:
        tags[REMOTE_MANAGED] = "false"
    return tags
