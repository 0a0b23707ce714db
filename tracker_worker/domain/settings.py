# SPDX-License-Identifier: Apache-2.0
"""The settings of the rules, with the defaults of the [tracker] options."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from tracker_worker.domain.objects import ReservedPages
from tracker_worker.domain.pci.specs import Alias, DeviceSpec

CapacityCheck = Literal["limits", "capacity", "none"]


class TrackerSettings(Struct, frozen=True):
    """Reserves (MB, vcpus, pages) and ratios for nodes whose report has none, the capacity check of claims,
    the choice of host cells, assignable devices, aliases.
    """

    capacity_check: CapacityCheck = "limits"
    reserved_host_memory_mb: int = 512
    reserved_host_disk_mb: int = 0
    reserved_host_cpus: int = 0
    cpu_allocation_ratio: float = 4.0
    ram_allocation_ratio: float = 1.0
    disk_allocation_ratio: float = 1.0
    reserved_huge_pages: tuple[ReservedPages, ...] = ()
    packing_host_numa_cells_allocation_strategy: bool = False
    device_specs: tuple[DeviceSpec, ...] = ()
    aliases: Mapping[str, Alias] = {}
