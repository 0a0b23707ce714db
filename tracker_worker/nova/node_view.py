# SPDX-License-Identifier: Apache-2.0
"""Turns the worker's claims and node views into Nova's objects. Any thread."""

import math
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
    """Write what is used of a node into Nova's compute node and its statistics: memory in MB, disk in GB."""
    for name in _USED:
        setattr(compute_node, name, view[name])
    stats.clear()
    stats.update(view["stats"])
    compute_node.stats = stats
    if compute_node.numa_topology and view["numa_topology"]:
        topology = objects.NUMATopology.obj_from_db_obj(compute_node.numa_topology)
        usages = {cell["id"]: cell for cell in view["numa_topology"]["cells"]}
        for cell in topology.cells:
            _write_cell(cell, usages[cell.id])
        compute_node.numa_topology = to_json(topology)


def instance_topology(claim: Json, compute_node: Any) -> Any:
    """Return the topology of a claim with its pins as an InstanceNUMATopology, None if it has none."""
    topology = claim.get("numa_topology")
    if topology is None:
        return None
    host = objects.NUMATopology.obj_from_db_obj(compute_node.numa_topology)
    siblings = {cell.id: cell.siblings for cell in host.cells}
    policy = topology.get("emulator_threads_policy")
    return objects.InstanceNUMATopology(
        instance_uuid=claim["instance_uuid"],
        cells=[_instance_cell(cell, siblings.get(cell["id"], [])) for cell in topology["cells"]],
        **({} if policy is None else {"emulator_threads_policy": policy}),
    )


def threads_of(pinning: dict[str, int], siblings: list[set[int]]) -> int:
    """Return how many threads a core of the guest has whose vcpus are pinned to these host CPUs.

    Source: nova.virt.hardware._pack_instance_onto_cores.
    """
    pinned = set(pinning.values())
    at_most = max((len(pinned & group) for group in siblings), default=1) or 1
    return math.gcd(at_most, len(pinned) % at_most)


def _write_cell(cell: Any, usage: Json) -> None:
    cell.cpu_usage = usage["cpu_usage"]
    cell.memory_usage = usage["memory_usage"]
    cell.pinned_cpus = set(usage["pinned_cpus"])
    used = Counter({pages["size_kb"]: pages["used"] for pages in usage["mempages"]})
    for pages in cell.mempages:
        pages.used = used[pages.size_kb]


def _instance_cell(cell: Json, siblings: list[set[int]]) -> Any:
    pinning = cell.get("cpu_pinning")
    pinned = {}
    if pinning:
        threads = threads_of(pinning, siblings)
        pinned = {
            "cpu_pinning_raw": pinning,
            "cpu_topology": objects.VirtCPUTopology(
                sockets=1, cores=len(pinning) // threads, threads=threads
            ),
        }
    reserved = cell.get("cpuset_reserved")
    return objects.InstanceNUMACell(
        id=cell["id"],
        cpuset=set(cell["cpuset"]),
        pcpuset=set(cell["pcpuset"]),
        memory=cell["memory"],
        pagesize=cell.get("pagesize"),
        cpu_policy=cell.get("cpu_policy"),
        cpu_thread_policy=cell.get("cpu_thread_policy"),
        cpuset_reserved=None if reserved is None else set(reserved),
        **pinned,
    )
