# SPDX-License-Identifier: Apache-2.0
"""What the operator decides about the rules; the defaults of the [tracker] options."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from tracker_worker.domain.objects import ReservedPages
from tracker_worker.domain.pci.specs import Alias, DeviceSpec

CapacityCheck = Literal["limits", "capacity", "none"]


class TrackerSettings(Struct, frozen=True):
    """Reserves (MB, vcpus, pages) and ratios of nodes whose report has none, how strictly claims are tested,
    which host cells and devices they get.
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
