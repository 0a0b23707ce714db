# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from tests.unit.nova.objects import NovaObject, device_pool, topology_of
from tracker_worker.nova import comparison

FIELDS: dict[str, Any] = {
    "uuid": "uuid-1",
    "vcpus": 8,
    "vcpus_used": 2,
    "memory_mb": 16384,
    "memory_mb_used": 2560,
    "local_gb": 100,
    "local_gb_used": 20,
    "free_ram_mb": 13824,
    "free_disk_gb": 80,
    "running_vms": 1,
    "current_workload": 0,
    "disk_available_least": None,
}
STATS = {"num_instances": "1", "num_vm_active": "1", "num_task_None": "1", "uptime": "up 1 day"}


def nova(**changes: Any) -> dict[str, Any]:
    fields = FIELDS | {"stats": STATS, "pci_device_pools": [device_pool(2)]} | changes
    cell = NovaObject(
        id=0, cpu_usage=2, memory_usage=2048, pinned_cpus={1, 0}, mempages=[NovaObject(size_kb=4, used=512)]
    )
    return comparison.seen(NovaObject(**fields), topology_of(cell))


def view(**changes: Any) -> dict[str, Any]:
    cell = {
        "id": 0,
        "cpu_usage": 2,
        "memory_usage": 2048,
        "pinned_cpus": [0, 1],
        "mempages": [{"size_kb": 4, "used": 512, "total": 1024, "reserved": 0}],
    }
    pool = {"vendor_id": "8086", "product_id": "1528", "numa_node": 0, "dev_type": "type-PF", "count": 2}
    given = {
        **FIELDS,
        "stats": {"num_instances": 1, "num_vm_active": 1, "num_task_None": 1, "uptime": "up 2 days"},
        "numa_topology": {"cells": [cell]},
        "pci_device_pools": [pool],
    }
    return given | changes


def pools(*made: NovaObject) -> dict[str, Any]:
    return nova(pci_device_pools=list(made))


def test_equal_nodes_have_no_difference() -> None:
    assert comparison.differences(pools(device_pool(2, tags={"dev_type": "type-PF"})), view()) == []


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_is_compared(name: str) -> None:
    same = pools(device_pool(2, tags={"dev_type": "type-PF"}))
    assert comparison.differences(same, view(**{name: 77})) == [
        f"{name}: {FIELDS[name]} in Nova, 77 in the worker"
    ]


def test_count_of_zero_equals_an_absent_one() -> None:
    theirs = nova(stats=STATS | {"num_vm_building": "0"}, pci_device_pools=[])
    ours = view(pci_device_pools=[])
    assert comparison.differences(theirs, ours) == []


def test_statistics_of_the_driver_are_not_compared() -> None:
    same = pools(device_pool(2, tags={"dev_type": "type-PF"}))
    assert comparison.differences(same, view(stats={**view()["stats"], "uptime": "other"})) == []


def test_pins_of_a_cell_are_compared() -> None:
    same = pools(device_pool(2, tags={"dev_type": "type-PF"}))
    cell = view()["numa_topology"]["cells"][0] | {"pinned_cpus": [0, 2]}
    (line,) = comparison.differences(same, view(numa_topology={"cells": [cell]}))
    assert line.startswith("numa cell 0: ")


def test_pools_that_placement_divides_are_summed() -> None:
    tags = {"dev_type": "type-PF"}
    divided = pools(
        device_pool(1, tags=tags | {"address": "0000:81:00.0", "rp_uuid": "a"}),
        device_pool(1, tags=tags | {"address": "0000:82:00.0", "rp_uuid": "b"}),
    )
    assert comparison.differences(divided, view()) == []


def test_devices_that_are_free_in_nova_alone_are_a_difference() -> None:
    (line,) = comparison.differences(pools(device_pool(3, tags={"dev_type": "type-PF"})), view())
    assert line.endswith("3 in Nova, 2 in the worker")


def test_failed_builds_are_a_difference_once_they_differ_again() -> None:
    lines = ["stats.failed_builds: 1 in Nova, 0 in the worker", "vcpus_used: 6 in Nova, 8 in the worker"]
    assert comparison.confirmed(lines, []) == lines[1:]
    assert comparison.confirmed(lines, lines) == lines
