# SPDX-License-Identifier: Apache-2.0
"""Is there room: a claim's memory, disk and vcpus against the limits sent, or a node's capacity.

Source: nova.compute.claims of 2018 (memory, disk, vcpu against the limits sent, with Nova's wording) and
nova.scheduler.client.report / placement for the capacity of a node.
"""

from collections.abc import Iterable

from msgspec import Struct

from tracker_worker.domain.flavors import MB_PER_GB, Amounts
from tracker_worker.domain.ledger import Node
from tracker_worker.domain.objects import Limits
from tracker_worker.domain.settings import CapacityCheck


class _Resource(Struct, frozen=True):
    """One plain resource in the unit of its message; `scale` of the ledger's unit make one of it."""

    label: str
    unit: str
    scale: int
    used: int
    requested: int
    limit: int | None
    total: int
    reserved: int
    ratio: float


def shortages(
    node: Node, used: Amounts, wanted: Amounts, limits: Limits | None, check: CapacityCheck
) -> Iterable[str]:
    """Yield a reason for each resource that does not suffice, in Nova's order: memory, disk, vcpu."""
    if check == "none":
        return
    assert node.resources is not None
    report, reserve, ratios = node.resources, node.reserve, node.ratios
    asked = limits or Limits()
    memory = _Resource(
        "memory", "MB", 1, used.memory_mb, wanted.memory_mb, asked.memory_mb,
        int(report.memory_mb), reserve.memory_mb, ratios.ram,
    )  # fmt: skip
    disk = _Resource(
        "disk", "GB", MB_PER_GB, used.disk_mb, wanted.disk_mb, asked.disk_gb,
        int(report.local_gb), reserve.disk_mb, ratios.disk,
    )  # fmt: skip
    vcpu = _Resource(
        "vcpu", "VCPU", 1, used.vcpus, wanted.vcpus, asked.vcpu,
        int(report.vcpus), reserve.vcpus, ratios.cpu,
    )  # fmt: skip
    for resource in (memory, disk, vcpu):
        if reason := _shortage(resource, check):
            yield reason


def _shortage(resource: _Resource, check: CapacityCheck) -> str | None:
    free: float
    if resource.limit is not None:
        free = resource.limit * resource.scale - resource.used
    elif check == "capacity":
        capacity = (resource.total * resource.scale - resource.reserved) * resource.ratio
        free = capacity - (resource.used - resource.reserved)
    else:
        return None
    if resource.requested <= free:
        return None
    requested = -(-resource.requested // resource.scale)
    return (
        f"Free {resource.label} {free / resource.scale:.2f} {resource.unit}"
        f" < requested {requested} {resource.unit}"
    )
