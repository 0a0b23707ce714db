# SPDX-License-Identifier: Apache-2.0
"""How claims and nodes are shown: replies, `get_node`, notifications. Names are Nova's."""

from typing import Any

from msgspec import Struct, to_builtins

from tracker_worker.domain.flavors import MB_PER_GB
from tracker_worker.domain.ledger import Claim, Node
from tracker_worker.domain.objects import HostCell
from tracker_worker.domain.stats import current_workload, instance_claims, stats_of


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
    )


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
        "running_vms": len(instance_claims(node)),
        "current_workload": current_workload(node),
        "disk_available_least": report.disk_available_least,
        "cpu_allocation_ratio": ratios.cpu,
        "ram_allocation_ratio": ratios.ram,
        "disk_allocation_ratio": ratios.disk,
        "disabled": node.disabled,
        "stats": stats_of(node),
    }


def node_view(node: Node) -> dict[str, Any]:
    """Return everything that is known of a tracked node, as `get_node` and `node show` print it."""
    assert node.resources is not None
    report = node.resources
    topology = report.numa_topology
    return {
        **usage_view(node),
        "numa_topology": topology and {"cells": [_cell_view(cell) for cell in topology.cells]},
        "pci_device_pools": [],
        "pci_devices": [
            {"address": device.address, "status": "available"} for device in report.pci_devices or ()
        ],
        "claims": [to_builtins(claim_view(claim)) for held in node.claims.values() for claim in held],
    }


def _cell_view(cell: HostCell) -> dict[str, Any]:
    return {
        "id": cell.id,
        "cpuset": cell.cpuset,
        "pcpuset": cell.pcpuset,
        "memory": cell.memory,
        "memory_usage": 0,
        "cpu_usage": 0,
        "pinned_cpus": [],
        "siblings": cell.siblings,
        "mempages": [
            {"size_kb": page.size_kb, "total": page.total, "used": 0, "reserved": page.reserved}
            for page in cell.mempages
        ],
    }
