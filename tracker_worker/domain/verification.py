# SPDX-License-Identifier: Apache-2.0
"""Verification: the figures of a node, computed once more in the simplest way, against its row and view.

The used amounts of the row are a running sum. Usage of host cells and counts of pools are what the node view
shows. None of the worker's own functions for them is used here.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import GuestCell
from tracker_worker.domain.views import node_view

_PINNED = ("dedicated", "mixed")
_CHILDREN = ("type-VF", "vdpa")


class Difference(Struct, frozen=True):
    """A figure that is not what the rows of the claims add up to."""

    node: str
    figure: str
    shown: Any
    computed: Any


def differences(node: Node) -> Iterator[Difference]:
    """Yield the figures of a tracked node that are wrong."""
    for figure, shown, computed in (*_amounts(node), *_cells(node), *_pools(node)):
        if shown != computed:
            yield Difference(node.name, figure, shown, computed)


_Figure = tuple[str, Any, Any]


def _amounts(node: Node) -> Iterator[_Figure]:
    flavors = [(claim.flavor, claim.volume_backed) for claim in node.held()]
    disk_mb = sum(
        (flavor.ephemeral_gb + (0 if on_volume else flavor.root_gb)) * 1024 + flavor.swap_mb
        for flavor, on_volume in flavors
    )
    reserve, used = node.reserve, node.used
    yield "vcpus_used", used.vcpus, reserve.vcpus + sum(flavor.vcpus for flavor, _ in flavors)
    yield "memory_mb_used", used.memory_mb, reserve.memory_mb + sum(flavor.memory_mb for flavor, _ in flavors)
    yield "disk_mb_used", used.disk_mb, reserve.disk_mb + disk_mb


def _cells(node: Node) -> Iterator[_Figure]:
    for shown in (node_view(node)["numa_topology"] or {"cells": []})["cells"]:
        guests = list(_guests(node, shown["id"]))
        where = f"cell {shown['id']}"
        yield f"{where} memory_usage", shown["memory_usage"], sum(guest.memory for guest in guests)
        yield f"{where} cpu_usage", shown["cpu_usage"], sum(len(guest.cpuset) for guest in guests)
        pinned = {cpu for guest in guests for cpu in _pins(guest, shown["siblings"])}
        yield f"{where} pinned_cpus", shown["pinned_cpus"], sorted(pinned)
        smallest = min((page["size_kb"] for page in shown["mempages"]), default=None)
        for page in shown["mempages"]:
            size = page["size_kb"]
            on_it = [guest for guest in guests if (_named_size(guest) or smallest) == size]
            used = sum(-(-guest.memory * 1024 // size) for guest in on_it)
            yield f"{where} pages of {size} KiB", page["used"], used


def _guests(node: Node, cell_id: int) -> Iterator[GuestCell]:
    for claim in node.held():
        for guest in claim.numa_topology.cells if claim.numa_topology else ():
            if guest.id == cell_id:
                yield guest


def _pins(guest: GuestCell, siblings: list[list[int]]) -> set[int]:
    if guest.cpu_policy not in _PINNED:
        return set()
    own = {*(guest.cpu_pinning or {}).values(), *(guest.cpuset_reserved or ())}
    cores = siblings if guest.cpu_thread_policy == "isolate" else []
    return own | {cpu for core in cores if own & set(core) for cpu in core}


def _named_size(guest: GuestCell) -> int | None:
    return guest.pagesize if guest.pagesize and guest.pagesize > 0 else None


def _pools(node: Node) -> Iterator[_Figure]:
    """Yield for each kind of device how many are free: the counts of its pools together."""
    known = {device.address: device for device in (node.resources and node.resources.pci_devices) or ()}
    held: dict[str, Claim] = {}
    for claim in node.held():
        for taken in claim.pci_devices:
            if taken.address not in held and taken.device is not None:
                known[taken.address] = taken.device
            held.setdefault(taken.address, claim)
    parents = {
        device.parent_addr
        for address, device in known.items()
        if address in held and device.dev_type in _CHILDREN
    }
    computed: dict[str, int] = {}
    for address, device in known.items():
        kind = f"{device.vendor_id}:{device.product_id} {device.dev_type}"
        excluded = address in parents or (device.dev_type in _CHILDREN and device.parent_addr in held)
        computed[kind] = computed.get(kind, 0) + (address not in held and not excluded)
    shown: dict[str, int] = {}
    for pool in node_view(node)["pci_device_pools"]:
        kind = f"{pool['vendor_id']}:{pool['product_id']} {pool['dev_type']}"
        shown[kind] = shown.get(kind, 0) + pool["count"]
    for kind in shown | computed:
        yield f"free devices {kind}", shown.get(kind), computed.get(kind)
