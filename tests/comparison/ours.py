# SPDX-License-Identifier: Apache-2.0
"""The worker's answers, in the form of Nova's (theirs.py)."""

from typing import Any

from msgspec import convert, to_builtins

from tracker_worker.domain.errors import RequestRefused
from tracker_worker.domain.flavors import MB_PER_GB, Flavor, requested_amounts
from tracker_worker.domain.numa.constraints import constraints_of, pci_numa_policy_of
from tracker_worker.domain.numa.networks import are_near
from tracker_worker.domain.objects import HostCell, NetworkMetadata, PciDevice
from tracker_worker.domain.pci.specs import assignable, parse_aliases, parse_device_specs, requests_of

Json = dict[str, Any]


def constraints(asked: Json) -> Json:
    flavor, image = _flavor(asked), asked["image_properties"]
    topology = constraints_of(flavor, image)
    policy = pci_numa_policy_of(flavor, image)
    if topology is None:
        return {"topology": None, "pci_numa_policy": policy}
    cells = [
        {
            "id": cell.id,
            "cpuset": cell.cpuset,
            "pcpuset": cell.pcpuset,
            "memory": cell.memory,
            "pagesize": cell.pagesize or None,
            "cpu_policy": cell.cpu_policy,
            "cpu_thread_policy": cell.cpu_thread_policy,
        }
        for cell in topology.cells
    ]
    emulator = topology.emulator_threads_policy
    return {"topology": {"cells": cells, "emulator": emulator}, "pci_numa_policy": policy}


def _flavor(asked: Json) -> Flavor:
    sizes = {key: asked.get(key, 0) for key in ("vcpus", "memory_mb", "root_gb", "ephemeral_gb")}
    return Flavor(**sizes, extra_specs=asked["extra_specs"])


def resources(asked: Json) -> Json:
    amounts = requested_amounts(_flavor(asked), asked["volume_backed"])
    return {
        "vcpus": amounts.vcpus,
        "memory_mb": amounts.memory_mb,
        "disk_gb": amounts.disk_mb // MB_PER_GB,
    }


def networks(asked: Json) -> Json:
    host = [
        HostCell(id=id, cpuset=[], pcpuset=[], memory=1, network_metadata=_networks(networks))
        for id, networks in enumerate(asked["cells"])
    ]
    return {"near": are_near(host, asked["chosen"], _networks(asked["networks"]))}


def _networks(networks: Json | None) -> NetworkMetadata | None:
    return None if networks is None else convert(networks, NetworkMetadata)


def device_specs(asked: Json) -> Json:
    devices = convert(asked["devices"], list[PciDevice])
    found = assignable(devices, parse_device_specs(asked["device_specs"]))
    return {
        "assignable": {
            each.address: {
                key: value if value is None else value.lower() for key, value in (each.tags or {}).items()
            }
            for each in found
        }
    }


def aliases(asked: Json) -> Json:
    found = requests_of(asked["asked"], parse_aliases(asked["aliases"]), asked["numa_policy"])
    return {
        "requests": [
            {
                "count": each.count,
                "spec": to_builtins(each.spec),
                "alias_name": each.alias_name,
                "numa_policy": each.numa_policy,
            }
            for each in found
        ]
    }


ANSWERS = {
    "numa_get_constraints": constraints,
    "PCI aliases and requests": aliases,
    "device_spec": device_specs,
    "network_metadata": networks,
    "resources of a flavor": resources,
}


def answer(subject: str, asked: Json) -> Json:
    """Answer as `theirs.answer` does: a configuration that is refused raises ValueError here."""
    try:
        return {"value": ANSWERS[subject](asked)}
    except (RequestRefused, ValueError) as error:
        return {"refused": str(error)}
