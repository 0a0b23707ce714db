# SPDX-License-Identifier: Apache-2.0
"""Turns the worker's claims and node views into Nova's objects. Any thread."""

from collections import Counter
from typing import Any

from nova import objects

from tracker_worker.nova.conversion import Json
from tracker_worker.nova.private_apis import to_json

_USED = (
    "vcpus_used",
    "memory_mb_used",
    "local_gb_used",
    "free_ram_mb",
    "free_disk_gb",
    "running_vms",
    "current_workload",
)


def write(compute_node: Any, stats: Any, view: Json) -> None:
    """Write what is used of a node into Nova's compute node and its statistics: memory in MB, disk in GB.

    A cell that the view does not have, before the first audit of another topology, stays as it is.
    """
    for name in _USED:
        setattr(compute_node, name, view[name])
    stats.clear()
    stats.update(view["stats"])
    compute_node.stats = stats
    if compute_node.numa_topology and view["numa_topology"]:
        topology = objects.NUMATopology.obj_from_db_obj(compute_node.numa_topology)
        usages = {cell["id"]: cell for cell in view["numa_topology"]["cells"]}
        for cell in topology.cells:
            if cell.id in usages:
                _write_cell(cell, usages[cell.id])
        compute_node.numa_topology = to_json(topology)


def instance_topology(claim: Json) -> Any:
    """Return the topology of a claim with its pins as an InstanceNUMATopology, None if it has none."""
    topology = claim.get("numa_topology")
    if topology is None:
        return None
    return objects.InstanceNUMATopology(
        instance_uuid=claim["instance_uuid"],
        cells=[_instance_cell(cell) for cell in topology["cells"]],
        emulator_threads_policy=topology.get("emulator_threads_policy"),
    )


def _write_cell(cell: Any, usage: Json) -> None:
    cell.cpu_usage = usage["cpu_usage"]
    cell.memory_usage = usage["memory_usage"]
    cell.pinned_cpus = set(usage["pinned_cpus"])
    used = Counter({pages["size_kb"]: pages["used"] for pages in usage["mempages"]})
    for pages in cell.mempages:
        pages.used = used[pages.size_kb]


def _instance_cell(cell: Json) -> Any:
    reserved = cell.get("cpuset_reserved")
    return objects.InstanceNUMACell(
        id=cell["id"],
        cpuset=set(cell["cpuset"]),
        pcpuset=set(cell["pcpuset"]),
        memory=cell["memory"],
        pagesize=cell.get("pagesize"),
        cpu_policy=cell.get("cpu_policy"),
        cpu_thread_policy=cell.get("cpu_thread_policy"),
        cpu_pinning_raw=cell.get("cpu_pinning") or None,
        cpuset_reserved=None if reserved is None else set(reserved),
    )
