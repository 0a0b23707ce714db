# SPDX-License-Identifier: Apache-2.0
"""Views of nodes and claims: the keys of doc/reply_schemas and replies, with Nova's figures."""

import msgspec
import pytest

from tests.builders import (
    HOST,
    INSTANCE,
    MOVE,
    NODE,
    NODE_UUID,
    a_claim,
    a_flavor,
    a_node,
    some_resources,
)
from tracker_worker.domain.fields import PciDeviceType
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import Ratios
from tracker_worker.domain.objects import HostCell, HostTopology, PageSize, PciDevice
from tracker_worker.domain.views import claim_view, node_view, usage_view

USAGE_KEYS = {
    "name", "uuid", "host", "sequence", "vcpus", "vcpus_used", "memory_mb", "memory_mb_used",
    "local_gb", "local_gb_used", "free_ram_mb", "free_disk_gb", "running_vms", "current_workload",
    "disk_available_least", "cpu_allocation_ratio", "ram_allocation_ratio",
    "disk_allocation_ratio", "disabled", "stats",
}  # fmt: skip
NODE_KEYS = USAGE_KEYS | {"numa_topology", "pci_device_pools", "pci_devices", "claims"}


def test_views_have_the_keys_that_others_read() -> None:
    assert usage_view(a_node()).keys() == USAGE_KEYS
    assert node_view(a_node()).keys() == NODE_KEYS


def test_usage_is_shown_as_nova_shows_it() -> None:
    node = a_node(
        a_claim(flavor=a_flavor(2, 2048, 20, swap_mb=512)),
        a_claim("incoming", MOVE, a_flavor(4, 4096, 40), uuid="2", task_state="resize_prep"),
        a_claim(uuid="3", flavor=a_flavor(1, 100, 0), task_state="spawning"),
        reserve=Amounts(1, 512, 1500),
        ratios=Ratios(4.0, 1.5, 1.0),
        resources=some_resources(disk_available_least=-7),
        sequence=9,
        disabled=True,
    )
    view = usage_view(node)
    assert {key: view[key] for key in USAGE_KEYS - {"stats"}} == {
        "name": NODE,
        "uuid": NODE_UUID,
        "host": HOST,
        "sequence": 9,
        "vcpus": 8,
        "vcpus_used": 1 + 2 + 4 + 1,
        "memory_mb": 16384,
        "memory_mb_used": 512 + 2048 + 4096 + 100,
        "local_gb": 100,
        "local_gb_used": 61,
        "free_ram_mb": 16384 - 6756,
        "free_disk_gb": 39,
        "running_vms": 2,
        "current_workload": 1,
        "disk_available_least": -7,
        "cpu_allocation_ratio": 4.0,
        "ram_allocation_ratio": 1.5,
        "disk_allocation_ratio": 1.0,
        "disabled": True,
    }
    assert view["stats"]["num_instances"] == 2


@pytest.mark.parametrize(("swap_mb", "local_gb_used"), [(0, 0), (1023, 0), (1024, 1), (2047, 1), (2048, 2)])
def test_disk_is_shown_in_whole_gb(swap_mb: int, local_gb_used: int) -> None:
    view = usage_view(a_node(a_claim(flavor=a_flavor(root_gb=0, swap_mb=swap_mb))))
    assert (view["local_gb_used"], view["free_disk_gb"]) == (local_gb_used, 100 - local_gb_used)


def test_free_values_may_be_negative() -> None:
    """Bug 1698383: an over-committed node says by how much."""
    view = usage_view(a_node(a_claim(flavor=a_flavor(99, 20000, 150))))
    assert (view["free_ram_mb"], view["free_disk_gb"]) == (16384 - 20512, -50)


@pytest.mark.parametrize("label", [MOVE, None])
def test_claim_is_shown_with_its_amounts(label: str | None) -> None:
    claim = a_claim("incoming", label, a_flavor(2, 2048, 20, ephemeral_gb=1, swap_mb=5))
    assert msgspec.to_builtins(claim_view(claim)) == {
        "instance_uuid": INSTANCE,
        "role": "incoming",
        "migration_uuid": label,
        "vcpus": 2,
        "memory_mb": 2048,
        "disk_mb": 21 * 1024 + 5,
        "numa_topology": None,
        "pci_devices": [],
    }


def test_node_shows_every_claim() -> None:
    claims = [a_claim(), a_claim("incoming", MOVE), a_claim(uuid="2")]
    shown = node_view(a_node(*claims))["claims"]
    assert sorted((c["instance_uuid"], c["role"]) for c in shown) == [
        ("2", "instance"),
        (INSTANCE, "incoming"),
        (INSTANCE, "instance"),
    ]


def test_node_shows_cells_and_devices() -> None:
    pages = [PageSize(size_kb=4, total=1000), PageSize(size_kb=2048, total=8, reserved=2)]
    cell = HostCell(id=1, cpuset=[0, 1], pcpuset=[2], memory=4096, siblings=[[0, 1]], mempages=pages)
    device = PciDevice(
        address="0000:81:00.0", vendor_id="8086", product_id="1572", dev_type=PciDeviceType.STANDARD
    )
    resources = some_resources(numa_topology=HostTopology([cell]), pci_devices=[device])
    view = node_view(a_node(resources=resources))
    assert view["numa_topology"] == {
        "cells": [
            {
                "id": 1,
                "cpuset": [0, 1],
                "pcpuset": [2],
                "memory": 4096,
                "memory_usage": 0,
                "cpu_usage": 0,
                "pinned_cpus": [],
                "siblings": [[0, 1]],
                "mempages": [
                    {"size_kb": 4, "total": 1000, "used": 0, "reserved": 0},
                    {"size_kb": 2048, "total": 8, "used": 0, "reserved": 2},
                ],
            }
        ]
    }
    assert view["pci_devices"] == [{"address": "0000:81:00.0", "status": "available"}]


def test_node_without_topology_and_devices_says_so() -> None:
    view = node_view(a_node())
    assert (view["numa_topology"], view["pci_devices"], view["pci_device_pools"]) == (None, [], [])


def test_views_are_json() -> None:
    view = node_view(a_node(a_claim(), a_claim("incoming", MOVE)))
    assert msgspec.json.decode(msgspec.json.encode(view)) == view


def test_claims_are_shown_in_the_order_of_their_instances() -> None:
    node = a_node(*(a_claim(uuid=uuid) for uuid in ("c", "a", "b")))
    assert [claim["instance_uuid"] for claim in node_view(node)["claims"]] == ["a", "b", "c"]
