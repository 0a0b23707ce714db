# SPDX-License-Identifier: Apache-2.0
"""Audits: a device for a resource class is tentative, until an audit reports the device that was meant."""

import pytest
from msgspec.structs import replace

from tests.builders import (
    MOVE,
    NODE,
    a_claim,
    a_flavor,
    an_instance,
    claims_of,
    decided,
)
from tests.topologies import (
    a_device,
    a_request,
    addresses_of,
    held,
    holding,
    statuses_of,
)
from tests.unit.domain.auditing import (
    DEVICES,
    NEW,
    OLD,
    OTHER_PINS,
    PINS,
    a_move,
    a_node_of,
    audited,
    reasons,
    the_audit,
)
from tests.unit.domain.claiming import attach, boot
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.held_claims import Claim, Role
from tracker_worker.domain.pci.pools import HeldDevice


def guessing(*devices: str, flavor: Flavor | None = None) -> Claim:
    """A claim for a resource class: Placement knows which of its devices was meant."""
    guesses = [HeldDevice(address, device=a_device(address), tentative=True) for address in devices]
    return holding(a_claim(flavor=flavor), PINS, guesses, requests=[a_request(resource_class="CUSTOM_GPU")])


@pytest.mark.parametrize(
    ("reported", "wanted", "reason"),
    [
        (["d1"], ["d1"], None),
        (None, ["d1"], None),
        (["d2"], ["d2"], "devices_changed"),
        ([], [], "devices_changed"),
    ],
)
def test_guessed_device_follows_the_report_and_the_pins_do_not(
    reported: list[str] | None, wanted: list[str], reason: str | None
) -> None:
    facts = [an_instance(numa_topology=OTHER_PINS, pci_devices=reported)]
    node, decision = audited(a_node_of(guessing("d1")), facts)
    assert reasons(decision) == ([("changed", reason)] if reason else [])
    assert held(node) == {"instance": ({0: [2, 3]}, wanted)}


def test_boot_for_a_resource_class_is_a_guess_until_an_audit_knows_better() -> None:
    asked = boot(a_flavor(), pci_requests=[a_request(resource_class="CUSTOM_GPU")])
    before, _ = decided(a_node_of(), asked)
    assert held(before) == {"instance": ({}, ["d0"])}
    node, decision = audited(before, [an_instance(pci_devices=["d3"])])
    assert reasons(decision) == [("changed", "devices_changed")]
    assert claims_of(node)["instance"].pci_devices == (HeldDevice("d3", device=DEVICES[3], tentative=True),)
    node, decision = audited(node, [an_instance(pci_devices=["d4"])])
    assert held(node) == {"instance": ({}, ["d4"])}, "whoever decides it tells it again"


def test_devices_that_the_report_confirms_stay_as_they_were_taken() -> None:
    """What they were, their requests and whether they are in use yet: a report does not tell that."""
    port = HeldDevice("d1", False, "port-1", a_device("d1", numa_node=1))
    guess = HeldDevice("d2", tentative=True)
    before = a_node_of(holding(a_claim(), devices=[port, guess]))
    node, _ = decided(before, the_audit([an_instance(pci_devices=["d1", "d3"])]))
    assert claims_of(node)["instance"].pci_devices[0] == port
    assert decided(node, attach())[1].changes == (), "the request has its device"


@pytest.mark.parametrize(
    ("reported", "wanted"),
    [
        (["d1", "d2"], ["d1", "d2"]),
        (["d2", "d1"], ["d1", "d2"]),
        (["d1", "d3"], ["d1", "d3"]),
        (["d3", "d1", "d4"], ["d1", "d3", "d4"]),
        (["d1"], ["d1"]),
        ([], ["d1"]),
        (["d3"], ["d1", "d3"]),
        (["d3", "d4"], ["d1", "d3"]),
    ],
)
def test_guess_gives_way_and_what_was_chosen_beside_it_does_not(
    reported: list[str], wanted: list[str]
) -> None:
    """d1 was chosen, d2 guessed. Facts may be older than d1: they tell which device the guess should be."""
    guess = HeldDevice("d2", device=DEVICES[2], tentative=True)
    before = a_node_of(holding(a_claim(), devices=[DEVICES[1], guess]))
    node, _ = audited(before, [an_instance(pci_devices=reported)])
    assert addresses_of(claims_of(node)["instance"]) == wanted


def test_request_keeps_its_device_when_that_was_wrongly_guessed() -> None:
    asked = attach(a_request(request_id="a", resource_class="CUSTOM_GPU"))
    before, _ = decided(a_node_of(a_claim()), asked)
    node, _ = audited(before, [an_instance(pci_devices=["d2"])])
    (device,) = claims_of(node)["instance"].pci_devices
    assert (device.address, device.request_id, device.tentative) == ("d2", "a", True)
    assert decided(node, asked)[1].changes == ()


def test_guesses_of_two_claims_on_one_host_are_told_apart() -> None:
    """Nova reports an instance's old and new devices together while it moves on its host."""
    old = guessing("d1", flavor=OLD)
    new = replace(guessing("d2", "d3", flavor=NEW), role=Role.INCOMING, migration_uuid=MOVE)
    all_of_it = ["d1", "d2", "d3"]
    moving = an_instance(flavor=OLD, task_state="resize_prep", pci_devices=all_of_it)
    move = a_move(source_node=NODE)
    node, _ = audited(a_node_of(old, new), [moving], [move])
    assert {role: addresses_of(claim) for role, claim in claims_of(node).items()} == {
        "instance": ["d1"],
        "incoming": ["d2", "d3"],
    }
    resized = an_instance(flavor=NEW, vm_state="resized", pci_devices=all_of_it)
    node, _ = audited(node, [resized], [move])
    assert {role: addresses_of(claim) for role, claim in claims_of(node).items()} == {
        "outgoing": ["d1"],
        "instance": ["d2", "d3"],
    }


def test_device_that_was_wrongly_guessed_is_free_again() -> None:
    node, _ = audited(a_node_of(guessing("d1")), [an_instance(pci_devices=["d2"])])
    assert {address for address, status in statuses_of(node).items() if status != "available"} == {"d2"}
