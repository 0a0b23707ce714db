# SPDX-License-Identifier: Apache-2.0
"""The devices of a node: who has them, what excludes what, what is gone and still held, and their pools."""

from typing import Any

import pytest

from tests.topologies import a_card, a_device, a_vf, held_device
from tracker_worker.domain.fields import PciDeviceStatus
from tracker_worker.domain.objects import PciDevice
from tracker_worker.domain.pci.pools import (
    HeldDevice,
    Pool,
    TrackedDevice,
    free_devices,
    pool_key,
    pools_of,
    tags_of,
    tracked_devices,
)

ME, OTHER = "instance-1", "instance-2"
CARD = a_card("pf", ("vf1", "vf2"))
VDPA = a_device("vdpa1", "vdpa", parent_addr="pf")


def a_held(device: PciDevice | str, *, allocated: bool = True) -> HeldDevice:
    held = held_device(device)
    return HeldDevice(held.address, allocated, device=held.device)


def statuses(reported: list[PciDevice], *held: HeldDevice) -> dict[str, str]:
    tracked = tracked_devices(reported, [(ME, each) for each in held])
    return {each.address: each.status for each in tracked}


def the_device(tracked: list[TrackedDevice], address: str) -> TrackedDevice:
    (found,) = (each for each in tracked if each.address == address)
    return found


@pytest.mark.parametrize(
    ("held", "status", "owner"),
    [
        ([], PciDeviceStatus.AVAILABLE, None),
        ([a_held("d1", allocated=False)], PciDeviceStatus.CLAIMED, ME),
        ([a_held("d1")], PciDeviceStatus.ALLOCATED, ME),
    ],
)
def test_device_is_available_until_a_claim_has_it(
    held: list[HeldDevice], status: PciDeviceStatus, owner: str | None
) -> None:
    (tracked,) = tracked_devices([a_device("d1")], [(ME, each) for each in held])
    assert (tracked.status, tracked.instance_uuid) == (status, owner)


@pytest.mark.parametrize("child", [a_vf("vf1"), a_device("vf1", "vdpa", parent_addr="pf")])
@pytest.mark.parametrize(("allocated", "excluded"), [(True, "unavailable"), (False, "unclaimable")])
@pytest.mark.parametrize(("taken", "other"), [("pf", "vf1"), ("vf1", "pf")])
def test_parent_and_child_exclude_each_other(
    child: PciDevice, allocated: bool, excluded: str, taken: str, other: str
) -> None:
    reported = [a_device("pf", "type-PF"), child]
    assert statuses(reported, a_held(taken, allocated=allocated))[other] == excluded


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ([a_held("vf1")], {"pf": "unavailable", "vf1": "allocated", "vf2": "available"}),
        (
            [a_held("vf1", allocated=False), a_held("vf2", allocated=False)],
            {"pf": "unclaimable", "vf1": "claimed", "vf2": "claimed"},
        ),
        (
            [a_held("vf1", allocated=False), a_held("vf2")],
            {"pf": "unavailable", "vf1": "claimed", "vf2": "allocated"},
        ),
        (
            [a_held("vf1"), a_held("vf2", allocated=False)],
            {"pf": "unavailable", "vf1": "allocated", "vf2": "claimed"},
        ),
        ([a_held("pf")], {"pf": "allocated", "vf1": "unavailable", "vf2": "unavailable"}),
        ([a_held("pf"), a_held("vf1")], {"pf": "allocated", "vf1": "allocated", "vf2": "unavailable"}),
    ],
)
def test_function_excludes_its_parent_but_not_its_siblings(
    held: list[HeldDevice], wanted: dict[str, str]
) -> None:
    assert statuses(CARD, *held) == wanted


def test_parent_is_back_only_with_its_last_child() -> None:
    reported = [*CARD, VDPA]
    assert statuses(reported, a_held("vf2"), a_held("vdpa1"))["pf"] == "unavailable"
    assert statuses(reported, a_held("vdpa1"))["pf"] == "unavailable"
    assert statuses(reported)["pf"] == "available"


@pytest.mark.parametrize(
    "device",
    [a_device("d1", parent_addr="pf"), a_device("d1", "type-PF", parent_addr="pf"), a_vf("d1", "elsewhere")],
)
def test_other_device_is_not_excluded(device: PciDevice) -> None:
    assert statuses([*CARD, device], a_held("pf"))["d1"] == "available"


def test_function_whose_parent_is_not_reported_is_a_device_like_any() -> None:
    assert statuses([a_vf("vf1")]) == {"vf1": "available"}
    assert statuses([a_vf("vf1"), a_vf("vf2")], a_held("vf1")) == {"vf1": "allocated", "vf2": "available"}


def test_device_that_vanished_while_held_stays_after_those_reported() -> None:
    """Bugs 1633120 and 2115905."""
    gone = a_device("d1", numa_node=1)
    tracked = tracked_devices([a_device("d2")], [(ME, a_held(gone))])
    assert [each.address for each in tracked] == ["d2", "d1"]
    assert tracked[1] == TrackedDevice("d1", PciDeviceStatus.ALLOCATED, ME, gone)


def test_device_that_changed_while_held_is_what_it_was_until_it_is_freed() -> None:
    before, now = a_device("d1", numa_node=0), a_device("d1", numa_node=1)
    (held,) = tracked_devices([now], [(ME, a_held(before))])
    (freed,) = tracked_devices([now], [])
    assert (held.device, freed.device) == (before, now)


def test_parent_that_vanished_while_held_still_excludes_its_children() -> None:
    pf, *vfs = CARD
    assert statuses(vfs, a_held(pf)) == {"vf1": "unavailable", "vf2": "unavailable", "pf": "allocated"}
    assert statuses(vfs, a_held("pf"))["vf1"] == "unavailable"


def test_held_child_still_excludes_the_parent_that_it_had() -> None:
    """As what it was when it was taken: a plain device now."""
    pf, *_ = CARD
    assert statuses([pf, a_device("vf1")], a_held(a_vf("vf1")))["pf"] == "unavailable"


def test_address_that_no_report_has_shown_is_held_and_nothing_else() -> None:
    tracked = tracked_devices([], [(ME, a_held("d9"))])
    assert tracked == [TrackedDevice("d9", PciDeviceStatus.ALLOCATED, ME, None)]
    assert (pools_of(tracked), free_devices(tracked)) == ([], [])


def test_adopted_address_is_the_device_that_is_reported() -> None:
    device = a_device("d1")
    assert tracked_devices([device], [(ME, a_held("d1"))]) == [
        TrackedDevice("d1", PciDeviceStatus.ALLOCATED, ME, device)
    ]


@pytest.mark.parametrize(
    ("first", "status"), [(True, PciDeviceStatus.ALLOCATED), (False, PciDeviceStatus.CLAIMED)]
)
def test_of_two_claims_for_one_device_the_first_is_shown(first: bool, status: PciDeviceStatus) -> None:
    was, later = a_device("d1", numa_node=0), a_device("d1", numa_node=1)
    held = [(ME, a_held(was, allocated=first)), (OTHER, a_held(later, allocated=not first))]
    assert tracked_devices([later], held) == [TrackedDevice("d1", status, ME, was)]


def test_of_two_claims_for_one_device_the_other_may_know_what_it_is() -> None:
    gone = a_device("d1")
    held = [(ME, a_held("d1")), (OTHER, a_held(gone))]
    assert tracked_devices([], held) == [TrackedDevice("d1", PciDeviceStatus.ALLOCATED, ME, gone)]


def test_free_devices_are_those_available() -> None:
    tracked = tracked_devices([*CARD, a_device("d1")], [(ME, a_held("vf1")), (ME, a_held("d9"))])
    assert [device.address for device in free_devices(tracked)] == ["vf2", "d1"]


def counts(reported: list[PciDevice], *held: HeldDevice) -> list[tuple[str, str | None, int]]:
    """Pools as (type, parent, count)."""
    pools = pools_of(tracked_devices(reported, [(ME, each) for each in held]))
    return [(pool.device.dev_type, pool.device.parent_addr, len(pool.free)) for pool in pools]


def test_functions_of_one_parent_are_one_pool() -> None:
    reported = [*a_card("pf", ("vf1", "vf2")), *a_card("pf'", ("vf3",))]
    assert counts(reported) == [
        ("type-PF", None, 2),
        ("type-VF", "pf", 2),
        ("type-VF", "pf'", 1),
    ]


def test_pool_without_a_free_device_is_listed() -> None:
    assert counts(CARD, a_held("vf1")) == [("type-PF", None, 0), ("type-VF", "pf", 1)]
    assert counts(CARD, a_held("pf")) == [("type-PF", None, 0), ("type-VF", "pf", 0)]


def test_pool_of_a_device_that_vanished_while_held_is_listed() -> None:
    assert counts([], a_held(a_device("d1"))) == [("type-PCI", None, 0)]


def test_pool_has_a_device_its_tags_and_what_is_free() -> None:
    d1, d2 = (a_device(address, tags={"physical_network": "net"}) for address in ("d1", "d2"))
    (pool,) = pools_of(tracked_devices([d1, d2], [(ME, a_held("d1"))]))
    assert pool == Pool(d1, {"physical_network": "net"}, [d2])


@pytest.mark.parametrize(
    "other",
    [
        {"vendor_id": "15b3"},
        {"product_id": "1515"},
        {"numa_node": 1},
        {"numa_node": None},
        {"dev_type": "type-VF"},
        {"parent_addr": "pf"},
        {"tags": {"a": "1"}},
        {"tags": {"a": "1", "b": None}},
        {"tags": {"a": "1", "b": "3"}},
        {"tags": {"a": "1", "c": "2"}},
    ],
)
def test_devices_that_differ_are_in_different_pools(other: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"dev_type": "type-PCI", "numa_node": 0, "tags": {"a": "1", "b": "2"}}
    one, another = a_device("d1", **fields), a_device("d2", **(fields | other))
    assert pool_key(one) != pool_key(another)
    assert len(pools_of(tracked_devices([one, another], []))) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"label": "label_1"},
        {"capabilities": {"network": ["rx"]}},
        {"tags": {"b": None, "a": "1"}},
    ],
)
def test_devices_that_differ_in_nothing_else_are_in_one_pool(other: dict[str, Any]) -> None:
    one = a_device("d1", tags={"a": "1", "b": None})
    fields: dict[str, Any] = {"tags": {"a": "1", "b": None}, **other}
    another = a_device("d2", **fields)
    (pool,) = pools_of(tracked_devices([one, another], []))
    assert pool.free == [one, another]


@pytest.mark.parametrize(
    ("dev_type", "tags", "wanted"),
    [
        ("type-PCI", None, {}),
        ("type-PCI", {"a": "1"}, {"a": "1"}),
        ("type-PF", None, {"remote_managed": "false"}),
        ("type-VF", {}, {"remote_managed": "false"}),
        ("vdpa", {"a": None}, {"a": None, "remote_managed": "false"}),
        ("type-VF", {"remote_managed": None}, {"remote_managed": "false"}),
        ("type-VF", {"remote_managed": "true"}, {"remote_managed": "true"}),
        ("type-VF", {"remote_managed": "False"}, {"remote_managed": "False"}),
        ("type-PCI", {"remote_managed": "true"}, {"remote_managed": "true"}),
    ],
)
def test_network_device_is_managed_by_its_own_host_unless_tagged(
    dev_type: str, tags: dict[str, str | None] | None, wanted: dict[str, str | None]
) -> None:
    """Source: PciDeviceStats._ensure_remote_managed_tag."""
    device = a_device("d1", dev_type, tags=tags)
    assert tags_of(device) == wanted
    assert device.tags == tags, "the device that was given changed"
