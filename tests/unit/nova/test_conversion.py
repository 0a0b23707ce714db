# SPDX-License-Identifier: Apache-2.0
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.nova.objects import (
    NovaObject,
    a_flavor,
    a_guest_cell,
    a_migration,
    a_request,
    an_instance,
    topology_of,
)
from tracker_worker.nova import conversion

SECRET = "never-leaves-the-process"


def converted(instance: NovaObject, **settings: Any) -> dict[str, Any]:
    return conversion.instance(instance, volume_backed=False, **settings)


def test_flavor_has_swap_in_mb_and_nova_id() -> None:
    assert conversion.flavor(a_flavor()) == {
        "vcpus": 2,
        "memory_mb": 2048,
        "root_gb": 20,
        "ephemeral_gb": 1,
        "swap_mb": 512,
        "name": "m1.small",
        "id": "2",
        "extra_specs": {"hw:cpu_policy": "dedicated"},
    }


def test_instance_has_the_fields_of_the_command() -> None:
    assert converted(an_instance(task_state="spawning")) == {
        "uuid": "instance-1",
        "project_id": "project-1",
        "vm_state": "active",
        "task_state": "spawning",
        "volume_backed": False,
        "flavor": conversion.flavor(a_flavor()),
        "image_properties": {"hw_machine_type": "pc"},
        "pci_requests": [],
        "deleted": False,
    }


def test_secrets_in_other_fields_do_not_leave_the_process() -> None:
    others = {
        name: SECRET
        for name in (
            "user_data",
            "key_data",
            "key_name",
            "admin_pass",
            "injected_files",
            "hostname",
            "user_id",
        )
    }
    metadata = {
        "image_secret": SECRET,
        "password_0": SECRET,
        "hw_password": SECRET,
        "image_hw_disk_bus": "scsi",
    }
    instance = an_instance(**others, system_metadata=metadata, metadata={"password": SECRET})
    assert SECRET not in json.dumps(converted(instance))


def test_unset_field_is_taken_from_the_last_conversion() -> None:
    last = converted(an_instance(pci_requests=NovaObject(requests=[a_request()])))
    bare = NovaObject(uuid="instance-1", vm_state="deleted", task_state=None)
    again = converted(bare, last=last)
    assert again == last | {"vm_state": "deleted"}


def test_task_state_and_devices_of_the_last_conversion_are_not_kept() -> None:
    last = converted(an_instance(task_state="deleting")) | {"pci_devices": ["0000:81:00.0"]}
    assert {"task_state", "pci_devices"}.isdisjoint(converted(an_instance(), last=last))


def test_topology_that_was_cleared_is_not_taken_from_the_last_conversion() -> None:
    last = converted(an_instance(numa_topology=topology_of(a_guest_cell())))
    assert "numa_topology" not in converted(an_instance(numa_topology=None), last=last)


def test_topology_has_pins_with_text_keys() -> None:
    cell = a_guest_cell(cpu_pinning_raw={"0": 4, "1": 5}, cpuset_reserved={6}, pagesize=2048)
    assert conversion.numa_topology(topology_of(cell)) == {
        "cells": [
            {
                "id": 0,
                "cpuset": [],
                "pcpuset": [0, 1],
                "memory": 1024,
                "cpu_policy": "dedicated",
                "pagesize": 2048,
                "cpu_pinning": {"0": 4, "1": 5},
                "cpuset_reserved": [6],
            }
        ]
    }


@pytest.mark.parametrize(("alias", "source"), [("nic", "flavor_alias"), (None, "neutron_port")])
def test_pci_request_names_its_source(alias: str | None, source: str) -> None:
    requests = conversion.pci_requests(NovaObject(requests=[a_request(alias_name=alias)]))
    assert requests is not None
    assert requests[0]["source"] == source


def test_migration_before_a_live_migration_claim_has_the_instance_node_as_source() -> None:
    migration = a_migration(source_node=None, created_at=datetime(2026, 11, 22, tzinfo=UTC))
    made = conversion.migration(migration, old_flavor=None, new_flavor=None, node="node-of-the-instance")
    assert (made["source_node"], made["created_at"]) == ("node-of-the-instance", "2026-11-22T00:00:00+00:00")


def test_migration_that_failed_early_has_no_destination() -> None:
    migration = a_migration(dest_node=None, dest_compute=None, status="error")
    made = conversion.migration(migration, old_flavor=None, new_flavor=None)
    assert {"dest_node", "dest_host"}.isdisjoint(made)


@pytest.mark.parametrize("limits", [None, {}])
def test_scheduler_without_limits_sends_none(limits: Any) -> None:
    assert conversion.limits(limits) is None


def test_limits_of_a_dict_and_of_an_object_are_equal() -> None:
    of_topology = NovaObject(cpu_allocation_ratio=4.0, ram_allocation_ratio=1.0)
    fields = {"vcpu": 8, "memory_mb": None, "disk_gb": None, "numa_topology": of_topology}
    expected = {"vcpu": 8, "numa_topology": {"cpu_allocation_ratio": 4.0, "ram_allocation_ratio": 1.0}}
    assert conversion.limits(fields) == conversion.limits(NovaObject(**fields)) == expected


def test_limits_have_the_networks_of_a_numa_aware_vswitch() -> None:
    networks = NovaObject(physnets={"b", "a"}, tunneled=True)
    of_topology = NovaObject(cpu_allocation_ratio=4.0, ram_allocation_ratio=1.0, network_metadata=networks)
    limits = conversion.limits({"numa_topology": of_topology})
    assert limits is not None
    assert limits["numa_topology"]["network_metadata"] == {"physnets": ["a", "b"], "tunneled": True}


def test_device_has_the_tags_of_its_pool_and_no_keys_of_placement() -> None:
    device = NovaObject(
        address="0000:81:00.1",
        vendor_id="8086",
        product_id="1515",
        dev_type="type-VF",
        numa_node=None,
        parent_addr="0000:81:00.0",
        label="label_8086_1515",
    )
    pool = {
        "vendor_id": "8086",
        "dev_type": "type-VF",
        "numa_node": None,
        "address": "0000:81:00.0",
        "rp_uuid": "provider",
        "physical_network": "physnet1",
    }
    made = conversion.pci_device(device, pool)
    assert (made["tags"], "numa_node" in made) == ({"physical_network": "physnet1"}, False)


def test_image_properties_of_glance_and_of_an_object_are_hardware_properties() -> None:
    properties = NovaObject(hw_architecture="x86_64", hw_numa_nodes=2, os_distro="debian")
    image = NovaObject(properties=properties)
    described = {"properties": {"hw_architecture": "x86_64", "hw_numa_nodes": 2, "os_distro": "debian"}}
    expected = {"hw_architecture": "x86_64", "hw_numa_nodes": "2"}
    assert conversion.image_properties(image) == conversion.image_properties(described) == expected
