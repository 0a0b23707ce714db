# SPDX-License-Identifier: Apache-2.0
"""DESIGN section 8: whose word counts for pins and devices, the worker's or that of the facts."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import (
    BYSTANDER,
    MOVE,
    NODE,
    OTHER_MOVE,
    a_claim,
    a_flavor,
    a_migration,
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
    a_pinned_guest,
    a_port,
    a_request,
    a_vf,
    addresses_of,
    has,
    held,
    holding,
    host_resources,
    pins_of,
    statuses_of,
)
from tests.unit.domain.auditing import NEW, OLD, a_move, corrections, reasons
from tests.unit.domain.claiming import asks, attach, boot
from tracker_worker.domain.commands import Command
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.ledger import Claim, Node, Role
from tracker_worker.domain.node import Decision
from tracker_worker.domain.objects import Instance, Migration
from tracker_worker.domain.pci.pools import HeldDevice
from tracker_worker.domain.views import claim_view

DEVICES = [a_device(f"d{number}") for number in range(5)]
PINS, OTHER_PINS = a_pinned_guest({0: [2, 3]}), a_pinned_guest({1: [12, 13]})
NEW_PINS = a_pinned_guest({1: [12, 13, 14, 15]})
SOURCES_PINS = a_pinned_guest({0: [4, 5]})
"""Where the instance is on another node; here they are somebody else's cpus."""


def the_audit(instances: list[Instance], migrations: list[Migration] | None = None) -> Command:
    resources = host_resources(devices=DEVICES)
    return a_report(instances, migrations or [], resources=resources)


def a_node_of(*claims: Claim) -> Node:
    return a_numa_node(*claims, devices=DEVICES)


def audited(node: Node, *facts: Any) -> tuple[Node, Decision]:
    """What an audit makes of a node; a second one of the same facts finds nothing more."""
    after, decision = decided(node, the_audit(*facts))
    again, second = decided(after, the_audit(*facts))
    assert (second.outcome, second.changes, second.effects) == ("ignored", (), ())
    assert again.claims == after.claims
    return after, decision


# At home

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


# Guesses


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


# Moves

ARRIVING = an_instance(flavor=OLD, task_state="resize_finish", numa_topology=SOURCES_PINS, pci_devices=["d4"])
RESIZED = an_instance(flavor=NEW, vm_state="resized", numa_topology=NEW_PINS, pci_devices=["d2"])

TO_HERE = a_move(new_numa_topology=NEW_PINS, new_pci_devices=["d2"])
FROM_HERE = a_move(
    source_node=NODE, dest_node="elsewhere", old_numa_topology=PINS, old_pci_devices=["d1"], instance=RESIZED
)
SAME_NODE = a_move(
    source_node=NODE,
    old_numa_topology=PINS,
    old_pci_devices=["d1"],
    new_numa_topology=NEW_PINS,
    new_pci_devices=["d2"],
)


def decided_elsewhere(claim: Claim) -> Claim:
    """The claim as one that this worker did not choose."""
    devices = tuple(replace(device, tentative=True) for device in claim.pci_devices)
    return replace(claim, assigned=False, pci_devices=devices)


CAME = holding(a_claim("incoming", MOVE, NEW), a_pinned_guest({1: [14, 15, 12, 13]}), ["d3"])
"""What this worker chose for the move, whatever the migration says."""


@pytest.mark.parametrize(
    ("held_before", "wanted", "told"),
    [
        ((), ({1: [12, 13, 14, 15]}, ["d2"]), ("added", "instance_here")),
        ((CAME,), has(CAME), ("changed", "role_changed")),
        ((decided_elsewhere(CAME),), ({1: [12, 13, 14, 15]}, ["d2"]), ("changed", "role_changed")),
        ((replace(CAME, role=Role.INSTANCE),), has(CAME), None),
    ],
)
def test_instance_that_has_not_landed_is_not_believed(
    held_before: tuple[Claim, ...], wanted: Any, told: tuple[str, str] | None
) -> None:
    """Bug 1953359: it reports the source's cpus, here they are those of somebody else."""
    node, decision = audited(a_node_of(*held_before), [ARRIVING], [TO_HERE])
    assert held(node) == {"instance": wanted}
    assert reasons(decision) == ([told] if told else [])
    assert claims_of(node)["instance"].flavor.vcpus == 4


def test_instance_that_has_not_landed_and_of_which_nothing_is_known_here_has_nothing() -> None:
    node, _ = audited(a_node_of(), [ARRIVING], [a_move()])
    assert held(node) == {"instance": ({}, [])}


@pytest.mark.parametrize(
    ("held_before", "wanted"),
    [((), ({1: [12, 13, 14, 15]}, ["d2"])), ((CAME,), has(CAME))],
)
def test_instance_that_has_landed_is_believed_where_the_worker_knows_nothing(
    held_before: tuple[Claim, ...], wanted: Any
) -> None:
    node, _ = audited(a_node_of(*held_before), [RESIZED], [a_move()])
    assert held(node) == {"instance": wanted}


ROLE_CHANGES = {
    "has left for elsewhere": (
        (holding(a_claim(flavor=OLD), OTHER_PINS, ["d3"]),),
        [],
        [FROM_HERE],
        {"outgoing": ({1: [12, 13]}, ["d3"])},
    ),
    "has landed on its own node": (
        (holding(a_claim(flavor=OLD), PINS, ["d0"]), CAME),
        [RESIZED],
        [SAME_NODE],
        {"outgoing": ({0: [2, 3]}, ["d0"]), "instance": has(CAME)},
    ),
    "is back after a revert": (
        (holding(a_claim("outgoing", flavor=OLD), PINS, ["d0"]),),
        [an_instance(flavor=OLD, numa_topology=SOURCES_PINS, pci_devices=["d4"])],
        [],
        {"instance": ({0: [2, 3]}, ["d0"])},
    ),
    "is on its way back": (
        (holding(a_claim("outgoing", flavor=OLD), PINS, ["d0"]),),
        [],
        [replace(FROM_HERE, status="reverted", instance=replace(RESIZED, task_state="resize_reverting"))],
        {"outgoing": ({0: [2, 3]}, ["d0"])},
    ),
    "swaps its roles": (
        (
            holding(a_claim("outgoing", None, OLD), PINS, ["d0"]),
            replace(CAME, role=Role.INSTANCE),
        ),
        [an_instance(flavor=OLD, task_state="resize_prep")],
        [SAME_NODE],
        {"instance": ({0: [2, 3]}, ["d0"]), "incoming": has(CAME)},
    ),
}


@pytest.mark.parametrize(
    ("held_before", "instances", "migrations", "wanted"), ROLE_CHANGES.values(), ids=ROLE_CHANGES
)
def test_changed_role_keeps_pins_and_devices(
    held_before: tuple[Claim, ...], instances: list[Instance], migrations: list[Migration], wanted: Any
) -> None:
    node, _ = audited(a_node_of(*held_before), instances, migrations)
    assert held(node) == wanted


@pytest.mark.parametrize(
    ("instances", "migrations", "wanted"),
    [
        ([], [replace(TO_HERE, instance=ARRIVING)], {"incoming": ({1: [12, 13, 14, 15]}, ["d2"])}),
        ([], [FROM_HERE], {"outgoing": ({0: [2, 3]}, ["d1"])}),
        (
            [RESIZED],
            [SAME_NODE],
            {"instance": ({1: [12, 13, 14, 15]}, ["d2"]), "outgoing": ({0: [2, 3]}, ["d1"])},
        ),
        (
            [an_instance(flavor=OLD, task_state="resize_prep", numa_topology=PINS, pci_devices=["d1"])],
            [SAME_NODE],
            {"instance": ({0: [2, 3]}, ["d1"]), "incoming": ({1: [12, 13, 14, 15]}, ["d2"])},
        ),
    ],
)
def test_unseen_move_is_adopted_with_what_its_migration_says(
    instances: list[Instance], migrations: list[Migration], wanted: Any
) -> None:
    node, _ = audited(a_node_of(), instances, migrations)
    assert held(node) == wanted
    assert not any(claim.assigned for claim in claims_of(node).values())


@pytest.mark.parametrize("said", [None, ["d2"]])
def test_migration_that_does_not_say_its_devices_changes_none(said: list[str] | None) -> None:
    incoming = holding(a_claim("incoming", MOVE, NEW), NEW_PINS, ["d2"], assigned=False)
    migration = a_move(new_pci_devices=said, instance=replace(ARRIVING, task_state="resize_prep"))
    node, decision = audited(a_node_of(incoming), [], [migration])
    assert (held(node), reasons(decision)) == ({"incoming": has(incoming)}, [])


@pytest.mark.parametrize(("said", "wanted"), [(None, ["d2"]), (["d2"], ["d2"]), (["d3"], ["d3"])])
def test_landed_instance_that_was_adopted_follows_its_report(
    said: list[str] | None, wanted: list[str]
) -> None:
    claim = holding(a_claim("instance", MOVE, NEW), NEW_PINS, ["d2"], assigned=False)
    node, _ = audited(a_node_of(claim), [replace(RESIZED, pci_devices=said)], [a_move()])
    assert held(node) == {"instance": ({1: [12, 13, 14, 15]}, wanted)}
    assert claims_of(node)["instance"].migration_uuid == MOVE


@pytest.mark.parametrize(("said", "wanted"), [(None, ["d1"]), (["d1"], ["d1"]), (["d3"], ["d3"])])
def test_leaving_instance_that_was_adopted_follows_its_migration(
    said: list[str] | None, wanted: list[str]
) -> None:
    claim = holding(a_claim("outgoing", None, OLD), PINS, ["d1"], assigned=False)
    node, _ = audited(a_node_of(claim), [], [replace(FROM_HERE, old_pci_devices=said)])
    assert held(node) == {"outgoing": ({0: [2, 3]}, wanted)}


def test_claim_of_another_move_has_other_pins() -> None:
    other = replace(CAME, migration_uuid=OTHER_MOVE)
    node, decision = audited(a_node_of(other), [], [replace(TO_HERE, instance=ARRIVING)])
    assert reasons(decision) == [("changed", "migration_changed")]
    assert held(node) == {"incoming": ({1: [12, 13, 14, 15]}, ["d2"])}


@pytest.mark.parametrize("updated_at", [None, datetime(2030, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("stale", [TO_HERE, replace(TO_HERE, type="live-migration")])
def test_stale_migration_to_here_cannot_move_the_pins_of_an_instance_that_leaves(
    updated_at: datetime | None, stale: Migration
) -> None:
    """Hazard 2 of the Nova inventory: there the audit dies of pins that the instance never had."""
    here = holding(a_claim(), PINS, DEVICES[1:2])
    bystander = holding(a_claim(uuid=BYSTANDER), OTHER_PINS)
    leaving = an_instance(task_state="migrating", numa_topology=PINS, pci_devices=["d1"])
    away = a_migration(
        OTHER_MOVE,
        type="live-migration",
        source_node=NODE,
        dest_node="elsewhere",
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    error = replace(stale, status="error", current=False, updated_at=updated_at)
    other = an_instance(BYSTANDER, numa_topology=OTHER_PINS)
    node, decision = audited(a_node_of(here, bystander), [leaving, other], [error, away])
    assert decision.effects == ()
    assert claims_of(node) == {"instance": replace(here, task_state="migrating")}
    assert claims_of(node, BYSTANDER) == {"instance": bystander}


# Devices that were claimed alone


def devices_alone() -> tuple[Node, Claim]:
    node, decision = decided(a_node_of(), attach(a_port(dev_type="type-PCI")))
    assert decision.claim is not None
    return node, decision.claim


LIVE = an_instance(task_state="migrating", pci_devices=["far"])
LIVE_MOVE = a_migration(type="live-migration", instance=LIVE)


@pytest.mark.parametrize(
    ("instances", "migrations", "role", "told"),
    [
        ([], [LIVE_MOVE], "incoming", "size_changed"),
        ([an_instance(pci_devices=["d0"])], [], "instance", "role_changed"),
        ([an_instance(pci_devices=["far"])], [], "instance", "role_changed"),
    ],
)
def test_devices_that_were_claimed_alone_go_to_the_move_that_the_audit_finds(
    instances: list[Instance], migrations: list[Migration], role: str, told: str
) -> None:
    node, claim = devices_alone()
    after, decision = audited(node, instances, migrations)
    assert reasons(decision) == [("changed", told)]
    assert claims_of(after)[role].pci_devices == claim.pci_devices
    assert claims_of(after)[role].flavor == a_flavor()


def test_devices_that_were_claimed_alone_for_a_move_that_is_no_more_are_freed() -> None:
    node, _ = devices_alone()
    after, decision = audited(node, [])
    assert (claims_of(after), reasons(decision)) == ({}, [("released", "not_here")])
    assert set(statuses_of(after).values()) == {"available"}


def test_functions_of_a_released_instance_give_back_their_parent() -> None:
    card = [a_device("pf", "type-PF"), a_vf("vf1")]
    node = a_numa_node(holding(a_claim(), devices=card[1:]), devices=card)
    assert statuses_of(node)["pf"] == "unavailable"
    node, _ = decided(node, a_report([], resources=host_resources(devices=card)))
    assert statuses_of(node) == {"pf": "available", "vf1": "available"}
