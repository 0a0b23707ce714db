# SPDX-License-Identifier: Apache-2.0
"""What was attached, or was claimed alone for a move to come, when claims come, go and become others."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.builders import (
    INSTANCE,
    MOVE,
    OTHER_MOVE,
    a_claim,
    a_flavor,
    a_migration,
    an_instance,
    claims_of,
    command,
    decided,
)
from tests.topologies import (
    a_card,
    a_numa_node,
    a_port,
    holding,
    statuses_of,
)
from tests.unit.domain.attaching import CARD, HERE, LEAVING, allocate, allocated_in, applied, devices_by_role
from tests.unit.domain.claiming import EVERY_CLAIM, PCI, asks, attach, boot, granted, refused
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import PciDevice, PciRequest


def moves_here(method: str, *requests: PciRequest, migration: str = MOVE) -> AnyCommand:
    moving = a_migration(migration)
    return asks(method, a_flavor(), migration=moving, pci_requests=list(requests))


def decided_elsewhere(
    method: str, *requests: PciRequest, carries: Iterable[str] = (), migration: str = MOVE
) -> AnyCommand:
    """A claim that brings these devices."""
    instance = an_instance(pci_devices=list(carries), pci_requests=list(requests))
    if method == "instance_claim":
        return asks(method, a_flavor(), instance, decided=True)
    move = a_migration(migration, new_pci_devices=list(carries))
    return asks(method, a_flavor(), instance, migration=move, decided=True)


def landed(migration: str | None = MOVE, **of: Any) -> AnyCommand:
    return command("finish_move", instance=an_instance(**of), migration_uuid=migration)


def with_devices_alone(*held: Claim) -> Node:
    """A node that has claimed a device for a live migration to come."""
    elsewhere = granted(a_numa_node(devices=CARD), attach())
    return a_numa_node(*held, *claims_of(elsewhere).values(), devices=CARD)


@pytest.mark.parametrize("migration", [MOVE, None])
def test_landing_takes_the_devices_that_were_claimed_alone(migration: str | None) -> None:
    node = applied(with_devices_alone(), allocate(), landed(migration, pci_devices=["at the source"]))
    claim = claims_of(node)["instance"]
    assert devices_by_role(node) == {"instance": ["vf3"]}
    assert (claim.migration_uuid, claim.assigned, claim.flavor) == (migration, False, a_flavor())
    assert allocated_in(node) == ["vf3"]


@pytest.mark.parametrize(
    ("held", "left"),
    [
        ((holding(HERE, devices=["d1"]),), {"instance": ["d1", "vf3"]}),
        ((holding(a_claim("instance", MOVE), devices=["d1"]),), {"instance": ["d1", "vf3"]}),
        (
            (holding(HERE, devices=["d1"]), holding(LEAVING, devices=["d2"])),
            {"outgoing": ["d2"], "instance": ["d1", "vf3"]},
        ),
        ((holding(LEAVING, devices=["d2"]),), {"outgoing": ["d2"], "instance": ["vf3"]}),
    ],
)
def test_landing_adds_devices_to_those_of_what_is_here(
    held: tuple[Claim, ...], left: dict[str, list[str]]
) -> None:
    node = applied(with_devices_alone(*held), landed())
    assert devices_by_role(node) == left
    _, again = decided(node, landed())
    assert (again.outcome, again.changes) == ("ignored", ())


def test_landing_where_nothing_else_changes_takes_the_states() -> None:
    node = applied(with_devices_alone(HERE), landed(None, vm_state="paused"))
    assert claims_of(node)["instance"].vm_state == "paused"


def test_late_landing_of_devices_alone_takes_the_states_and_keeps_the_size() -> None:
    """The instance has left again: what is here is of another move, and its size stays."""
    node = applied(with_devices_alone(HERE, LEAVING), landed(vm_state="paused", flavor=a_flavor(3, 300, 3)))
    claim = claims_of(node)["instance"]
    assert (claim.vm_state, claim.flavor) == ("paused", HERE.flavor)
    assert claim.migration_uuid == HERE.migration_uuid
    assert devices_by_role(node) == {"instance": ["vf3"], "outgoing": []}


@pytest.mark.parametrize("decided_elsewhere", [False, True])
def test_live_migration_keeps_the_devices_that_were_claimed_before_its_room(decided_elsewhere: bool) -> None:
    """The claim of devices alone is that of a move to come: when it comes, they are its."""
    asked = asks("live_migration_claim", a_flavor(), decided=decided_elsewhere)
    node = granted(with_devices_alone(), asked)
    assert devices_by_role(node) == {"incoming": ["vf3"]}


def test_move_that_brings_devices_of_its_own_has_both() -> None:
    node = granted(with_devices_alone(), moves_here("resize_claim", a_port("b")))
    assert devices_by_role(node) == {"incoming": ["vf3", "vf2"]}


@pytest.mark.parametrize("method", ["resize_claim", "rebuild_claim", "live_migration_claim"])
@pytest.mark.parametrize("devices", [CARD, a_card("pf", ("vf3",))], ids=["more are free", "none is left"])
def test_move_for_a_port_that_has_its_device_takes_no_other(method: str, devices: list[PciDevice]) -> None:
    node = granted(a_numa_node(devices=devices), attach())
    room = moves_here(method, a_port())
    node = granted(node, room, attach(), room)
    assert devices_by_role(node) == {"incoming": ["vf3"]}
    assert claims_of(node)["incoming"].pci_requests == (a_port(),)


@pytest.mark.parametrize("requests", [[], [a_port("b")], [a_port("a"), a_port("b")]])
def test_live_migration_that_asks_for_other_devices_keeps_those_that_were_claimed_for_it(
    requests: list[PciRequest],
) -> None:
    live = "live_migration_claim"
    node = granted(a_numa_node(devices=CARD), moves_here(live, a_port("a")), attach(a_port("a")))
    node = granted(node, moves_here(live, *requests))
    assert devices_by_role(node) == {"incoming": ["vf3"]}
    assert claims_of(node)["incoming"].pci_requests == tuple(requests)


def test_live_migration_is_tested_with_the_devices_that_it_keeps() -> None:
    live = "live_migration_claim"
    card = a_card("pf", ("vf1",))
    node = granted(a_numa_node(devices=card), moves_here(live, a_port("a")), attach(a_port("a")))
    assert refused(node, moves_here(live, a_port("a"), a_port("b"))) == PCI


def test_another_live_migration_does_not_get_the_devices_of_the_one_before() -> None:
    live = "live_migration_claim"
    node = granted(a_numa_node(devices=CARD), moves_here(live, a_port("a")), attach(a_port("a")))
    node = granted(node, moves_here(live, a_port("b"), migration=OTHER_MOVE))
    assert devices_by_role(node) == {"incoming": []}


@pytest.mark.parametrize("method", ["resize_claim", "rebuild_claim"])
def test_move_that_becomes_another_keeps_what_was_attached_to_it(method: str) -> None:
    node = granted(a_numa_node(devices=CARD), moves_here(method, a_port("a")), attach(a_port("b")))
    node = granted(node, moves_here(method, a_port("c")))
    assert devices_by_role(node) == {"incoming": ["vf2", "vf3"]}
    node = granted(node, moves_here(method))
    assert devices_by_role(node) == {"incoming": ["vf2"]}


def test_boot_that_becomes_another_keeps_what_was_attached() -> None:
    own = boot(a_flavor(), pci_requests=[a_port("a")])
    node = granted(a_numa_node(devices=CARD), own, attach(a_port("b")))
    node = granted(node, boot(a_flavor(), pci_requests=[a_port("a"), a_port("b")]))
    devices = claims_of(node)["instance"].pci_devices
    assert [(device.address, device.request_id) for device in devices] == [("vf2", "b"), ("vf3", "a")]


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("carried", [[], ["vf1"], ["vf1", "vf3"]])
def test_decided_claim_that_comes_again_keeps_what_was_attached(method: str, carried: list[str]) -> None:
    asked = decided_elsewhere(method, a_port(), carries=carried)
    node = granted(a_numa_node(devices=CARD), asked, attach(a_port()))
    (before,) = claims_of(node).values()
    _, decision = decided(node, asked)
    assert (decision.claim, decision.changes) == (before, ())


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_decided_claim_that_becomes_another_keeps_what_was_attached_and_not_what_it_had(method: str) -> None:
    node = granted(a_numa_node(devices=CARD), decided_elsewhere(method, carries=["vf1"]), attach(a_port("b")))
    node = granted(node, decided_elsewhere(method, a_port("c"), carries=["vf2"]))
    (addresses,) = devices_by_role(node).values()
    assert sorted(addresses) == ["vf2", "vf3"]


def test_decided_live_migration_keeps_the_devices_that_were_claimed_before_it_however_often_it_comes() -> (
    None
):
    asked = decided_elsewhere("live_migration_claim")
    node = granted(with_devices_alone(), asked, asked)
    assert devices_by_role(node) == {"incoming": ["vf3"]}


def test_another_decided_live_migration_does_not_get_the_devices_of_the_one_before() -> None:
    node = granted(a_numa_node(devices=CARD), decided_elsewhere("live_migration_claim"), attach())
    node = granted(node, decided_elsewhere("live_migration_claim", migration=OTHER_MOVE))
    assert devices_by_role(node) == {"incoming": []}


def test_device_that_a_move_carries_and_that_was_claimed_alone_is_one() -> None:
    migration = a_migration(new_pci_devices=["vf3", "vf1"])
    asked = asks("live_migration_claim", a_flavor(), migration=migration, decided=True)
    node = granted(with_devices_alone(), asked)
    assert devices_by_role(node) == {"incoming": ["vf3", "vf1"]}


def test_live_migration_claims_its_devices_after_its_room() -> None:
    """Nova's order: MoveClaim, then claim_pci_devices, allocate, landing."""
    room = moves_here("live_migration_claim", a_port())
    node = granted(a_numa_node(devices=CARD), room, attach(), room)
    assert devices_by_role(node) == {"incoming": ["vf3"]}
    node = applied(node, allocate(), landed())
    assert devices_by_role(node) == {"instance": ["vf3"]}
    assert allocated_in(node) == ["vf3"]


@pytest.mark.parametrize(("migration", "left"), [(None, {}), (OTHER_MOVE, {"incoming": ["vf3"]})])
def test_roll_back_without_a_migration_frees_devices_alone(
    migration: str | None, left: dict[str, list[str]]
) -> None:
    asked = command("drop_move_claim", instance_uuid=INSTANCE, migration_uuid=migration)
    node, _ = decided(with_devices_alone(), asked)
    assert devices_by_role(node) == left


def test_deleted_instance_leaves_no_device() -> None:
    node = with_devices_alone(holding(HERE, devices=["d1"]))
    node = applied(node, command("update_usage", instance=an_instance(vm_state="deleted")))
    assert (claims_of(node), set(statuses_of(node).values())) == ({}, {"available"})
