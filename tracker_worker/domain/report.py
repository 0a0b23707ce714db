# SPDX-License-Identifier: Apache-2.0
"""The hypervisor's report: its conflicts, its change to the node, and which reserves and ratios apply."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.flavors import MB_PER_GB, Amounts
from tracker_worker.domain.node import Node, Ratios, Reported
from tracker_worker.domain.objects import HostTopology, PageSize, Resources
from tracker_worker.domain.pci.specs import assignable
from tracker_worker.domain.settings import TrackerSettings

NO_CHANGE_STATS = ("uptime",)


class Owner(Struct, frozen=True):
    """The tracked node that has a uuid, and its host."""

    name: str
    host: str


class Conflict(Struct, frozen=True):
    """A refused report: another node has its uuid, or its node has another uuid."""

    uuid: str
    message: str


def conflict_of(node: Node, report: Resources, uuid_owners: Mapping[str, Owner]) -> Conflict | None:
    """Return why a report is refused, or None; `uuid_owners`: the tracked nodes in SQL, by uuid.

    Source: nova.compute.resource_tracker (InvalidNodeConfiguration, bug 1714248: a rebalanced node keeps
    its uuid).
    """
    known = node.resources
    if known is not None and known.uuid != report.uuid:
        stored = f"host {known.host} has reported it with uuid {known.uuid}"
        return _conflict(node, report, stored, node.name)
    owner = uuid_owners.get(report.uuid)
    if owner is not None and owner.name != node.name:
        stored = f"host {owner.host} has reported node {owner.name} with that uuid"
        return _conflict(node, report, stored, owner.name)
    return None


def _conflict(node: Node, report: Resources, stored: str, stored_node: str) -> Conflict:
    """Say how to tell which of the two is wrong before what removes the stored node."""
    return Conflict(
        report.uuid,
        f"host {report.host} reports node {node.name} with uuid {report.uuid}, but {stored}; compare both "
        "with 'openstack hypervisor list' and with the file compute_id of nova-compute on each host. If this "
        f"report is wrong, correct its host. If the stored node {stored_node} is wrong, "
        f"'tracker-worker-manage node remove {stored_node}' shows its claims, and removes it if it has none",
    )


def report_change(node: Node, report: Resources, settings: TrackerSettings) -> Reported | None:
    """Return the change that a report makes, None if there is none.

    An unavailable node keeps its totals: only `available` and `host` of such a report are stored.
    """
    known = node.resources
    report = _completed(report, settings)
    if known is not None and not report.available:
        merged = replace(known, available=False, host=report.host)
        return None if merged == known else Reported(merged, node.reserve, node.ratios)
    change = Reported(report, _reserve(report, settings), _ratios(report, settings))
    if (
        known is not None
        and essence(report) == essence(known)
        and (change.reserve, change.ratios) == (node.reserve, node.ratios)
    ):
        return None
    return change


def excess_reserves(report: Resources | None, reserve: Amounts) -> dict[str, str]:
    """Return, by option, each part of a node's reserve that exceeds the node, with both amounts.

    A size of 0 is not tested: an Ironic node in use reports such sizes, and the reserve may be the workers'.
    """
    if report is None:
        return {}
    sizes = [
        ("reserved_host_cpus", reserve.vcpus, "vcpus", report.vcpus),
        ("reserved_host_memory_mb", reserve.memory_mb, "memory_mb", report.memory_mb),
        ("reserved_host_disk_mb", reserve.disk_mb, "local_gb * 1024", report.local_gb * MB_PER_GB),
    ]
    for cell in report.numa_topology.cells if report.numa_topology else ():
        for page in cell.mempages:
            where = f"node:{cell.id},size:{page.size_kb}"
            sizes.append((f"reserved_huge_pages {where}", page.reserved or 0, "total", page.total))
    return {
        option: f"{option} {reserved} > {name} {size}"
        for option, reserved, name, size in sizes
        if 0 < size < reserved
    }


def _completed(report: Resources, settings: TrackerSettings) -> Resources:
    """Return a report with its assignable devices only, and with the reserved pages of each cell.

    `reserved` of a cell's pages takes precedence over the report's reserved_huge_pages, and these over the
    option.
    """
    if report.pci_devices:
        report = replace(report, pci_devices=assignable(report.pci_devices, settings.device_specs))
    if report.numa_topology is None:
        return report
    given = settings.reserved_huge_pages if report.reserved_huge_pages is None else report.reserved_huge_pages
    reserved = {(pages.node, pages.size_kb): pages.count for pages in given}
    cells = [
        replace(cell, mempages=[_with_reserve(page, cell.id, reserved) for page in cell.mempages])
        for cell in report.numa_topology.cells
    ]
    return replace(report, numa_topology=HostTopology(cells))


def _with_reserve(page: PageSize, cell: int, reserved: Mapping[tuple[int, int], int]) -> PageSize:
    if page.reserved is not None:
        return page
    return replace(page, reserved=reserved.get((cell, page.size_kb), 0))


def essence(report: Resources) -> Resources:
    """Return a report without the figures that change all the time and do not affect the ledger."""
    stats = {k: v for k, v in (report.stats or {}).items() if k not in NO_CHANGE_STATS}
    return replace(report, vcpus_used=None, memory_mb_used=None, local_gb_used=None, stats=stats or None)


def _reserve(report: Resources, settings: TrackerSettings) -> Amounts:
    return Amounts(
        vcpus=_given(report.reserved_host_cpus, settings.reserved_host_cpus),
        memory_mb=_given(report.reserved_host_memory_mb, settings.reserved_host_memory_mb),
        disk_mb=_given(report.reserved_host_disk_mb, settings.reserved_host_disk_mb),
    )


def _given(value: float | None, default: int) -> int:
    return default if value is None else int(value)


def _ratios(report: Resources, settings: TrackerSettings) -> Ratios:
    """Return the ratios that apply. 0.0 counts as absent, as in Nova's configuration."""
    return Ratios(
        cpu=report.cpu_allocation_ratio or settings.cpu_allocation_ratio,
        ram=report.ram_allocation_ratio or settings.ram_allocation_ratio,
        disk=report.disk_allocation_ratio or settings.disk_allocation_ratio,
    )
