# SPDX-License-Identifier: Apache-2.0
"""NUMA-aware vSwitches: the affinity of a guest's networks to its host cells."""

from collections.abc import Collection

from tracker_worker.domain.objects import HostCell, NetworkMetadata

_TUNNELS = None
"""The element for tunneled networks in a set of names of physical networks."""


def are_near(host: Collection[HostCell], chosen: Collection[int], networks: NetworkMetadata | None) -> bool:
    """Tell whether each network is near to one of the chosen cells, or to no cell of the host at all.

    `chosen` are ids of cells. A result that is true stays true with more cells.
    Source: nova.virt.hardware._numa_cells_support_network_metadata.
    """
    anywhere = {network for cell in host for network in _names(cell.network_metadata)}
    near = {network for cell in host if cell.id in chosen for network in _names(cell.network_metadata)}
    return _names(networks) & anywhere <= near


def _names(networks: NetworkMetadata | None) -> set[str | None]:
    if networks is None:
        return set()
    return {*networks.physnets, *([_TUNNELS] if networks.tunneled else [])}
