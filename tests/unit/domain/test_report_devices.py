# SPDX-License-Identifier: Apache-2.0
"""What a report says of devices and pages: which devices instances may have, what the host keeps."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import (
    INSTANCE,
    NODE,
    a_claim,
    a_node,
    a_report,
    after,
    an_instance,
    claims_of,
    command,
    decided,
    some_resources,
)
from tests.topologies import (
    HUGE_KB,
    SMALL_KB,
    a_card,
    a_device,
    a_guest,
    a_host,
    a_host_cell,
    a_pinned_guest,
    a_port,
    a_request,
    addresses_of,
    holding,
    host_resources,
    pinned_on,
    statuses_of,
)
from tests.unit.domain.claiming import attach
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import (
    HostCell,
    HostTopology,
    PageSize,
    PciDevice,
    ReservedPages,
    Resources,
)
from tracker_worker.domain.pci.specs import parse_device_specs
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.domain.views import node_view

SETTINGS = TrackerSettings()
PF, VF1, VF2 = CARD = a_card("0000:81:00.0", ("0000:81:00.1", "0000:81:00.2"))
GPU = a_device("0000:0a:00.0", vendor_id="10de", product_id="20b5")
FREE = command("unclaim_pci_devices", instance_uuid=INSTANCE)


def reported(
    devices: list[PciDevice] | None, *specs: str, node: Node | None = None, **more: Any
) -> tuple[Node, list[PciDevice] | None]:
    """The node after a report of devices, and which of them it knows."""
    settings = TrackerSettings(device_specs=parse_device_specs(specs))
    resources = some_resources(pci_devices=devices, **more)
    known = after(node or Node(NODE), a_report(resources=resources), settings=settings)
    assert known.resources is not None
    return known, known.resources.pci_devices


def report(devices: list[PciDevice], **more: Any) -> AnyCommand:
    return a_report(resources=host_resources(devices=devices), **more)


# device_spec


@pytest.mark.parametrize(
    ("specs", "known"),
    [
        ([], [PF, VF1, VF2, GPU]),
        (['{"vendor_id": "10de"}'], [GPU]),
        (['{"vendor_id": "ffff"}'], []),
        (['{"address": "0000:81:00.1"}', '{"vendor_id": "10de", "product_id": "20b5"}'], [VF1, GPU]),
        (['{"address": "0000:81:00.0"}'], [PF, VF1, VF2]),
    ],
)
def test_node_knows_the_devices_that_instances_may_have(specs: list[str], known: list[PciDevice]) -> None:
    _, devices = reported([PF, VF1, VF2, GPU], *specs)
    assert devices == known


@pytest.mark.parametrize("specs", [[], ['{"vendor_id": "10de"}']])
@pytest.mark.parametrize("devices", [None, []])
def test_report_without_devices_stays_without(specs: list[str], devices: list[PciDevice] | None) -> None:
    node, known = reported(devices, *specs)
    assert known == devices
    assert node_view(node)["pci_device_pools"] == []


def test_first_spec_that_matches_tags_a_device() -> None:
    tagged = replace(GPU, tags={"mine": "1"})
    specs = (
        '{"address": "0000:81:00.1", "physical_network": "net1"}',
        '{"vendor_id": "10de", "trusted": "true"}',
        '{"vendor_id": "*", "physical_network": null}',
    )
    _, devices = reported([VF1, VF2, tagged], *specs)
    assert [device.tags for device in devices or []] == [
        {"physical_network": "net1"},
        {"physical_network": None},
        {"mine": "1", "trusted": "true"},
    ]


def test_tags_are_what_requests_and_pools_see() -> None:
    specs = ('{"address": "0000:81:00.1", "physical_network": "net1"}',)
    node, _ = reported([VF1], *specs)
    assert node_view(node)["pci_device_pools"] == [
        {
            "vendor_id": "8086",
            "product_id": "1572",
            "numa_node": None,
            "dev_type": "type-VF",
            "parent_addr": "0000:81:00.0",
            "tags": {"physical_network": "net1", "remote_managed": "false"},
            "count": 1,
        }
    ]
    asked = [a_port(physical_network="net1")]
    boot = command("instance_claim", instance=an_instance(pci_requests=asked))
    assert addresses_of(claims_of(after(node, boot))["instance"]) == ["0000:81:00.1"]


@pytest.mark.parametrize("specs", [[], ['{"vendor_id": "*"}']])
@pytest.mark.parametrize(("reported_node", "known"), [(-1, None), (None, None), (0, 0), (1, 1)])
def test_device_of_a_host_that_does_not_tell_is_on_no_cell(
    specs: list[str], reported_node: int | None, known: int | None
) -> None:
    _, devices = reported([replace(GPU, numa_node=reported_node)], *specs)
    assert [device.numa_node for device in devices or []] == [known]


# Devices that come, go and change


def test_device_that_is_plugged_in_is_there_at_the_next_report() -> None:
    """Nova sees it after a restart only."""
    node = after(Node(NODE), report([GPU]))
    assert statuses_of(node) == {GPU.address: "available"}
    node = after(node, report([GPU, VF1]), attach())
    assert statuses_of(node) == {GPU.address: "available", VF1.address: "claimed"}


def test_device_that_is_removed_is_gone_at_the_next_report() -> None:
    node = after(Node(NODE), report([GPU, VF1]), report([GPU]))
    assert statuses_of(node) == {GPU.address: "available"}


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, TrackerSettings(device_specs=parse_device_specs(['{"vendor_id": "10de"}']))],
    ids=["unplugged", "no longer in device_spec"],
)
def test_device_that_is_removed_in_use_is_kept_until_it_is_freed(settings: TrackerSettings) -> None:
    """Bugs 1633120 and 2115905."""
    node = after(Node(NODE), report(CARD), attach())
    left = [GPU] if settings is SETTINGS else [*CARD, GPU]
    node = after(node, report(left), settings=settings)
    assert statuses_of(node) == {GPU.address: "available", VF2.address: "claimed"}
    pools = {pool["dev_type"]: pool["count"] for pool in node_view(node)["pci_device_pools"]}
    assert pools == {"type-PCI": 1, "type-VF": 0}
    claim = claims_of(node)["incoming"]
    assert [held.device for held in claim.pci_devices] == [VF2]
    assert statuses_of(after(node, FREE)) == {GPU.address: "available"}


def test_device_that_changes_in_use_changes_when_it_is_freed() -> None:
    now = replace(VF2, numa_node=1)
    node = after(Node(NODE), report(CARD), attach(), report([PF, VF1, now]))
    assert [pool["numa_node"] for pool in node_view(node)["pci_device_pools"]] == [None, None]
    node = after(node, FREE)
    assert {pool["numa_node"] for pool in node_view(node)["pci_device_pools"]} == {None, 1}


def test_adopted_device_is_known_by_its_address_until_a_report_shows_it() -> None:
    node = after(Node(NODE), report([], instances=[an_instance(pci_devices=[GPU.address])]))
    assert statuses_of(node) == {GPU.address: "allocated"}
    assert node_view(node)["pci_device_pools"] == []
    node = after(node, report([GPU]))
    assert statuses_of(node) == {GPU.address: "allocated"}
    assert [pool["count"] for pool in node_view(node)["pci_device_pools"]] == [0]


def test_unavailable_node_keeps_its_cells_and_devices() -> None:
    node = after(Node(NODE), report([GPU]))
    off = after(node, a_report(resources=some_resources(available=False)))
    assert (statuses_of(off), pinned_on(off)) == (statuses_of(node), pinned_on(node))


# Pages that the host keeps

TOTAL = {SMALL_KB: 262144, HUGE_KB: 512}


def reserved(node: Node) -> dict[tuple[int, int], int | None]:
    assert node.resources is not None
    topology = node.resources.numa_topology
    cells = topology.cells if topology else []
    return {(cell.id, page.size_kb): page.reserved for cell in cells for page in cell.mempages}


def host_that_says(count: int | None) -> HostTopology:
    """Two cells, of which cell 0 says how many huge pages it keeps."""
    cells = [a_host_cell(id, pages=TOTAL) for id in (0, 1)]
    small, huge = cells[0].mempages
    return HostTopology([replace(cells[0], mempages=[small, replace(huge, reserved=count)]), cells[1]])


OPTION = (ReservedPages(0, HUGE_KB, 10), ReservedPages(1, HUGE_KB, 11), ReservedPages(7, HUGE_KB, 9))
REPORT = [ReservedPages(0, HUGE_KB, 20)]


@pytest.mark.parametrize(
    ("cells_own", "of_report", "option", "cell_0", "cell_1"),
    [
        (None, None, (), 0, 0),
        (None, None, OPTION, 10, 11),
        (None, REPORT, OPTION, 20, 0),
        (None, REPORT, (), 20, 0),
        (None, [], OPTION, 0, 0),
        (30, REPORT, OPTION, 30, 0),
        (30, None, OPTION, 30, 11),
        (0, REPORT, OPTION, 0, 0),
        (0, None, OPTION, 0, 11),
    ],
)
def test_cells_own_reserve_wins_over_the_reports_and_that_over_the_option(
    cells_own: int | None,
    of_report: list[ReservedPages] | None,
    option: tuple[ReservedPages, ...],
    cell_0: int,
    cell_1: int,
) -> None:
    resources = host_resources(host_that_says(cells_own), reserved_huge_pages=of_report)
    settings = TrackerSettings(reserved_huge_pages=option)
    node = after(Node(NODE), a_report(resources=resources), settings=settings)
    assert reserved(node) == {
        (0, SMALL_KB): 0,
        (0, HUGE_KB): cell_0,
        (1, SMALL_KB): 0,
        (1, HUGE_KB): cell_1,
    }
    cells = node_view(node)["numa_topology"]["cells"]
    assert [cell["mempages"][1]["reserved"] for cell in cells] == [cell_0, cell_1]


@pytest.mark.parametrize(("kept", "outcome"), [(256, "granted"), (257, "refused")])
def test_pages_that_the_host_keeps_are_nobodys(kept: int, outcome: str) -> None:
    host = HostTopology([a_host_cell(pages=TOTAL)])
    settings = TrackerSettings(reserved_huge_pages=(ReservedPages(0, HUGE_KB, kept),))
    node = after(Node(NODE), a_report(resources=host_resources(host)), settings=settings)
    boot = command("instance_claim", instance=an_instance(numa_topology=a_guest(1, 2, 512, pagesize=HUGE_KB)))
    assert decided(node, boot)[1].outcome == outcome


# The same again


def a_full_report(**more: Any) -> Resources:
    return host_resources(
        host_that_says(None), [replace(GPU, numa_node=-1), VF1], reserved_huge_pages=REPORT, **more
    )


SPECS = parse_device_specs(['{"vendor_id": "10de", "trusted": "true"}'])


@pytest.mark.parametrize(
    "settings",
    [SETTINGS, TrackerSettings(device_specs=SPECS), TrackerSettings(reserved_huge_pages=OPTION)],
)
def test_second_equal_report_changes_nothing(settings: TrackerSettings) -> None:
    node = after(Node(NODE), a_report(resources=a_full_report()), settings=settings)
    again, decision = decided(node, a_report(resources=a_full_report()), settings)
    assert (decision.outcome, decision.changes) == ("ignored", ())
    assert again.resources == node.resources


def test_second_equal_report_changes_nothing_while_devices_and_cpus_are_in_use() -> None:
    held = holding(a_claim(), a_pinned_guest({0: [2, 3]}), [VF1])
    node = after(a_node(held), a_report(resources=a_full_report()))
    _, decision = decided(node, a_report(resources=a_full_report()))
    assert (decision.outcome, decision.changes) == ("ignored", ())


@pytest.mark.parametrize(
    "other",
    [
        {"pci_devices": [VF1]},
        {"pci_devices": [GPU, VF1, VF2]},
        {"pci_devices": [replace(GPU, numa_node=1), VF1]},
        {"pci_devices": [replace(GPU, tags={"a": "1"}), VF1]},
        {"numa_topology": None},
        {"numa_topology": a_host(1)},
        {"numa_topology": host_that_says(1)},
        {"reserved_huge_pages": [ReservedPages(1, HUGE_KB, 1)]},
    ],
)
def test_report_that_says_something_else_of_cells_and_devices_is_new(other: dict[str, Any]) -> None:
    node = after(Node(NODE), a_report(resources=a_full_report()))
    _, decision = decided(node, a_report(resources=replace(a_full_report(), **other)))
    assert decision.outcome == "applied"


@pytest.mark.parametrize(
    ("settings", "changed"),
    [
        (TrackerSettings(device_specs=SPECS), True),
        (TrackerSettings(reserved_huge_pages=(ReservedPages(1, HUGE_KB, 1),)), True),
        (TrackerSettings(reserved_huge_pages=(ReservedPages(9, HUGE_KB, 1),)), False),
    ],
)
def test_changed_option_holds_from_the_next_report_on(settings: TrackerSettings, changed: bool) -> None:
    resources = replace(a_full_report(), reserved_huge_pages=None)
    node = after(Node(NODE), a_report(resources=resources))
    _, decision = decided(node, a_report(resources=resources), settings)
    assert (decision.outcome == "applied") == changed


# What claims hold when the host changes


def test_pins_outlive_their_host_cell() -> None:
    held = holding(a_claim(), a_pinned_guest({0: [2, 3], 1: [12, 13]}))
    node = after(a_node(held), a_report(resources=host_resources(a_host(2))))
    assert pinned_on(node) == {0: [2, 3], 1: [12, 13]}
    node = after(node, a_report(resources=host_resources(HostTopology([a_host_cell(1)]))))
    assert pinned_on(node) == {1: [12, 13]}
    assert claims_of(node) == {"instance": held}
    assert pinned_on(after(node, a_report(resources=host_resources()))) == {0: [2, 3], 1: [12, 13]}


def test_view_shows_what_is_used_of_cells_pages_and_devices() -> None:
    host = HostTopology([a_host_cell(pages=TOTAL, threads=2, socket=0)])
    node = after(Node(NODE), a_report(resources=host_resources(host, [GPU, PF])))
    asked: dict[str, Any] = {
        "numa_topology": a_guest(1, 2, 512, pagesize=HUGE_KB),
        "pci_requests": [a_request(vendor_id="10de")],
    }
    node = after(node, command("instance_claim", instance=an_instance(**asked)))
    view = node_view(node)
    assert view["numa_topology"] == {
        "cells": [
            {
                "id": 0,
                "cpuset": [0, 1],
                "pcpuset": [2, 3, 4, 5],
                "memory": 4096,
                "memory_usage": 512,
                "cpu_usage": 0,
                "pinned_cpus": [2, 3],
                "siblings": [[0, 1], [2, 3], [4, 5]],
                "mempages": [
                    {"size_kb": SMALL_KB, "total": 262144, "used": 0, "reserved": 0},
                    {"size_kb": HUGE_KB, "total": 512, "used": 256, "reserved": 0},
                ],
            }
        ]
    }
    assert view["pci_devices"] == [
        {"address": GPU.address, "status": "allocated", "instance_uuid": INSTANCE},
        {"address": PF.address, "status": "available"},
    ]
    (claim,) = view["claims"]
    assert claim["pci_devices"] == [
        {
            "address": GPU.address,
            "status": "allocated",
            "vendor_id": "10de",
            "product_id": "20b5",
            "dev_type": "type-PCI",
            "numa_node": None,
        }
    ]
    assert claim["numa_topology"]["cells"][0]["cpu_pinning"] == {"0": 2, "1": 3}


def test_view_of_a_cell_without_a_known_reserve_shows_none_kept() -> None:
    """A node of an older version of this worker has pages without a reserve."""
    cell = HostCell(0, [0], [1], 1024, mempages=[PageSize(SMALL_KB, 10)])
    view = node_view(a_node(resources=host_resources(HostTopology([cell]))))
    assert view["numa_topology"]["cells"][0]["mempages"][0]["reserved"] == 0


def test_view_of_a_claimed_device_shows_its_request() -> None:
    node = after(Node(NODE), report([VF1]), attach())
    (claim,) = node_view(node)["claims"]
    (device,) = claim["pci_devices"]
    assert (device["status"], device["request_id"]) == ("claimed", "port-1")
