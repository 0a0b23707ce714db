# SPDX-License-Identifier: Apache-2.0
"""Claims of host cpus, memory, pages and devices: all that is asked for or nothing, in Nova's wording."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import BYSTANDER, OTHER_MOVE, a_claim, a_flavor, a_migration, a_node, claims_of, decided
from tests.topologies import (
    DEDICATED,
    GPU,
    GPU_REQUEST,
    PAGES,
    SMALL_KB,
    WITH_ALIASES,
    WITH_GPU,
    a_device,
    a_guest,
    a_host,
    a_numa_node,
    a_pinned_guest,
    a_request,
    addresses_of,
    holding,
    host_resources,
    memory_on,
    pages_on,
    pinned_on,
    pins_of,
    statuses_of,
)
from tests.unit.domain.claiming import (
    EVERY_CLAIM,
    MOVE_CLAIMS,
    NUMA,
    NUMA_AND_PCI,
    PCI,
    SHORT,
    TIGHT,
    asks,
    boot,
    granted,
    refused,
    role_of,
    the_claim,
)
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.objects import HostTopology, Limits, PciRequest
from tracker_worker.domain.pci.pools import HeldDevice

TAKING_CLAIMS = ("instance_claim", "resize_claim", "rebuild_claim")
"""A live migration takes its devices later."""

ONE_CELL = a_host(1)


# Everything or nothing


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
    once, first = decided(node, asked, WITH_ALIASES)
    twice, second = decided(once, asked, WITH_ALIASES)
    assert (second.outcome, second.claim, second.changes) == ("granted", first.claim, ())
    assert (twice.claims, twice.used) == (once.claims, once.used)


def test_instance_that_comes_back_with_its_pins_and_devices_gets_the_same() -> None:
    node = a_numa_node(host=a_host(pages=PAGES), devices=[a_device("d1", **GPU)])
    asked: dict[str, Any] = {"numa_topology": a_guest(pagesize=-2), "pci_requests": [a_request(**GPU)]}
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


@pytest.mark.parametrize(
    ("of", "requests", "limits", "reason"),
    [
        ({}, [], None, NUMA),
        ({}, [a_request()], None, NUMA_AND_PCI),
        ({}, [a_request(), a_request()], None, f"{NUMA_AND_PCI}; {PCI}"),
        ({"cpus": 1, "memory": 1025}, [], None, NUMA),
        ({"cpus": 1}, [ELSEWHERE], None, NUMA_AND_PCI),
        ({"cpus": 1}, [a_request(2)], None, f"{NUMA_AND_PCI}; {PCI}"),
        ({"cpus": 1}, [a_request()], TIGHT, SHORT),
        ({}, [], TIGHT, f"{SHORT}; {NUMA}"),
        ({}, [a_request(2)], TIGHT, f"{SHORT}; {NUMA_AND_PCI}; {PCI}"),
        (None, [a_request(2)], None, PCI),
        (None, [ELSEWHERE, ELSEWHERE], TIGHT, f"{SHORT}; {PCI}"),
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
