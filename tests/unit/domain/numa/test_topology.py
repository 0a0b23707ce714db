# SPDX-License-Identifier: Apache-2.0
"""What guests hold of each host cell, and what a guest asks for without where it is."""

from typing import Any

import pytest

from tracker_worker.domain.fields import EmulatorThreadsPolicy
from tracker_worker.domain.numa.topology import CellUsage, request_of, usage_of
from tracker_worker.domain.objects import GuestCell, GuestTopology, HostCell, HostTopology, PageSize

SMALL, LARGE, ANY = -1, -2, -3
PAGES = [PageSize(2048, 512, reserved=8), PageSize(4, 524_288), PageSize(1_048_576, 1)]


def a_host_cell(id: int = 0, **more: Any) -> HostCell:
    """Cpus 0 and 1 are shared, 2 to 7 dedicated: the cores are 2 and 5, 3 and 6, 4 and 7."""
    fields: dict[str, Any] = {
        "cpuset": [0, 1],
        "pcpuset": [2, 3, 4, 5, 6, 7],
        "memory": 4096,
        "siblings": [[0, 1], [2, 5], [3, 6], [4, 7]],
        "mempages": PAGES,
        **more,
    }
    return HostCell(id=id, **fields)


def a_cell(id: int = 0, memory: int = 64, **more: Any) -> GuestCell:
    return GuestCell(id=id, **{"cpuset": [], "pcpuset": [], "memory": memory, **more})


def pinned_to(*cpus: int, policy: str | None = "dedicated", **more: Any) -> GuestCell:
    pinning = {str(number): cpu for number, cpu in enumerate(cpus)}
    return a_cell(pcpuset=list(range(len(cpus))), cpu_policy=policy, cpu_pinning=pinning, **more)


def a_guest(*cells: GuestCell) -> GuestTopology:
    return GuestTopology(list(cells))


def usages(*guests: GuestTopology, host: list[HostCell] | None = None) -> list[CellUsage]:
    return usage_of(HostTopology(host or [a_host_cell()]), guests)


def usage(*cells: GuestCell, host: HostCell | None = None) -> CellUsage:
    """The usage of one host cell by guests of one cell each."""
    (found,) = usages(*map(a_guest, cells), host=[host or a_host_cell()])
    return found


# Memory and shared cpus


def test_a_host_without_guests_is_unused() -> None:
    host = [a_host_cell(7), a_host_cell(3)]
    assert usages(host=host) == [CellUsage(host[0]), CellUsage(host[1])]
    assert usages(a_guest(), host=host) == usages(host=host)


def test_memory_and_shared_cpus_are_the_sum_of_the_guests_on_each_cell() -> None:
    guests = [
        a_guest(a_cell(3, 100, cpuset=[0, 1]), a_cell(7, 20, cpuset=[2])),
        a_guest(a_cell(3, 3, cpuset=[0])),
    ]
    used = usages(*guests, host=[a_host_cell(7), a_host_cell(3), a_host_cell(5)])
    assert [(each.cell.id, each.memory_usage, each.cpu_usage) for each in used] == [
        (7, 20, 1),
        (3, 103, 3),
        (5, 0, 0),
    ]


def test_two_cells_of_a_guest_may_be_on_one_host_cell() -> None:
    (used,) = usages(a_guest(a_cell(memory=1), a_cell(memory=2)))
    assert used.memory_usage == 3


def test_a_guest_cell_of_no_host_cell_counts_nowhere() -> None:
    assert usage(a_cell(9, 100, cpuset=[0])) == CellUsage(a_host_cell())


def test_memory_may_be_over_committed() -> None:
    assert usage(a_cell(memory=4000), a_cell(memory=100)).free_memory == -4


def test_dedicated_cpus_are_no_shared_ones() -> None:
    used = usage(pinned_to(2, 3, policy="mixed", cpuset=[2]))
    assert (used.cpu_usage, used.pinned_cpus) == (1, frozenset({2, 3}))


# Pinned cpus


@pytest.mark.parametrize("policy", ["dedicated", "mixed"])
@pytest.mark.parametrize("threads", [None, "prefer", "require"])
def test_pins_and_the_emulators_cpus_are_taken(policy: str, threads: str | None) -> None:
    used = usage(pinned_to(2, 3, policy=policy, cpu_thread_policy=threads, cpuset_reserved=[4]))
    assert used.pinned_cpus == {2, 3, 4}
    assert used.free_pcpus == {5, 6, 7}


@pytest.mark.parametrize(("cpus", "reserved", "taken"), [
    ([2], None, {2, 5}),
    ([2], [6], {2, 5, 3, 6}),
    ([2, 5], None, {2, 5}),
    ([], [4], {4, 7}),
])  # fmt: skip
def test_an_isolated_guest_takes_the_siblings_too(
    cpus: list[int], reserved: list[int] | None, taken: set[int]
) -> None:
    guest = pinned_to(*cpus, cpu_thread_policy="isolate", cpuset_reserved=reserved)
    assert usage(guest).pinned_cpus == taken


def test_a_cpu_without_siblings_is_taken_alone() -> None:
    host = a_host_cell(siblings=[[3, 6]])
    assert usage(pinned_to(2, cpu_thread_policy="isolate"), host=host).pinned_cpus == {2}


@pytest.mark.parametrize("policy", [None, "shared"])
def test_a_floating_guest_takes_no_cpu_for_itself(policy: str | None) -> None:
    assert usage(pinned_to(2, policy=policy, cpuset_reserved=[3])).pinned_cpus == set()


@pytest.mark.parametrize("policy", ["dedicated", "mixed"])
def test_a_guest_that_is_not_pinned_yet_takes_no_cpu(policy: str) -> None:
    assert usage(a_cell(pcpuset=[0, 1], cpu_policy=policy)).pinned_cpus == set()


def test_an_overlapping_pin_is_free_when_its_last_guest_lets_go() -> None:
    first, second = pinned_to(2, 3), pinned_to(3, 4)
    assert usage(first, second).pinned_cpus == {2, 3, 4}
    assert usage(second).pinned_cpus == {3, 4}
    assert usage().pinned_cpus == set()


def test_a_pin_that_the_host_does_not_have_is_counted_and_makes_nothing_free() -> None:
    used = usage(pinned_to(99))
    assert used.pinned_cpus == {99}
    assert used.free_pcpus == {2, 3, 4, 5, 6, 7}


# Pages


@pytest.mark.parametrize(("size", "pages"), [
    (None, {4: 16_384}), (0, {4: 16_384}), (SMALL, {4: 16_384}), (LARGE, {4: 16_384}), (ANY, {4: 16_384}),
    (4, {4: 16_384}), (2048, {2048: 32}),
    (64, {64: 1024}),  # of no size of the host's
    (1_048_576, {1_048_576: 1}),  # no multiple: a whole page is gone
])  # fmt: skip
def test_memory_takes_pages_of_its_size_and_the_smallest_by_default(
    size: int | None, pages: dict[int, int]
) -> None:
    assert usage(a_cell(pagesize=size)).pages == pages


def test_pages_are_the_sum_of_the_guests_by_size() -> None:
    guests = [a_cell(pagesize=2048), a_cell(pagesize=2048, memory=2), a_cell(memory=1)]
    assert usage(*guests).pages == {2048: 33, 4: 256}


@pytest.mark.parametrize(("size", "pages"), [(None, {}), (SMALL, {}), (2048, {2048: 32})])
def test_a_host_that_reports_no_pages_counts_those_of_a_known_size_alone(
    size: int | None, pages: dict[int, int]
) -> None:
    assert usage(a_cell(pagesize=size), host=a_host_cell(mempages=[])).pages == pages


def test_free_pages_are_those_that_neither_guests_nor_the_host_have() -> None:
    used = usage(a_cell(pagesize=2048), a_cell(memory=1025, pagesize=1_048_576))
    assert [used.free_pages(page) for page in PAGES] == [512 - 8 - 32, 524_288, 1 - 2]


# What is asked for


def test_nothing_is_asked_for_without_a_topology() -> None:
    assert request_of(None) is None


def test_a_request_is_a_topology_without_its_place() -> None:
    cells = [
        pinned_to(2, 3, id=5, pagesize=2048, cpu_thread_policy="prefer", cpuset_reserved=[4]),
        a_cell(2, cpuset=[2], cpu_policy="dedicated"),
    ]
    assert request_of(GuestTopology(cells, EmulatorThreadsPolicy.ISOLATE)) == GuestTopology(
        [
            a_cell(0, pcpuset=[0, 1], pagesize=2048, cpu_policy="dedicated", cpu_thread_policy="prefer"),
            a_cell(1, cpuset=[2], cpu_policy="dedicated"),
        ],
        EmulatorThreadsPolicy.ISOLATE,
    )


def test_a_request_asks_for_itself() -> None:
    request = a_guest(a_cell(0, pagesize=LARGE), a_cell(1))
    assert request_of(request) == request
