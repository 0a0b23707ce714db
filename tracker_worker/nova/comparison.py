# SPDX-License-Identifier: Apache-2.0
"""Compares the worker's node view with Nova's compute node, field by field. Pure; any thread."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracker_worker.nova.conversion import Json, given

_FIELDS = (
    "uuid",
    "vcpus",
    "vcpus_used",
    "memory_mb",
    "memory_mb_used",
    "local_gb",
    "local_gb_used",
    "free_ram_mb",
    "free_disk_gb",
    "running_vms",
    "current_workload",
    "disk_available_least",
)
_COUNTED_STATS = ("num_", "io_workload", "failed_builds")
_UNLOCKED = "stats.failed_builds:"
_POOL_KEYS = ("vendor_id", "product_id", "numa_node")
_OF_PLACEMENT = ("rp_uuid", "address")


def seen(compute_node: Any, topology: Any) -> Json:
    """Return what Nova says of a node, in the form of the node view. `topology` is its NUMA topology."""
    return {
        **{name: given(compute_node, name) for name in _FIELDS},
        "stats": dict(given(compute_node, "stats") or {}),
        "cells": {} if topology is None else {cell.id: _nova_cell(cell) for cell in topology.cells},
        "pools": _counted(
            (_nova_pool(pool), pool.count) for pool in given(compute_node, "pci_device_pools") or ()
        ),
    }


def differences(nova: Json, view: Json) -> list[str]:
    """Return a line for each field that differs: its name, Nova's value and the worker's."""
    return [
        f"{name}: {theirs} in Nova, {ours} in the worker"
        for name, theirs, ours in pairs(nova, view)
        if theirs != ours
    ]


def confirmed(found: list[str], before: list[str]) -> list[str]:
    """Return the differences of which an audit is sure; `before` has those of the node's audit before it.

    Nova counts failed builds outside its lock, and no audit corrects them: a real difference stays.
    """
    return [line for line in found if not line.startswith(_UNLOCKED) or line in before]


def pairs(nova: Json, view: Json) -> list[tuple[str, Any, Any]]:
    """Return each field's name, Nova's value and the worker's."""
    topology = view["numa_topology"] or {"cells": []}
    pools = _counted((_worker_pool(pool), pool["count"]) for pool in view["pci_device_pools"])
    return [
        *((name, nova[name], view[name]) for name in _FIELDS),
        *_pairs("stats.", _counts(nova["stats"]), _counts(view["stats"]), 0),
        *_pairs(
            "numa cell ", nova["cells"], {cell["id"]: _worker_cell(cell) for cell in topology["cells"]}, None
        ),
        *_pairs("pci pool ", nova["pools"], pools, 0),
    ]


def _pairs(prefix: str, theirs: Json, ours: Json, absent: Any) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*theirs, *ours}, key=str):
        yield f"{prefix}{name}", theirs.get(name, absent), ours.get(name, absent)


def _counts(stats: Mapping[str, Any]) -> Json:
    return {name: int(value) for name, value in stats.items() if name.startswith(_COUNTED_STATS)}


def _counted(pools: Iterable[tuple[str, int]]) -> Json:
    """Return the number of free devices of each kind: Nova and the worker divide them differently."""
    counts: Counter[str] = Counter()
    for kind, count in pools:
        counts[kind] += count
    return dict(counts)


def _nova_pool(pool: Any) -> str:
    tags = {name: value for name, value in (given(pool, "tags") or {}).items() if name not in _OF_PLACEMENT}
    return _kind({name: given(pool, name) for name in _POOL_KEYS}, tags)


def _worker_pool(pool: Json) -> str:
    tags = pool.get("tags", {}) | {"dev_type": pool["dev_type"]}  # A tag in Nova's pools.
    return _kind({name: pool.get(name) for name in _POOL_KEYS}, tags)


def _kind(keys: Json, tags: Json) -> str:
    return " ".join(f"{name}={value}" for name, value in (*keys.items(), *sorted(tags.items())))


def _nova_cell(cell: Any) -> Json:
    return {
        "cpu_usage": cell.cpu_usage,
        "memory_usage": cell.memory_usage,
        "pinned_cpus": sorted(cell.pinned_cpus),
        "pages": {pages.size_kb: pages.used for pages in cell.mempages},
    }


def _worker_cell(cell: Json) -> Json:
    return {
        "cpu_usage": cell["cpu_usage"],
        "memory_usage": cell["memory_usage"],
        "pinned_cpus": cell["pinned_cpus"],
        "pages": {pages["size_kb"]: pages["used"] for pages in cell["mempages"]},
    }
