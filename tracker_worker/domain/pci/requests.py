# SPDX-License-Identifier: Apache-2.0
"""Requests for devices: which devices of a node meet them, and which of these are assigned.

Source: nova.pci.stats.PciDeviceStats (filters in its order) and nova.pci.utils.pci_device_prop_match.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from msgspec import Struct, json
from msgspec.structs import replace

from tracker_worker.domain.extra_specs import bool_from_string
from tracker_worker.domain.fields import PciDeviceStatus, PciDeviceType, PciNumaPolicy, RequestSource
from tracker_worker.domain.objects import PciDevice, PciRequest
from tracker_worker.domain.pci.pools import (
    CHILDREN,
    REMOTE_MANAGED,
    HeldDevice,
    TrackedDevice,
    free_devices,
    pool_key,
    tags_of,
)

_FIELDS = ("address", "vendor_id", "product_id", "numa_node", "dev_type", "parent_addr", "label")
_PLACEMENT_KEYS = ("resource_class", "traits", "rp_uuids")
"""Keys of a spec that Placement has matched already; the report of a device does not have them."""


class Affinity(Struct, frozen=True):
    """The host cells of a guest, and the socket of each of the host's cells (None if unknown)."""

    cells: frozenset[int]
    sockets: Mapping[int, int | None]


def with_ids(requests: Iterable[PciRequest]) -> list[PciRequest]:
    """Give each request without an id a deterministic one, of its content and its number among equal ones."""
    alike: Counter[bytes] = Counter()
    named: list[PciRequest] = []
    for request in requests:
        if request.request_id is None:
            content = json.encode(request, order="deterministic")
            alike[content] += 1
            request_id = str(uuid5(NAMESPACE_OID, f"{alike[content]} {content.decode()}"))
            request = replace(request, request_id=request_id)
        named.append(request)
    return named


def without_alias_ids(requests: Iterable[PciRequest]) -> list[PciRequest]:
    """Return requests for comparison, without ids of alias requests: Nova changes these ids at each move."""
    return [
        replace(request, request_id=None) if request.source == RequestSource.ALIAS else request
        for request in requests
    ]


def unmet(requests: Sequence[PciRequest], held: Iterable[HeldDevice]) -> list[PciRequest]:
    """Return the unmet requests with their remaining counts. Held devices meet only requests with an id."""
    if not requests:
        return []
    met: Counter[str | None] = Counter(device.request_id for device in held if device.request_id is not None)
    return [
        replace(request, count=request.count - met[request.request_id])
        for request in requests
        if request.count > met[request.request_id]
    ]


def choose(
    tracked: Iterable[TrackedDevice], requests: Iterable[PciRequest], affinity: Affinity | None
) -> tuple[PciDevice, ...] | None:
    """Choose devices for the requests, one request after the other; None if the free devices do not suffice.

    The devices are in the order of the requests, `count` for each; without an affinity, of any NUMA node.
    """
    free = _in_order(tracked)
    chosen: list[PciDevice] = []
    for request in requests:
        taken = _take(free, request, affinity)
        if taken is None:
            return None
        chosen += taken
        family = _Family(taken)
        free = [device for device in free if not family.excludes(device)]
    return tuple(chosen)


def _in_order(tracked: Iterable[TrackedDevice]) -> list[PciDevice]:
    """Return the free devices in the order in which Nova takes them.

    Devices with fewer tags come first, then those of the parent that is reported first, and of one parent
    the last device.
    """
    families: dict[tuple[object, ...], list[PciDevice]] = {}
    for each in tracked:
        if each.device is not None:
            family = families.setdefault(
                (*pool_key(each.device), each.device.parent_addr or each.address), []
            )
            if each.status == PciDeviceStatus.AVAILABLE:
                family.insert(0, each.device)
    free = [device for family in families.values() for device in family]
    return sorted(free, key=lambda device: len(tags_of(device)))


def are_there(
    tracked: Iterable[TrackedDevice], requests: Iterable[PciRequest], affinity: Affinity | None
) -> bool:
    """Tell whether each request on its own finds enough free devices that its NUMA policy allows.

    A necessary condition for `choose`. If it is false for a set of cells, it is false for all its subsets.
    """
    free = free_devices(tracked)
    return all(suitable(free, request, affinity) >= request.count for request in requests)


def suitable(free: Iterable[PciDevice], request: PciRequest, affinity: Affinity | None) -> int:
    """Return how many of the free devices a request may get if it is the only one."""
    return sum(
        _meets_one(device, request)
        and _is_asked_for(device, request)
        and _is_allowed(device, request, affinity)
        for device in free
    )


def _is_allowed(device: PciDevice, request: PciRequest, affinity: Affinity | None) -> bool:
    policy = request.numa_policy or PciNumaPolicy.LEGACY
    if affinity is None or policy == PciNumaPolicy.PREFERRED or device.numa_node in affinity.cells:
        return True
    if policy == PciNumaPolicy.SOCKET:
        return device.numa_node in _cells_of_sockets(affinity)
    return policy == PciNumaPolicy.LEGACY and device.numa_node is None


def taken_for(
    requests: Iterable[PciRequest], devices: Iterable[PciDevice], allocated: bool
) -> tuple[HeldDevice, ...]:
    """Return a HeldDevice for each chosen device, with the id of its request."""
    each = [request for request in requests for _ in range(request.count)]
    return tuple(
        HeldDevice(
            device.address,
            allocated,
            request.request_id,
            device,
            tentative=_is_chosen_by_placement(request),
        )
        for request, device in zip(each, devices, strict=True)
    )


def _is_chosen_by_placement(request: PciRequest) -> bool:
    return any(key in spec for spec in request.spec for key in _PLACEMENT_KEYS)


def _take(
    free: Sequence[PciDevice], request: PciRequest, affinity: Affinity | None
) -> list[PciDevice] | None:
    suiting = [device for device in free if _meets_one(device, request)]
    if affinity is not None:
        suiting = _near(suiting, request, affinity)
    taken: list[PciDevice] = []
    family = _Family()
    for device in suiting:
        if len(taken) < request.count and _is_asked_for(device, request) and not family.excludes(device):
            taken.append(device)
            family.add(device)
    return taken if len(taken) == request.count else None


def _meets_one(device: PciDevice, request: PciRequest) -> bool:
    known = {field: getattr(device, field) for field in _FIELDS} | tags_of(device)
    return any(_meets(known, spec) for spec in request.spec)


def _meets(known: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """Tell whether a device has all properties of a spec; texts are compared case-insensitively."""
    for key, wanted in spec.items():
        if key in _PLACEMENT_KEYS:
            continue
        if _folded(known.get(key)) != _folded(wanted):
            return False
    return True


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _near(devices: Sequence[PciDevice], request: PciRequest, affinity: Affinity) -> list[PciDevice]:
    """Return the devices that the request's NUMA policy allows; only the nearest ones if these suffice."""
    policy = request.numa_policy or PciNumaPolicy.LEGACY
    near = _on(devices, affinity.cells)
    if policy == PciNumaPolicy.REQUIRED or len(near) >= request.count:
        return near
    if policy == PciNumaPolicy.SOCKET:
        return _on(devices, _cells_of_sockets(affinity))
    near_or_unknown = _on(devices, {*affinity.cells, None})
    if policy == PciNumaPolicy.LEGACY or len(near_or_unknown) >= request.count:
        return near_or_unknown
    others = [device for device in devices if device.numa_node not in {*affinity.cells, None}]
    return [*near_or_unknown, *others]


def _on(devices: Iterable[PciDevice], cells: Collection[int | None]) -> list[PciDevice]:
    return [device for device in devices if device.numa_node in cells]


def _cells_of_sockets(affinity: Affinity) -> frozenset[int]:
    """Return the cells of the guest's sockets; none if the host does not report the socket of each cell."""
    if None in affinity.sockets.values():
        return frozenset()
    sockets = {affinity.sockets.get(cell) for cell in affinity.cells}
    return frozenset(cell for cell, socket in affinity.sockets.items() if socket in sockets)


def _is_asked_for(device: PciDevice, request: PciRequest) -> bool:
    """Tell whether a request may get a device: PFs, vDPA and remote-managed devices must be named in it."""
    if device.dev_type in (PciDeviceType.PF, PciDeviceType.VDPA) and device.dev_type not in [
        spec.get("dev_type") for spec in request.spec
    ]:
        return False
    if not bool_from_string(tags_of(device).get(REMOTE_MANAGED)):
        return True
    return any(bool_from_string(spec.get(REMOTE_MANAGED)) for spec in request.spec)


class _Family:
    """The devices that taken devices exclude: themselves, their parents and their children."""

    def __init__(self, taken: Iterable[PciDevice] = ()) -> None:
        self._taken: set[str] = set()
        self._parents: set[str | None] = set()
        for device in taken:
            self.add(device)

    def add(self, device: PciDevice) -> None:
        """Add a taken device."""
        self._taken.add(device.address)
        if device.dev_type in CHILDREN:
            self._parents.add(device.parent_addr)

    def excludes(self, device: PciDevice) -> bool:
        """Tell whether the taken devices exclude a device."""
        if device.address in self._taken or device.address in self._parents:
            return True
        return device.dev_type in CHILDREN and device.parent_addr in self._taken
