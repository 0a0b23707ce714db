# SPDX-License-Identifier: Apache-2.0
"""The capacity check: a claim's memory, disk and vcpus against the scheduler's limits or a node's capacity.

Source: nova.compute.claims of 2018 for the limits and the wording of reasons; nova.scheduler.client.report
and Placement for the capacity.
"""

from collections.abc import Iterable

from msgspec import Struct

from tracker_worker.domain.flavors import MB_PER_GB, Amounts
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Limits
from tracker_worker.domain.settings import CapacityCheck


class _Resource(Struct, frozen=True):
    """Memory, disk or vcpus. `limit` and `total` are in `unit`, which is `scale` times the ledger's unit."""

    label: str
    unit: str
    scale: int
    used: int
    counted: int
    requested: int
    limit: int | None
    total: int
    reserved: int
    ratio: float


_NOT_TESTED: float | None = None


class CapacityTest(Struct, frozen=True):
    """The test of one resource, its amounts in `unit`. `free` is None if the resource is not tested.

    `reason` is why the claim is refused, None if the resource suffices.
    """

    resource: str
    unit: str
    requested: float
    free: float | None
    reason: str | None


def shortages(
    node: Node,
    used: Amounts,
    counted: Amounts,
    requested: Amounts,
    limits: Limits | None,
    check: CapacityCheck,
) -> Iterable[str]:
    """Yield a reason for each insufficient resource, in Nova's order: memory, disk, vcpu.

    A limit applies to the amounts of the claim (`counted`), the capacity to the amounts that Nova requests
    from Placement (`requested`).
    """
    if check == "none":
        return
    for resource in _resources(node, used, counted, requested, limits):
        if (reason := _shortage(resource, check)) is not None:
            yield reason


def capacity_tests(
    node: Node,
    used: Amounts,
    counted: Amounts,
    requested: Amounts,
    limits: Limits | None,
    check: CapacityCheck,
) -> Iterable[CapacityTest]:
    """Yield the tests that `shortages` makes, those that pass as well."""
    for resource in _resources(node, used, counted, requested, limits):
        amount, free = resource.requested, _NOT_TESTED
        if check != "none" and resource.limit is not None:
            amount, free = resource.counted, _free_of_limit(resource, resource.limit)
        elif check == "capacity":
            free = _free_of_capacity(resource)
        yield CapacityTest(
            resource.label,
            resource.unit,
            amount / resource.scale,
            None if free is None else free / resource.scale,
            None if free is None else _shortage(resource, check),
        )


def _resources(
    node: Node, used: Amounts, counted: Amounts, requested: Amounts, limits: Limits | None
) -> tuple[_Resource, ...]:
    assert node.resources is not None
    report, reserve, ratios = node.resources, node.reserve, node.ratios
    asked = limits or Limits()
    memory = _Resource(
        "memory", "MB", 1, used.memory_mb, counted.memory_mb, requested.memory_mb, asked.memory_mb,
        report.memory_mb, reserve.memory_mb, ratios.ram,
    )  # fmt: skip
    disk = _Resource(
        "disk", "GB", MB_PER_GB, used.disk_mb, counted.disk_mb, requested.disk_mb, asked.disk_gb,
        report.local_gb, reserve.disk_mb, ratios.disk,
    )  # fmt: skip
    vcpu = _Resource(
        "vcpu", "VCPU", 1, used.vcpus, counted.vcpus, requested.vcpus, asked.vcpu,
        report.vcpus, reserve.vcpus, ratios.cpu,
    )  # fmt: skip
    return memory, disk, vcpu


def _shortage(resource: _Resource, check: CapacityCheck) -> str | None:
    if resource.limit is not None:
        return _beyond_limit(resource, resource.limit)
    return _beyond_capacity(resource) if check == "capacity" else None


def _beyond_limit(resource: _Resource, limit: int) -> str | None:
    free = _free_of_limit(resource, limit)
    return None if resource.counted <= free else _reason(resource, "Free", free, resource.counted)


def _free_of_limit(resource: _Resource, limit: int) -> int:
    return limit * resource.scale - resource.used


def _free_of_capacity(resource: _Resource) -> float:
    total = resource.total * resource.scale
    return (total - resource.reserved) * resource.ratio - (resource.used - resource.reserved)


def _beyond_capacity(resource: _Resource) -> str | None:
    """Source: Placement's _check_capacity_exceeded, with the max_unit that Nova sets: the total.

    A resource that is not requested is not tested: on an Ironic node its total is 0 and free is negative.
    """
    total = resource.total * resource.scale
    free = _free_of_capacity(resource)
    if not resource.requested:
        return None
    if resource.requested > free:
        return _reason(resource, "Free", free, resource.requested)
    return None if resource.requested <= total else _reason(resource, "Total", total, resource.requested)


def _reason(resource: _Resource, which: str, amount: float, requested: int) -> str:
    return (
        f"{which} {resource.label} {amount / resource.scale:.2f} {resource.unit}"
        f" < requested {-(-requested // resource.scale)} {resource.unit}"
    )
