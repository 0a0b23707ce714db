# SPDX-License-Identifier: Apache-2.0
"""What the operator decides about the rules; the defaults of the [tracker] options."""

from typing import Literal

from msgspec import Struct

CapacityCheck = Literal["limits", "capacity", "none"]


class TrackerSettings(Struct, frozen=True):
    """Reserves (MB, vcpus) and ratios of nodes whose report has none, and how strictly claims are tested."""

    capacity_check: CapacityCheck = "limits"
    reserved_host_memory_mb: int = 512
    reserved_host_disk_mb: int = 0
    reserved_host_cpus: int = 0
    cpu_allocation_ratio: float = 4.0
    ram_allocation_ratio: float = 1.0
    disk_allocation_ratio: float = 1.0
