# SPDX-License-Identifier: Apache-2.0
"""Figures of a node that are computed once more, and what of them is wrong."""

from msgspec.structs import replace

from tests.builders import BYSTANDER, a_claim, a_flavor, a_node
from tests.topologies import (
    HUGE_KB,
    PAGES,
    a_card,
    a_device,
    a_guest,
    a_host,
    a_numa_node,
    a_pinned_guest,
    holding,
    placed,
)
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import GuestTopology
from tracker_worker.domain.verification import Difference, differences


def a_full_node() -> Node:
    """Pinned and floating guests, huge pages, isolated threads, a card of which a function is held."""
    pinned = a_pinned_guest({0: (2, 3), 1: (12, 13)})
    isolated = placed(a_guest(cpus=1, cpu_thread_policy="isolate"), {0: (4,)})
    floating = GuestTopology([replace(a_guest(policy=None).cells[0], pagesize=HUGE_KB)])
    return a_numa_node(
        holding(a_claim(), pinned, [a_card()[1]]),
        holding(a_claim(uuid=BYSTANDER), isolated, ["gone"]),
        holding(
            a_claim("outgoing", uuid=BYSTANDER, flavor=a_flavor(swap_mb=7), volume_backed=True), floating
        ),
        host=a_host(threads=2, pages=PAGES),
        devices=[*a_card(), *a_card("pf2", ("vf3",)), a_device()],
    )


def test_right_figures_have_no_difference() -> None:
    assert list(differences(a_full_node())) == []
    assert list(differences(a_node())) == []


def test_wrong_running_sum_is_found() -> None:
    node = replace(a_node(a_claim()), claimed=Amounts(3, 2048, 0))
    assert list(differences(node)) == [
        Difference("node-1", "vcpus_used", 3, 2),
        Difference("node-1", "disk_mb_used", 0, 20480),
    ]
