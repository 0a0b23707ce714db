# SPDX-License-Identifier: Apache-2.0
"""Every command as a client sends it, with all the arguments of doc/source/user/commands.rst."""

from typing import Any

FLAVOR = {
    "vcpus": 2,
    "memory_mb": 2048,
    "root_gb": 20,
    "ephemeral_gb": 1,
    "swap_mb": 512,
    "extra_specs": {"hw:numa_nodes": "1"},
    "name": "m1.small",
    "id": "7",
}
GUEST_CELL = {
    "id": 0,
    "cpuset": [0],
    "pcpuset": [1],
    "memory": 2048,
    "pagesize": -1,
    "cpu_policy": "mixed",
    "cpu_thread_policy": "prefer",
    "cpu_pinning": {"1": 5},
    "cpuset_reserved": [7],
}
GUEST = {"cells": [GUEST_CELL], "emulator_threads_policy": "isolate"}
PCI_REQUEST = {
    "count": 1,
    "spec": [{"vendor_id": "8086", "dev_type": None}],
    "request_id": "r",
    "numa_policy": "preferred",
    "alias_name": "gpu",
    "source": "flavor_alias",
}
INSTANCE = {
    "uuid": "instance-1",
    "project_id": "project-1",
    "os_type": "linux",
    "vm_state": "active",
    "task_state": "resize_prep",
    "flavor": FLAVOR,
    "volume_backed": True,
    "host": "host-1",
    "node": "node-1",
    "numa_topology": GUEST,
    "pci_requests": [PCI_REQUEST],
    "pci_devices": ["0000:81:00.0"],
    "image_properties": {"hw_numa_nodes": "1"},
    "deleted": False,
}
MIGRATION = {
    "uuid": "move-1",
    "type": "resize",
    "status": "migrating",
    "instance_uuid": "instance-1",
    "source_node": "node-1",
    "dest_node": "node-2",
    "source_host": "host-1",
    "dest_host": "host-2",
    "old_flavor": FLAVOR,
    "new_flavor": FLAVOR,
    "old_numa_topology": GUEST,
    "new_numa_topology": GUEST,
    "old_pci_devices": ["0000:81:00.0"],
    "new_pci_devices": [],
    "instance": INSTANCE,
    "current": True,
    "updated_at": "2026-01-01T00:00:00Z",
    "created_at": "2026-01-01T00:00:00",
}
RESOURCES = {
    "uuid": "node-uuid",
    "host": "host-1",
    "vcpus": 8,
    "memory_mb": 16384,
    "local_gb": 100,
    "available": True,
    "disk_available_least": -5,
    "hypervisor_type": "QEMU",
    "hypervisor_version": 8002000,
    "cpu_info": '{"arch": "x86_64"}',
    "host_ip": "192.0.2.1",
    "vcpus_used": 1,
    "memory_mb_used": -1.5,
    "local_gb_used": 0,
    "numa_topology": {
        "cells": [
            {
                "id": 0,
                "cpuset": [0, 1],
                "pcpuset": [],
                "memory": 8192,
                "siblings": [[0, 1]],
                "socket": 0,
                "mempages": [{"size_kb": 4, "total": 1000, "reserved": 10}],
                "network_metadata": {"physnets": ["net-1"], "tunneled": True},
            }
        ]
    },
    "pci_devices": [
        {
            "address": "0000:81:00.0",
            "vendor_id": "8086",
            "product_id": "1572",
            "dev_type": "type-VF",
            "numa_node": -1,
            "parent_addr": "0000:81:00.1",
            "tags": {"physical_network": None},
            "label": "label",
            "capabilities": {"network": ["rx"]},
        }
    ],
    "stats": {"uptime": "2 days", "load": 0.5},
    "inventories": {"VCPU": {"total": 8, "allocation_ratio": 4.0}},
    "traits": ["HW_CPU_X86_AVX2"],
    "cpu_allocation_ratio": 4,
    "ram_allocation_ratio": 1.5,
    "disk_allocation_ratio": 0.0,
    "reserved_host_memory_mb": 512,
    "reserved_host_disk_mb": 0,
    "reserved_host_cpus": 1,
    "reserved_huge_pages": [{"node": 0, "size_kb": 2048, "count": 64}],
}
LIMITS = {
    "memory_mb": 1,
    "disk_gb": 2,
    "vcpu": 3,
    "numa_topology": {
        "cpu_allocation_ratio": 4.0,
        "ram_allocation_ratio": 1.5,
        "network_metadata": {"physnets": ["net-1"], "tunneled": True},
    },
    "network_metadata": {"physnets": ["net-1"], "tunneled": True},
}
COMMON = {"node": "node-1", "event_id": "event-1", "origin": {"source": "client", "sequence": 1}}
MOVE_CLAIM = {
    "instance": INSTANCE,
    "migration": MIGRATION,
    "limits": LIMITS,
    "image_properties": {"hw_numa_nodes": "1"},
    "pci_requests": [PCI_REQUEST],
    "decided": True,
}
OF_A_MOVE = {"instance_uuid": "instance-1", "migration_uuid": "move-1"}

# Every method of this version with all its arguments.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "update_available_resource": {
        "resources": RESOURCES,
        "instances": [INSTANCE],
        "migrations": [MIGRATION],
        "as_of": 5,
        "startup": True,
        "disabled": True,
    },
    "instance_claim": {"instance": INSTANCE, "limits": LIMITS, "decided": True},
    "resize_claim": {**MOVE_CLAIM, "flavor": FLAVOR},
    "live_migration_claim": MOVE_CLAIM,
    "rebuild_claim": MOVE_CLAIM,
    "abort_instance_claim": {"instance_uuid": "instance-1"},
    "drop_move_claim": OF_A_MOVE,
    "start_move": OF_A_MOVE,
    "finish_move": {"instance": INSTANCE, "migration_uuid": "move-1"},
    "drop_move_claim_at_source": OF_A_MOVE,
    "drop_move_claim_at_dest": OF_A_MOVE,
    "finish_revert_move": {"instance": INSTANCE, "migration_uuid": "move-1"},
    "update_usage": {"instance": INSTANCE},
    "claim_pci_devices": {
        "instance_uuid": "instance-1",
        "pci_requests": [PCI_REQUEST],
        "numa_topology": GUEST,
    },
    "allocate_pci_devices": {"instance_uuid": "instance-1", "addresses": ["0000:81:00.0"]},
    "unclaim_pci_devices": {"instance_uuid": "instance-1", "addresses": ["0000:81:00.0"]},
    "build_failed": {},
    "build_succeeded": {},
    "set_service_status": {"disabled": True},
    "remove_node": {"host": "host-1", "force": True},
    "get_node": {},
}
