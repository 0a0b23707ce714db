# SPDX-License-Identifier: Apache-2.0
"""The resource providers that Placement should have of a node, computed from its report. Pure.

Source: nova.compute.resource_tracker._update_to_placement and libvirt's update_provider_tree, Nova 34.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID, uuid5

import msgspec
from msgspec.structs import astuple, replace

from tracker_worker.domain.child_providers import ChildProvider
from tracker_worker.domain.flavors import MB_PER_GB
from tracker_worker.domain.objects import Resources
from tracker_worker.domain.provider_facts import ProviderFacts
from tracker_worker.placement.errors import DesiredStateInvalid
from tracker_worker.placement.limits import (
    inventory_fault,
    provider_name_fault,
    symbol_fault,
    unknown_field,
    uuid_fault,
)
from tracker_worker.placement.provider_config import NO_CONFIGS, OWNER, ProviderConfigs, merge
from tracker_worker.placement.records import Inventory, Provider

DISABLED = "COMPUTE_STATUS_DISABLED"
"""The trait for which the scheduler passes a node over."""
_OF_EVERY_NODE = frozenset({"COMPUTE_NODE", OWNER})
_RESERVES = {
    "VCPU": "reserved_host_cpus",
    "MEMORY_MB": "reserved_host_memory_mb",
    "DISK_GB": "reserved_host_disk_mb",
}

_Sent = Mapping[str, int | float | None]
_canonical = msgspec.json.Encoder(order="deterministic")


def desired(facts: ProviderFacts, configs: ProviderConfigs = NO_CONFIGS) -> tuple[Provider, ...]:
    """Return the providers of a node: its own first, each parent before its children, siblings by name.

    `inventories` and `traits` of the report are all that the node's provider has, but for the traits that
    every node has, and the one of a disabled service. Without `inventories` they are computed. A class whose
    total is 0 is left out, as Placement has none. Raises DesiredStateInvalid.
    """
    root = _root(facts)
    return merge((root, *_children(root, facts.resources.providers or ())), configs)


def digest(providers: Iterable[Provider]) -> str:
    """Return the SHA-256 of providers: the same for the same values, in any version of Python."""
    return hashlib.sha256(_canonical.encode([_values(each) for each in providers])).hexdigest()


def _values(provider: Provider) -> tuple[object, ...]:
    """Return all values: which defaults a Struct leaves out depends on how it was made."""
    inventories = {name: astuple(inventory) for name, inventory in provider.inventories.items()}
    return (*astuple(replace(provider, inventories={})), inventories)


def uuid_of(report: Resources) -> str:
    """Return the uuid of a node's own provider. Placement stores it in lower case, and finds it thus only."""
    return report.uuid.lower()


def child_uuid(root: str, name: str) -> str:
    """Return the uuid of a new provider below a node. A request that is repeated makes no second one."""
    return str(uuid5(UUID(root), name))


def _root(facts: ProviderFacts) -> Provider:
    report = facts.resources
    _refuse(facts.node, facts.node, "name", provider_name_fault(facts.node))
    _refuse(facts.node, facts.node, "uuid", uuid_fault(report.uuid))
    if report.inventories is None:
        inventories = _computed(facts)
    else:
        inventories = _inventories(facts.node, facts.node, report.inventories)
    traits = _traits(facts.node, facts.node, report.traits or ()) | _OF_EVERY_NODE
    traits = traits | {DISABLED} if facts.disabled else traits - {DISABLED}
    return Provider(uuid_of(report), facts.node, None, inventories, traits)


def _computed(facts: ProviderFacts) -> dict[str, Inventory]:
    """Return the inventories by Nova's rules. A GB of disk that is reserved in part is reserved."""
    report, reserve, ratios = facts.resources, facts.reserve, facts.ratios
    vcpus, pcpus = cpus_of(report)
    amounts = {
        "VCPU": (vcpus, reserve.vcpus, ratios.cpu),
        "PCPU": (pcpus, 0, 1.0),
        "MEMORY_MB": (report.memory_mb, reserve.memory_mb, ratios.ram),
        "DISK_GB": (report.local_gb, -(-reserve.disk_mb // MB_PER_GB), ratios.disk),
    }
    inventories = {
        name: Inventory(total, reserved, max_unit=total, allocation_ratio=float(ratio))
        for name, (total, reserved, ratio) in amounts.items()
        if total
    }
    for name, inventory in inventories.items():
        if inventory.reserved > inventory.total:
            reason = f"{inventory.reserved} ({_RESERVES[name]}) is more than the total, {inventory.total}"
            raise DesiredStateInvalid(facts.node, facts.node, f"inventories.{name}.reserved", reason)
        _check(facts.node, facts.node, name, inventory)
    return inventories


def cpus_of(report: Resources) -> tuple[int, int]:
    """Return how many CPUs of a host are for shared and how many for pinned CPUs of guests.

    CPUs that are in both sets of a cell, as of all hosts without `[compute] cpu_dedicated_set`, are shared.
    """
    cells = report.numa_topology.cells if report.numa_topology else ()
    shared = {cpu for cell in cells for cpu in cell.cpuset}
    dedicated = {cpu for cell in cells for cpu in cell.pcpuset} - shared
    return (len(shared) if dedicated else report.vcpus), len(dedicated)


def _children(root: Provider, reported: Iterable[ChildProvider]) -> Iterable[Provider]:
    """Return the providers below the node's, level by level: any order of a report gives the same."""
    below = defaultdict[str | None, list[ChildProvider]](list)
    for child in sorted(reported, key=lambda child: child.name):
        below[child.parent].append(child)
    ordered = [(child, root.uuid) for child in below[None]]  # Grows while it is gone through.
    for child, parent in ordered:
        uuid = child_uuid(root.uuid, child.name)
        ordered.extend((each, uuid) for each in below[child.name])
        yield _child(root.name, uuid, parent, child)


def _child(node: str, uuid: str, parent: str, child: ChildProvider) -> Provider:
    _refuse(node, child.name, "name", provider_name_fault(child.name))
    for each in child.aggregates or ():
        _refuse(node, child.name, "aggregates", uuid_fault(each))
    return Provider(
        uuid,
        child.name,
        parent,
        _inventories(node, child.name, child.inventories),
        _traits(node, child.name, child.traits),
        None if child.aggregates is None else frozenset(each.lower() for each in child.aggregates),
    )


def _inventories(node: str, provider: str, sent: Mapping[str, _Sent]) -> dict[str, Inventory]:
    found = {}
    for name, fields in sent.items():
        _refuse(node, provider, f"inventories.{name}", symbol_fault(name))
        if fault := unknown_field(fields):
            raise DesiredStateInvalid(node, provider, f"inventories.{name}.{fault.field}", fault.reason)
        inventory = _inventory(node, provider, name, fields)
        if inventory.total:
            _check(node, provider, name, inventory)
            found[name] = inventory
    return found


def _inventory(node: str, provider: str, name: str, fields: _Sent) -> Inventory:
    """Return an inventory as sent; fractions of all but the ratio are cut, as everywhere in a report."""
    given = {
        field: float(value) if field == "allocation_ratio" else int(value)
        for field, value in fields.items()
        if value is not None
    }
    if "total" not in given:
        raise DesiredStateInvalid(node, provider, f"inventories.{name}.total", "an inventory needs it")
    return msgspec.convert(given, Inventory)


def _check(node: str, provider: str, name: str, inventory: Inventory) -> None:
    if fault := inventory_fault(inventory):
        raise DesiredStateInvalid(node, provider, f"inventories.{name}.{fault.field}", fault.reason)


def _traits(node: str, provider: str, sent: Iterable[str]) -> frozenset[str]:
    for trait in sent:
        _refuse(node, provider, f"traits: {trait}", symbol_fault(trait))
    return frozenset(sent)


def _refuse(node: str, provider: str, field: str, reason: str | None) -> None:
    if reason is not None:
        raise DesiredStateInvalid(node, provider, field, reason)
