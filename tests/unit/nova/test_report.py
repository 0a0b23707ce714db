# SPDX-License-Identifier: Apache-2.0
from tests.unit.nova.objects import NovaObject, a_provider, topology_of
from tracker_worker.nova import report

DRIVER = {"uuid": "node-1", "vcpus": 8, "memory_mb": 16384, "local_gb": 100, "cpu_info": "", "stats": None}


def test_resources_are_the_drivers_with_host_and_options() -> None:
    options = {"reserved_host_memory_mb": 512}
    made = report.resources(DRIVER, "host-1", None, available=True, options=options)
    assert made == {
        "uuid": "node-1",
        "vcpus": 8,
        "memory_mb": 16384,
        "local_gb": 100,
        "cpu_info": "",
        "host": "host-1",
        "reserved_host_memory_mb": 512,
    }


def test_node_that_the_driver_cannot_use_is_not_available() -> None:
    assert report.resources(DRIVER, "host-1", None, available=False, options={})["available"] is False


def test_host_cell_has_sorted_siblings_and_pages() -> None:
    pages = NovaObject(size_kb=4, total=1024)
    cell = NovaObject(
        id=0,
        cpuset={1, 0},
        pcpuset={2, 3},
        memory=8192,
        siblings=[{3, 2}, {1, 0}],
        mempages=[pages],
        socket=0,
    )
    made = report.resources(DRIVER, "host-1", topology_of(cell), available=True, options={})
    assert made["numa_topology"] == {
        "cells": [
            {
                "id": 0,
                "cpuset": [0, 1],
                "pcpuset": [2, 3],
                "memory": 8192,
                "siblings": [[0, 1], [2, 3]],
                "mempages": [{"size_kb": 4, "total": 1024, "reserved": 0}],
                "socket": 0,
            }
        ]
    }


def test_provider_has_inventories_and_sorted_traits() -> None:
    data = a_provider({"VCPU": {"total": 8}}, {"HW_B", "HW_A"})
    assert report.provider(data) == {"inventories": {"VCPU": {"total": 8}}, "traits": ["HW_A", "HW_B"]}
