# SPDX-License-Identifier: Apache-2.0
"""Which cpus of a host cell a guest cell is pinned to, by its thread policy.

Cores are written as their threads; a guest that wants N cpus has the cpus 0 to N - 1.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

import pytest

from tracker_worker.domain.fields import CpuPolicy, CpuThreadPolicy
from tracker_worker.domain.numa.pinning import Pins, free_cores, pin
from tracker_worker.domain.numa.topology import CellUsage
from tracker_worker.domain.objects import GuestCell, HostCell

PREFER, REQUIRE, ISOLATE = CpuThreadPolicy.PREFER, CpuThreadPolicy.REQUIRE, CpuThreadPolicy.ISOLATE
FLAT = [[0], [1], [2], [3]]
PAIRS = [[0, 4], [1, 5], [2, 6], [3, 7]]
FOURS = [[0, 1, 2, 3], [4, 5, 6, 7]]
LONE = [[0, 4], [1, 5], [2]]
"""A core of which the host has one thread only."""


def a_cell(
    cores: list[list[int]], shared: list[int] | None = None, siblings: list[list[int]] | None = None
) -> HostCell:
    """A host cell; by default its dedicated cpus are the shared ones too (vcpu_pin_set)."""
    cpus = sorted(chain.from_iterable(cores))
    return HostCell(
        id=0,
        cpuset=cpus if shared is None else shared,
        pcpuset=cpus,
        memory=1024,
        siblings=cores if siblings is None else siblings,
    )


def a_guest(wanted: int | list[int], threads: CpuThreadPolicy | None = None) -> GuestCell:
    cpus = list(range(wanted)) if isinstance(wanted, int) else wanted
    return GuestCell(
        id=0, cpuset=[], pcpuset=cpus, memory=1, cpu_policy=CpuPolicy.DEDICATED, cpu_thread_policy=threads
    )


def pins(
    cell: HostCell,
    wanted: int,
    threads: CpuThreadPolicy | None = None,
    *,
    taken: Iterable[int] = (),
    reserved: int = 0,
) -> list[int] | tuple[list[int], list[int]] | None:
    """The host cpus of the guest's, and the emulator's if it wants some; None when they cannot be had."""
    usage = CellUsage(cell, pinned_cpus=frozenset(taken))
    found = pin(cell, free_cores(usage), a_guest(wanted, threads), reserved)
    if found is None:
        return None
    cpus = list(found.cpu_pinning.values())
    if not reserved:
        return cpus
    assert found.cpuset_reserved is not None
    return cpus, found.cpuset_reserved


# Free cores


def test_a_cpu_of_two_cores_is_free_once() -> None:
    """A report may say so; two guest cpus would have it."""
    assert free_cores(CellUsage(a_cell(FLAT, siblings=[[0, 1], [1, 0], [1, 2]]))) == [(0, 1), (2,), (3,)]


@pytest.mark.parametrize(("cores", "taken", "free"), [
    (PAIRS, [], [(0, 4), (1, 5), (2, 6), (3, 7)]),
    (PAIRS, [0, 1, 5], [(4,), (2, 6), (3, 7)]),
    (PAIRS, range(8), []),
    ([[64, 3], [1, 5]], [], [(3, 64), (1, 5)]),
])  # fmt: skip
def test_a_free_core_has_the_threads_that_nobody_has(
    cores: list[list[int]], taken: list[int] | range, free: list[tuple[int, ...]]
) -> None:
    assert free_cores(CellUsage(a_cell(cores), pinned_cpus=frozenset(taken))) == free


def test_shared_cpus_are_no_threads_of_a_free_core() -> None:
    cell = HostCell(id=0, cpuset=[0, 1, 4], pcpuset=[2, 5, 6], memory=1, siblings=[[0, 4], [1, 5], [2, 6]])
    assert free_cores(CellUsage(cell)) == [(5,), (2, 6)]


@pytest.mark.parametrize(("siblings", "free"), [
    ([], [(0,), (1,), (2,), (3,)]),
    ([[1, 3]], [(1, 3), (0,), (2,)]),
])  # fmt: skip
def test_a_cpu_that_is_nobodys_sibling_is_a_core(
    siblings: list[list[int]], free: list[tuple[int, ...]]
) -> None:
    assert free_cores(CellUsage(a_cell(FLAT, siblings=siblings))) == free


# The thread policies


@pytest.mark.parametrize("threads", [None, PREFER])
@pytest.mark.parametrize(("cores", "taken", "wanted", "chosen"), [
    (FLAT, [], 2, [0, 1]),
    (FLAT, [0, 2], 2, [1, 3]),
    (FLAT, [], 5, None),
    (PAIRS, [], 1, [0]),
    (PAIRS, [], 2, [0, 4]),
    (PAIRS, [], 3, [0, 4, 1]),
    (PAIRS, [], 8, [0, 4, 1, 5, 2, 6, 3, 7]),
    (PAIRS, [], 9, None),
    (PAIRS, [0], 2, [1, 5]),  # whole cores before a thread that is left
    (PAIRS, [0], 7, [4, 1, 5, 2, 6, 3, 7]),
    (PAIRS, [0, 1, 2], 2, [3, 7]),
    (PAIRS, [0, 1, 2], 3, [4, 5, 6]),  # one thread of each core before an uneven share
    (PAIRS, [0, 1, 2], 5, [4, 5, 6, 3, 7]),
    (PAIRS, [0, 1, 2, 3], 4, [4, 5, 6, 7]),
    (PAIRS, range(8), 1, None),
    (FOURS, [], 5, [0, 1, 2, 3, 4]),
    (FOURS, [3], 4, [4, 5, 6, 7]),
    (FOURS, [3], 5, [0, 1, 2, 4, 5]),
    (FOURS, [3, 6, 7], 4, [0, 1, 4, 5]),
])  # fmt: skip
def test_siblings_are_preferred(
    threads: CpuThreadPolicy | None,
    cores: list[list[int]],
    taken: list[int] | range,
    wanted: int,
    chosen: list[int] | None,
) -> None:
    assert pins(a_cell(cores), wanted, threads, taken=taken) == chosen


@pytest.mark.parametrize(("cores", "taken", "wanted", "chosen"), [
    (FLAT, [], 1, None),
    (PAIRS, [], 1, [0]),
    (PAIRS, [], 2, [0, 4]),
    (PAIRS, [], 3, [0, 4, 1]),
    (PAIRS, [], 8, [0, 4, 1, 5, 2, 6, 3, 7]),
    (PAIRS, [0, 1, 2], 2, [3, 7]),
    (PAIRS, [0, 1, 2], 3, None),
    (PAIRS, [0, 1, 2, 3], 1, None),
    (FOURS, [0, 1, 4, 5], 4, [2, 3, 6, 7]),
    (FOURS, [0, 1, 2, 4, 5], 3, None),
])  # fmt: skip
def test_siblings_are_required(
    cores: list[list[int]], taken: list[int], wanted: int, chosen: list[int] | None
) -> None:
    assert pins(a_cell(cores), wanted, REQUIRE, taken=taken) == chosen


@pytest.mark.parametrize(("cores", "taken", "wanted", "chosen"), [
    (FLAT, [], 4, [0, 1, 2, 3]),
    (FLAT, [1], 2, [0, 2]),
    (PAIRS, [], 2, [0, 1]),
    (PAIRS, [], 4, [0, 1, 2, 3]),
    (PAIRS, [], 5, None),
    (PAIRS, [4], 3, [1, 2, 3]),  # a core that is free in part is not isolated
    (PAIRS, [4], 4, None),
    (PAIRS, [0, 1, 2, 3], 1, None),
    (LONE, [], 3, None),
    (FOURS, [], 2, [0, 4]),
    (FOURS, [5], 2, None),
])  # fmt: skip
def test_isolated_cpus_have_whole_cores(
    cores: list[list[int]], taken: list[int], wanted: int, chosen: list[int] | None
) -> None:
    assert pins(a_cell(cores), wanted, ISOLATE, taken=taken) == chosen


def test_nothing_is_isolated_from_the_shared_cpus_of_a_host_with_threads() -> None:
    """Bug 1889633: beside the thread that is taken guests could float."""
    assert pins(a_cell(PAIRS, shared=[8, 9]), 1, ISOLATE) is None


def test_cpus_are_isolated_beside_shared_ones_where_cores_have_no_threads() -> None:
    assert pins(a_cell(FLAT, shared=[8, 9]), 2, ISOLATE) == [0, 1]


def test_the_order_of_a_report_is_no_difference_between_shared_and_dedicated_cpus() -> None:
    assert pins(a_cell(PAIRS, shared=[7, 6, 5, 4, 3, 2, 1, 0]), 1, ISOLATE) == [0]


@pytest.mark.parametrize("threads", [None, PREFER, ISOLATE])
def test_a_host_that_tells_no_siblings_has_none(threads: CpuThreadPolicy | None) -> None:
    assert pins(a_cell(FLAT, siblings=[]), 2, threads, taken=[0]) == [1, 2]


def test_siblings_are_not_required_of_a_host_that_tells_none() -> None:
    assert pins(a_cell(FLAT, siblings=[]), 2, REQUIRE) is None


def test_a_guests_cpus_are_pinned_in_their_order() -> None:
    cell = a_cell(PAIRS)
    assert pin(cell, free_cores(CellUsage(cell)), a_guest([10, 2, 7]), 0) == Pins(
        {"2": 0, "7": 4, "10": 1}, None
    )


# The emulator's cpus


@pytest.mark.parametrize(("cores", "threads", "taken", "wanted", "found"), [
    (FLAT, None, [], 2, ([0, 1], [2])),
    (FLAT, None, [], 4, None),
    (PAIRS, PREFER, [], 1, ([0], [4])),
    (PAIRS, PREFER, [], 2, ([0, 4], [1])),
    (PAIRS, PREFER, [0], 2, ([1, 5], [4])),
    (PAIRS, PREFER, [], 7, ([0, 4, 1, 5, 2, 6, 3], [7])),
    (PAIRS, PREFER, [], 8, None),
    (PAIRS, REQUIRE, [], 2, ([0, 4], [1])),
    (PAIRS, REQUIRE, [0, 1, 2], 2, ([3, 7], [4])),  # only the guest's cpus have to be siblings
    (PAIRS, ISOLATE, [], 2, ([0, 1], [2])),
    (PAIRS, ISOLATE, [], 4, None),  # four threads are free, but no core
    (PAIRS, ISOLATE, [4], 2, ([1, 2], [3])),
    (PAIRS, ISOLATE, [7], 3, None),  # beside a thread of another guest's it is not isolated
    (PAIRS, ISOLATE, [3, 7], 3, None),
    (LONE, ISOLATE, [], 2, ([0, 1], [2])),
    (FLAT, ISOLATE, [], 3, ([0, 1, 2], [3])),
])  # fmt: skip
def test_the_emulator_gets_a_cpu_that_the_guest_leaves(
    cores: list[list[int]],
    threads: CpuThreadPolicy | None,
    taken: list[int],
    wanted: int,
    found: tuple[list[int], list[int]] | None,
) -> None:
    assert pins(a_cell(cores), wanted, threads, taken=taken, reserved=1) == found


# A cell of a mixed guest that has no dedicated cpus


@pytest.mark.parametrize("threads", [None, PREFER])
@pytest.mark.parametrize("taken", [(), range(8)])
def test_nothing_is_pinned_where_nothing_is_dedicated(
    threads: CpuThreadPolicy | None, taken: Sequence[int]
) -> None:
    assert pins(a_cell(PAIRS), 0, threads, taken=taken) == []


@pytest.mark.parametrize(
    ("cores", "taken", "found"), [(PAIRS, [], []), (PAIRS, [0, 1, 2, 3], None), (FLAT, [], None)]
)
def test_siblings_are_required_even_for_nothing(
    cores: list[list[int]], taken: list[int], found: list[int] | None
) -> None:
    """As in Nova, which looks for cores with free siblings first."""
    assert pins(a_cell(cores), 0, REQUIRE, taken=taken) == found


@pytest.mark.parametrize("cores", [FLAT, PAIRS])
def test_nothing_cannot_be_isolated(cores: list[list[int]]) -> None:
    """As in Nova, to which no pins are the same as no place."""
    assert pins(a_cell(cores), 0, ISOLATE) is None


@pytest.mark.parametrize("threads", [None, PREFER, REQUIRE, ISOLATE])
def test_the_emulator_has_no_cpu_beside_nothing(threads: CpuThreadPolicy | None) -> None:
    """As in Nova, which looks for it beside the pins."""
    assert pins(a_cell(PAIRS), 0, threads, reserved=1) is None
