# SPDX-License-Identifier: Apache-2.0
"""What a claim asks for: which topology and which devices, by instance, flavor, image and command."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import BYSTANDER, a_claim, a_flavor, an_instance, decided
from tests.topologies import (
    DEDICATED,
    GPU,
    GPU_REQUEST,
    WITH_ALIASES,
    WITH_GPU,
    a_card,
    a_device,
    a_guest,
    a_numa_node,
    a_pinned_guest,
    a_port,
    a_request,
    addresses_of,
    holding,
    pins_of,
)
from tests.unit.domain.claiming import (
    EVERY_CLAIM,
    MOVE_CLAIMS,
    NUMA_AND_PCI,
    PINNED,
    asks,
    boot,
    granted,
    refused,
    the_claim,
)
from tracker_worker.domain.fields import RequestSource
from tracker_worker.domain.objects import PciRequest
from tracker_worker.domain.settings import TrackerSettings

# Which topology


def test_topology_that_the_instance_carries_goes_before_the_flavors() -> None:
    node = granted(a_numa_node(), boot(numa_topology=a_guest(2, 1, 512)))
    assert pins_of(the_claim(node)) == {0: [2], 1: [12]}


def test_earlier_place_of_the_topology_that_a_boot_carries_means_nothing() -> None:
    """An unshelved instance brings the pins that it had elsewhere."""
    node = a_numa_node(holding(a_claim(uuid=BYSTANDER), a_pinned_guest({0: [2, 3, 4]})))
    node = granted(node, boot(numa_topology=a_pinned_guest({7: [3, 4]})))
    assert pins_of(the_claim(node)) == {1: [12, 13]}
    assert the_claim(node).numa_request == a_guest()


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_image_asks_for_a_topology_too(method: str) -> None:
    flavor = a_flavor(2, 1024)
    instance = an_instance(flavor=flavor, image_properties={"hw_cpu_policy": "dedicated"})
    node = granted(a_numa_node(), asks(method, flavor, instance))
    assert pins_of(the_claim(node)) == {0: [2, 3]}


@pytest.mark.parametrize("method", MOVE_CLAIMS)
def test_image_properties_sent_stand_in_for_the_instances(method: str) -> None:
    flavor = a_flavor(2, 1024)
    instance = an_instance(flavor=flavor, image_properties={"hw_cpu_policy": "dedicated"})
    node = granted(a_numa_node(), asks(method, flavor, instance, image_properties={}))
    assert the_claim(node).numa_request is None
    plain = an_instance(flavor=flavor)
    sent = asks(method, flavor, plain, image_properties={"hw_cpu_policy": "dedicated"})
    assert pins_of(the_claim(granted(a_numa_node(), sent))) == {0: [2, 3]}


@pytest.mark.parametrize("method", MOVE_CLAIMS)
def test_move_computes_its_topology_anew(method: str) -> None:
    """What the instance has at the source is not what its flavor asks for here."""
    instance = an_instance(flavor=PINNED, numa_topology=a_pinned_guest({0: [3], 1: [13]}, 512))
    node = granted(a_numa_node(), asks(method, PINNED, instance))
    assert pins_of(the_claim(node)) == {0: [2, 3]}


def test_old_flavor_of_a_resize_asks_for_nothing() -> None:
    old = a_flavor(2, 1024, extra_specs=DEDICATED | WITH_GPU)
    node = granted(a_numa_node(), asks("resize_claim", a_flavor(4), an_instance(flavor=old)))
    assert (the_claim(node).numa_request, the_claim(node).pci_requests) == (None, ())


CONFLICT = (
    "Image property 'hw_cpu_policy' is not permitted to override CPU pinning policy set against the flavor"
)


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("settings", [WITH_ALIASES, TrackerSettings(capacity_check="none")])
def test_image_that_contradicts_its_flavor_is_refused(method: str, settings: TrackerSettings) -> None:
    flavor = a_flavor(2, 1024, extra_specs={"hw:cpu_policy": "shared"})
    instance = an_instance(flavor=flavor, image_properties={"hw_cpu_policy": "dedicated"})
    assert refused(a_numa_node(), asks(method, flavor, instance), settings) == CONFLICT


def test_contradiction_does_not_matter_to_a_topology_that_is_carried() -> None:
    flavor = a_flavor(2, 1024, extra_specs={"hw:cpu_policy": "shared"})
    image = {"hw_cpu_policy": "dedicated"}
    node = granted(a_numa_node(), boot(flavor, image_properties=image, numa_topology=a_guest()))
    assert pins_of(the_claim(node)) == {0: [2, 3]}


# Which devices

GPUS = [a_device("gpu1", **GPU), a_device("gpu2", **GPU)]
CARD = a_card("pf", ("vf1", "vf2"))
OLD_ALIAS = PciRequest(1, [{"vendor_id": "old"}], source=RequestSource.ALIAS)


@pytest.mark.parametrize(
    ("brought", "wanted"),
    [
        ([], ["gpu1"]),
        ([a_port()], ["gpu1", "vf2"]),
        ([GPU_REQUEST], ["gpu1"]),
        ([a_port(), GPU_REQUEST], ["vf2", "gpu1"]),
        ([a_request(2, **GPU)], ["gpu1", "gpu2"]),
    ],
)
def test_boot_asks_by_what_it_brings_and_by_the_flavor_unless_that_is_among_it(
    brought: list[PciRequest], wanted: list[str]
) -> None:
    node = a_numa_node(devices=[*CARD, *GPUS])
    flavor = a_flavor(extra_specs=WITH_GPU)
    assert addresses_of(the_claim(granted(node, boot(flavor, pci_requests=brought)))) == wanted


@pytest.mark.parametrize("method", ["resize_claim", "rebuild_claim"])
@pytest.mark.parametrize(
    ("brought", "sent", "wanted"),
    [
        ([], None, ["gpu1"]),
        ([OLD_ALIAS], None, ["gpu1"]),
        ([OLD_ALIAS, a_port()], None, ["gpu1", "vf2"]),
        ([a_port("a"), a_port("b")], None, ["gpu1", "vf2", "vf1"]),
        ([a_port()], [], []),
        ([a_port()], [a_request(2, **GPU)], ["gpu1", "gpu2"]),
    ],
)
def test_move_asks_for_the_instances_ports_and_the_new_flavors_devices_unless_told(
    method: str, brought: list[PciRequest], sent: list[PciRequest] | None, wanted: list[str]
) -> None:
    flavor = a_flavor(extra_specs=WITH_GPU)
    old = a_flavor() if method == "resize_claim" else flavor
    instance = an_instance(flavor=old, pci_requests=brought)
    node = granted(a_numa_node(devices=[*CARD, *GPUS]), asks(method, flavor, instance, pci_requests=sent))
    assert addresses_of(the_claim(node)) == wanted


@pytest.mark.parametrize("method", ["instance_claim", "resize_claim", "rebuild_claim"])
def test_devices_of_the_flavor_are_chosen_before_those_of_ports(method: str) -> None:
    """Nova's order: a port may take what only the flavor could have had."""
    net: dict[str, Any] = {"physical_network": "net"}
    devices = [a_device("gpu1", tags=net, **GPU), a_device("nic1", tags=net)]
    instance = an_instance(
        flavor=a_flavor(extra_specs=WITH_GPU), pci_requests=[a_request(source=RequestSource.PORT, **net)]
    )
    node = granted(a_numa_node(devices=devices), asks(method, instance.flavor, instance))
    assert addresses_of(the_claim(node)) == ["gpu1", "nic1"]


@pytest.mark.parametrize("method", MOVE_CLAIMS)
def test_request_of_a_flavor_is_the_same_whatever_its_id(method: str) -> None:
    """Nova makes new ids for the requests of an alias at each move."""
    card = [a_device("d1"), a_device("d2")]
    first, again = (replace(GPU_REQUEST, spec=[{}], request_id=new) for new in ("first", "again"))
    node = granted(a_numa_node(devices=card), asks(method, pci_requests=[first]))
    _, decision = decided(node, asks(method, pci_requests=[again]))
    assert (decision.outcome, decision.claim, decision.changes) == ("granted", the_claim(node), ())


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize(
    ("alias", "reason"),
    [
        ("fpga:1", "PCI alias fpga is not defined"),
        ("gpu:1,fpga:1", "PCI alias fpga is not defined"),
        ("gpu", "pci_passthrough:alias 'gpu' is not NAME:COUNT with a count from 0 to 4096"),
    ],
)
def test_alias_that_cannot_be_read_is_refused(method: str, alias: str, reason: str) -> None:
    node = a_numa_node(devices=GPUS)
    assert refused(node, asks(method, a_flavor(extra_specs={"pci_passthrough:alias": alias}))) == reason


@pytest.mark.parametrize(
    ("specs", "images", "reason"),
    [
        ({}, {}, NUMA_AND_PCI),
        ({"hw:pci_numa_affinity_policy": "preferred"}, {}, None),
        ({}, {"hw_pci_numa_affinity_policy": "preferred"}, None),
        ({"hw:pci_numa_affinity_policy": "x"}, {}, "Invalid PCI NUMA affinity configured: x"),
    ],
)
def test_affinity_of_flavor_or_image_goes_before_the_aliass_at_a_boot(
    specs: dict[str, str], images: dict[str, str], reason: str | None
) -> None:
    flavor = a_flavor(2, 1024, extra_specs=DEDICATED | {"pci_passthrough:alias": "near:1"} | specs)
    node = a_numa_node(devices=[a_device("gpu1", numa_node=9, **GPU)])
    _, decision = decided(node, boot(flavor, image_properties=images), WITH_ALIASES)
    assert decision.reason == reason


@pytest.mark.parametrize("policy", ["preferred", "x"])
@pytest.mark.parametrize("method", MOVE_CLAIMS)
def test_aliass_own_affinity_holds_for_moves(method: str, policy: str) -> None:
    """Nova reads that of flavor and image at the boot only."""
    specs = {"pci_passthrough:alias": "near:1", "hw:pci_numa_affinity_policy": policy}
    flavor = a_flavor(2, 1024, extra_specs=DEDICATED | specs)
    node = a_numa_node(devices=[a_device("gpu1", numa_node=9, **GPU)])
    assert refused(node, asks(method, flavor)) == NUMA_AND_PCI
