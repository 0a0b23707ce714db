# SPDX-License-Identifier: Apache-2.0
"""The usage of a node's host cells and devices by claims."""

from collections.abc import Iterable

from msgspec.structs import replace

from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.numa.topology import CellUsage, usage_of
from tracker_worker.domain.objects import GuestTopology
from tracker_worker.domain.pci.pools import TrackedDevice, tracked_devices
from tracker_worker.domain.pci.requests import Affinity


def cells_of(node: Node, claims: Iterable[Claim]) -> list[CellUsage]:
    """Return the usage of a node's cells by claims, in the report's order; empty without a topology."""
    topology = node.resources and node.resources.numa_topology
    if not topology:
        return []
    return usage_of(topology, (claim.numa_topology for claim in claims if claim.numa_topology is not None))


def devices_of(node: Node, claims: Iterable[Claim]) -> list[TrackedDevice]:
    """Return the devices of a node, with their status and holder according to these claims."""
    reported = (node.resources and node.resources.pci_devices) or ()
    held = ((claim.instance_uuid, device) for claim in claims for device in claim.pci_devices)
    return tracked_devices(reported, held)


def with_known_devices(node: Node, claim: Claim) -> Claim:
    """Return a claim that stores its devices as reported now, in case a later report lacks them."""
    if all(held.device is not None for held in claim.pci_devices):
        return claim
    known = {each.address: each.device for each in devices_of(node, node.held())}
    devices = [
        held if held.device is not None else replace(held, device=known.get(held.address))
        for held in claim.pci_devices
    ]
    return replace(claim, pci_devices=tuple(devices))


def cell_ids(topology: GuestTopology | None) -> frozenset[int]:
    """Return the host cells that a guest is on."""
    return frozenset(cell.id for cell in topology.cells) if topology else frozenset()


def affinity_of(node: Node, cells: frozenset[int]) -> Affinity:
    """Return the affinity of a guest on some of a node's cells."""
    topology = node.resources and node.resources.numa_topology
    host = topology.cells if topology else ()
    return Affinity(cells, {cell.id: cell.socket for cell in host})
