# SPDX-License-Identifier: Apache-2.0
"""Claims of host cpus, memory, pages and devices: all that is asked for or nothing, in Nova's wording."""

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
    DEDICATED,
    HUGE_KB,
    SMALL_KB,
    a_card,
    a_device,
    a_guest,
    a_host,
    a_host_cell,
    a_numa_node,
    a_pinned_guest,
    a_port,
    a_request,
    addresses_of,
    holding,
    host_resources,
    memory_on,
    pages_on,
    pinned_on,
    pins_of,
    placed,
    statuses_of,
)
from tracker_worker.domain.commands import Command
from tracker_worker.domain.flavors import Amounts, Flavor
from tracker_worker.domain.ledger import Claim, Node
from tracker_worker.domain.node import ClaimRefused, Decision
from tracker_worker.domain.objects import (
    GuestTopology,
    HostTopology,
    Instance,
    Limits,
    NumaLimits,
    PciRequest,
)
from tracker_worker.domain.pci.pools import HeldDevice
from tracker_worker.domain.pci.specs import Alias
from tracker_worker.domain.settings import TrackerSettings

MOVE_CLAIMS = ("resize_claim", "live_migration_claim", "rebuild_claim")
EVERY_CLAIM = ("instance_claim", *MOVE_CLAIMS)
TAKING_CLAIMS = ("instance_claim", "resize_claim", "rebuild_claim")
"""A live migration takes its devices later."""

ALIASES = {
    "gpu": Alias("gpu", ({"vendor_id": "10de", "product_id": "20b5"},)),
    "near": Alias("near", ({"vendor_id": "10de"},), "required"),
}
SETTINGS = TrackerSettings(aliases=ALIASES)
GPU = {"vendor_id": "10de", "product_id": "20b5"}
GPU_REQUEST = PciRequest(1, [GPU], numa_policy="legacy", alias_name="gpu", source="flavor_alias")
WITH_GPU = {"pci_passthrough:alias": "gpu:1"}
PINNED = a_flavor(2, 1024, extra_specs=DEDICATED)
ONE_CELL = a_host(1)

NUMA = "Requested instance NUMA topology cannot fit the given host NUMA topology"
NUMA_AND_PCI = (
    "Requested instance NUMA topology together with requested PCI devices cannot fit the given host NUMA "
    "topology"
)
PCI = "Claim pci failed"
PAGE_SIZE = "Requested page size is different from current page size"


def asks(method: str, flavor: Flavor = PINNED, instance: Instance | None = None, **more: Any) -> Command:
    """A claim of any kind for what a flavor asks for."""
    arguments: dict[str, Any] = {"instance": instance or an_instance(flavor=flavor), **more}
    if method in MOVE_CLAIMS:
        arguments.setdefault("migration", a_migration())
    if method == "resize_claim":
        arguments.setdefault("flavor", flavor)
    return command(method, **arguments)


def boot(
    flavor: Flavor = PINNED, *, uuid: str = INSTANCE, limits: Limits | None = None, **of: Any
) -> Command:
    return command("instance_claim", instance=an_instance(uuid, flavor, **of), limits=limits)


def role_of(method: str) -> tuple[str, str | None]:
    """The role of a method's claim, and the migration that it is of."""
    return ("instance", None) if method == "instance_claim" else ("incoming", MOVE)


def the_claim(node: Node, uuid: str = INSTANCE) -> Claim:
    (claim,) = claims_of(node, uuid).values()
    return claim


def granted(node: Node, asked: Command, settings: TrackerSettings = SETTINGS) -> Node:
    """The node after a claim that has to be granted, and recorded as it was answered."""
    node, decision = decided(node, asked, settings)
    assert (decision.outcome, decision.reason) == ("granted", None)
    assert decision.claim in node.claims[INSTANCE]
    return node


def refused(node: Node, asked: Command, settings: TrackerSettings = SETTINGS) -> str:
    """Why a claim was refused; a refused one changes nothing."""
    after, decision = decided(node, asked, settings)
    assert (decision.outcome, decision.changes, decision.claim) == ("refused", (), None)
    assert decision.effects == (ClaimRefused(decision.reason or ""),)
    assert (after.claims, after.used) == (node.claims, node.used)
    return decision.reason or ""


# Everything or nothing

PAGES = {SMALL_KB: 524288, HUGE_KB: 1024}


def test_boot_takes_cpus_memory_pages_and_devices() -> None:
    node = a_numa_node(host=a_host(pages=PAGES), devices=[a_device("d1", numa_node=1)])
    guest = a_guest(2, 2, 512, pagesize=-2)
    flavor = a_flavor(4, 1024, 20)
    node = granted(node, boot(flavor, numa_topology=guest, pci_requests=[a_request()]))
    claim = the_claim(node)
    assert pins_of(claim) == pinned_on(node) == {0: [2, 3], 1: [12, 13]}
    assert memory_on(node) == {0: 512, 1: 512}
    assert pages_on(node) == {0: 256, 1: 256}
    assert pages_on(node, SMALL_KB) == {0: 0, 1: 0}
    assert statuses_of(node) == {"d1": "allocated"}
    assert node.used == Amounts(4, 512 + 1024, 20 * 1024)
    assert claim.assigned
    assert (claim.numa_request, claim.pci_requests) == (guest, (a_request(),))


@pytest.mark.parametrize("method", TAKING_CLAIMS)
def test_every_claim_takes_what_its_flavor_asks_for(method: str) -> None:
    node = a_numa_node(devices=[a_device("d1", **GPU)])
    node = granted(node, asks(method, a_flavor(2, 1024, extra_specs=DEDICATED | WITH_GPU)))
    claim = the_claim(node)
    assert pins_of(claim) == {0: [2, 3]}
    assert claim.pci_devices == (HeldDevice("d1", device=a_device("d1", **GPU)),)
    assert (claim.pci_requests, claim.assigned) == ((GPU_REQUEST,), True)


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize(
    ("specs", "limits"),
    [
        (DEDICATED | {"hw:numa_nodes": "2"}, None),
        (DEDICATED | WITH_GPU, None),
        (DEDICATED, Limits(memory_mb=1)),
        (DEDICATED | {"hw:mem_page_size": "2048"}, None),
        (DEDICATED | {"pci_passthrough:alias": "unknown:1"}, None),
    ],
)
def test_refused_claim_takes_nothing_of_anything(
    method: str, specs: dict[str, str], limits: Limits | None
) -> None:
    node = a_numa_node(host=ONE_CELL, devices=[a_device("d1")])
    assert refused(node, asks(method, a_flavor(2, 1024, extra_specs=specs), limits=limits))


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_what_one_guest_has_the_next_does_not_get(method: str) -> None:
    held = holding(a_claim(uuid=BYSTANDER), a_pinned_guest({0: [2, 3]}), [a_device("d1", **GPU)])
    node = a_numa_node(held, host=ONE_CELL, devices=[a_device("d1", **GPU), a_device("d2", **GPU)])
    node = granted(node, asks(method, a_flavor(2, 1024, extra_specs=DEDICATED | WITH_GPU)))
    assert pins_of(the_claim(node)) == {0: [4, 5]}
    assert addresses_of(the_claim(node)) == ([] if method == "live_migration_claim" else ["d2"])


def test_plain_instance_holds_no_cell_and_no_device() -> None:
    node = granted(a_numa_node(devices=[a_device()]), boot(a_flavor()))
    assert the_claim(node) == a_claim()
    assert (memory_on(node), statuses_of(node)) == ({0: 0, 1: 0}, {"d1": "available"})


# The same claim again


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_repeated_claim_gives_the_same_pins_and_devices(method: str) -> None:
    """Hazard 5 of the Nova inventory: there it takes other cpus, and a second device."""
    node = a_numa_node(host=ONE_CELL, devices=[a_device("d1", **GPU), a_device("d2", **GPU)])
    asked = asks(method, a_flavor(2, 1024, extra_specs=DEDICATED | WITH_GPU))
    once, first = decided(node, asked, SETTINGS)
    twice, second = decided(once, asked, SETTINGS)
    assert (second.outcome, second.claim, second.changes) == ("granted", first.claim, ())
    assert (twice.claims, twice.used) == (once.claims, once.used)


def test_instance_that_comes_back_with_its_pins_and_devices_gets_the_same() -> None:
    node = a_numa_node(host=a_host(pages=PAGES), devices=[a_device("d1", **GPU)])
    asked = {"numa_topology": a_guest(pagesize=-2), "pci_requests": [a_request(**GPU)]}
    node = granted(node, boot(**asked))
    claim = the_claim(node)
    again = asked | {"numa_topology": claim.numa_topology, "pci_devices": addresses_of(claim)}
    _, decision = decided(node, boot(**again))
    assert (decision.outcome, decision.claim, decision.changes) == ("granted", claim, ())


def test_instance_that_gets_its_topology_by_its_flavor_may_come_back_with_it() -> None:
    node = granted(a_numa_node(), boot())
    claim = the_claim(node)
    _, decision = decided(node, boot(numa_topology=claim.numa_topology))
    assert (decision.claim, decision.changes) == (claim, ())


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_same_claim_comes_back_from_an_unavailable_node(method: str) -> None:
    node = granted(a_numa_node(), asks(method))
    claim = the_claim(node)
    off = a_node(claim, resources=host_resources(available=False))
    _, decision = decided(off, asks(method))
    assert (decision.claim, decision.changes) == (claim, ())


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_unavailable_node_refuses_a_topology(method: str) -> None:
    node = a_node(resources=host_resources(available=False))
    assert refused(node, asks(method)) == "Node node-1 is not available"


@pytest.mark.parametrize("method", MOVE_CLAIMS)
def test_claim_of_another_migration_keeps_pins_and_devices(method: str) -> None:
    node = granted(a_numa_node(devices=[a_device()]), asks(method, pci_requests=[a_request()]))
    claim = the_claim(node)
    other = asks(method, pci_requests=[a_request()], migration=a_migration(OTHER_MOVE))
    node = granted(node, other)
    assert the_claim(node) == replace(claim, migration_uuid=OTHER_MOVE)


def test_repeated_claim_takes_over_the_states_alone() -> None:
    node = granted(a_numa_node(), boot())
    claim = the_claim(node)
    node = granted(node, boot(vm_state="building", task_state="spawning"))
    assert the_claim(node) == replace(claim, vm_state="building", task_state="spawning")


# A replacement


@pytest.mark.parametrize("method", TAKING_CLAIMS)
def test_replacement_is_tested_without_what_it_replaces(method: str) -> None:
    old = holding(a_claim(*role_of(method)), a_pinned_guest({0: [2, 3, 4, 5]}), [a_device("d1", **GPU)])
    node = a_numa_node(old, host=ONE_CELL, devices=[a_device("d1", **GPU)])
    bigger = a_flavor(4, 2048, extra_specs=DEDICATED | WITH_GPU)
    node = granted(node, asks(method, bigger))
    assert pins_of(the_claim(node)) == pinned_on(node) == {0: [2, 3, 4, 5]}
    assert (memory_on(node), addresses_of(the_claim(node))) == ({0: 2048}, ["d1"])


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize(
    ("specs", "reason"),
    [
        (DEDICATED, NUMA),
        ({"pci_passthrough:alias": "gpu:2"}, PCI),
        ({"hw:cpu_policy": "x"}, "CPU policy requested from 'flavor extra specs' is invalid"),
    ],
)
def test_refused_replacement_leaves_the_old_pins_and_devices(
    method: str, specs: dict[str, str], reason: str
) -> None:
    old = holding(a_claim(*role_of(method)), a_pinned_guest({0: [2, 3]}), [a_device("d1", **GPU)])
    node = a_numa_node(old, host=ONE_CELL, devices=[a_device("d1", **GPU)])
    assert refused(node, asks(method, a_flavor(5, 2048, extra_specs=specs))).startswith(reason)
    assert claims_of(node) == {role_of(method)[0]: old}


@pytest.mark.parametrize(
    "other",
    [
        {"numa_topology": a_guest(1, 2, 1024, cpu_thread_policy="prefer")},
        {"numa_topology": a_guest(2, 1, 512)},
        {"pci_requests": [a_request(), a_request()]},
        {"pci_requests": []},
    ],
)
def test_another_request_is_another_claim(other: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"numa_topology": a_guest(), "pci_requests": [a_request()]}
    node = granted(a_numa_node(devices=[a_device("d1"), a_device("d2")]), boot(**asked))
    replaced = granted(node, boot(**asked | other))
    assert the_claim(replaced) != the_claim(node)
    assert len(addresses_of(the_claim(replaced))) == len((asked | other)["pci_requests"])


# Reasons

FULL = holding(a_claim(uuid=BYSTANDER, flavor=a_flavor(0, 0, 0)), a_pinned_guest({0: [2, 3, 4]}, 3072))
ELSEWHERE = a_request(policy="required")
PLAIN = Limits(memory_mb=1024, disk_gb=10, vcpu=1)
SHORT = (
    "Free memory 512.00 MB < requested 1024 MB; Free disk 10.00 GB < requested 20 GB; "
    "Free vcpu 1.00 VCPU < requested 2 VCPU"
)


@pytest.mark.parametrize(
    ("of", "requests", "limits", "reason"),
    [
        ({}, [], None, NUMA),
        ({}, [a_request()], None, NUMA_AND_PCI),
        ({}, [a_request(), a_request()], None, f"{NUMA_AND_PCI}; {PCI}"),
        ({"cpus": 1, "memory": 1025}, [], None, NUMA),
        ({"cpus": 1}, [ELSEWHERE], None, NUMA_AND_PCI),
        ({"cpus": 1}, [a_request(2)], None, f"{NUMA_AND_PCI}; {PCI}"),
        ({"cpus": 1}, [a_request()], PLAIN, SHORT),
        ({}, [], PLAIN, f"{SHORT}; {NUMA}"),
        ({}, [a_request(2)], PLAIN, f"{SHORT}; {NUMA_AND_PCI}; {PCI}"),
        (None, [a_request(2)], None, PCI),
        (None, [ELSEWHERE, ELSEWHERE], PLAIN, f"{SHORT}; {PCI}"),
    ],
)
def test_reasons_come_in_novas_order_and_wording(
    of: dict[str, Any] | None, requests: list[PciRequest], limits: Limits | None, reason: str
) -> None:
    """One dedicated cpu of four is left, 1024 MB of the cell, and a device that is on no cell."""
    node = a_numa_node(FULL, host=ONE_CELL, devices=[a_device()])
    guest = None if of is None else a_guest(**of)
    flavor = a_flavor(2, 1024, 20)
    assert refused(node, boot(flavor, limits=limits, numa_topology=guest, pci_requests=requests)) == reason


@pytest.mark.parametrize("host", [None, HostTopology([])], ids=["nothing", "no cells"])
def test_host_without_a_topology_grants_any_without_accounting(host: HostTopology | None) -> None:
    node = a_node(resources=replace(host_resources(devices=[a_device()]), numa_topology=host))
    guest = a_guest(8, 99, 99999)
    node = granted(node, boot(numa_topology=guest, pci_requests=[ELSEWHERE]))
    claim = the_claim(node)
    assert (claim.numa_request, claim.numa_topology, pinned_on(node)) == (guest, None, {})
    assert addresses_of(claim) == ["d1"], "without cells devices may be anywhere"
    _, decision = decided(node, boot(numa_topology=guest, pci_requests=[ELSEWHERE]))
    assert decision.changes == ()


def test_host_without_a_topology_still_refuses_devices() -> None:
    node = a_node(resources=replace(host_resources(), numa_topology=None))
    assert refused(node, boot(numa_topology=a_guest(), pci_requests=[a_request()])) == PCI


# Which topology


def test_topology_that_the_instance_carries_goes_before_the_flavors() -> None:
    node = granted(a_numa_node(), boot(numa_topology=a_guest(2, 1, 512)))
    assert pins_of(the_claim(node)) == {0: [2], 1: [12]}


def test_earlier_place_of_the_topology_that_a_boot_carries_means_nothing() -> None:
    """An unshelved instance brings the pins that it had elsewhere."""
    node = a_numa_node(FULL)
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
@pytest.mark.parametrize("settings", [SETTINGS, TrackerSettings(capacity_check="none")])
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
OLD_ALIAS = PciRequest(1, [{"vendor_id": "old"}], source="flavor_alias")


@pytest.mark.parametrize(
    ("brought", "wanted"),
    [
        ([], ["gpu1"]),
        ([a_port()], ["vf2", "gpu1"]),
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
        ([OLD_ALIAS, a_port()], None, ["vf2", "gpu1"]),
        ([a_port("a"), a_port("b")], None, ["vf2", "vf1", "gpu1"]),
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


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize(
    ("alias", "reason"),
    [
        ("fpga:1", "PCI alias fpga is not defined"),
        ("gpu:1,fpga:1", "PCI alias fpga is not defined"),
        ("gpu", "pci_passthrough:alias 'gpu' is not NAME:COUNT with a count from 1 to 4096"),
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
@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_affinity_of_flavor_or_image_goes_before_the_aliass(
    method: str, specs: dict[str, str], images: dict[str, str], reason: str | None
) -> None:
    flavor = a_flavor(2, 1024, extra_specs=DEDICATED | {"pci_passthrough:alias": "near:1"} | specs)
    instance = an_instance(flavor=flavor, image_properties=images)
    node = a_numa_node(devices=[a_device("gpu1", numa_node=9, **GPU)])
    _, decision = decided(node, asks(method, flavor, instance), SETTINGS)
    assert decision.reason == reason


# Where to

BUSY = holding(a_claim(uuid=BYSTANDER), a_pinned_guest({0: [2]}, 512))
D0, D1, D2 = a_device("d0", numa_node=0), a_device("d1", numa_node=1), a_device("d2", numa_node=1)


@pytest.mark.parametrize(
    ("claims", "devices", "requests", "packed", "cell"),
    [
        ([], [], [], False, 0),
        ([BUSY], [], [], False, 1),
        ([BUSY], [], [], True, 0),
        ([], [D1], [a_request()], False, 1),
        ([], [D1], [], False, 0),
        ([], [D0], [], False, 1),
        ([], [D0], [], True, 1),
        ([], [D0, D1, D2], [a_request()], False, 1),
        ([], [D0, D1, D2], [a_request()], True, 1),
        ([BUSY], [D0, D1], [a_request()], False, 1),
        ([BUSY], [D0, D1], [a_request()], True, 0),
    ],
)
def test_guest_goes_where_it_finds_devices_and_leaves_them_to_others(
    claims: list[Claim], devices: list[Any], requests: list[PciRequest], packed: bool, cell: int
) -> None:
    """Of cells with equally many devices it takes the emptiest, or packed the fullest."""
    settings = TrackerSettings(packing_host_numa_cells_allocation_strategy=packed)
    node = a_numa_node(*claims, devices=devices)
    node = granted(node, boot(numa_topology=a_guest(), pci_requests=requests), settings)
    assert list(pins_of(the_claim(node))) == [cell]


@pytest.mark.parametrize("policy", ["required", "legacy"])
def test_device_that_is_elsewhere_refuses_a_guest_that_fits_here_alone(policy: str) -> None:
    full = holding(a_claim(uuid=BYSTANDER), a_pinned_guest({1: [12, 13, 14, 15]}))
    node = a_numa_node(full, devices=[D1])
    asked = boot(numa_topology=a_guest(), pci_requests=[a_request(policy=policy)])
    assert refused(node, asked) == NUMA_AND_PCI


def test_sockets_of_the_host_are_known_to_a_request() -> None:
    host = HostTopology([a_host_cell(0, socket=0), a_host_cell(1, socket=0)])
    full = holding(a_claim(uuid=BYSTANDER), a_pinned_guest({1: [12, 13, 14, 15]}))
    asked = boot(numa_topology=a_guest(), pci_requests=[a_request(policy="socket")])
    node = granted(a_numa_node(full, host=host, devices=[D1]), asked)
    assert (pins_of(the_claim(node)), addresses_of(the_claim(node))) == ({0: [2, 3]}, ["d1"])


# Limits of host cells

FLOATING = a_guest(1, 2, 3000, policy="shared")
HOLDS_FLOATING = holding(a_claim(uuid=BYSTANDER), FLOATING)


def numa_limits(cpu: float, ram: float) -> Limits:
    return Limits(numa_topology=NumaLimits(cpu_allocation_ratio=cpu, ram_allocation_ratio=ram))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (None, None),
        (Limits(), None),
        (numa_limits(2.0, 1.5), None),
        (numa_limits(1.9, 1.5), NUMA),
        (numa_limits(2.0, 1.4), NUMA),
    ],
)
@pytest.mark.parametrize("method", ["instance_claim", "live_migration_claim"])
def test_cells_are_over_committed_up_to_the_ratios_sent(
    method: str, limits: Limits | None, reason: str | None
) -> None:
    """Two floating guests: four vcpus on two shared cpus, 6000 MB in a cell of 4096."""
    flavor = a_flavor(2, 3000, extra_specs={"hw:numa_nodes": "1", "hw:cpu_policy": "shared"})
    node = a_numa_node(HOLDS_FLOATING, host=ONE_CELL)
    _, decision = decided(node, asks(method, flavor, limits=limits))
    assert decision.reason == reason


@pytest.mark.parametrize(("memory", "reason"), [(1096, None), (1097, NUMA)])
def test_pinned_guest_does_not_over_commit(memory: int, reason: str | None) -> None:
    node = a_numa_node(HOLDS_FLOATING, host=ONE_CELL)
    asked = boot(numa_topology=a_guest(memory=memory), limits=numa_limits(0.1, 0.1))
    assert decided(node, asked)[1].reason == reason


# Live migration

HUGE_HOST = a_host(1, pages=PAGES)
HUGE_FLAVOR = a_flavor(2, 1024, extra_specs=DEDICATED | {"hw:mem_page_size": "large"})


def live(*, now: int | None | str = HUGE_KB, flavor: Flavor = HUGE_FLAVOR, **more: Any) -> Command:
    """A live migration of an instance whose memory has pages of this size at the source."""
    topology = None if now == "unknown" else placed(a_guest(), {5: [7, 8]}, pagesize=now)
    instance = an_instance(flavor=flavor, numa_topology=topology)
    return asks("live_migration_claim", flavor, instance, **more)


def test_live_migration_tests_devices_and_takes_none() -> None:
    node = a_numa_node(host=HUGE_HOST, devices=[a_device("d1")])
    assert refused(node, live(pci_requests=[a_request(2)])) == f"{NUMA_AND_PCI}; {PCI}"
    after = granted(node, live(pci_requests=[a_request()]))
    claim = the_claim(after)
    assert (claim.pci_devices, claim.pci_requests) == ((), (a_request(),))
    assert (pins_of(claim), claim.assigned) == ({0: [2, 3]}, True)
    assert statuses_of(after) == {"d1": "available"}


@pytest.mark.parametrize(
    ("now", "reason"),
    [(HUGE_KB, None), (1048576, PAGE_SIZE), (SMALL_KB, PAGE_SIZE), (None, PAGE_SIZE), ("unknown", None)],
)
def test_live_migration_keeps_the_size_of_pages(now: int | None | str, reason: str | None) -> None:
    _, decision = decided(a_numa_node(host=HUGE_HOST), live(now=now))
    assert decision.reason == reason


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [([HUGE_KB, SMALL_KB], None), ([HUGE_KB], None), ([SMALL_KB, HUGE_KB], PAGE_SIZE), ([], None)],
)
def test_first_cells_tell_the_size_of_pages(sizes: list[int], reason: str | None) -> None:
    """As in Nova, whatever the others have and however many there are."""
    current = GuestTopology([replace(a_guest().cells[0], pagesize=size) for size in sizes])
    flavor = a_flavor(4, 1024, extra_specs=HUGE_FLAVOR.extra_specs | {"hw:numa_nodes": "2"})
    asked = asks("live_migration_claim", flavor, an_instance(flavor=flavor, numa_topology=current))
    _, decision = decided(a_numa_node(host=a_host(2, pages=PAGES)), asked)
    assert decision.reason == reason


def test_live_migration_without_page_sizes_is_not_tested_for_them() -> None:
    assert granted(a_numa_node(host=HUGE_HOST), live(now=None, flavor=PINNED))
    without = a_node(resources=replace(host_resources(), numa_topology=None))
    assert granted(without, live(now=1048576))


def test_size_of_pages_is_the_last_reason() -> None:
    reason = refused(a_numa_node(host=HUGE_HOST), live(now=SMALL_KB, limits=PLAIN))
    assert reason == f"{SHORT}; {PAGE_SIZE}"


@pytest.mark.parametrize("method", ["instance_claim", "resize_claim", "rebuild_claim"])
def test_other_claims_may_change_the_size_of_pages(method: str) -> None:
    instance = an_instance(flavor=HUGE_FLAVOR, numa_topology=placed(a_guest(), {5: [7, 8]}, pagesize=4))
    granted(a_numa_node(host=HUGE_HOST), asks(method, HUGE_FLAVOR, instance))


# Claims that were decided elsewhere


def decided_elsewhere(method: str, **carried: Any) -> Command:
    """A claim that brings its topology and devices: the instance's own, or those of its migration."""
    topology, devices = carried.get("topology"), carried.get("devices")
    if method == "instance_claim":
        instance = an_instance(numa_topology=topology, pci_devices=devices)
        return asks(method, a_flavor(), instance, decided=True)
    elsewhere = an_instance(numa_topology=a_pinned_guest({5: [50]}), pci_devices=["far"])
    migration = a_migration(new_numa_topology=topology, new_pci_devices=devices)
    return asks(method, a_flavor(), elsewhere, migration=migration, decided=True)


def conflicts(decision: Decision) -> list[tuple[str, str]]:
    """The corrections as (action, reason)."""
    told = [each for effect in decision.effects for each in getattr(effect, "corrections", ())]
    return [(correction.action, correction.reason) for correction in told]


TAKEN = holding(a_claim(uuid=BYSTANDER), a_pinned_guest({0: [2, 3]}), [CARD[1], "d1"])


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize(
    ("carried", "conflict"),
    [
        ({}, False),
        ({"topology": a_pinned_guest({0: [4, 5], 1: [12, 13]})}, False),
        ({"topology": a_pinned_guest({0: [3, 4]})}, True),
        ({"topology": a_pinned_guest({0: [0, 1]})}, True),
        ({"topology": a_pinned_guest({9: [90, 91]})}, False),
        ({"topology": a_guest(policy="shared", memory=99999)}, False),
        ({"devices": ["vf2", "d2"]}, False),
        ({"devices": []}, False),
        ({"devices": ["vf1"]}, True),
        ({"devices": ["d2", "d1"]}, True),
        ({"devices": ["pf"]}, True),
        ({"devices": ["nobody knows"]}, True),
        ({"topology": a_pinned_guest({0: [3, 4]}), "devices": ["d2"]}, True),
    ],
)
def test_decided_claim_is_recorded_as_it_came_and_tells_what_was_not_free(
    method: str, available: bool, carried: dict[str, Any], conflict: bool
) -> None:
    node = a_node(
        TAKEN, resources=host_resources(devices=[*CARD, a_device("d1"), a_device("d2")], available=available)
    )
    asked = decided_elsewhere(method, **carried)
    once, decision = decided(node, asked)
    claim = the_claim(once)
    assert (decision.outcome, decision.claim) == ("granted", claim)
    assert conflicts(decision) == ([("added", "conflict")] if conflict else [])
    assert claim.numa_topology == carried.get("topology")
    assert addresses_of(claim) == carried.get("devices", [])
    assert not claim.assigned
    assert all(device.allocated for device in claim.pci_devices)
    twice, again = decided(once, asked)
    assert (again.outcome, again.changes, again.effects) == ("granted", (), ())
    assert twice.claims == once.claims


def test_pins_that_overlap_are_free_with_their_last_claim() -> None:
    node = a_numa_node(TAKEN)
    node, _ = decided(node, decided_elsewhere("instance_claim", topology=a_pinned_guest({0: [3, 4]})))
    assert pinned_on(node) == {0: [2, 3, 4], 1: []}
    node, _ = decided(node, command("abort_instance_claim", instance_uuid=BYSTANDER))
    assert pinned_on(node) == {0: [3, 4], 1: []}
    node, _ = decided(node, command("abort_instance_claim", instance_uuid=INSTANCE))
    assert pinned_on(node) == {0: [], 1: []}


def test_decided_claim_may_take_what_the_claim_that_it_replaces_had() -> None:
    old = holding(a_claim(), a_pinned_guest({0: [2, 3]}), ["d1"])
    node = a_numa_node(old, devices=[a_device("d1")])
    asked = decided_elsewhere("instance_claim", topology=a_pinned_guest({0: [3, 4]}), devices=["d1"])
    _, decision = decided(node, asked)
    assert (decision.outcome, decision.effects) == ("granted", ())


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_decided_replacement_has_what_it_carries_alone(method: str) -> None:
    old = holding(a_claim(*role_of(method)), a_pinned_guest({0: [2, 3]}), ["d1"])
    node, _ = decided(a_numa_node(old, devices=[a_device("d2")]), decided_elsewhere(method, devices=["d2"]))
    assert (pins_of(the_claim(node)), addresses_of(the_claim(node))) == ({}, ["d2"])


def test_decided_replacement_tells_what_was_there_before() -> None:
    node = a_numa_node(TAKEN, a_claim(flavor=a_flavor(1)))
    _, decision = decided(node, decided_elsewhere("instance_claim", topology=a_pinned_guest({0: [2, 3]})))
    assert conflicts(decision) == [("changed", "conflict")]


def test_decided_claim_on_a_host_without_a_topology_conflicts_with_nothing() -> None:
    node = a_node(TAKEN)
    _, decision = decided(node, decided_elsewhere("instance_claim", topology=a_pinned_guest({0: [2, 3]})))
    assert (decision.outcome, decision.effects) == ("granted", ())


def test_decided_devices_are_kept_as_the_report_has_them() -> None:
    node = a_numa_node(devices=[a_device("d1", numa_node=1)])
    node, _ = decided(node, decided_elsewhere("instance_claim", devices=["d1", "d9"]))
    held = the_claim(node).pci_devices
    assert held == (
        HeldDevice("d1", device=a_device("d1", numa_node=1), tentative=True),
        HeldDevice("d9", tentative=True),
    )


@pytest.mark.parametrize(
    ("method", "sent", "wanted"),
    [
        ("instance_claim", None, (GPU_REQUEST,)),
        ("rebuild_claim", None, (GPU_REQUEST,)),
        ("rebuild_claim", [a_port()], (a_port(),)),
    ],
)
def test_decided_claim_says_what_its_devices_were_asked_for(
    method: str, sent: list[PciRequest] | None, wanted: tuple[PciRequest, ...]
) -> None:
    instance = an_instance(pci_requests=[GPU_REQUEST])
    more = {} if sent is None else {"pci_requests": sent}
    node, _ = decided(a_numa_node(), asks(method, a_flavor(), instance, decided=True, **more))
    assert the_claim(node).pci_requests == wanted


@pytest.mark.parametrize("method", EVERY_CLAIM)
def test_decided_claim_reads_neither_flavor_nor_image(method: str) -> None:
    flavor = a_flavor(2, 1024, extra_specs={"hw:cpu_policy": "x", "pci_passthrough:alias": "unknown:1"})
    node, decision = decided(a_numa_node(), asks(method, flavor, decided=True))
    assert decision.outcome == "granted"
    assert the_claim(node).numa_request is None
