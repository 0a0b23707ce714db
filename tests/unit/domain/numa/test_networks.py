# SPDX-License-Identifier: Apache-2.0
"""NUMA-aware vSwitches: which host cells are near to the networks of a guest."""

import pytest

from tracker_worker.domain.numa.networks import are_near
from tracker_worker.domain.objects import HostCell, NetworkMetadata

CELL_NETWORKS = [
    NetworkMetadata(["left", "both"], tunneled=True),
    NetworkMetadata(["right", "both"]),
    NetworkMetadata(),
    None,
]
HOST = [
    HostCell(id=id, cpuset=[], pcpuset=[], memory=1, network_metadata=networks)
    for id, networks in enumerate(CELL_NETWORKS)
]


@pytest.mark.parametrize("tunneled", [False, True])
@pytest.mark.parametrize(
    ("physnets", "chosen", "near"),
    [
        ([], {3}, True),
        (["left"], {0}, True),
        (["left"], {1}, False),
        (["left"], {2, 3}, False),
        (["left"], {0, 3}, True),
        (["left", "right"], {0}, False),
        (["left", "right"], {0, 1}, True),
        (["both"], {1}, True),
        (["nowhere"], {3}, True),
        (["nowhere", "left"], {3}, False),
    ],
)
def test_network_is_near_to_a_chosen_cell_or_to_none(
    physnets: list[str], chosen: set[int], near: bool, tunneled: bool
) -> None:
    """Tunnels are like a network that is near to cell 0."""
    expected = near and (not tunneled or 0 in chosen)
    assert are_near(HOST, chosen, NetworkMetadata(physnets, tunneled)) == expected


def test_networks_that_no_cell_tells_of_may_be_anywhere() -> None:
    assert are_near(HOST[2:], {3}, NetworkMetadata(["left"], tunneled=True))


def test_guest_without_networks_may_be_anywhere() -> None:
    assert are_near(HOST, {3}, None)
