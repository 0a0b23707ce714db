# SPDX-License-Identifier: Apache-2.0
"""The views of claims and nodes in replies, `get_node` and notifications. Names are Nova's."""

from typing import Any

from msgspec import Struct, to_builtins

from tracker_worker.domain.fields import PciDeviceStatus
from tracker_worker.domain.flavors import MB_PER_GB
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.numa.topology import CellUsage
from tracker_worker.domain.pci.pools import HeldDevice, Pool, TrackedDevice, pools_of
from tracker_worker.domain.stats import stats_of
from tracker_worker.domain.usage import cells_of, devices_of


class ClaimView(Struct, frozen=True):
    """A claim as replies and notifications show it; memory and disk in MB."""

    instance_uuid: str
    role: str
    migration_uuid: str | None
    vcpus: int
    memory_mb: int
    disk_mb: int
    numa_topology: dict[str, Any] | None = None
    pci_devices: list[dict[str, Any]] = []


def claim_view(claim: Claim) -> ClaimView:
    """Return the view of a claim."""
    amounts = claim.amounts
    return ClaimView(
        instance_uuid=claim.instance_uuid,
        role=claim.role.value,
        migration_uuid=claim.migration_uuid,
        vcpus=amounts.vcpus,
        memory_mb=amounts.memory_mb,
        disk_mb=amounts.disk_mb,
        numa_topology=None if claim.numa_topology is None else to_builtins(claim.numa_topology),
        pci_devices=[_held_device_view(held) for held in claim.pci_devices],
    )


def _held_device_view(held: HeldDevice) -> dict[str, Any]:
    status = PciDeviceStatus.ALLOCATED if held.allocated else PciDeviceStatus.CLAIMED
    view: dict[str, Any] = {"address": held.address, "status": status.value}
    if held.request_id is not None:
        view["request_id"] = held.request_id
    if held.device is not None:
        view |= {
            "vendor_id": held.device.vendor_id,
            "product_id": held.device.product_id,
            "dev_type": held.device.dev_type.value,
            "numa_node": held.device.numa_node,
        }
    return view


def usage_view(node: Node) -> dict[str, Any]:
    """Return a tracked node's figures as Nova's ComputeNode shows them; free values may be negative (bug
    1698383).
    """
    report, used, ratios = node.resources, node.used, node.ratios
    assert report is not None
    return {
        "name": node.name,
        "uuid": report.uuid,
        "host": report.host,
        "sequence": node.sequence,
        "vcpus": report.vcpus,
        "vcpus_used": used.vcpus,
        "memory_mb": report.memory_mb,
        "memory_mb_used": used.memory_mb,
        "local_gb": report.local_gb,
        "local_gb_used": used.disk_mb // MB_PER_GB,
        "free_ram_mb": int(report.memory_mb) - used.memory_mb,
        "free_disk_gb": int(report.local_gb) - used.disk_mb // MB_PER_GB,
        "running_vms": node.claims.counts.instances,
        "current_workload": node.claims.counts.in_task,
        "disk_available_least": report.disk_available_least,
        "cpu_allocation_ratio": ratios.cpu,
        "ram_allocation_ratio": ratios.ram,
        "disk_allocation_ratio": ratios.disk,
        "disabled": node.disabled,
        "stats": stats_of(node),
    }


def node_view(node: Node) -> dict[str, Any]:
    """Return the complete view of a tracked node, as `get_node` and `node show` show it."""
    assert node.resources is not None
    report = node.resources
    claims = list(node.held())
    devices = devices_of(node, claims)
    return {
        **usage_view(node),
        "numa_topology": report.numa_topology and {"cells": [_cell_view(u) for u in cells_of(node, claims)]},
        "pci_device_pools": [_pool_view(pool) for pool in pools_of(devices)],
        "pci_devices": [_device_view(device) for device in devices],
        "claims": [to_builtins(claim_view(claim)) for claim in claims],
    }


def _cell_view(usage: CellUsage) -> dict[str, Any]:
    cell = usage.cell
    return {
        "id": cell.id,
        "cpuset": cell.cpuset,
        "pcpuset": cell.pcpuset,
        "memory": cell.memory,
        "memory_usage": usage.memory_usage,
        "cpu_usage": usage.cpu_usage,
        "pinned_cpus": sorted(usage.pinned_cpus),
        "siblings": cell.siblings,
        "mempages": [
            {
                "size_kb": page.size_kb,
                "total": page.total,
                "used": usage.pages.get(page.size_kb, 0),
                "reserved": page.reserved or 0,
            }
            for page in cell.mempages
        ],
    }


def _pool_view(pool: Pool) -> dict[str, Any]:
    device = pool.device
    view: dict[str, Any] = {
        "vendor_id": device.vendor_id,
        "product_id": device.product_id,
        "numa_node": device.numa_node,
        "dev_type": device.dev_type.value,
    }
    if device.parent_addr is not None:
        view["parent_addr"] = device.parent_addr
    if pool.tags:
        view["tags"] = dict(pool.tags)
    return {**view, "count": len(pool.free)}


def _device_view(tracked: TrackedDevice) -> dict[str, Any]:
    view = {"address": tracked.address, "status": tracked.status.value}
    return view if tracked.instance_uuid is None else {**view, "instance_uuid": tracked.instance_uuid}
