# SPDX-License-Identifier: Apache-2.0
"""Claims that were decided elsewhere: recorded as they come, telling what was not free."""

from typing import Any

import pytest

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    a_claim,
    a_flavor,
    a_migration,
    a_node,
    an_instance,
    command,
    decided,
)
from tests.topologies import (
    GPU_REQUEST,
    a_card,
    a_device,
    a_guest,
    a_numa_node,
    a_pinned_guest,
    a_port,
    addresses_of,
    holding,
    host_resources,
    pinned_on,
    pins_of,
)
from tests.unit.domain.auditing import reasons
from tests.unit.domain.claiming import EVERY_CLAIM, asks, role_of, the_claim
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import PciRequest
from tracker_worker.domain.pci.pools import HeldDevice


def decided_elsewhere(method: str, **carried: Any) -> AnyCommand:
    """A claim that brings its topology and devices: the instance's own, or those of its migration."""
    topology, devices = carried.get("topology"), carried.get("devices")
    if method == "instance_claim":
        instance = an_instance(numa_topology=topology, pci_devices=devices)
        return asks(method, a_flavor(), instance, decided=True)
    elsewhere = an_instance(numa_topology=a_pinned_guest({5: [50]}), pci_devices=["far"])
    migration = a_migration(new_numa_topology=topology, new_pci_devices=devices)
    return asks(method, a_flavor(), elsewhere, migration=migration, decided=True)


CARD = a_card()
TAKEN = holding(a_claim(uuid=BYSTANDER), a_pinned_guest({0: [2, 3]}), [CARD[1], "d1"])


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize(
    ("carried", "conflict"),
    [
        ({}, False),
        ({"topology": a_pinned_guest({0: [4, 5], 1: [12, 13]})}, False),
        ({"topology": a_pinned_guest({0: [3, 4]})}, True),
        ({"topology": a_pinned_guest({0: [0, 1]})}, True),
        ({"topology": a_pinned_guest({9: [90, 91]})}, False),
        ({"topology": a_guest(policy="shared", memory=99999)}, False),
        ({"devices": ["vf2", "d2"]}, False),
        ({"devices": []}, False),
        ({"devices": ["vf1"]}, True),
        ({"devices": ["d2", "d1"]}, True),
        ({"devices": ["pf"]}, True),
        ({"devices": ["nobody knows"]}, True),
        ({"topology": a_pinned_guest({0: [3, 4]}), "devices": ["d2"]}, True),
    ],
)
def test_decided_claim_is_recorded_as_it_came_and_tells_what_was_not_free(
    method: str, available: bool, carried: dict[str, Any], conflict: bool
) -> None:
    node = a_node(
        TAKEN, resources=host_resources(devices=[*CARD, a_device("d1"), a_device("d2")], available=available)
    )
    asked = decided_elsewhere(method, **carried)
    once, decision = decided(node, asked)
    claim = the_claim(once)
    assert (decision.outcome, decision.claim) == ("granted", claim)
    assert reasons(decision) == ([("added", "conflict")] if conflict else [])
    assert claim.numa_topology == carried.get("topology")
    assert addresses_of(claim) == carried.get("devices", [])
    assert not claim.assigned
    assert all(device.allocated for device in claim.pci_devices)
    twice, again = decided(once, asked)
    assert (again.outcome, again.changes, again.effects) == ("granted", (), ())
    assert twice.claims == once.claims


def test_pins_that_overlap_are_free_with_their_last_claim() -> None:
    node = a_numa_node(TAKEN)
    node, _ = decided(node, decided_elsewhere("instance_claim", topology=a_pinned_guest({0: [3, 4]})))
    assert pinned_on(node) == {0: [2, 3, 4], 1: []}
    node, _ = decided(node, command("abort_instance_claim", instance_uuid=BYSTANDER))
    assert pinned_on(node) == {0: [3, 4], 1: []}
    node, _ = decided(node, command("abort_instance_claim", instance_uuid=INSTANCE))
    assert pinned_on(node) == {0: [], 1: []}


def test_decided_claim_may_take_what_the_claim_that_it_replaces_had() -> None:
    old = holding(a_claim(), a_pinned_guest({0: [2, 3]}), ["d1"])
    node = a_numa_node(old, devices=[a_device("d1")])
    asked = decided_elsewhere("instance_claim", topology=a_pinned_guest({0: [3, 4]}), devices=["d1"])
    _, decision = decided(node, asked)
    assert (decision.outcome, decision.effects) == ("granted", ())


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_decided_replacement_has_what_it_carries_alone(method: str) -> None:
    old = holding(a_claim(*role_of(method)), a_pinned_guest({0: [2, 3]}), ["d1"])
    node, _ = decided(a_numa_node(old, devices=[a_device("d2")]), decided_elsewhere(method, devices=["d2"]))
    assert (pins_of(the_claim(node)), addresses_of(the_claim(node))) == ({}, ["d2"])


def test_decided_replacement_tells_what_was_there_before() -> None:
    node = a_numa_node(TAKEN, a_claim(flavor=a_flavor(1)))
    _, decision = decided(node, decided_elsewhere("instance_claim", topology=a_pinned_guest({0: [2, 3]})))
    assert reasons(decision) == [("changed", "conflict")]


def test_decided_claim_on_a_host_without_a_topology_conflicts_with_nothing() -> None:
    node = a_node(TAKEN)
    _, decision = decided(node, decided_elsewhere("instance_claim", topology=a_pinned_guest({0: [2, 3]})))
    assert (decision.outcome, decision.effects) == ("granted", ())


def test_decided_devices_are_kept_as_the_report_has_them() -> None:
    node = a_numa_node(devices=[a_device("d1", numa_node=1)])
    node, _ = decided(node, decided_elsewhere("instance_claim", devices=["d1", "d9"]))
    held = the_claim(node).pci_devices
    assert held == (
        HeldDevice("d1", device=a_device("d1", numa_node=1), tentative=True),
        HeldDevice("d9", tentative=True),
    )


@pytest.mark.parametrize(
    ("method", "sent", "wanted"),
    [
        ("instance_claim", None, (GPU_REQUEST,)),
        ("rebuild_claim", None, (GPU_REQUEST,)),
        ("rebuild_claim", [a_port()], (a_port(),)),
    ],
)
def test_decided_claim_says_what_its_devices_were_asked_for(
    method: str, sent: list[PciRequest] | None, wanted: tuple[PciRequest, ...]
) -> None:
    instance = an_instance(pci_requests=[GPU_REQUEST])
    more = {} if sent is None else {"pci_requests": sent}
    node, _ = decided(a_numa_node(), asks(method, a_flavor(), instance, decided=True, **more))
    assert the_claim(node).pci_requests == wanted


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_decided_claim_reads_neither_flavor_nor_image(method: str) -> None:
    flavor = a_flavor(2, 1024, extra_specs={"hw:cpu_policy": "x", "pci_passthrough:alias": "unknown:1"})
    node, decision = decided(a_numa_node(), asks(method, flavor, decided=True))
    assert decision.outcome == "granted"
    assert the_claim(node).numa_request is None
