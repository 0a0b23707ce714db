# SPDX-License-Identifier: Apache-2.0
"""NUMA-aware vSwitches: are a guest's networks near to the host cells that it is on?"""

from collections.abc import Collection

from tracker_worker.domain.objects import HostCell, NetworkMetadata

_TUNNELS = None
"""Stands for the tunneled networks among the names of the physical ones."""


def are_near(host: Collection[HostCell], chosen: Collection[int], networks: NetworkMetadata | None) -> bool:
    """Tell whether each network is near to one of the chosen cells, or to no cell of the host at all.

    `chosen` are ids of cells. Choosing more cells never makes a network less near.
    Source: nova.virt.hardware._numa_cells_support_network_metadata.
    """
    anywhere = {network for cell in host for network in _names(cell.network_metadata)}
    near = {network for cell in host if cell.id in chosen for network in _names(cell.network_metadata)}
    return _names(networks) & anywhere <= near


def _names(networks: NetworkMetadata | None) -> set[str | None]:
    if networks is None:
        return set()
    return {*networks.physnets, *([_TUNNELS] if networks.tunneled else [])}
