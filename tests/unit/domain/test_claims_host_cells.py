# SPDX-License-Identifier: Apache-2.0
"""Which host cells a claim gets, and how far they are over-committed."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import BYSTANDER, a_claim, a_flavor, decided
from tests.topologies import (
    a_device,
    a_guest,
    a_host,
    a_host_cell,
    a_numa_node,
    a_pinned_guest,
    a_request,
    addresses_of,
    holding,
    pins_of,
)
from tests.unit.domain.claiming import (
    EVERY_CLAIM,
    NUMA,
    NUMA_AND_PCI,
    asks,
    boot,
    granted,
    refused,
    the_claim,
)
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.objects import HostTopology, Limits, NetworkMetadata, NumaLimits, PciRequest
from tracker_worker.domain.settings import TrackerSettings

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
    node = granted(node, boot(numa_topology=a_guest(), pci_requests=requests), settings=settings)
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


# Networks

FOO = NetworkMetadata(["foo"])
TUNNELS = NetworkMetadata(tunneled=True)
WITH_NETWORKS = HostTopology(
    [
        replace(a_host_cell(0), network_metadata=NetworkMetadata()),
        replace(a_host_cell(1), network_metadata=NetworkMetadata(["foo"], tunneled=True)),
    ]
)


@pytest.mark.parametrize("method", EVERY_CLAIM)
@pytest.mark.parametrize("networks", [FOO, TUNNELS], ids=["physnet", "tunnels"])
@pytest.mark.parametrize("in_numa_topology", [True, False])
def test_guest_goes_where_its_networks_are(
    method: str, networks: NetworkMetadata, in_numa_topology: bool
) -> None:
    """Nova has them in the limits of the topology."""
    limits = Limits(network_metadata=networks)
    if in_numa_topology:
        limits = Limits(numa_topology=NumaLimits(1.0, 1.0, networks))
    node = granted(a_numa_node(host=WITH_NETWORKS), asks(method, limits=limits))
    assert list(pins_of(the_claim(node))) == [1]


def test_guest_is_refused_when_its_networks_are_elsewhere() -> None:
    full = holding(a_claim(uuid=BYSTANDER), a_pinned_guest({1: [12, 13, 14, 15]}))
    node = a_numa_node(full, host=WITH_NETWORKS)
    assert refused(node, boot(limits=Limits(network_metadata=FOO))) == NUMA
    granted(node, boot(limits=Limits(network_metadata=NetworkMetadata(["bar"]))))


def test_networks_and_devices_have_to_be_on_the_same_cells() -> None:
    node = a_numa_node(host=WITH_NETWORKS, devices=[D0])
    asked = boot(
        numa_topology=a_guest(),
        pci_requests=[a_request(policy="required")],
        limits=Limits(network_metadata=FOO),
    )
    assert refused(node, asked) == NUMA_AND_PCI


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
    node = a_numa_node(HOLDS_FLOATING, host=a_host(1))
    _, decision = decided(node, asks(method, flavor, limits=limits))
    assert decision.reason == reason


@pytest.mark.parametrize(("memory", "reason"), [(1096, None), (1097, NUMA)])
def test_pinned_guest_does_not_over_commit(memory: int, reason: str | None) -> None:
    node = a_numa_node(HOLDS_FLOATING, host=a_host(1))
    asked = boot(numa_topology=a_guest(memory=memory), limits=numa_limits(0.1, 0.1))
    assert decided(node, asked)[1].reason == reason
