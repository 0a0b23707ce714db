# SPDX-License-Identifier: Apache-2.0
"""The hypervisor's report: whose it is, what it changes, which reserves and ratios hold."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import Node, Ratios, Reported
from tracker_worker.domain.objects import HostTopology, PageSize, Resources
from tracker_worker.domain.pci.specs import assignable
from tracker_worker.domain.settings import TrackerSettings

NO_CHANGE_STATS = ("uptime",)


class Conflict(Struct, frozen=True):
    """A report that cannot be this node's: another node has its uuid, or this name has another uuid."""

    uuid: str
    message: str


def conflict_of(node: Node, report: Resources, uuid_owners: Mapping[str, str]) -> Conflict | None:
    """Tell why a report is refused; `uuid_owners` are the tracked nodes' names by uuid, as SQL has them.

    Source: nova.compute.resource_tracker (InvalidNodeConfiguration, bug 1714248: a rebalanced node keeps
    its uuid).
    """
    way_out = "remove_node with force, then the next report, resolves it"
    if node.resources is not None and node.resources.uuid != report.uuid:
        known = node.resources.uuid
        return Conflict(report.uuid, f"node {node.name} is known with uuid {known}; {way_out}")
    owner = uuid_owners.get(report.uuid, node.name)
    if owner != node.name:
        return Conflict(report.uuid, f"uuid {report.uuid} belongs to node {owner}; {way_out}")
    return None


def report_change(node: Node, report: Resources, settings: TrackerSettings) -> Reported | None:
    """Return what a report changes, None when it says nothing new.

    An unavailable node keeps its totals: of such a report only `available` and the host count.
    """
    known = node.resources
    report = _completed(report, settings)
    if known is not None and not report.available:
        merged = replace(known, available=False, host=report.host)
        return None if merged == known else Reported(merged, node.reserve, node.ratios)
    change = Reported(report, _reserve(report, settings), _ratios(report, settings))
    if (
        known is not None
        and _essence(report) == _essence(known)
        and (change.reserve, change.ratios) == (node.reserve, node.ratios)
    ):
        return None
    return change


def _completed(report: Resources, settings: TrackerSettings) -> Resources:
    """Return a report with the devices that instances may have, and with the pages that the host keeps.

    What a cell says of its pages wins over the node's reserved_huge_pages, and these over the option.
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


def _essence(report: Resources) -> Resources:
    """Leave out what changes all the time and means nothing to the ledger."""
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
    """A ratio of 0.0 is absent, as in Nova's configuration."""
    return Ratios(
        cpu=report.cpu_allocation_ratio or settings.cpu_allocation_ratio,
        ram=report.ram_allocation_ratio or settings.ram_allocation_ratio,
        disk=report.disk_allocation_ratio or settings.disk_allocation_ratio,
    )
