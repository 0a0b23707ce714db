# SPDX-License-Identifier: Apache-2.0
"""Audits: which pins and devices of an instance that moves are kept, the worker's or the reported ones."""

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
    an_instance,
    claims_of,
    decided,
)
from tests.topologies import (
    a_pinned_guest,
    a_port,
    has,
    held,
    holding,
    statuses_of,
)
from tests.unit.domain.auditing import (
    DEVICES,
    NEW,
    NEW_PINS,
    OLD,
    OTHER_PINS,
    PINS,
    a_move,
    a_node_of,
    audited,
    reasons,
)
from tests.unit.domain.claiming import attach
from tracker_worker.domain.held_claims import Claim, Role
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Instance, Migration

SOURCES_PINS = a_pinned_guest({0: [4, 5]})
"""Where the instance is on another node; here they are somebody else's cpus."""

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
