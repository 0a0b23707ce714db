# SPDX-License-Identifier: Apache-2.0
from typing import Any

from tests.unit.nova.objects import NovaObject
from tracker_worker.nova import devices


def a_device(address: str, holder: str | None = None, request_id: str | None = None) -> NovaObject:
    return NovaObject(address=address, instance_uuid=holder, request_id=request_id)


def view(*claimed: str, **holders: str | None) -> dict[str, Any]:
    """A node view in which these instances have claims; `holders` has who holds each device."""
    return {
        "claims": [{"instance_uuid": uuid, "role": "instance"} for uuid in claimed],
        "pci_devices": [
            {"address": address} | ({} if uuid is None else {"instance_uuid": uuid})
            for address, uuid in holders.items()
        ],
    }


def test_devices_that_both_know_alike_are_not_told() -> None:
    nova = [a_device("vf1", "a", "r1"), a_device("vf2")]
    agreed = view("a", vf1="a", vf2=None)
    assert list(devices.taken(agreed, nova)) == list(devices.freed(agreed, nova)) == []


def test_device_of_another_request_than_the_workers_is_told_with_its_whole_request() -> None:
    nova = [a_device("vf1", "a", "r1"), a_device("vf2", "a", "r1"), a_device("vf3")]
    differs = view("a", vf1="a", vf2=None, vf3="a")
    (taken,) = devices.taken(differs, nova)
    assert taken == {
        "instance_uuid": "a",
        "pci_requests": [{"count": 2, "spec": [{"address": "vf1"}, {"address": "vf2"}], "request_id": "r1"}],
        "pci_devices": ["vf1", "vf2"],
    }
    assert list(devices.freed(differs, nova)) == [{"instance_uuid": "a", "addresses": ["vf3"]}]


def test_device_of_a_request_without_an_id_is_told_without_one() -> None:
    (taken,) = devices.taken(view("a", vf1=None), [a_device("vf1", "a")])
    assert taken["pci_requests"] == [{"count": 1, "spec": [{"address": "vf1"}]}]


def test_device_that_another_instance_holds_in_nova_is_freed_and_taken() -> None:
    nova, differs = [a_device("vf1", "b", "r1")], view("a", "b", vf1="a")
    assert [each["instance_uuid"] for each in devices.taken(differs, nova)] == ["b"]
    assert list(devices.freed(differs, nova)) == [{"instance_uuid": "a", "addresses": ["vf1"]}]


def test_device_of_an_instance_without_a_claim_is_not_taken() -> None:
    assert list(devices.taken(view(vf1=None), [a_device("vf1", "gone", "r1")])) == []


def test_device_of_an_instance_that_leaves_is_not_taken() -> None:
    leaving = view(vf1=None) | {"claims": [{"instance_uuid": "a", "role": "outgoing"}]}
    assert list(devices.taken(leaving, [a_device("vf1", "a", "r1")])) == []


def test_devices_held_for_requests_are_those_of_the_instance_and_their_ids() -> None:
    nova = [
        a_device("vf1", "a", "r1"),
        a_device("vf2", "a", "r2"),
        a_device("vf3", "b", "r1"),
        a_device("vf4"),
    ]
    assert [each.address for each in devices.held_for([{"request_id": "r1"}], nova, "a")] == ["vf1"]


def test_device_that_nova_does_not_track_is_left_alone() -> None:
    assert list(devices.freed(view("a", vf1="a"), [])) == []


def test_devices_of_a_claim_are_told_apart_by_their_requests() -> None:
    requests = devices.with_ids([{"count": 1}, {"count": 2, "request_id": "port"}, {"count": 1}])
    held = [
        {"address": "vf1", "request_id": "port"},
        {"address": "vf2", "request_id": requests[2]["request_id"]},
        {"address": "vf3", "request_id": "port"},
        {"address": "vf4", "request_id": "of an earlier attachment"},
        {"address": "vf5"},
    ]
    assert devices.chosen_for(requests, held) == [[], ["vf1", "vf3"], ["vf2"]]


def test_devices_that_differ_are_claimed_before_others_are_unclaimed() -> None:
    nova, differs = [a_device("vf1", "a", "r1"), a_device("vf2")], view("a", vf1=None, vf2="a")
    commands = list(devices.differing(differs, nova))
    assert [method for method, _ in commands] == ["claim_pci_devices", "unclaim_pci_devices"]
    assert commands[1][1] == {"instance_uuid": "a", "addresses": ["vf2"]}
