# SPDX-License-Identifier: Apache-2.0
"""Objects that look like Nova's, for code that must not import it."""

from types import SimpleNamespace
from typing import Any


class NovaObject:
    """Has the fields it is made with. Reading another one fails: Nova would query its database."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.__dict__.update(fields)

    def obj_attr_is_set(self, name: str) -> bool:
        return name in self.fields

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is read although it is not set")


def a_flavor(**fields: Any) -> NovaObject:
    given = {
        "vcpus": 2,
        "memory_mb": 2048,
        "root_gb": 20,
        "ephemeral_gb": 1,
        "swap": 512,
        "name": "m1.small",
        "flavorid": "2",
        "extra_specs": {"hw:cpu_policy": "dedicated"},
    }
    return NovaObject(**given | fields)


def an_instance(**fields: Any) -> NovaObject:
    given = {
        "uuid": "instance-1",
        "project_id": "project-1",
        "os_type": None,
        "vm_state": "active",
        "task_state": None,
        "flavor": a_flavor(),
        "system_metadata": {
            "image_hw_machine_type": "pc",
            "image_base_image_ref": "secret",
            "boot_roles": "x",
        },
        "numa_topology": None,
        "pci_requests": NovaObject(requests=[]),
        "deleted": False,
    }
    return NovaObject(**given | fields)


def a_guest_cell(**fields: Any) -> NovaObject:
    given = {"id": 0, "cpuset": set(), "pcpuset": {0, 1}, "memory": 1024, "cpu_policy": "dedicated"}
    return NovaObject(**given | fields)


def a_request(**fields: Any) -> NovaObject:
    given = {"count": 1, "spec": [{"vendor_id": "8086"}], "request_id": "request-1", "alias_name": "nic"}
    return NovaObject(**given | fields)


def a_migration(**fields: Any) -> NovaObject:
    given = {
        "uuid": "migration-1",
        "migration_type": "resize",
        "status": "migrating",
        "instance_uuid": "instance-1",
        "source_node": "source",
        "source_compute": "source-host",
        "dest_node": "dest",
        "dest_compute": "dest-host",
    }
    return NovaObject(**given | fields)


def topology_of(*cells: NovaObject) -> NovaObject:
    return NovaObject(cells=list(cells))


def device_pool(count: int, **fields: Any) -> NovaObject:
    given: dict[str, Any] = {"vendor_id": "8086", "product_id": "1528", "numa_node": 0, "tags": {}}
    return NovaObject(count=count, **given | fields)


def a_provider(inventory: dict[str, Any], traits: set[str]) -> SimpleNamespace:
    return SimpleNamespace(inventory=inventory, traits=traits)
