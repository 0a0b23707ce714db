# SPDX-License-Identifier: Apache-2.0
"""The objects that commands carry (JSON): instances, migrations, limits, a hypervisor's report.

Names and values are Nova's. Unknown fields are refused. The comments `#: meaning [unit]` are the source of
doc/source/user/commands.rst.
"""

import math
from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from tracker_worker.domain.child_providers import ChildProviders, Inventories, Traits, check_tree
from tracker_worker.domain.errors import InvalidValue
from tracker_worker.domain.extra_specs import is_secret_name, read_keys
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
    """Cut the fractions of a report's numbers and sets of CPUs, so that every rule gets integers."""
    for field in fields:
        value = getattr(part, field)
        if type(value) is float:
            force_setattr(part, field, int(value))
        elif type(value) is list and any(type(number) is float for number in value):
            force_setattr(part, field, [int(number) for number in value])


class Origin(Struct, frozen=True, forbid_unknown_fields=True):
    """The client process that sent an event, and its counter."""

    source: Name  #: id of the client process
    sequence: Sequence  #: the client's counter of commands [count]


class GuestCell(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A cell of an instance's topology; memory in MB, pagesize in KiB (Nova's -1 small, -2 large, -3 any)."""

    id: Count  #: number of the host's cell; before placement, of the guest's [number]
    cpuset: CpuSet  #: guest CPUs that float over the host cell's shared CPUs [CPU numbers]
    pcpuset: CpuSet  #: guest CPUs that are pinned [CPU numbers]
    memory: Count  #: memory of the cell [MB]
    #: page size; -1 small, -2 large, -3 any; absent: ordinary pages [KiB]
    pagesize: Annotated[int, Meta(ge=-3, le=2**31 - 1)] | None = None
    #: policy of the guest's CPUs (`hw:cpu_policy`)
    cpu_policy: CpuPolicy | None = None
    #: policy of hardware threads (`hw:cpu_thread_policy`)
    cpu_thread_policy: CpuThreadPolicy | None = None
    #: host CPU by guest CPU, whose number is a text in JSON [CPU numbers]
    cpu_pinning: dict[Name, Count] | None = None
    cpuset_reserved: CpuSet | None = None  #: host CPUs for the emulator's threads [CPU numbers]


class GuestTopology(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An instance's NUMA topology."""

    cells: Annotated[list[GuestCell], Meta(max_length=128)]  #: cells of the guest
    #: policy of the emulator's threads (`hw:emulator_threads_policy`)
    emulator_threads_policy: EmulatorThreadsPolicy | None = None


class PciRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request for PCI devices, one of whose specs must match (nova.objects.InstancePCIRequest)."""

    count: Annotated[int, Meta(ge=0, le=4096)]  #: number of devices [devices]
    #: alternatives, of which one must match: each key equals the device's field or tag
    spec: Annotated[list[dict[Label, Scalar | list[Scalar]]], Meta(max_length=1024)]
    request_id: Name | None = None  #: id of the request; a repeated request takes no further devices
    #: affinity of the devices to the guest's cells (`hw:pci_numa_affinity_policy`)
    numa_policy: PciNumaPolicy | None = None
    alias_name: Name | None = None  #: the `[pci] alias` that the request came from
    source: RequestSource | None = None  #: where the request came from


PciRequests = Annotated[list[PciRequest], Meta(max_length=1024)]
PciAddresses = Annotated[list[Name], Meta(max_length=4096)]


class Instance(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An instance as its compute manager has it (nova.objects.Instance)."""

    uuid: Uuid  #: id of the instance
    project_id: Name  #: id of the project
    vm_state: VmState  #: state of the instance
    flavor: Flavor  #: flavor of the instance
    os_type: Label | None = None  #: operating system, counted in `stats` as `num_os_type_*`
    task_state: TaskState | None = None  #: task in progress
    volume_backed: bool = False  #: the root disk is a volume and uses no local disk
    host: HostNameOrEmpty | None = None  #: compute host that has the instance
    node: HostNameOrEmpty | None = None  #: node that has the instance
    numa_topology: GuestTopology | None = None  #: the guest's NUMA topology, requested or assigned
    pci_requests: PciRequests = []  #: PCI devices that the instance requests
    #: PCI addresses that the instance has on this node; for adoption by an audit
    pci_devices: PciAddresses | None = None
    #: image properties without `image_`; keys that no rule reads are dropped
    image_properties: dict[Label, Text] = {}
    deleted: bool = False  #: the instance is deleted

    def __post_init__(self) -> None:
        """Drop the image properties that no rule reads."""
        if self.image_properties:
            force_setattr(self, "image_properties", read_keys(self.image_properties))


class NetworkMetadata(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Networks that a host cell has affinity to, or that a guest uses: physical networks, and tunnels."""

    physnets: Annotated[list[Name], Meta(max_length=1024)] = []  #: names of physical networks
    tunneled: bool = False  #: true: tunnelled networks too


class NumaLimits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Overcommit ratios of host cells, and the networks that they need affinity to."""

    cpu_allocation_ratio: Ratio  #: overcommit ratio of a host cell's shared CPUs [ratio]
    ram_allocation_ratio: Ratio  #: overcommit ratio of a host cell's memory [ratio]
    network_metadata: NetworkMetadata | None = None  #: networks that the guest's cells need affinity to


class Limits(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Absolute limits that the scheduler computed. Without a limit `[tracker] capacity_check` applies.

    `network_metadata` may be here or in `numa_topology`, which takes precedence, as in Nova.
    """

    memory_mb: Count | None = None  #: limit of reserve, claims and requested memory together [MB]
    disk_gb: Count | None = None  #: limit of reserve, claims and requested disk together [GB]
    vcpu: Count | None = None  #: limit of reserve, claims and requested vCPUs together [vCPUs]
    numa_topology: NumaLimits | None = None  #: ratios and networks for host cells
    network_metadata: NetworkMetadata | None = None  #: networks of the guest if `numa_topology` has none

    @property
    def networks(self) -> NetworkMetadata | None:
        """The networks that the guest's host cells need affinity to."""
        within = self.numa_topology and self.numa_topology.network_metadata
        return within or self.network_metadata


class Migration(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A move of an instance (nova.objects.Migration)."""

    uuid: Uuid  #: id of the migration
    type: MigrationType  #: kind of move (nova.objects.fields.MigrationType)
    status: Name  #: Nova's status of the migration; only `reverted` is read
    instance_uuid: Uuid  #: instance that moves
    source_node: HostNameOrEmpty | None = None  #: node that the instance leaves
    dest_node: HostNameOrEmpty | None = None  #: node that the instance goes to
    source_host: HostNameOrEmpty | None = None  #: compute host that the instance leaves
    dest_host: HostNameOrEmpty | None = None  #: compute host that the instance goes to
    old_flavor: Flavor | None = None  #: flavor before the move
    new_flavor: Flavor | None = None  #: flavor after the move
    old_numa_topology: GuestTopology | None = None  #: topology at the source
    new_numa_topology: GuestTopology | None = None  #: topology at the destination
    old_pci_devices: PciAddresses | None = None  #: PCI addresses at the source
    new_pci_devices: PciAddresses | None = None  #: PCI addresses at the destination
    instance: Instance | None = None  #: the instance, when it is not in `instances`
    current: bool = True  #: false: the instance's migration context names another migration
    #: last change; the newest migration of an instance counts [ISO 8601, UTC]
    updated_at: datetime | None = None
    created_at: datetime | None = None  #: creation; used where `updated_at` is absent [ISO 8601, UTC]

    def __post_init__(self) -> None:
        """Refuse a migration whose `instance` has another uuid than `instance_uuid`."""
        if self.instance is not None and self.instance.uuid != self.instance_uuid:
            raise InvalidValue("instance.uuid", "it is not the instance_uuid of the migration")


_OLDEST = datetime.min.replace(tzinfo=UTC)


def last_change(migration: Migration) -> datetime:
    """Return updated_at, else created_at, else the oldest time. A time without a zone is UTC, as in Nova
    (bug 1611458).
    """
    moment = migration.updated_at or migration.created_at or _OLDEST
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class PageSize(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Memory pages of one size in a host cell.

    Without `reserved` the `reserved_huge_pages` of the report, else of the configuration, apply.
    """

    size_kb: WholeAboveZero  #: size of a page [KiB]
    total: Pages  #: pages that the cell has [pages]
    reserved: Pages | None = None  #: pages reserved for the host; absent: `reserved_huge_pages` [pages]

    def __post_init__(self) -> None:
        """Cut fractions."""
        _cut(self, "size_kb", "total", "reserved")


class HostCell(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A host's NUMA cell; memory in MB."""

    id: Whole  #: number of the cell [number]
    cpuset: HostCpuSet  #: CPUs for guests with shared CPUs [CPU numbers]
    pcpuset: HostCpuSet  #: CPUs for guests with pinned CPUs [CPU numbers]
    memory: Whole  #: memory of the cell [MB]
    #: hardware threads of each core [CPU numbers]
    siblings: Annotated[list[HostCpuSet], Meta(max_length=4096)] = []
    socket: WholeOrMinusOne | None = None  #: number of the socket; -1: unknown [number]
    mempages: Annotated[list[PageSize], Meta(max_length=64)] = []  #: memory pages by size
    network_metadata: NetworkMetadata | None = None  #: networks that the cell has affinity to

    def __post_init__(self) -> None:
        """Cut fractions."""
        _cut(self, "id", "cpuset", "pcpuset", "memory", "socket")
        if any(type(cpu) is float for core in self.siblings for cpu in core):
            force_setattr(self, "siblings", [[int(cpu) for cpu in core] for core in self.siblings])
        if self.socket == -1:
            force_setattr(self, "socket", None)


class HostTopology(Struct, frozen=True, forbid_unknown_fields=True):
    """A host's NUMA topology."""

    cells: Annotated[list[HostCell], Meta(max_length=1024)]  #: cells of the host


class PciDevice(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A PCI device that the hypervisor reports."""

    address: Name  #: PCI address
    vendor_id: Name  #: vendor, four hexadecimal digits
    product_id: Name  #: product, four hexadecimal digits
    #: kind of function: device, physical function, virtual function or vDPA
    dev_type: PciDeviceType
    #: number of the host cell that the device is attached to; -1: none [number]
    numa_node: WholeOrMinusOne | None = None
    parent_addr: Label | None = None  #: PCI address of a virtual function's physical function
    tags: dict[Label, Label | None] | None = None  #: tags of `[pci] device_spec`, such as `physical_network`
    label: Label | None = None  #: libvirt's name of the device
    #: capabilities as the driver reports them; `vpd` has the card's serial number
    capabilities: dict[str, Scalar | list[Scalar] | dict[str, Scalar | list[Scalar]]] | None = None

    def __post_init__(self) -> None:
        """Cut a fraction."""
        _cut(self, "numa_node")


class ReservedPages(Struct, frozen=True, forbid_unknown_fields=True):
    """Huge pages reserved for the host; size in KiB."""

    node: Whole  #: number of the host cell [number]
    size_kb: Whole  #: size of a page [KiB]
    count: Pages  #: pages reserved for the host [pages]

    def __post_init__(self) -> None:
        """Cut fractions."""
        _cut(self, "node", "size_kb", "count")


_WHOLE_FIELDS = (
    "vcpus", "memory_mb", "local_gb", "hypervisor_version",
    "reserved_host_memory_mb", "reserved_host_disk_mb", "reserved_host_cpus",
)  # fmt: skip


class Resources(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The hypervisor's view of a node. Fractions are cut; `disk_available_least` is rounded down.

    The driver's own `*_used` figures are stored and not counted as usage (bug 1519001).
    """

    uuid: Uuid  #: id of the node
    host: HostName  #: compute host that reports the node
    vcpus: Whole  #: CPUs of the node [vCPUs]
    memory_mb: Whole  #: RAM of the node [MB]
    local_gb: Whole  #: local disk of the node [GB]
    #: false: the node keeps its totals and claims, refuses new claims and is not audited
    available: bool = True
    #: local disk that overcommitted images leave free, may be negative [GB]
    disk_available_least: Finite | None = None
    hypervisor_type: Label | None = None  #: kind of hypervisor, stored
    hypervisor_version: Whole | None = None  #: version of the hypervisor in Nova's encoding, stored [version]
    #: model and features of the CPU, stored
    cpu_info: Text | dict[str, Scalar | list[Scalar] | dict[str, Scalar]] | None = None
    host_ip: Label | None = None  #: address of the host, stored
    vcpus_used: Finite | None = None  #: the driver's own figure, stored and not counted as usage [vCPUs]
    memory_mb_used: Finite | None = None  #: the driver's own figure, stored and not counted as usage [MB]
    local_gb_used: Finite | None = None  #: the driver's own figure, stored and not counted as usage [GB]
    numa_topology: HostTopology | None = None  #: NUMA topology of the host
    pci_devices: Annotated[list[PciDevice], Meta(max_length=65535)] | None = None  #: PCI devices of the host
    #: further figures of the driver, shown in the node's `stats`; those named as a secret are dropped
    stats: dict[Label, Scalar] | None = None
    #: all inventories of the node's resource provider by resource class; null fields: Placement's defaults;
    #: absent: VCPU, PCPU, MEMORY_MB and DISK_GB from the other fields [Placement's units]
    inventories: Inventories | None = None
    traits: Traits | None = None  #: traits of the node's resource provider, from the driver
    providers: ChildProviders | None = None  #: resource providers below the node's
    #: overcommit ratio of CPUs; absent or 0: the option of the same name [ratio]
    cpu_allocation_ratio: Ratio | None = None
    #: overcommit ratio of memory; absent or 0: the option of the same name [ratio]
    ram_allocation_ratio: Ratio | None = None
    #: overcommit ratio of disk; absent or 0: the option of the same name [ratio]
    disk_allocation_ratio: Ratio | None = None
    #: RAM reserved for the host; absent: the option of the same name [MB]
    reserved_host_memory_mb: Whole | None = None
    #: disk reserved for the host; absent: the option of the same name [MB]
    reserved_host_disk_mb: Whole | None = None
    #: CPUs reserved for the host; absent: the option of the same name [vCPUs]
    reserved_host_cpus: Whole | None = None
    #: huge pages reserved for the host; absent: the option of the same name
    reserved_huge_pages: Annotated[list[ReservedPages], Meta(max_length=4096)] | None = None

    def __post_init__(self) -> None:
        """Cut fractions, drop the figures that are secrets by their names, and refuse providers that are no
        tree.
        """
        _cut(self, *_WHOLE_FIELDS)
        if self.providers:
            check_tree(self.providers)
        if self.stats and any(map(is_secret_name, self.stats)):
            shown = {key: value for key, value in self.stats.items() if not is_secret_name(key)}
            force_setattr(self, "stats", shown)
        if type(self.disk_available_least) is float:
            force_setattr(self, "disk_available_least", math.floor(self.disk_available_least))
