# SPDX-License-Identifier: Apache-2.0
"""Converts what Nova knows of a node to the resources of its report. Pure; any thread."""

from collections.abc import Mapping
from typing import Any

from tracker_worker.nova.conversion import Json, given, network_metadata

_AS_THE_DRIVER_SAYS = (
    "uuid",
    "vcpus",
    "memory_mb",
    "local_gb",
    "vcpus_used",
    "memory_mb_used",
    "local_gb_used",
    "disk_available_least",
    "hypervisor_type",
    "hypervisor_version",
    "cpu_info",
    "host_ip",
    "stats",
)


def resources(
    driver_view: Mapping[str, Any], host: str, topology: Any, *, available: bool, options: Json
) -> Json:
    """Return the resources of a node without its devices and its provider.

    `driver_view` is the answer of the driver's get_available_resource, `topology` its NUMA topology as an
    object, `options` the reserves and ratios that Nova is configured with: memory in MB, disk in GB.
    """
    reported = {name: driver_view[name] for name in _AS_THE_DRIVER_SAYS if driver_view.get(name) is not None}
    return {
        **reported,
        **options,
        "host": host,
        **({} if available else {"available": False}),
        **(
            {} if topology is None else {"numa_topology": {"cells": [_cell(cell) for cell in topology.cells]}}
        ),
    }


def provider(data: Any) -> Json:
    """Return the inventories and traits of the node's provider in Nova's provider tree."""
    return {"inventories": dict(data.inventory), "traits": sorted(data.traits)}


def _cell(cell: Any) -> Json:
    networks = network_metadata(given(cell, "network_metadata"))
    socket = given(cell, "socket")
    return {
        "id": cell.id,
        "cpuset": sorted(cell.cpuset),
        "pcpuset": sorted(cell.pcpuset),
        "memory": cell.memory,
        "siblings": sorted(sorted(group) for group in cell.siblings),
        "mempages": [_pages(pages) for pages in cell.mempages],
        **({} if socket is None else {"socket": socket}),
        **({} if networks is None else {"network_metadata": networks}),
    }


def _pages(pages: Any) -> Json:
    return {"size_kb": pages.size_kb, "total": pages.total, "reserved": given(pages, "reserved") or 0}
