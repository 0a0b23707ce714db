# SPDX-License-Identifier: Apache-2.0
"""The objects that commands carry (JSON): instances, migrations, limits, a hypervisor's report.

Names and values are Nova's. Memory in MB, disks as named, huge pages in KiB. Unknown fields are refused.
"""

import math
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from tracker_worker.domain.extra_specs import read_keys
from tracker_worker.domain.fields import (
    Count,
    CpuPolicy,
    CpuSet,
    CpuThreadPolicy,
    EmulatorThreadsPolicy,
    Finite,
    HostCpuSet,
    HostName,
    HostNameOrEmpty,
    Label,
    MigrationType,
    Name,
    Pages,
    PciDeviceType,
    PciNumaPolicy,
    Ratio,
    RequestSource,
    Sequence,
    TaskState,
    Text,
    Uuid,
    VmState,
    Whole,
    WholeAboveZero,
    WholeOrMinusOne,
)
from tracker_worker.domain.flavors import Flavor

Scalar = Text | int | float | bool | None


def _cut(part: Struct, *fields: str) -> None:
    """Cut the fractions of a report's numbers and sets of CPUs, so that every rule counts in integers."""
    for field in fields:
        value = getattr(part, field)
        if type(value) is float:
            force_setattr(part, field, int(value))
        elif type(value) is list and any(type(number) is float for number in value):
            force_setattr(part, field, [int(number) for number in value])


class Origin(Struct, frozen=True, forbid_unknown_fields=True):
    """Where an event was cast: the id of the client process and its counter."""

    source: Name
    sequence: Sequence


class GuestCell(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A cell of an instance's topology; memory in MB, pagesize in KiB (Nova's -1 small, -2 large, -3 any)."""

    id: Count
    cpuset: CpuSet
    pcpuset: CpuSet
    memory: Count
    pagesize: Annotated[int, Meta(ge=-3, le=2**31 - 1)] | None = None
    cpu_policy: CpuPolicy | None = None
    cpu_thread_policy: CpuThreadPolicy | None = None
    cpu_pinning: dict[Name, Count] | None = None
    cpuset_reserved: CpuSet | None = None


class GuestTopology(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An instance's NUMA topology."""

    cells: Annotated[list[GuestCell], Meta(max_length=128)]
    emulator_threads_policy: EmulatorThreadsPolicy | None = None


class PciRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request for PCI devices, one of whose specs must match (nova.objects.InstancePCIRequest)."""

    count: Annotated[int, Meta(ge=0, le=4096)]
    spec: Annotated[list[dict[Label, Scalar | list[Scalar]]], Meta(max_length=1024)]
    request_id: Name | None = None
    numa_policy: PciNumaPolicy | None = None
    alias_name: Name | None = None
    source: RequestSource | None = None


PciRequests = Annotated[list[PciRequest], Meta(max_length=1024)]
PciAddresses = Annotated[list[Name], Meta(max_length=4096)]


class Instance(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An instance as its compute manager knows it (nova.objects.Instance)."""

    uuid: Uuid
    project_id: Name
    vm_state: VmState
    flavor: Flavor
    os_type: Label | None = None
    task_state: TaskState | None = None
    volume_backed: bool = False
    host: HostNameOrEmpty | None = None
    node: HostNameOrEmpty | None = None
    numa_topology: GuestTopology | None = None
    pci_requests: PciRequests = []
    pci_devices: PciAddresses | None = None
    image_properties: dict[Label, Text] = {}
    deleted: bool = False

    def __post_init__(self) -> None:
        """Drop the image properties that no rule reads."""
        if self.image_properties:
            force_setattr(self, "image_properties", read_keys(self.image_properties))


class NetworkMetadata(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Networks that a host cell is near to, or that a guest has: physical networks, and tunnels."""

    physnets: Annotated[list[Name], Meta(max_length=1024)] = []
    tunneled: bool = False


class NumaLimits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Over-commit ratios of host cells, and the networks that they have to be near to."""

    cpu_allocation_ratio: Ratio
    ram_allocation_ratio: Ratio
    network_metadata: NetworkMetadata | None = None


class Limits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Absolute ceilings that the scheduler computed; an absent one is not tested. MB, GB, vcpus.

    `network_metadata` may stand here or in `numa_topology`, as in Nova's; there it goes first.
    """

    memory_mb: Count | None = None
    disk_gb: Count | None = None
    vcpu: Count | None = None
    numa_topology: NumaLimits | None = None
    network_metadata: NetworkMetadata | None = None

    @property
    def networks(self) -> NetworkMetadata | None:
        """The networks that the guest's host cells have to be near to."""
        within = self.numa_topology and self.numa_topology.network_metadata
        return within or self.network_metadata


class Migration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A move of an instance (nova.objects.Migration), with the instance when it is on no list."""

    uuid: Uuid
    type: MigrationType
    status: Name
    instance_uuid: Uuid
    source_node: HostNameOrEmpty | None = None
    dest_node: HostNameOrEmpty | None = None
    source_host: HostNameOrEmpty | None = None
    dest_host: HostNameOrEmpty | None = None
    old_flavor: Flavor | None = None
    new_flavor: Flavor | None = None
    old_numa_topology: GuestTopology | None = None
    new_numa_topology: GuestTopology | None = None
    old_pci_devices: PciAddresses | None = None
    new_pci_devices: PciAddresses | None = None
    instance: Instance | None = None
    current: bool = True
    updated_at: datetime | None = None
    created_at: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse a move that comes with another instance than its own."""
        if self.instance is not None and self.instance.uuid != self.instance_uuid:
            raise ValueError("Invalid instance: not the migration's")


_OLDEST = datetime.min.replace(tzinfo=UTC)


def last_change(migration: Migration) -> datetime:
    """Return updated_at, else created_at, else the oldest time; one without a zone is UTC, as Nova's are
    (bug 1611458).
    """
    moment = migration.updated_at or migration.created_at or _OLDEST
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class PageSize(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Memory pages of one size in a host cell; size in KiB, the rest in pages.

    Without `reserved` the reserved_huge_pages of the report or the configuration hold.
    """

    size_kb: WholeAboveZero
    total: Pages
    reserved: Pages | None = None

    def __post_init__(self) -> None:
        """Cut fractions."""
        _cut(self, "size_kb", "total", "reserved")


class HostCell(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A host's NUMA cell; memory in MB. A socket of -1 is one that the host does not tell."""

    id: Whole
    cpuset: HostCpuSet
    pcpuset: HostCpuSet
    memory: Whole
    siblings: Annotated[list[HostCpuSet], Meta(max_length=4096)] = []
    socket: WholeOrMinusOne | None = None
    mempages: Annotated[list[PageSize], Meta(max_length=64)] = []
    network_metadata: NetworkMetadata | None = None

    def __post_init__(self) -> None:
        """Cut fractions."""
        _cut(self, "id", "cpuset", "pcpuset", "memory", "socket")
        if any(type(cpu) is float for core in self.siblings for cpu in core):
            force_setattr(self, "siblings", [[int(cpu) for cpu in core] for core in self.siblings])
        if self.socket == -1:
            force_setattr(self, "socket", None)


class HostTopology(Struct, frozen=True, forbid_unknown_fields=True):
    """A host's NUMA topology."""

    cells: Annotated[list[HostCell], Meta(max_length=1024)]


class PciDevice(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A PCI device that the hypervisor reports."""

    address: Name
    vendor_id: Name
    product_id: Name
    dev_type: PciDeviceType
    numa_node: WholeOrMinusOne | None = None
    parent_addr: Label | None = None
    tags: dict[Label, Label | None] | None = None
    label: Label | None = None
    capabilities: dict[str, Scalar | list[Scalar] | dict[str, Scalar | list[Scalar]]] | None = None

    def __post_init__(self) -> None:
        """Cut a fraction."""
        _cut(self, "numa_node")


class ReservedPages(Struct, frozen=True, forbid_unknown_fields=True):
    """Huge pages that the host keeps for itself; size in KiB."""

    node: Whole
    size_kb: Whole
    count: Pages

    def __post_init__(self) -> None:
        """Cut fractions."""
        _cut(self, "node", "size_kb", "count")


_WHOLE_FIELDS = (
    "vcpus", "memory_mb", "local_gb", "hypervisor_version",
    "reserved_host_memory_mb", "reserved_host_disk_mb", "reserved_host_cpus",
)  # fmt: skip


class Resources(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The hypervisor's view of a node. Fractions are cut; disk_available_least is rounded down.

    Its own *_used figures are shown and never added up (bug 1519001).
    """

    uuid: Uuid
    host: HostName
    vcpus: Whole
    memory_mb: Whole
    local_gb: Whole
    available: bool = True
    disk_available_least: Finite | None = None
    hypervisor_type: Label | None = None
    hypervisor_version: Whole | None = None
    cpu_info: Text | dict[str, Scalar | list[Scalar] | dict[str, Scalar]] | None = None
    host_ip: Label | None = None
    vcpus_used: Finite | None = None
    memory_mb_used: Finite | None = None
    local_gb_used: Finite | None = None
    numa_topology: HostTopology | None = None
    pci_devices: Annotated[list[PciDevice], Meta(max_length=65535)] | None = None
    stats: dict[Label, Scalar] | None = None
    inventories: dict[Name, dict[Name, int | float | None]] | None = None
    traits: Annotated[list[Name], Meta(max_length=4096)] | None = None
    cpu_allocation_ratio: Ratio | None = None
    ram_allocation_ratio: Ratio | None = None
    disk_allocation_ratio: Ratio | None = None
    reserved_host_memory_mb: Whole | None = None
    reserved_host_disk_mb: Whole | None = None
    reserved_host_cpus: Whole | None = None
    reserved_huge_pages: Annotated[list[ReservedPages], Meta(max_length=4096)] | None = None

    def __post_init__(self) -> None:
        """Cut fractions."""
        _cut(self, *_WHOLE_FIELDS)
        if type(self.disk_available_least) is float:
            force_setattr(self, "disk_available_least", math.floor(self.disk_available_least))
