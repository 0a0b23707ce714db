# SPDX-License-Identifier: Apache-2.0
"""One valid set of arguments for each method, with every field set, as plain JSON."""

import copy
import json
from collections.abc import Iterator
from typing import Any

Json = Any
Path = tuple[str | int, ...]

FLAVOR = {
    "vcpus": 4,
    "memory_mb": 4096,
    "root_gb": 40,
    "ephemeral_gb": 1,
    "swap_mb": 512,
    "extra_specs": {"hw:cpu_policy": "dedicated", "hw_disk": "x", "trait:HW_CPU": "required"},
    "name": "m1.large",
    "id": "42",
}
GUEST_TOPOLOGY = {
    "cells": [
        {
            "id": 0,
            "cpuset": [0, 1],
            "pcpuset": [2, 3],
            "memory": 2048,
            "pagesize": -2,
            "cpu_policy": "mixed",
            "cpu_thread_policy": "isolate",
            "cpu_pinning": {"2": 6, "3": 7},
            "cpuset_reserved": [5],
        }
    ],
    "emulator_threads_policy": "isolate",
}
PCI_REQUEST = {
    "count": 1,
    "spec": [{"vendor_id": "8086", "physical_network": None, "tags": ["a", 1, True]}],
    "request_id": "req-9",
    "numa_policy": "socket",
    "alias_name": "nic",
    "source": "neutron_port",
}
INSTANCE = {
    "uuid": "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
    "project_id": "project-1",
    "vm_state": "active",
    "flavor": FLAVOR,
    "os_type": "linux",
    "task_state": "resize_prep",
    "volume_backed": True,
    "host": "host-1",
    "node": "node-1",
    "numa_topology": GUEST_TOPOLOGY,
    "pci_requests": [PCI_REQUEST],
    "pci_devices": ["0000:81:00.1"],
    "image_properties": {"hw_cpu_sockets": "2"},
    "deleted": True,
}
LIMITS = {
    "memory_mb": 8192,
    "disk_gb": 100,
    "vcpu": 16,
    "numa_topology": {
        "cpu_allocation_ratio": 16.0,
        "ram_allocation_ratio": 1.5,
        "network_metadata": {"physnets": ["net-1"], "tunneled": True},
    },
    "network_metadata": {"physnets": ["net-1"], "tunneled": True},
}
MIGRATION = {
    "uuid": "cccccccc-cccc-4ccc-8ccc-cccccccccccc",
    "type": "resize",
    "status": "migrating",
    "instance_uuid": INSTANCE["uuid"],
    "source_node": "node-1",
    "dest_node": "node-2",
    "source_host": "host-1",
    "dest_host": "host-2",
    "old_flavor": FLAVOR,
    "new_flavor": FLAVOR,
    "old_numa_topology": GUEST_TOPOLOGY,
    "new_numa_topology": GUEST_TOPOLOGY,
    "old_pci_devices": ["0000:81:00.1"],
    "new_pci_devices": ["0000:82:00.1"],
    "instance": INSTANCE,
    "current": False,
    "updated_at": "2026-11-22T12:18:58Z",
    "created_at": "2026-11-22T12:18:57.123456+00:00",
}
RESOURCES = {
    "uuid": "11111111-1111-4111-8111-111111111111",
    "host": "host-1",
    "vcpus": 8,
    "memory_mb": 16384,
    "local_gb": 100,
    "available": False,
    "disk_available_least": -5,
    "hypervisor_type": "QEMU",
    "hypervisor_version": 8002000,
    "cpu_info": {"arch": "x86_64", "features": ["sse", "vmx"], "topology": {"sockets": 2}},
    "host_ip": "192.0.2.1",
    "vcpus_used": 3,
    "memory_mb_used": -1,
    "local_gb_used": 2.5,
    "numa_topology": {
        "cells": [
            {
                "id": 0,
                "cpuset": [0, 1],
                "pcpuset": [2, 3],
                "memory": 8192,
                "siblings": [[0, 2], [1, 3]],
                "socket": 0,
                "mempages": [{"size_kb": 2048, "total": 512, "reserved": 8}],
                "network_metadata": {"physnets": ["net-1"], "tunneled": True},
            }
        ]
    },
    "pci_devices": [
        {
            "address": "0000:81:00.1",
            "vendor_id": "8086",
            "product_id": "154c",
            "dev_type": "type-VF",
            "numa_node": -1,
            "parent_addr": "0000:81:00.0",
            "tags": {"physical_network": "physnet1", "managed": None},
            "label": "label_8086_154c",
            "capabilities": {"vpd": {"card_serial_number": "MT1"}, "network": ["rx", "tx"], "n": 1},
        }
    ],
    "stats": {"uptime": "1 day", "load": 0.5, "count": 3, "ok": True, "none": None},
    "inventories": {"CUSTOM_BAREMETAL": {"total": 1, "allocation_ratio": 1.5, "reserved": None}},
    "traits": ["CUSTOM_A"],
    "cpu_allocation_ratio": 4.5,
    "ram_allocation_ratio": 1.5,
    "disk_allocation_ratio": 1.25,
    "reserved_host_memory_mb": 512,
    "reserved_host_disk_mb": 1024,
    "reserved_host_cpus": 1,
    "reserved_huge_pages": [{"node": 0, "size_kb": 2048, "count": 64}],
}

_UUIDS = {"instance_uuid": INSTANCE["uuid"], "migration_uuid": MIGRATION["uuid"]}
_MOVE_CLAIM = {
    "instance": INSTANCE,
    "migration": MIGRATION,
    "limits": LIMITS,
    "image_properties": {"hw_cpu_sockets": "2"},
    "pci_requests": [PCI_REQUEST],
    "decided": True,
}
_ARGUMENTS: dict[str, Json] = {
    "update_available_resource": {
        "resources": RESOURCES,
        "instances": [INSTANCE],
        "migrations": [MIGRATION],
        "as_of": 6,
        "startup": True,
        "disabled": True,
    },
    "instance_claim": {"instance": INSTANCE, "limits": LIMITS, "decided": True},
    "resize_claim": {**_MOVE_CLAIM, "flavor": FLAVOR},
    "live_migration_claim": _MOVE_CLAIM,
    "rebuild_claim": _MOVE_CLAIM,
    "abort_instance_claim": {"instance_uuid": INSTANCE["uuid"]},
    "drop_move_claim": _UUIDS,
    "start_move": _UUIDS,
    "finish_move": {"instance": INSTANCE, "migration_uuid": MIGRATION["uuid"]},
    "drop_move_claim_at_source": _UUIDS,
    "drop_move_claim_at_dest": _UUIDS,
    "finish_revert_move": {"instance": INSTANCE, "migration_uuid": MIGRATION["uuid"]},
    "update_usage": {"instance": INSTANCE},
    "claim_pci_devices": {
        "instance_uuid": INSTANCE["uuid"],
        "pci_requests": [PCI_REQUEST],
        "numa_topology": GUEST_TOPOLOGY,
    },
    "allocate_pci_devices": {"instance_uuid": INSTANCE["uuid"], "addresses": ["0000:81:00.1"]},
    "unclaim_pci_devices": {"instance_uuid": INSTANCE["uuid"], "addresses": ["0000:81:00.1"]},
    "build_failed": {},
    "build_succeeded": {},
    "set_service_status": {"disabled": True},
    "remove_node": {"host": "host-1", "force": True},
    "get_node": {},
}
_STAMP = {
    "node": "node-1",
    "event_id": "e0000000-0000-4000-8000-000000000000",
    "origin": {"source": "client-1", "sequence": 7},
}

EXAMPLES: dict[str, Json] = json.loads(
    json.dumps({method: _STAMP | arguments for method, arguments in _ARGUMENTS.items()})
)

FREE = ("extra_specs", "image_properties", "stats", "cpu_info", "spec", "inventories")
"""Objects whose keys are the sender's own (doc/source/user/commands.rst)."""
MAPS = ("cpu_pinning", "tags", "capabilities")
"""Objects whose keys are names and not fields."""


def positions(value: Json, path: Path = ()) -> Iterator[Path]:
    """The path of everything inside a JSON value, itself included."""
    yield path
    children = value.items() if isinstance(value, dict) else ()
    children = enumerate(value) if isinstance(value, list) else children
    for key, child in children:
        yield from positions(child, (*path, key))


def at(value: Json, path: Path) -> Json:
    """What is at a path."""
    for key in path:
        value = value[key]
    return value


def with_value(value: Json, path: Path, new: Json) -> Json:
    """A copy with something else at a path."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    at(changed, path[:-1])[path[-1]] = new
    return changed


def field_path(path: Path) -> str:
    """A path as a BadMessage names it: the keys of maps, which are the sender's own, as [...]."""
    text, inside_map = "$", False
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += "[...]" if inside_map else f".{key}"
            inside_map = inside_map or key in FREE + MAPS
    return text


def body(inner: Json, version: str = "2.0") -> bytes:
    """An oslo.messaging body around an inner message (a JSON text, or what becomes one)."""
    text = inner if isinstance(inner, str) else json.dumps(inner)
    return json.dumps({"oslo.version": version, "oslo.message": text}).encode()


def message(method: str, args: Json, **more: Json) -> bytes:
    """A body as a client sends it; `more` are other keys of the inner message."""
    return body({"method": method, "args": args, "version": "1.0", "_unique_id": "u" * 32, **more})
