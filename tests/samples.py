# SPDX-License-Identifier: Apache-2.0
"""What a client sends, as plain JSON: the only place that says what a valid message of each command is.

The functions make the smallest valid object, with the values that a test names. The constants have every
field, and EXAMPLES has every argument of every method. Nothing of the worker is imported.
"""

import json
from typing import Any

Json = Any
Object = dict[str, Any]

NODE = "node-1"
NODE_UUID = "11111111-1111-4111-8111-111111111111"
HOST = "host-1"
INSTANCE_UUID = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
MOVE_UUID = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"


def a_flavor(vcpus: int = 2, memory_mb: int = 2048, root_gb: int = 20, **more: Json) -> Object:
    """A flavor of 2 vcpus, 2 GB of memory and 20 GB of disk, where nothing else is said."""
    return {"vcpus": vcpus, "memory_mb": memory_mb, "root_gb": root_gb, **more}


def an_instance(
    uuid: str = INSTANCE_UUID,
    flavor: Json = None,
    *,
    vm_state: str = "active",
    task_state: str | None = None,
    project_id: str = "project-1",
    **more: Json,
) -> Object:
    """An instance, by default an active one without a task."""
    return {
        "uuid": uuid,
        "project_id": project_id,
        "vm_state": vm_state,
        "task_state": task_state,
        "flavor": a_flavor() if flavor is None else flavor,
        **more,
    }


def a_migration(
    uuid: str = MOVE_UUID,
    instance_uuid: str = INSTANCE_UUID,
    *,
    type: str = "resize",
    status: str = "migrating",
    source_node: str | None = "elsewhere",
    dest_node: str | None = NODE,
    **more: Json,
) -> Object:
    """A migration, by default a resize from another node to NODE."""
    return {
        "uuid": uuid,
        "type": type,
        "status": status,
        "instance_uuid": instance_uuid,
        "source_node": source_node,
        "dest_node": dest_node,
        **more,
    }


def a_report(
    uuid: str = NODE_UUID,
    host: str = HOST,
    *,
    vcpus: int = 8,
    memory_mb: int = 16384,
    local_gb: int = 100,
    **more: Json,
) -> Object:
    """A node's report, by default of 8 vcpus, 16 GB of memory and 100 GB of disk."""
    return {
        "uuid": uuid,
        "host": host,
        "vcpus": vcpus,
        "memory_mb": memory_mb,
        "local_gb": local_gb,
        **more,
    }


def body(inner: Json, version: str = "2.0") -> bytes:
    """An oslo.messaging body around an inner message (a JSON text, or what becomes one)."""
    text = inner if isinstance(inner, str) else json.dumps(inner)
    return json.dumps({"oslo.version": version, "oslo.message": text}).encode()


def message(method: str, args: Json, **more: Json) -> bytes:
    """A body as a client sends it; `more` are other keys of the inner message."""
    return body({"method": method, "args": args, "version": "1.0", "_unique_id": "u" * 32, **more})


# Every field of every object.

FLAVOR: Json = {
    **a_flavor(4, 4096, 40),
    "ephemeral_gb": 1,
    "swap_mb": 512,
    "extra_specs": {"hw:cpu_policy": "dedicated", "hw_disk": "x", "trait:HW_CPU": "required"},
    "name": "m1.large",
    "id": "42",
}
GUEST_TOPOLOGY: Json = {
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
PCI_REQUEST: Json = {
    "count": 1,
    "spec": [{"vendor_id": "8086", "physical_network": None, "tags": ["a", 1, True]}],
    "request_id": "req-9",
    "numa_policy": "socket",
    "alias_name": "nic",
    "source": "neutron_port",
}
LIMITS: Json = {
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
INSTANCE: Json = {
    **an_instance(INSTANCE_UUID, FLAVOR, task_state="resize_prep"),
    "os_type": "linux",
    "volume_backed": True,
    "host": HOST,
    "node": NODE,
    "numa_topology": GUEST_TOPOLOGY,
    "pci_requests": [PCI_REQUEST],
    "pci_devices": ["0000:81:00.1"],
    "image_properties": {"hw_cpu_sockets": "2"},
    "deleted": True,
}
MIGRATION: Json = {
    **a_migration(source_node=NODE, dest_node="node-2"),
    "source_host": HOST,
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
RESOURCES: Json = {
    **a_report(),
    "available": False,
    "disk_available_least": -5,
    "hypervisor_type": "QEMU",
    "hypervisor_version": 8002000,
    "cpu_info": {"arch": "x86_64", "features": ["sse", "vmx"], "topology": {"sockets": 2}},
    "host_ip": "192.0.2.1",
    "vcpus_used": 3,
    "memory_mb_used": -1.5,
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
    "providers": [
        {
            "name": f"{NODE}_pci_0000_81_00_0",
            "inventories": {"VGPU": {"total": 16, "max_unit": 1, "reserved": None}},
            "traits": ["CUSTOM_NVIDIA_35"],
            "parent": f"{NODE}_NUMA_0",
            "aggregates": ["99999999-9999-4999-8999-999999999999"],
        },
        {
            "name": f"{NODE}_NUMA_0",
            "inventories": {},
            "traits": ["CUSTOM_NUMA"],
            "parent": None,
            "aggregates": ["88888888-8888-4888-8888-888888888888"],
        },
    ],
    "cpu_allocation_ratio": 4,
    "ram_allocation_ratio": 1.5,
    "disk_allocation_ratio": 0.0,
    "reserved_host_memory_mb": 512,
    "reserved_host_disk_mb": 1024,
    "reserved_host_cpus": 1,
    "reserved_huge_pages": [{"node": 0, "size_kb": 2048, "count": 64}],
}

# Every argument of every method.

_UUIDS = {"instance_uuid": INSTANCE_UUID, "migration_uuid": MOVE_UUID}
_MOVE_CLAIM: Json = {
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
    "abort_instance_claim": {"instance_uuid": INSTANCE_UUID},
    "drop_move_claim": _UUIDS,
    "start_move": _UUIDS,
    "finish_move": {"instance": INSTANCE, "migration_uuid": MOVE_UUID},
    "drop_move_claim_at_source": _UUIDS,
    "drop_move_claim_at_dest": _UUIDS,
    "finish_revert_move": {"instance": INSTANCE, "migration_uuid": MOVE_UUID},
    "update_usage": {"instance": INSTANCE},
    "claim_pci_devices": {
        "instance_uuid": INSTANCE_UUID,
        "pci_requests": [PCI_REQUEST],
        "numa_topology": GUEST_TOPOLOGY,
        "pci_devices": ["0000:81:00.1"],
    },
    "allocate_pci_devices": {"instance_uuid": INSTANCE_UUID, "addresses": ["0000:81:00.1"]},
    "unclaim_pci_devices": {"instance_uuid": INSTANCE_UUID, "addresses": ["0000:81:00.1"]},
    "build_failed": {},
    "build_succeeded": {},
    "set_service_status": {"disabled": True},
    "remove_node": {"host": HOST, "force": True},
    "get_node": {},
}
_STAMP = {
    "node": NODE,
    "event_id": "e0000000-0000-4000-8000-000000000000",
    "origin": {"source": "client-1", "sequence": 7},
}

EXAMPLES: dict[str, Json] = json.loads(
    json.dumps({method: _STAMP | arguments for method, arguments in _ARGUMENTS.items()})
)

FREE = ("extra_specs", "image_properties", "stats", "cpu_info", "spec", "inventories")
"""Objects whose keys the sender chooses."""
MAPS = ("cpu_pinning", "tags", "capabilities")
"""Objects whose keys are names, of tags for example, and not fields."""
