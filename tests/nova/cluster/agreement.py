# SPDX-License-Identifier: Apache-2.0
"""Compares what Nova, Placement and the workers' ledger say of the same nodes, when nothing moves."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from nova import context, objects
from nova.conf import CONF
from tracker_worker.nova import comparison, conversion
from tracker_worker.rpcapi import TrackerAPI

Json = dict[str, Any]
Pair = tuple[str, str, Any, Any]
"""What is compared with what, the field, and both values."""

NODES = "compute_nodes and ledger"
NUMA = "compute_nodes and ledger: NUMA cells"
POOLS = "compute_nodes and ledger: device pools"
USAGES = "Placement's usages and ledger"
ALLOCATIONS = "Placement's allocations and claims"
PINS = "instances and claims: pins"
DEVICES = "pci_devices and claims: addresses"


class Agreement:
    """Reads all three for a node. `compared` counts fields by what was compared, `differences` has lines."""

    def __init__(self, cloud: Any, api: TrackerAPI) -> None:
        self._cloud = cloud
        self._api = api
        self._context = context.get_admin_context()
        self.compared: Counter[str] = Counter()
        self.differences: list[tuple[str, str]] = []

    def check(self, host: str) -> None:
        """Compare everything of a host's node."""
        view = self._api.get_node({}, host)
        for what, field, theirs, ours in self._pairs(host, view):
            self.compared[what] += 1
            if theirs != ours:
                self.differences.append((what, f"{host} {field}: {theirs}, {ours} in the ledger"))

    def outcome(self) -> Json:
        """Return what was found, in JSON."""
        return {"compared": dict(self.compared), "differences": self.differences}

    def _pairs(self, host: str, view: Json) -> Iterator[Pair]:
        node = objects.ComputeNode.get_by_host_and_nodename(self._context, host, host)
        in_json = node.numa_topology
        topology = objects.NUMATopology.obj_from_db_obj(in_json) if in_json else None
        for name, theirs, ours in comparison.pairs(comparison.seen(node, topology), view):
            yield _kind_of(name), name, theirs, ours
        yield from self._of_placement(view)
        yield from self._of_instances(host, node, view)

    def _of_placement(self, view: Json) -> Iterator[Pair]:
        provider = view["uuid"]
        usages = _as_counted(self._cloud._get_provider_usages(provider))
        options = CONF
        counted = {
            "vcpus": view["vcpus_used"] - options.reserved_host_cpus,
            "memory_mb": view["memory_mb_used"] - options.reserved_host_memory_mb,
            "disk_gb": view["local_gb_used"] - options.reserved_host_disk_mb // 1024,
        }
        for name, ours in counted.items():
            yield USAGES, name, usages[name], ours
        allocations = self._cloud._get_allocations_by_provider_uuid(provider)
        claims = {claim["instance_uuid"]: _claimed(claim) for claim in view["claims"]}
        consumers = {uuid: _as_counted(each["resources"]) for uuid, each in allocations.items()}
        for uuid in sorted({*claims, *consumers}):
            yield ALLOCATIONS, uuid, consumers.get(uuid), claims.get(uuid)

    def _of_instances(self, host: str, node: Any, view: Json) -> Iterator[Pair]:
        instances = objects.InstanceList.get_by_host(self._context, host, expected_attrs=["numa_topology"])
        pins = {each.uuid: _pins(conversion.numa_topology(each.numa_topology)) for each in instances}
        claimed = {claim["instance_uuid"]: _pins(claim["numa_topology"]) for claim in view["claims"]}
        for uuid in sorted({*pins, *claimed}):
            yield PINS, uuid, pins.get(uuid), claimed.get(uuid)
        holders = {
            device.address: device.instance_uuid
            for device in objects.PciDeviceList.get_by_compute_node(self._context, node.id)
        }
        ours = {device["address"]: device.get("instance_uuid") for device in view["pci_devices"]}
        for address in sorted({*holders, *ours}):
            yield DEVICES, address, holders.get(address, "absent"), ours.get(address, "absent")


def _kind_of(name: str) -> str:
    return NUMA if name.startswith("numa cell") else POOLS if name.startswith("pci pool") else NODES


def _as_counted(resources: Mapping[str, int]) -> Json:
    """Return Placement's resource classes as Nova's tracker counts them."""
    return {
        "vcpus": resources.get("VCPU", 0) + resources.get("PCPU", 0),
        "memory_mb": resources.get("MEMORY_MB", 0),
        "disk_gb": resources.get("DISK_GB", 0),
    }


def _claimed(claim: Json) -> Json:
    return {
        "vcpus": claim["vcpus"],
        "memory_mb": claim["memory_mb"],
        "disk_gb": claim["disk_mb"] // 1024,
    }


def _pins(topology: Json | None) -> Json | None:
    """Return the host CPUs of each cell's guest CPUs, None without a topology."""
    if topology is None:
        return None
    return {str(cell["id"]): cell.get("cpu_pinning", {}) for cell in topology["cells"]}
