# SPDX-License-Identifier: Apache-2.0
"""Requests for devices: which devices suit, which of those are near enough, which of those are taken.

Source: nova.pci.stats.PciDeviceStats and nova.pci.utils.pci_device_prop_match (34.0).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from tests.topologies import a_card, a_device, a_request, a_vf
from tracker_worker.domain.objects import PciDevice, PciRequest
from tracker_worker.domain.pci.pools import HeldDevice, tracked_devices
from tracker_worker.domain.pci.requests import Affinity, choose, taken_for, unmet, with_ids

TAGGED = a_device(
    "0000:81:00.1",
    "type-VF",
    vendor_id="8086",
    product_id="154C",
    numa_node=1,
    parent_addr="0000:81:00.0",
    label="label_8086_154c",
    tags={"physical_network": "Net1", "trusted": "true", "nothing": None, "product_id": "tagged"},
)
SOCKETS = {0: 0, 1: 0, 2: 1, 3: 1}


def chosen(
    devices: Iterable[PciDevice],
    *requests: PciRequest,
    cells: Iterable[int] | None = None,
    sockets: Mapping[int, int | None] = SOCKETS,
    held: Iterable[str] = (),
) -> list[str] | None:
    """The addresses that are chosen for a guest on these cells, anywhere without."""
    tracked = tracked_devices(devices, [("someone", HeldDevice(address)) for address in held])
    affinity = None if cells is None else Affinity(frozenset(cells), sockets)
    devices_chosen = choose(tracked, requests, affinity)
    return None if devices_chosen is None else [device.address for device in devices_chosen]


def suits(device: PciDevice, *specs: dict[str, Any]) -> bool:
    return chosen([device], PciRequest(1, list(specs))) == [device.address]


@pytest.mark.parametrize(
    ("spec", "matches"),
    [
        ({}, True),
        ({"vendor_id": "8086"}, True),
        ({"vendor_id": "15b3"}, False),
        ({"dev_type": "type-VF", "vendor_id": "8086"}, True),
        ({"dev_type": "type-PCI", "vendor_id": "8086"}, False),
        ({"address": "0000:81:00.1"}, True),
        ({"parent_addr": "0000:81:00.0"}, True),
        ({"numa_node": 1}, True),
        ({"numa_node": 0}, False),
        ({"numa_node": "1"}, False),
        ({"label": "label_8086_154c"}, True),
        ({"physical_network": "Net1"}, True),
        ({"physical_network": "net2"}, False),
        ({"physical_network": ["Net1"]}, False),
        ({"physical_network": None}, False),
        ({"nothing": None}, True),
        ({"unknown": None}, True),
        ({"unknown": "x"}, False),
        ({"remote_managed": "false"}, True),
        ({"remote_managed": "true"}, False),
    ],
)
def test_device_has_to_have_everything_that_a_spec_says(spec: dict[str, Any], matches: bool) -> None:
    assert suits(TAGGED, spec) == matches


@pytest.mark.parametrize(
    "spec",
    [{"physical_network": "NET1"}, {"dev_type": "TYPE-vf"}, {"trusted": "True"}, {"address": "0000:81:00.1"}],
)
def test_texts_compare_whatever_their_case(spec: dict[str, Any]) -> None:
    assert suits(TAGGED, spec)


def test_a_tag_hides_the_field_of_its_name() -> None:
    assert suits(TAGGED, {"product_id": "tagged"})
    assert not suits(TAGGED, {"product_id": "154C"})


@pytest.mark.parametrize(
    ("specs", "matches"),
    [
        ([{"vendor_id": "15b3"}, {"vendor_id": "8086"}], True),
        ([{"vendor_id": "8086", "trusted": "false"}, {"vendor_id": "15b3", "trusted": "true"}], False),
        ([], False),
    ],
)
def test_one_of_the_alternatives_has_to_match_as_a_whole(specs: list[dict[str, Any]], matches: bool) -> None:
    assert suits(TAGGED, *specs) == matches


@pytest.mark.parametrize("key", ["resource_class", "traits", "rp_uuids"])
def test_what_placement_has_matched_is_not_matched_again(key: str) -> None:
    assert suits(TAGGED, {"vendor_id": "8086", key: "anything"})
    assert not suits(TAGGED, {"vendor_id": "15b3", key: "anything"})


@pytest.mark.parametrize("wanted", ["true", "false"])
@pytest.mark.parametrize("tags", [None, {}])
def test_device_that_does_not_say_whether_it_is_live_migratable_is_for_those_that_do_not_ask(
    tags: dict[str, str | None] | None, wanted: str
) -> None:
    assert suits(a_device(tags=tags), {})
    assert not suits(a_device(tags=tags), {"live_migratable": wanted})


def test_device_that_is_not_live_migratable_is_for_those_that_ask_so() -> None:
    tags = {"live_migratable": "false"}
    device = a_device(tags=tags)
    assert suits(device, {"live_migratable": "false"})
    assert not suits(device, {"live_migratable": "true"})


@pytest.mark.parametrize(("wanted", "matches"), [("true", True), ("false", False), (None, False)])
def test_live_migratable_device_is_for_those_that_ask_so(wanted: str | None, matches: bool) -> None:
    device = a_device(tags={"live_migratable": "true"})
    assert suits(device, {"live_migratable": wanted}) == matches
    assert suits(device, {}), "who says nothing takes either"


@pytest.mark.parametrize(
    ("device", "spec", "matches"),
    [
        (a_device("d1", "type-PF"), {"product_id": "1572"}, False),
        (a_device("d1", "type-PF"), {"dev_type": "type-PF"}, True),
        (a_device("d1", "vdpa"), {"product_id": "1572"}, False),
        (a_device("d1", "vdpa"), {"dev_type": "vdpa"}, True),
        (a_device("d1", "type-VF"), {"product_id": "1572"}, True),
        (a_device("d1", "type-PCI"), {"product_id": "1572"}, True),
    ],
)
def test_pfs_and_vdpa_are_for_those_that_name_them(
    device: PciDevice, spec: dict[str, Any], matches: bool
) -> None:
    assert suits(device, spec) == matches


@pytest.mark.parametrize("tag", ["true", "True", "1", "on", "yes"])
@pytest.mark.parametrize("dev_type", ["type-VF", "type-PCI"])
def test_remote_managed_device_is_for_those_that_ask_for_one(tag: str, dev_type: str) -> None:
    device = a_device("d1", dev_type, tags={"remote_managed": tag})
    assert not suits(device, {"product_id": "1572"})
    assert suits(device, {"remote_managed": tag})


@pytest.mark.parametrize("tag", ["false", "no", "0", "whatever"])
def test_device_that_is_not_remote_managed_is_for_everyone(tag: str) -> None:
    assert suits(a_device("d1", "type-VF", tags={"remote_managed": tag}), {})


def test_an_alternative_that_names_pfs_lets_the_others_have_them() -> None:
    """Nova looks for one among all alternatives, whichever of them matches."""
    assert suits(a_device("d1", "type-PF"), {"vendor_id": "8086"}, {"dev_type": "type-PF", "vendor_id": "x"})


# Where devices are

ON = {cell: a_device(f"on{cell}", numa_node=cell) for cell in range(4)}
UNKNOWN = a_device("unknown")
EVERYWHERE = [UNKNOWN, *reversed(ON.values())]


@pytest.mark.parametrize(
    ("policy", "cells", "count", "wanted"),
    [
        ("required", [0], 1, ["on0"]),
        ("required", [0], 2, None),
        ("required", [0, 2], 2, ["on2", "on0"]),
        ("socket", [0], 1, ["on0"]),
        ("socket", [0], 2, ["on1", "on0"]),
        ("socket", [0], 3, None),
        ("socket", [0, 2], 4, ["on3", "on2", "on1", "on0"]),
        ("legacy", [0], 1, ["on0"]),
        ("legacy", [0], 2, ["unknown", "on0"]),
        ("legacy", [0], 3, None),
        (None, [0], 2, ["unknown", "on0"]),
        (None, [0], 3, None),
        ("preferred", [0], 1, ["on0"]),
        ("preferred", [0], 2, ["unknown", "on0"]),
        ("preferred", [0], 3, ["unknown", "on0", "on3"]),
        ("preferred", [0], 5, ["unknown", "on0", "on3", "on2", "on1"]),
        ("preferred", [0], 6, None),
        ("required", [7], 1, None),
        ("socket", [7], 1, None),
        ("legacy", [7], 1, ["unknown"]),
        ("preferred", [7], 2, ["unknown", "on3"]),
    ],
)
def test_policy_says_how_near_devices_have_to_be(
    policy: str | None, cells: list[int], count: int, wanted: list[str] | None
) -> None:
    """The nearest alone, where these suffice."""
    assert chosen(EVERYWHERE, a_request(count, policy=policy), cells=cells) == wanted


@pytest.mark.parametrize("policy", [None, "legacy", "required", "preferred", "socket"])
def test_guest_without_a_topology_gets_devices_from_anywhere(policy: str | None) -> None:
    assert chosen([ON[3], UNKNOWN], a_request(2, policy=policy)) == ["on3", "unknown"]


@pytest.mark.parametrize(
    ("sockets", "wanted"),
    [
        ({0: 0, 1: 0}, ["on1"]),
        ({0: 0, 1: 1}, None),
        ({0: None, 1: None}, None),
        ({0: 0, 1: 0, 2: None}, None),
        ({}, None),
    ],
)
def test_socket_policy_wants_a_host_that_tells_all_of_its_sockets(
    sockets: dict[int, int | None], wanted: list[str] | None
) -> None:
    assert chosen([ON[1], UNKNOWN], a_request(policy="socket"), cells=[0], sockets=sockets) == wanted


def test_socket_policy_needs_no_sockets_for_a_device_on_the_guests_own_cell() -> None:
    assert chosen([ON[0]], a_request(policy="socket"), cells=[0], sockets={0: None}) == ["on0"]


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [("required", None), ("socket", None), ("legacy", ["unknown"]), ("preferred", ["unknown"])],
)
def test_device_that_does_not_tell_where_it_is_suits_some_policies(
    policy: str, wanted: list[str] | None
) -> None:
    assert chosen([UNKNOWN], a_request(policy=policy), cells=[0]) == wanted


def test_near_devices_that_may_not_be_had_count_as_near() -> None:
    """Nova's order: the unasked-for PF suffices for the affinity, and is filtered only then."""
    near = [a_device("pf", "type-PF", numa_node=0), UNKNOWN]
    assert chosen(near, a_request(), cells=[0]) is None
    assert chosen(near, a_request(2), cells=[0]) is None
    assert chosen(near[1:], a_request(), cells=[0]) == ["unknown"]
    far = [a_device("pf", "type-PF"), ON[3]]
    assert chosen(far, a_request(policy="preferred"), cells=[0]) is None
    assert chosen(far[1:], a_request(policy="preferred"), cells=[0]) == ["on3"]


# Which are taken


def tags(number: int) -> dict[str, str | None]:
    return {f"tag{each}": "x" for each in range(number)}


@pytest.mark.parametrize(
    ("devices", "wanted"),
    [
        ([a_device("d1"), a_device("d2"), a_device("d3")], ["d1", "d2", "d3"]),
        ([a_vf("vf1"), a_vf("vf2"), a_vf("vf3")], ["vf3", "vf2", "vf1"]),
        ([a_vf("a1", "pf2"), a_vf("b1", "pf1"), a_vf("a2", "pf2")], ["a2", "a1", "b1"]),
        ([a_device("d1", tags=tags(2)), a_device("d2", tags=tags(1)), a_device("d3")], ["d3", "d2", "d1"]),
        (
            [a_vf("vf1"), a_vf("vf2"), a_device("d1", tags=tags(1)), a_device("d2")],
            ["d2", "vf2", "vf1", "d1"],
        ),
        ([a_vf("vf1"), a_vf("vf2", numa_node=0), a_vf("vf3")], ["vf3", "vf1", "vf2"]),
    ],
)
def test_fewest_tags_come_first_then_the_first_family_and_of_it_the_last(
    devices: list[PciDevice], wanted: list[str]
) -> None:
    """A network device has a tag more than another one: remote_managed."""
    assert chosen(devices, a_request(len(devices))) == wanted
    assert chosen(devices, a_request(1)) == wanted[:1]


def test_family_keeps_its_place_while_its_first_device_is_held() -> None:
    devices = [a_vf("a1", "pf1"), a_vf("b1", "pf2"), a_vf("a2", "pf1")]
    assert chosen(devices, a_request(2), held=["a1"]) == ["a2", "b1"]


@pytest.mark.parametrize("held", [["d1"], ["d9", "d1"]])
def test_device_that_is_held_is_not_taken(held: list[str]) -> None:
    assert chosen([a_device("d1"), a_device("d2")], a_request(), held=held) == ["d2"]
    assert chosen([a_device("d1"), a_device("d2")], a_request(2), held=held) is None


def test_device_of_which_only_the_address_is_known_is_not_taken() -> None:
    assert chosen([], a_request(), held=["d9"]) is None


PF_AND_VFS = a_card("pf", ("vf1", "vf2"))
A_PF = a_request(dev_type="type-PF")
A_VF = a_request(dev_type="type-VF")


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [
        ((A_PF,), ["pf"]),
        ((A_VF,), ["vf2"]),
        ((A_VF, A_VF), ["vf2", "vf1"]),
        ((A_PF, A_VF), None),
        ((A_VF, A_PF), None),
        ((PciRequest(2, [{"dev_type": "type-PF"}, {"dev_type": "type-VF"}]),), None),
        ((PciRequest(1, [{"dev_type": "type-PF"}, {"dev_type": "type-VF"}]),), ["pf"]),
    ],
)
def test_card_and_its_functions_are_not_taken_at_once(
    requests: tuple[PciRequest, ...], wanted: list[str] | None
) -> None:
    assert chosen(PF_AND_VFS, *requests) == wanted


def test_other_device_behind_a_card_may_be_taken_with_it() -> None:
    devices = [a_device("pf", "type-PF"), a_device("d1", parent_addr="pf")]
    assert chosen(devices, A_PF, a_request()) == ["pf", "d1"]


def test_alternatives_of_one_request_go_round_what_excludes_each_other() -> None:
    """The functions of a second card, once the first card is taken as a whole."""
    devices = [*PF_AND_VFS, a_vf("vf3", "elsewhere")]
    either = PciRequest(2, [{"dev_type": "type-PF"}, {"dev_type": "type-VF"}])
    assert chosen(devices, either) == ["pf", "vf3"]


@pytest.mark.parametrize("held", ["vf1", "pf"])
def test_what_a_held_device_excludes_is_not_taken(held: str) -> None:
    assert chosen(PF_AND_VFS, A_PF, held=[held]) is None


D1, D2 = a_request(address="d1"), a_request(address="d2")


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [
        ((), []),
        ((a_request(0),), []),
        ((a_request(0, vendor_id="none"), D2), ["d2"]),
        ((D2, D1), ["d2", "d1"]),
        ((D1, D1), None),
        ((D2, a_request(2)), ["d2", "d1", "d3"]),
        ((a_request(2), D1), None),
        ((D1, a_request(1, address="d9"), D2), None),
    ],
)
def test_requests_are_met_one_after_the_other_or_not_at_all(
    requests: tuple[PciRequest, ...], wanted: list[str] | None
) -> None:
    devices = [a_device("d1"), a_device("d2"), a_device("d3")]
    assert chosen(devices, *requests) == wanted


@pytest.mark.parametrize("allocated", [True, False])
def test_devices_are_held_each_with_its_request(allocated: bool) -> None:
    requests = [a_request(2, "r1"), a_request(0, "r2"), a_request(1, "r3"), a_request(1)]
    devices = [a_device(f"d{number}") for number in range(4)]
    held = taken_for(requests, devices, allocated)
    assert [(each.address, each.request_id) for each in held] == [
        ("d0", "r1"),
        ("d1", "r1"),
        ("d2", "r3"),
        ("d3", None),
    ]
    assert {each.allocated for each in held} == {allocated}
    assert [each.device for each in held] == devices


@pytest.mark.parametrize(
    ("specs", "tentative"),
    [
        ([{"vendor_id": "8086"}], False),
        ([{"traits": "CUSTOM_GOLD", "rp_uuids": "u"}], True),
        ([{"resource_class": "CUSTOM_GPU"}], True),
        ([{"vendor_id": "8086"}, {"resource_class": "CUSTOM_GPU"}], True),
    ],
)
def test_device_that_placement_chose_is_tentative(specs: list[dict[str, Any]], tentative: bool) -> None:
    (held,) = taken_for([PciRequest(1, specs)], [a_device()], allocated=True)
    assert held.tentative == tentative


# Which requests are the same


def ids_of(*requests: PciRequest) -> list[str | None]:
    return [request.request_id for request in with_ids(requests)]


def test_request_without_an_id_gets_one_of_what_it_asks_for() -> None:
    alike, other = a_request(vendor_id="8086", product_id="1572"), a_request(vendor_id="8086")
    turned = a_request(product_id="1572", vendor_id="8086")
    assert ids_of(alike) == ids_of(turned)
    assert len({*ids_of(alike), *ids_of(other), *ids_of(a_request(2, vendor_id="8086"))}) == 3


def test_requests_that_are_alike_are_told_apart_by_their_number() -> None:
    first, other, second = ids_of(a_request(), a_request(2), a_request())
    assert len({first, other, second}) == 3
    assert ids_of(a_request(2), a_request()) == [other, first]


def test_request_with_an_id_keeps_it_and_everything_else() -> None:
    asked = [a_request(2, "port-1", policy="required", dev_type="type-VF"), a_request(source="neutron_port")]
    named = with_ids(asked)
    assert named[0] == asked[0]
    assert replace(named[1], request_id=None) == asked[1]


def test_request_is_unmet_without_a_device_that_was_taken_for_it() -> None:
    held = [HeldDevice("d1", request_id="a"), HeldDevice("d2")]
    requests = [a_request(request_id="a"), a_request(request_id="b"), a_request()]
    assert unmet(requests, held) == requests[1:]
    assert unmet([a_request(3, "a")], held) == [a_request(2, "a")]
    assert unmet(requests, []) == requests
