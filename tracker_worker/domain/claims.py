# SPDX-License-Identifier: Apache-2.0
"""Claims: is there room, and what the claim is if there is.

Source: nova.compute.claims of 2018 (memory, disk, vcpu against the limits sent, with Nova's wording) and
nova.scheduler.client.report / placement for the capacity of a node.
"""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.commands import InstanceClaim, MoveClaim, ResizeClaim
from tracker_worker.domain.flavors import MB_PER_GB, Amounts, Flavor, same_numbers
from tracker_worker.domain.ledger import Claim, Node, Role, claim_for
from tracker_worker.domain.moves import with_states
from tracker_worker.domain.objects import Instance, Limits, PciRequest
from tracker_worker.domain.settings import CapacityCheck

AnyClaim = InstanceClaim | MoveClaim

_TOPOLOGY_KEYS = (
    "hw:numa_", "hw:cpu_policy", "hw:cpu_thread_policy", "hw:cpu_dedicated_mask",
    "hw:emulator_threads_policy", "hw:mem_page_size", "resources:PCPU",
    "hw_numa_", "hw_cpu_policy", "hw_cpu_thread_policy", "hw_emulator_threads_policy",
    "hw_mem_page_size",
)  # fmt: skip
_PCI_KEYS = ("pci_passthrough:alias",)


class Verdict(Struct, frozen=True):
    """Either the claim to hold from now on, or the reason why there is no room."""

    claim: Claim | None
    reason: str | None = None


def judge(node: Node, command: AnyClaim, check: CapacityCheck) -> Verdict:
    """Decide a claim on a tracked node: the same one again, a new one, or a replacement in one step."""
    wanted = wanted_claim(command)
    held = node.claim(wanted.instance_uuid, wanted.role)
    unsupported = not_supported(command)
    if unsupported:
        return Verdict(None, unsupported)
    if held is not None and _same(held, wanted):
        again = with_states(held, command.instance)
        return Verdict(replace(again, migration_uuid=wanted.migration_uuid or held.migration_uuid))
    if command.decided:
        return Verdict(wanted)
    assert node.resources is not None
    if not node.resources.available:
        return Verdict(None, f"Node {node.name} is not available")
    used = node.used.minus(held.amounts) if held is not None else node.used
    reasons = "; ".join(_shortages(node, used, wanted.amounts, command.limits, check))
    return Verdict(None, reasons) if reasons else Verdict(wanted)


def wanted_claim(command: AnyClaim) -> Claim:
    """Return the claim that a command asks for."""
    match command:
        case ResizeClaim():
            return claim_for(command.instance, Role.INCOMING, command.migration.uuid, command.flavor)
        case MoveClaim():
            return claim_for(command.instance, Role.INCOMING, command.migration.uuid)
        case InstanceClaim():
            return claim_for(command.instance, Role.INSTANCE, None)


def not_supported(command: AnyClaim) -> str | None:
    """Name what a claim asks for that this version cannot account, so that it never counts as free."""
    instance = command.instance
    if isinstance(command, MoveClaim):
        flavor = command.flavor if isinstance(command, ResizeClaim) else instance.flavor
        topology = _asks_topology(flavor, instance, command.image_properties)
        devices = _asks_devices(flavor, instance, command.pci_requests)
    else:
        topology = instance.numa_topology is not None
        devices = bool(instance.pci_requests)
    requests = (("NUMA topology", topology), ("PCI devices", devices))
    asked = [text for text, wanted in requests if wanted]
    return f"not_supported: {' and '.join(asked)}" if asked else None


def _asks_topology(flavor: Flavor, instance: Instance, image_properties: dict[str, str] | None) -> bool:
    images = instance.image_properties if image_properties is None else image_properties
    return _has_key(flavor.extra_specs, _TOPOLOGY_KEYS) or _has_key(images, _TOPOLOGY_KEYS)


def _asks_devices(flavor: Flavor, instance: Instance, sent: list[PciRequest] | None) -> bool:
    """Tell whether a move asks for devices: in the requests sent, else by its ports and the flavor."""
    if sent is not None:
        return bool(sent)
    ports = any(request.source == "neutron_port" for request in instance.pci_requests)
    return ports or _has_key(flavor.extra_specs, _PCI_KEYS)


def _has_key(mapping: Iterable[str], prefixes: tuple[str, ...]) -> bool:
    return any(key.startswith(prefixes) for key in mapping)


def _same(held: Claim, wanted: Claim) -> bool:
    return held.volume_backed == wanted.volume_backed and same_numbers(held.flavor, wanted.flavor)


class _Resource(Struct, frozen=True):
    """One plain resource in the unit of its message; `scale` of the ledger's unit make one of it."""

    label: str
    unit: str
    scale: int
    used: int
    requested: int
    limit: int | None
    total: int
    reserved: int
    ratio: float


def _shortages(
    node: Node, used: Amounts, wanted: Amounts, limits: Limits | None, check: CapacityCheck
) -> Iterable[str]:
    """Yield a reason for each resource that does not suffice, in Nova's order: memory, disk, vcpu."""
    if check == "none":
        return
    assert node.resources is not None
    report, reserve, ratios = node.resources, node.reserve, node.ratios
    asked = limits or Limits()
    memory = _Resource(
        "memory", "MB", 1, used.memory_mb, wanted.memory_mb, asked.memory_mb,
        int(report.memory_mb), reserve.memory_mb, ratios.ram,
    )  # fmt: skip
    disk = _Resource(
        "disk", "GB", MB_PER_GB, used.disk_mb, wanted.disk_mb, asked.disk_gb,
        int(report.local_gb), reserve.disk_mb, ratios.disk,
    )  # fmt: skip
    vcpu = _Resource(
        "vcpu", "VCPU", 1, used.vcpus, wanted.vcpus, asked.vcpu,
        int(report.vcpus), reserve.vcpus, ratios.cpu,
    )  # fmt: skip
    for resource in (memory, disk, vcpu):
        if reason := _shortage(resource, check):
            yield reason


def _shortage(resource: _Resource, check: CapacityCheck) -> str | None:
    free: float
    if resource.limit is not None:
        free = resource.limit * resource.scale - resource.used
    elif check == "capacity":
        capacity = (resource.total * resource.scale - resource.reserved) * resource.ratio
        free = capacity - (resource.used - resource.reserved)
    else:
        return None
    if resource.requested <= free:
        return None
    requested = -(-resource.requested // resource.scale)
    return (
        f"Free {resource.label} {free / resource.scale:.2f} {resource.unit}"
        f" < requested {requested} {resource.unit}"
    )
