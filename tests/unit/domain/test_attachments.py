# SPDX-License-Identifier: Apache-2.0
"""Devices that come and go while an instance stays: SR-IOV attach and detach, live migration."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    a_claim,
    a_node,
    claims_of,
    command,
    decided,
)
from tests.topologies import (
    a_device,
    a_guest,
    a_host,
    a_numa_node,
    a_pinned_guest,
    a_port,
    a_request,
    holding,
    host_resources,
    pins_of,
    placed,
    statuses_of,
)
from tests.unit.domain.attaching import (
    CARD,
    COMING,
    HERE,
    LEAVING,
    allocate,
    allocated_in,
    applied,
    devices_by_role,
    free,
)
from tests.unit.domain.claiming import PCI, attach, granted, refused, the_claim
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import ClaimPut, Node, NodeRemoved, evolve
from tracker_worker.domain.objects import PciRequest
from tracker_worker.domain.pci.pools import HeldDevice

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
def test_devices_are_near_the_topology_that_is_sent_or_else_held(
    own: Any, sent: Any, wanted: str | None
) -> None:
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
    assert [change.claim.role for change in decision.changes if isinstance(change, ClaimPut)] == ["incoming"]
    assert len(decision.changes) == 1


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


# Taken by another tracker


def taken(*addresses: str, requests: tuple[PciRequest, ...] = ()) -> AnyCommand:
    """A command that records devices which another tracker has taken."""
    return attach(*requests, pci_devices=list(addresses))


def devices_of_claim(node: Node) -> list[HeldDevice]:
    """The devices of the instance's only claim, without their copies."""
    return [replace(device, device=None) for device in the_claim(node).pci_devices]


def test_devices_taken_elsewhere_are_recorded_as_sent_and_an_audit_may_replace_them() -> None:
    node = granted(a_numa_node(HERE, devices=CARD), taken("vf1"))
    assert devices_of_claim(node) == [HeldDevice("vf1", False, a_port().request_id, tentative=True)]
    assert statuses_of(node)["vf1"] == "claimed"


def test_devices_taken_elsewhere_take_the_place_of_those_of_the_same_request() -> None:
    had = HeldDevice("vf3", True, a_port().request_id)
    other = HeldDevice("vf2", True, "another")
    node = granted(a_numa_node(replace(HERE, pci_devices=(had, other)), devices=CARD), taken("vf1"))
    assert devices_of_claim(node) == [other, HeldDevice("vf1", True, a_port().request_id, tentative=True)]


def test_device_taken_elsewhere_that_is_not_free_here_is_recorded_with_a_conflict() -> None:
    of_another = a_claim(uuid=BYSTANDER)
    node = a_numa_node(HERE, replace(of_another, pci_devices=(HeldDevice("vf1"),)), devices=CARD)
    node, decision = decided(node, taken("vf1"))
    assert decision.outcome == "granted"
    assert [type(effect).__name__ for effect in decision.effects] == ["Audited"]


@pytest.mark.parametrize("addresses", [(), ("vf1", "vf2")])
def test_devices_taken_elsewhere_may_be_fewer_or_more_than_were_requested(addresses: tuple[str, ...]) -> None:
    node = granted(a_numa_node(HERE, devices=CARD), taken(*addresses))
    assert [device.address for device in the_claim(node).pci_devices] == list(addresses)


@pytest.mark.parametrize("granted_before", [True, False])
def test_devices_alone_of_which_none_was_taken_elsewhere_leave_no_claim(granted_before: bool) -> None:
    """After a call for devices without an answer, which may have been granted, or not have been received."""
    node = a_numa_node(devices=CARD)
    if granted_before:
        node = granted(node, attach(a_port()))
    node, decision = decided(node, taken())
    assert decision.outcome == "granted"
    assert not node.claims
    assert set(statuses_of(node).values()) == {"available"}


def test_claim_keeps_what_it_has_where_no_device_was_taken_elsewhere() -> None:
    node = granted(a_numa_node(COMING, devices=CARD), attach(a_port()))
    assert devices_by_role(granted(node, taken())) == {"incoming": []}
