# SPDX-License-Identifier: Apache-2.0
"""Devices that come and go while an instance stays: SR-IOV attach and detach, live migration."""

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    MOVE,
    OTHER_MOVE,
    a_claim,
    a_flavor,
    a_migration,
    a_node,
    an_instance,
    claims_of,
    command,
    decided,
)
from tests.topologies import (
    a_card,
    a_device,
    a_guest,
    a_host,
    a_numa_node,
    a_pinned_guest,
    a_port,
    a_request,
    addresses_of,
    holding,
    host_resources,
    pins_of,
    placed,
    statuses_of,
)
from tests.unit.domain.claiming import EVERY_CLAIM, PCI, asks, attach, boot, granted, refused, the_claim
from tracker_worker.domain.commands import Command
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.ledger import Claim, Node, NodeRemoved, assert_sum, evolve
from tracker_worker.domain.objects import PciDevice, PciRequest
from tracker_worker.domain.pci.pools import HeldDevice

CARD = a_card("pf", ("vf1", "vf2", "vf3"))
HERE = a_claim()
COMING = a_claim("incoming", MOVE)
LEAVING = a_claim("outgoing")


def allocate(*addresses: str) -> Command:
    return command("allocate_pci_devices", instance_uuid=INSTANCE, addresses=list(addresses) or None)


def free(*addresses: str) -> Command:
    return command("unclaim_pci_devices", instance_uuid=INSTANCE, addresses=list(addresses) or None)


def moves_here(method: str, *requests: PciRequest, migration: str = MOVE) -> Command:
    moving = a_migration(migration)
    return asks(method, a_flavor(), migration=moving, pci_requests=list(requests))


def decided_elsewhere(
    method: str, *requests: PciRequest, carries: Iterable[str] = (), migration: str = MOVE
) -> Command:
    """A claim that brings these devices."""
    instance = an_instance(pci_devices=list(carries), pci_requests=list(requests))
    if method == "instance_claim":
        return asks(method, a_flavor(), instance, decided=True)
    move = a_migration(migration, new_pci_devices=list(carries))
    return asks(method, a_flavor(), instance, migration=move, decided=True)


def landed(migration: str | None = MOVE, **of: Any) -> Command:
    return command("finish_move", instance=an_instance(**of), migration_uuid=migration)


def applied(node: Node, *commands: Command) -> Node:
    """The node after commands that are no claims, each of which has to change it."""
    for each in commands:
        node, decision = decided(node, each)
        assert (decision.outcome, decision.reason) == ("applied", None)
        assert_sum(node)
    return node


def devices_by_role(node: Node) -> dict[str, list[str]]:
    """The addresses that each claim of the instance has."""
    return {role: addresses_of(claim) for role, claim in claims_of(node).items()}


# Claimed


@pytest.mark.parametrize(
    ("held", "role"),
    [
        ((HERE,), "instance"),
        ((COMING,), "incoming"),
        ((HERE, COMING), "incoming"),
        ((HERE, LEAVING), "instance"),
        ((COMING, LEAVING), "incoming"),
        ((LEAVING,), "incoming"),
        ((), "incoming"),
    ],
)
def test_devices_are_for_what_comes_in_before_what_is_here(held: tuple[Claim, ...], role: str) -> None:
    before = a_numa_node(*held, devices=CARD)
    node = granted(before, attach())
    claims = claims_of(node)
    assert claims[role].pci_devices == (HeldDevice("vf3", False, "port-1", CARD[3]),)
    assert [each for each, claim in claims.items() if claim.pci_devices] == [role]
    assert node.used == before.used
    assert statuses_of(node) == {
        "pf": "unclaimable",
        "vf1": "available",
        "vf2": "available",
        "vf3": "claimed",
    }


def test_what_the_claim_had_stays() -> None:
    held = holding(HERE, a_pinned_guest({0: [2, 3]}), ["d1"])
    node = granted(a_numa_node(held, devices=[*CARD, a_device("d1")]), attach())
    claim = claims_of(node)["instance"]
    taken = HeldDevice("vf3", False, "port-1", CARD[3])
    assert claim == replace(held, pci_devices=(HeldDevice("d1", device=a_device("d1")), taken))


def test_devices_without_a_claim_hold_nothing_else() -> None:
    node = granted(a_numa_node(devices=CARD), attach())
    claim = the_claim(node)
    assert claim.devices_only
    assert (claim.amounts, claim.migration_uuid, claim.numa_topology) == (Amounts(), None, None)
    assert node.used == Amounts(memory_mb=512)


@pytest.mark.parametrize("held", [(HERE,), (COMING,), ()])
def test_devices_of_a_request_are_claimed_once(held: tuple[Claim, ...]) -> None:
    asked = attach(a_port("a"), a_port("b"))
    once, first = decided(a_numa_node(*held, devices=CARD), asked)
    twice, second = decided(once, asked)
    assert (second.outcome, second.claim, second.changes) == ("granted", first.claim, ())
    assert twice.claims == once.claims


def test_only_requests_that_have_no_devices_yet_get_some() -> None:
    node = granted(a_numa_node(HERE, devices=CARD), attach(a_port("a")), attach(a_port("a"), a_port("b")))
    devices = claims_of(node)["instance"].pci_devices
    assert [(device.address, device.request_id) for device in devices] == [("vf3", "a"), ("vf2", "b")]


def test_request_without_an_id_is_the_same_when_it_asks_for_the_same() -> None:
    node = a_numa_node(holding(HERE, devices=["d1"]), devices=CARD)
    two_alike, another = attach(a_request(), a_request()), attach(a_request(dev_type="type-VF"))
    node = granted(node, attach(a_request()), attach(a_request()))
    assert devices_by_role(node) == {"instance": ["d1", "vf3"]}
    node = granted(node, two_alike, two_alike)
    assert devices_by_role(node) == {"instance": ["d1", "vf3", "vf2"]}
    node = granted(node, another, two_alike, another)
    assert devices_by_role(node) == {"instance": ["d1", "vf3", "vf2", "vf1"]}


def test_devices_of_the_flavor_are_not_those_of_an_attachment_that_asks_for_the_same() -> None:
    held = holding(HERE, devices=["vf1"], requests=[a_request()])
    node = granted(a_numa_node(held, devices=CARD), attach(a_request()))
    assert devices_by_role(node) == {"instance": ["vf1", "vf3"]}


def test_request_that_has_some_of_its_devices_gets_the_rest() -> None:
    node = granted(a_numa_node(HERE, devices=CARD), attach(a_request(2, "a")))
    assert devices_by_role(node) == {"instance": ["vf3", "vf2"]}
    node = applied(node, free("vf3"))
    node = granted(node, attach(a_request(2, "a")))
    assert devices_by_role(node) == {"instance": ["vf2", "vf3"]}
    assert refused(node, attach(a_request(4, "a"))) == PCI
    node = granted(node, attach(a_request(3, "a")), attach(a_request(1, "a")))
    assert devices_by_role(node) == {"instance": ["vf2", "vf3", "vf1"]}


def test_nothing_asked_for_is_granted_to_whoever_has_a_claim() -> None:
    nothing = command("claim_pci_devices", instance_uuid=INSTANCE, pci_requests=[])
    node = a_numa_node(HERE)
    _, decision = decided(node, nothing)
    assert (decision.claim, decision.changes) == (claims_of(node)["instance"], ())
    assert refused(a_numa_node(), nothing) == PCI


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [
        ([a_port("a", dev_type="type-PF")], ["pf"]),
        ([a_port("a"), a_port("b")], ["vf3", "vf2"]),
        ([a_request(3, "a")], ["vf3", "vf2", "vf1"]),
        ([a_request(4, "a")], None),
        ([a_port("a"), a_port("b", dev_type="type-PF")], None),
        ([a_port("a", vendor_id="none")], None),
        ([a_port("a"), a_port("b", vendor_id="none")], None),
    ],
)
def test_all_devices_are_claimed_or_none(requests: list[PciRequest], wanted: list[str] | None) -> None:
    node = a_numa_node(HERE, devices=CARD)
    if wanted is None:
        assert refused(node, attach(*requests)) == PCI
    else:
        assert devices_by_role(granted(node, attach(*requests))) == {"instance": wanted}


@pytest.mark.parametrize("held", [["vf1", "vf2", "vf3"], ["pf"]])
def test_devices_that_somebody_has_are_not_claimed(held: list[str]) -> None:
    node = a_numa_node(holding(a_claim(uuid=BYSTANDER), devices=held), devices=CARD)
    assert refused(node, attach()) == PCI


def test_unavailable_node_claims_no_more_devices() -> None:
    node = granted(a_numa_node(HERE, devices=CARD), attach())
    off = a_node(*claims_of(node).values(), resources=host_resources(devices=CARD, available=False))
    assert refused(off, attach(a_port("port-2"))) == "Node node-1 is not available"
    _, decision = decided(off, attach())
    assert (decision.outcome, decision.changes) == ("granted", ())


@pytest.mark.parametrize("node", [Node("node-1"), evolve(a_node(), [NodeRemoved()])], ids=["unknown", "gone"])
def test_node_that_is_not_tracked_claims_no_devices(node: Node) -> None:
    assert refused(node, attach()) == "Node node-1 is not tracked"


ON_CELLS = [a_device("on0", numa_node=0), a_device("on1", numa_node=1), a_device("unknown")]
NEAR = a_request(request_id="near", policy="required")


@pytest.mark.parametrize(
    ("own", "sent", "wanted"),
    [
        (None, None, "on0"),
        (a_pinned_guest({1: [12, 13]}), None, "on1"),
        (None, a_pinned_guest({1: [12, 13]}), "on1"),
        (a_pinned_guest({0: [2, 3]}), placed(a_guest(policy="shared"), {1: []}), "on1"),
        (a_pinned_guest({9: [2, 3]}), None, None),
    ],
)
def test_devices_are_near_the_topology_that_is_sent_or_else_held(own: Any, sent: Any, wanted: str) -> None:
    node = a_numa_node(holding(HERE, own), host=a_host(2), devices=ON_CELLS)
    asked = attach(NEAR, numa_topology=sent)
    if wanted is None:
        assert refused(node, asked) == PCI
    else:
        assert devices_by_role(granted(node, asked)) == {"instance": [wanted]}


def test_devices_without_a_claim_are_near_the_topology_that_is_sent() -> None:
    node = a_numa_node(devices=ON_CELLS)
    node = granted(node, attach(NEAR, numa_topology=a_pinned_guest({1: [12, 13]})))
    assert devices_by_role(node) == {"incoming": ["on1"]}


def test_device_for_a_resource_class_is_a_guess() -> None:
    node = a_numa_node(HERE, devices=[a_device("d1"), a_device("d2")])
    node = granted(node, attach(a_request(request_id="a", resource_class="CUSTOM_GPU"), a_request()))
    assert [device.tentative for device in claims_of(node)["instance"].pci_devices] == [True, False]


# Allocated


def held_by_role() -> tuple[Claim, ...]:
    """Two claimed and one allocated device here, another one that comes in."""
    claimed = [HeldDevice(address, False, address) for address in ("a1", "a2")]
    return (
        holding(HERE, devices=[*claimed, "b1"]),
        holding(COMING, devices=[HeldDevice("c1", False)]),
        holding(a_claim(uuid=BYSTANDER), devices=[HeldDevice("z1", False)]),
    )


def allocated_in(node: Node) -> list[str]:
    return sorted(address for address, status in statuses_of(node).items() if status == "allocated")


@pytest.mark.parametrize(
    ("addresses", "allocated"),
    [
        ((), ["a1", "a2", "b1", "c1"]),
        (("a1",), ["a1", "b1"]),
        (("a2", "c1"), ["a2", "b1", "c1"]),
        (("a1", "z1", "x"), ["a1", "b1"]),
    ],
)
def test_claimed_devices_become_allocated(addresses: tuple[str, ...], allocated: list[str]) -> None:
    before = a_numa_node(*held_by_role())
    node = applied(before, allocate(*addresses))
    assert allocated_in(node) == allocated
    assert statuses_of(node).keys() == statuses_of(before).keys()
    _, again = decided(node, allocate(*addresses))
    assert (again.outcome, again.changes) == ("ignored", ())


@pytest.mark.parametrize("addresses", [("b1",), ("z1",), ("x",)])
def test_nothing_claimed_is_nothing_to_allocate(addresses: tuple[str, ...]) -> None:
    _, decision = decided(a_numa_node(*held_by_role()), allocate(*addresses))
    assert (decision.outcome, decision.changes) == ("ignored", ())


def test_allocation_keeps_everything_else_of_a_device() -> None:
    node = granted(a_numa_node(HERE, devices=CARD), attach())
    (before,) = claims_of(node)["instance"].pci_devices
    (after,) = claims_of(applied(node, allocate()))["instance"].pci_devices
    assert after == replace(before, allocated=True)


def test_claims_that_have_nothing_to_allocate_are_left_alone() -> None:
    _, decision = decided(a_numa_node(*held_by_role()), allocate("c1"))
    assert [change.claim.role for change in decision.changes] == ["incoming"]


# Freed


@pytest.mark.parametrize(
    ("addresses", "left"),
    [
        ((), {"instance": [], "incoming": []}),
        (("a1",), {"instance": ["a2", "b1"], "incoming": ["c1"]}),
        (("b1", "c1"), {"instance": ["a1", "a2"], "incoming": []}),
        (("a2", "z1", "x"), {"instance": ["a1", "b1"], "incoming": ["c1"]}),
    ],
)
def test_freed_devices_leave_the_claims_of_their_instance(
    addresses: tuple[str, ...], left: dict[str, list[str]]
) -> None:
    before = a_numa_node(*held_by_role())
    node = applied(before, free(*addresses))
    assert devices_by_role(node) == left
    assert (node.used, statuses_of(node)["z1"]) == (before.used, "claimed")
    _, again = decided(node, free(*addresses))
    assert (again.outcome, again.changes) == ("ignored", ())


@pytest.mark.parametrize("addresses", [("z1",), ("x",)])
def test_device_that_the_instance_has_not_is_not_freed(addresses: tuple[str, ...]) -> None:
    _, decision = decided(a_numa_node(*held_by_role()), free(*addresses))
    assert (decision.outcome, decision.changes) == ("ignored", ())


def test_freed_devices_are_free_for_others_and_the_cpus_are_not() -> None:
    held = holding(HERE, a_pinned_guest({0: [2, 3]}), ["vf1"])
    node = applied(a_numa_node(held, devices=CARD), free("vf1"))
    assert pins_of(claims_of(node)["instance"]) == {0: [2, 3]}
    assert set(statuses_of(node).values()) == {"available"}


@pytest.mark.parametrize(
    ("addresses", "left"),
    [((), None), (("vf3", "vf2"), None), (("vf3",), ["vf2"]), (("x",), ["vf3", "vf2"])],
)
def test_claim_of_devices_alone_goes_with_its_last_device(
    addresses: tuple[str, ...], left: list[str] | None
) -> None:
    node = granted(a_numa_node(devices=CARD), attach(a_port("a"), a_port("b")))
    node, _ = decided(node, free(*addresses))
    assert devices_by_role(node) == ({} if left is None else {"incoming": left})


# The move that devices alone were claimed for


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
