# SPDX-License-Identifier: Apache-2.0
"""Audits: which pins and devices are kept, the worker's or the reported ones."""

from typing import Any

import pytest

from tests.builders import (
    MOVE,
    a_claim,
    a_flavor,
    a_report,
    an_instance,
    claims_of,
    decided,
)
from tests.topologies import (
    DEDICATED,
    a_device,
    a_guest,
    a_numa_node,
    a_request,
    a_vf,
    addresses_of,
    held,
    holding,
    host_resources,
    pins_of,
    statuses_of,
)
from tests.unit.domain.auditing import (
    DEVICES,
    NEW,
    NEW_PINS,
    OLD,
    OTHER_PINS,
    PINS,
    a_node_of,
    audited,
    corrections,
    reasons,
    the_audit,
)
from tests.unit.domain.claiming import asks, attach, boot
from tracker_worker.domain.pci.pools import HeldDevice
from tracker_worker.domain.views import claim_view

REPORTS: list[dict[str, Any]] = [
    {},
    {"numa_topology": OTHER_PINS},
    {"pci_devices": []},
    {"pci_devices": ["d2", "d3"]},
    {"numa_topology": a_guest(policy="shared"), "pci_devices": ["d4"]},
]


@pytest.mark.parametrize("reported", REPORTS)
def test_pins_and_devices_that_the_worker_chose_stay_whatever_is_reported(reported: dict[str, Any]) -> None:
    claim = holding(a_claim(), PINS, ["d1"], requests=[a_request()])
    before = a_node_of(claim)
    node, decision = audited(before, [an_instance(**reported)])
    assert (node.claims, decision.effects) == (before.claims, ())


def test_claim_of_a_boot_stays_whatever_is_reported() -> None:
    """Bug 1454451: the audit freed pins that were claimed and not saved yet."""
    flavor = a_flavor(2, 1024, extra_specs=DEDICATED)
    before, _ = decided(a_node_of(), boot(flavor, pci_requests=[a_request()]))
    node, decision = audited(before, [an_instance(flavor=flavor, pci_devices=[])])
    assert (held(node), decision.effects) == ({"instance": ({0: [2, 3]}, ["d0"])}, ())
    assert claims_of(node) == claims_of(before)


@pytest.mark.parametrize("reported", REPORTS)
def test_attached_device_stays_whatever_is_reported(reported: dict[str, Any]) -> None:
    before, _ = decided(a_node_of(a_claim()), attach(a_request(request_id="a")))
    node, _ = audited(before, [an_instance(**reported)])
    assert addresses_of(claims_of(node)["instance"]) == ["d0"]


def test_claim_that_a_finished_move_brought_keeps_its_pins_and_its_label() -> None:
    claim = holding(a_claim("instance", MOVE), PINS, DEVICES[1:2])
    before = a_node_of(claim)
    node, decision = audited(before, [an_instance(numa_topology=OTHER_PINS, pci_devices=["d2"])])
    assert (node.claims, decision.effects) == (before.claims, ())


def test_unseen_instance_is_adopted_with_what_it_reports() -> None:
    unseen = an_instance(numa_topology=PINS, pci_devices=["d1", "unknown"])
    node, decision = audited(a_node_of(), [unseen])
    claim = claims_of(node)["instance"]
    assert reasons(decision) == [("added", "instance_here")]
    assert claim == holding(a_claim(), PINS, [DEVICES[1], "unknown"], assigned=False)
    assert claim.numa_request == a_guest()


def test_adopted_devices_are_kept_as_the_report_of_the_same_audit_has_them() -> None:
    node = a_numa_node(devices=[])
    node, _ = decided(node, the_audit([an_instance(pci_devices=["d1"])]))
    assert claims_of(node)["instance"].pci_devices == (HeldDevice("d1", device=DEVICES[1], tentative=True),)


ADOPTED = holding(a_claim(), PINS, DEVICES[1:3], assigned=False)


@pytest.mark.parametrize(
    ("reported", "reason", "wanted"),
    [
        ({"numa_topology": PINS, "pci_devices": ["d1", "d2"]}, None, ({0: [2, 3]}, ["d1", "d2"])),
        ({}, None, ({0: [2, 3]}, ["d1", "d2"])),
        ({"numa_topology": OTHER_PINS}, "topology_changed", ({1: [12, 13]}, ["d1", "d2"])),
        ({"pci_devices": ["d1"]}, "devices_changed", ({0: [2, 3]}, ["d1"])),
        ({"pci_devices": []}, "devices_changed", ({0: [2, 3]}, [])),
        ({"pci_devices": ["d3", "d1"]}, "devices_changed", ({0: [2, 3]}, ["d1", "d3"])),
        (
            {"numa_topology": OTHER_PINS, "pci_devices": ["d4"]},
            "topology_changed",
            ({1: [12, 13]}, ["d4"]),
        ),
    ],
)
def test_what_was_decided_elsewhere_follows_the_report(
    reported: dict[str, Any], reason: str | None, wanted: Any
) -> None:
    """Absent is not said: it changes nothing."""
    node, decision = audited(a_node_of(ADOPTED), [an_instance(**reported)])
    assert reasons(decision) == ([("changed", reason)] if reason else [])
    assert held(node) == {"instance": wanted}
    assert not claims_of(node)["instance"].assigned


def test_decided_claim_follows_the_report() -> None:
    instance = an_instance(numa_topology=PINS, pci_devices=["d1"])
    before, _ = decided(a_node_of(), asks("instance_claim", instance=instance, decided=True))
    now = an_instance(numa_topology=OTHER_PINS, pci_devices=["d1"])
    node, decision = audited(before, [now])
    assert reasons(decision) == [("changed", "topology_changed")]
    assert held(node) == {"instance": ({1: [12, 13]}, ["d1"])}


def test_correction_shows_old_and_new_pins() -> None:
    node, decision = audited(a_node_of(ADOPTED), [an_instance(numa_topology=OTHER_PINS)])
    (correction,) = corrections(decision)
    assert correction.old == claim_view(ADOPTED)
    assert correction.new == claim_view(claims_of(node)["instance"])
    assert correction.new.numa_topology != correction.old.numa_topology


def test_order_in_which_devices_are_reported_is_no_difference() -> None:
    before = a_node_of(ADOPTED)
    node, decision = decided(before, the_audit([an_instance(pci_devices=["d2", "d1"])]))
    assert (decision.outcome, decision.effects, node.claims) == ("ignored", (), before.claims)


def test_attachment_does_not_make_adopted_pins_the_workers_own() -> None:
    before, _ = decided(a_node_of(ADOPTED), attach(a_request(request_id="a")))
    reported = an_instance(numa_topology=OTHER_PINS, pci_devices=addresses_of(claims_of(before)["instance"]))
    node, _ = decided(before, the_audit([reported]))
    assert pins_of(claims_of(node)["instance"]) == {1: [12, 13]}


@pytest.mark.parametrize("assigned", [True, False])
def test_pins_of_another_size_are_those_reported(assigned: bool) -> None:
    claim = holding(a_claim(flavor=OLD), PINS, ["d1"], assigned=assigned)
    resized = an_instance(flavor=NEW, numa_topology=NEW_PINS, pci_devices=["d2"])
    node, decision = audited(a_node_of(claim), [resized])
    assert reasons(decision) == [("changed", "size_changed")]
    assert held(node) == {"instance": ({1: [12, 13, 14, 15]}, ["d2"])}


def test_devices_that_are_not_said_stay_when_the_size_changes() -> None:
    claim = holding(a_claim(flavor=OLD), PINS, ["d1"])
    node, decision = decided(a_node_of(claim), the_audit([an_instance(flavor=NEW, numa_topology=NEW_PINS)]))
    assert reasons(decision) == [("changed", "size_changed")]
    assert held(node) == {"instance": ({1: [12, 13, 14, 15]}, ["d1"])}


def test_plain_instance_gets_a_topology_and_devices_by_the_report_alone() -> None:
    node, decision = audited(a_node_of(a_claim()), [an_instance(numa_topology=PINS, pci_devices=["d1"])])
    assert reasons(decision) == [("changed", "topology_changed")]
    assert held(node) == {"instance": ({0: [2, 3]}, ["d1"])}


def test_functions_of_a_released_instance_give_back_their_parent() -> None:
    card = [a_device("pf", "type-PF"), a_vf("vf1")]
    node = a_numa_node(holding(a_claim(), devices=card[1:]), devices=card)
    assert statuses_of(node)["pf"] == "unavailable"
    node, _ = decided(node, a_report([], resources=host_resources(devices=card)))
    assert statuses_of(node) == {"pf": "available", "vf1": "available"}
