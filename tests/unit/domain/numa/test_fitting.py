# SPDX-License-Identifier: Apache-2.0
"""Which host cell each cell of a guest goes to, and that what cannot fit is refused at once."""

import math
import sys
from collections.abc import Callable, Sequence
from itertools import permutations
from types import FrameType
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.benchmarks.fitting import Fitting, anywhere, nowhere, refused_guests
from tracker_worker.domain.fields import CpuPolicy, CpuThreadPolicy, EmulatorThreadsPolicy
from tracker_worker.domain.numa import fitting
from tracker_worker.domain.numa.fitting import Preference, fit
from tracker_worker.domain.numa.pages import ANY, LARGE, SMALL
from tracker_worker.domain.numa.pinning import free_cores
from tracker_worker.domain.numa.topology import CellUsage, cpus_of, pages_of
from tracker_worker.domain.objects import (
    GuestCell,
    GuestTopology,
    HostCell,
    NumaLimits,
    PageSize,
)

ORDERS = math.factorial(8)
"""In how many orders eight cells can be tried."""
SPREAD = Preference({}, wants_devices=False, pack=False)
PACK = Preference({}, wants_devices=False, pack=True)


def a_host_cell(
    id: int = 0,
    memory: int = 1024,
    used: int = 0,
    shared: int = 8,
    shared_used: int = 0,
    cpus: int = 4,
    pinned: int = 0,
    pages: Sequence[PageSize] = (),
    used_pages: dict[int, int] | None = None,
) -> CellUsage:
    """A host cell without threads: so many shared and dedicated cpus, of which so many are used."""
    first = id * 100
    cell = HostCell(
        id=id,
        cpuset=list(range(first + 50, first + 50 + shared)),
        pcpuset=list(range(first, first + cpus)),
        memory=memory,
        mempages=list(pages),
    )
    taken = frozenset(range(first, first + pinned))
    return CellUsage(cell, used, shared_used, taken, used_pages or {})


def a_cell(
    memory: int = 1, shared: int = 1, cpus: int = 0, policy: CpuPolicy | None = None, **more: Any
) -> GuestCell:
    """A guest cell with so many shared and dedicated cpus."""
    return GuestCell(
        id=0,
        cpuset=list(range(shared)),
        pcpuset=list(range(shared, shared + cpus)),
        memory=memory,
        cpu_policy=policy,
        **more,
    )


def pinned(cpus: int = 1, memory: int = 1, **more: Any) -> GuestCell:
    return a_cell(memory, shared=0, cpus=cpus, policy=CpuPolicy.DEDICATED, **more)


def mixed(cpus: int = 1, shared: int = 1, memory: int = 1, **more: Any) -> GuestCell:
    return a_cell(memory, shared, cpus, CpuPolicy.MIXED, **more)


def fitted(
    host: list[CellUsage],
    *guest: GuestCell,
    emulator: EmulatorThreadsPolicy | None = None,
    limits: NumaLimits | None = None,
    preference: Preference = SPREAD,
    may_suit: Callable[[frozenset[int]], bool] = anywhere,
    suits: Callable[[frozenset[int]], bool] = anywhere,
) -> GuestTopology | None:
    return fit(host, GuestTopology(list(guest), emulator), limits, preference, may_suit, suits)


def placed(host: list[CellUsage], *guest: GuestCell, **more: Any) -> list[int] | None:
    """The host cells of the guest's; None when it does not fit."""
    found = fitted(host, *guest, **more)
    return None if found is None else [cell.id for cell in found.cells]


def cells_of(host: list[CellUsage], *guest: GuestCell, **more: Any) -> list[GuestCell]:
    """The cells of a guest that fits."""
    found = fitted(host, *guest, **more)
    assert found is not None
    return found.cells


def fits(host_cell: CellUsage, guest_cell: GuestCell, **more: Any) -> bool:
    return placed([host_cell], guest_cell, **more) is not None


# What is returned


def test_a_floating_guest_gets_host_cells_alone() -> None:
    guest = [a_cell(pagesize=None, policy=CpuPolicy.SHARED), a_cell()]
    found = fitted([a_host_cell(7), a_host_cell(3)], *guest, emulator=EmulatorThreadsPolicy.SHARE)
    assert found == GuestTopology(
        [
            GuestCell(id=7, cpuset=[0], pcpuset=[], memory=1, cpu_policy=CpuPolicy.SHARED),
            GuestCell(id=3, cpuset=[0], pcpuset=[], memory=1),
        ],
        EmulatorThreadsPolicy.SHARE,
    )


def test_a_pinned_guest_gets_cpus_and_pages_of_its_host_cell() -> None:
    host = [a_host_cell(2, pinned=1, pages=[PageSize(4, 9), PageSize(2048, 9)])]
    guest = pinned(2, memory=2, pagesize=LARGE, cpu_thread_policy=CpuThreadPolicy.PREFER)
    assert fitted(host, guest, emulator=EmulatorThreadsPolicy.ISOLATE) == GuestTopology(
        [
            GuestCell(
                id=2,
                cpuset=[],
                pcpuset=[0, 1],
                memory=2,
                pagesize=2048,
                cpu_policy=CpuPolicy.DEDICATED,
                cpu_thread_policy=CpuThreadPolicy.PREFER,
                cpu_pinning={"0": 201, "1": 202},
                cpuset_reserved=[203],
            )
        ],
        EmulatorThreadsPolicy.ISOLATE,
    )


def test_a_guest_that_was_elsewhere_does_not_keep_its_place() -> None:
    before = a_cell(cpu_pinning={"0": 9}, cpuset_reserved=[8])
    assert fitted([a_host_cell(1)], before) == GuestTopology(
        [GuestCell(id=1, cpuset=[0], pcpuset=[], memory=1)]
    )


def test_a_guest_without_cells_is_nowhere() -> None:
    assert fitted([a_host_cell()]) == GuestTopology([])


@pytest.mark.parametrize("cells", [0, 1, 2])
def test_a_guest_with_more_cells_than_the_host_does_not_fit(cells: int) -> None:
    host = [a_host_cell(number) for number in range(cells)]
    assert placed(host, *[a_cell()] * (cells + 1)) is None


# Memory


@pytest.mark.parametrize(("guest", "memory", "used", "answer"), [
    (a_cell, 1024, 1000, True),
    (a_cell, 1025, 0, False),  # never over-committed by itself
    (pinned, 24, 1000, True),
    (pinned, 25, 1000, False),
    (mixed, 24, 1000, True),
    (mixed, 25, 1000, False),
])  # fmt: skip
@pytest.mark.parametrize("pages", [False, True])
def test_a_pinned_guest_needs_free_memory_and_a_floating_one_a_cell_that_is_large_enough(
    pages: bool, guest: Callable[..., GuestCell], memory: int, used: int, answer: bool
) -> None:
    kinds = [PageSize(4, 1024 * 256), PageSize(2048, 0)] if pages else []
    host = a_host_cell(memory=1024, used=used, pages=kinds, used_pages={4: used * 256})
    assert fits(host, guest(memory=memory)) is answer


@pytest.mark.parametrize(("guest", "memory", "answer"), [
    (a_cell, 1024, True), (pinned, 960, True), (pinned, 961, False),
])  # fmt: skip
def test_pages_that_the_host_keeps_are_not_free_but_there(
    guest: Callable[..., GuestCell], memory: int, answer: bool
) -> None:
    host = a_host_cell(pages=[PageSize(4, 1024 * 256, reserved=64 * 256)])
    assert fits(host, guest(memory=memory)) is answer


@pytest.mark.parametrize(("memory", "answer"), [(4, True), (3, False)])
def test_memory_is_whole_pages_of_the_smallest_size(memory: int, answer: bool) -> None:
    assert fits(a_host_cell(pages=[PageSize(2048, 512)]), a_cell(memory)) is answer


# Page sizes

SIZES = [PageSize(2048, 100, reserved=10), PageSize(4, 25_600), PageSize(1_048_576, 2)]
"""90 free pages of 2 MB, 100 MB in pages of 4 kB, 2 GB in pages of 1 GB."""


@pytest.mark.parametrize("guest", [a_cell, pinned])
@pytest.mark.parametrize(("asked", "memory", "size"), [
    (SMALL, 100, 4), (SMALL, 101, None),
    (LARGE, 2048, 1_048_576), (LARGE, 180, 2048), (LARGE, 181, None), (LARGE, 182, None), (LARGE, 3072, None),
    (ANY, 1024, 1_048_576), (ANY, 180, 2048), (ANY, 99, 4), (ANY, 182, None),
    (4, 1, 4), (4, 100, 4), (4, 101, None),
    (2048, 180, 2048), (2048, 182, None), (2048, 3, None),
    (1_048_576, 2048, 1_048_576), (1_048_576, 1, None), (1_048_576, 3072, None),
    (64, 1, None),
])  # fmt: skip
def test_a_guest_gets_the_largest_pages_that_it_allows_and_that_are_free(
    asked: int, memory: int, size: int | None, guest: Callable[..., GuestCell]
) -> None:
    host = a_host_cell(memory=10**6, pages=SIZES)
    found = fitted([host], guest(memory=memory, pagesize=asked))
    assert (found and found.cells[0].pagesize) == size


def test_pages_of_a_size_are_never_over_committed() -> None:
    host = a_host_cell(pages=SIZES, used_pages={2048: 89})
    assert fits(host, a_cell(2, pagesize=2048))
    assert not fits(host, a_cell(4, pagesize=2048))


@pytest.mark.parametrize("asked", [SMALL, LARGE, ANY, 4, 2048])
def test_no_pages_can_be_had_of_a_host_that_reports_none(asked: int) -> None:
    assert not fits(a_host_cell(), a_cell(pagesize=asked))


def test_a_host_with_one_size_has_no_large_pages() -> None:
    host = a_host_cell(pages=[PageSize(2048, 512)])
    assert not fits(host, a_cell(2, pagesize=LARGE))
    assert fits(host, a_cell(2, pagesize=SMALL))


def test_each_cell_of_a_guest_gets_the_pages_of_its_host_cell() -> None:
    host = [a_host_cell(0, pages=SIZES, used_pages={1_048_576: 2}), a_host_cell(1, pages=SIZES)]
    guest = [a_cell(100, pagesize=ANY), a_cell(1024, pagesize=ANY)]
    assert [cell.pagesize for cell in cells_of(host, *guest)] == [2048, 1_048_576]


# Cpus


@pytest.mark.parametrize(("guest", "answer"), [
    (a_cell(shared=8), True),
    (a_cell(shared=9), False),  # never over-committed by itself
    (mixed(shared=8), True),
    (mixed(shared=9), False),
    (pinned(3), True),
    (pinned(4), False),
    (mixed(3), True),
    (mixed(4), False),
])  # fmt: skip
def test_shared_cpus_have_to_be_there_and_dedicated_ones_free(guest: GuestCell, answer: bool) -> None:
    assert fits(a_host_cell(shared=8, shared_used=100, cpus=4, pinned=1), guest) is answer


def test_a_mixed_guest_has_shared_and_pinned_cpus() -> None:
    (cell,) = cells_of([a_host_cell()], mixed(cpus=2, shared=3))
    assert (cell.cpuset, cell.pcpuset, cell.cpu_pinning) == ([0, 1, 2], [3, 4], {"3": 0, "4": 1})


def test_a_mixed_cell_without_dedicated_cpus_pins_nothing() -> None:
    host = [a_host_cell(0, pinned=4), a_host_cell(1)]
    first, second = cells_of(host, mixed(cpus=0, shared=2), mixed(cpus=2, shared=0))
    assert (first.id, first.cpu_pinning, first.cpuset_reserved) == (0, {}, None)
    assert (second.id, second.cpu_pinning) == (1, {"0": 100, "1": 101})


# Limits


@pytest.mark.parametrize(("guest", "answer"), [
    (a_cell(shared=4), True),
    (a_cell(shared=5), False),
    (a_cell(memory=536), True),
    (a_cell(memory=537), False),
    (a_cell(shared=5, policy=CpuPolicy.SHARED), False),
    (mixed(shared=4), True),
    (mixed(shared=5), False),
    (pinned(4), True),  # what is pinned is never over-committed: no ratio is asked
])  # fmt: skip
def test_ratios_limit_what_floats(guest: GuestCell, answer: bool) -> None:
    """12 of 8 * 2 cpus and 1000 of 1024 * 1.5 MB are used."""
    host = a_host_cell(memory=1024, used=1000, shared=8, shared_used=12)
    assert fits(host, guest, limits=NumaLimits(2.0, 1.5)) is answer


@pytest.mark.parametrize(("limits", "answer"), [
    (None, True), (NumaLimits(1.0, 1.0), True), (NumaLimits(0.5, 1.0), False), (NumaLimits(1.0, 0.5), False),
])  # fmt: skip
def test_ratios_limit_a_mixed_cell_without_shared_cpus_too(limits: NumaLimits | None, answer: bool) -> None:
    host = a_host_cell(memory=1024, used=600, shared=8, shared_used=5)
    assert fits(host, mixed(shared=0), limits=limits) is answer


def test_without_limits_floating_guests_over_commit_a_cell() -> None:
    assert fits(a_host_cell(used=10**6, shared_used=10**6), a_cell(1024, shared=8))


# The emulator's cpu


def test_the_emulator_is_isolated_on_the_cell_of_the_guests_first() -> None:
    host = [a_host_cell(0), a_host_cell(1)]
    cells = cells_of(host, pinned(2), pinned(2), emulator=EmulatorThreadsPolicy.ISOLATE)
    assert [(cell.id, cell.cpuset_reserved) for cell in cells] == [(0, [2]), (1, None)]


@pytest.mark.parametrize(
    ("emulator", "cells"),
    [(EmulatorThreadsPolicy.ISOLATE, [1, 0]), (EmulatorThreadsPolicy.SHARE, [0, 1]), (None, [0, 1])],
)
def test_only_the_first_cell_needs_one_cpu_more(
    emulator: EmulatorThreadsPolicy | None, cells: list[int]
) -> None:
    host = [a_host_cell(0, cpus=2), a_host_cell(1, cpus=3)]
    assert placed(host, pinned(2), pinned(2), emulator=emulator) == cells


def test_no_emulator_is_isolated_beside_floating_cpus() -> None:
    assert (
        cells_of([a_host_cell()], a_cell(), emulator=EmulatorThreadsPolicy.ISOLATE)[0].cpuset_reserved is None
    )


def test_no_emulator_is_isolated_on_a_first_cell_without_dedicated_cpus() -> None:
    host = [a_host_cell(0), a_host_cell(1)]
    assert placed(host, mixed(), mixed(cpus=0), emulator=EmulatorThreadsPolicy.ISOLATE) == [0, 1]
    assert placed(host, mixed(cpus=0), mixed(), emulator=EmulatorThreadsPolicy.ISOLATE) is None


# The order of preference


def test_all_cells_are_taken_in_the_order_of_the_report() -> None:
    host = [a_host_cell(1, used=1000), a_host_cell(0)]
    assert placed(host, a_cell(), a_cell()) == [1, 0]
    assert placed(host, a_cell(), a_cell(), preference=PACK) == [1, 0]


@pytest.mark.parametrize(("guest", "cells", "spread", "pack"), [
    (a_cell, [{"used": 20}, {"used": 30}, {"used": 10}], [2, 0, 1], [1, 0, 2]),
    (a_cell, [{"shared_used": 2}, {"shared_used": 3}, {"shared_used": 1}], [2, 0, 1], [1, 0, 2]),
    (a_cell, [{"shared_used": 1}, {"used": 9}, {}], [2, 1, 0], [0, 1, 2]),  # cpus before memory
    (a_cell, [{"pinned": 3}, {}, {}], [0, 1, 2], [0, 1, 2]),
    (pinned, [{"pinned": 2}, {"pinned": 3}, {"pinned": 1}], [2, 0, 1], [1, 0, 2]),
    (pinned, [{"pinned": 1}, {"used": 9}, {}], [2, 1, 0], [0, 1, 2]),
    (pinned, [{"shared_used": 3}, {}, {}], [0, 1, 2], [0, 1, 2]),
    (mixed, [{"pinned": 1}, {}, {"shared_used": 1}], [1, 2, 0], [0, 1, 2]),
    (a_cell, [{}, {}, {}], [0, 1, 2], [0, 1, 2]),
])  # fmt: skip
def test_the_emptiest_cells_come_first_or_the_fullest(
    guest: Callable[..., GuestCell], cells: list[dict[str, Any]], spread: list[int], pack: list[int]
) -> None:
    host = [a_host_cell(number, **used) for number, used in enumerate(cells)]
    assert tried(host, guest(), preference=SPREAD) == spread
    assert tried(host, guest(), preference=PACK) == pack


def tried(host: list[CellUsage], guest: GuestCell, preference: Preference) -> list[int]:
    """The host cells in the order in which they are tried."""
    order: list[int] = []

    def never(cells: frozenset[int]) -> bool:
        order.extend(cells)
        return False

    assert fitted(host, guest, preference=preference, suits=never) is None
    return order


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(("wants", "order"), [(True, [1, 3, 2, 0]), (False, [0, 2, 3, 1])])
def test_a_guest_is_near_devices_only_if_it_wants_some_packed_or_not(
    wants: bool, order: list[int], pack: bool
) -> None:
    """As in Nova, where packing turns the order by cpus and memory round, but not the one by devices."""
    host = [a_host_cell(0), a_host_cell(1), a_host_cell(2), a_host_cell(3)]
    devices = {1: 8, 2: 1, 3: 4, 9: 100}
    assert tried(host, a_cell(), Preference(devices, wants, pack)) == order


@pytest.mark.parametrize(("pack", "order"), [(False, [2, 1, 0]), (True, [2, 0, 1])])
def test_devices_count_before_cpus_and_memory(pack: bool, order: list[int]) -> None:
    host = [a_host_cell(0, used=9), a_host_cell(1), a_host_cell(2, used=1000, shared_used=100)]
    assert tried(host, a_cell(), Preference({2: 1}, True, pack)) == order


# Another choice


def test_a_later_order_is_found_when_the_first_choice_is_a_dead_end() -> None:
    host = [a_host_cell(0, memory=200), a_host_cell(1, memory=100)]
    assert placed(host, a_cell(100), a_cell(200)) == [1, 0]


def test_the_last_order_of_all_is_found() -> None:
    host = [a_host_cell(number, memory=400 - 100 * number) for number in range(4)]
    assert placed(host, a_cell(100), a_cell(200), a_cell(300), a_cell(400)) == [3, 2, 1, 0]


@pytest.mark.parametrize(("large", "cells"), [(0, [1, 0]), (1, [0, 1]), (2, [0, 2])])
def test_the_first_order_that_fits_is_taken(large: int, cells: list[int]) -> None:
    host = [a_host_cell(number, memory=500) for number in range(3)]
    host[large] = a_host_cell(large, memory=600, used=100)  # as much free memory as the others
    assert placed(host, a_cell(1), a_cell(600)) == cells


def test_no_order_is_tried_that_cannot_end_well() -> None:
    """Two guest cells want the only large host cell; the others have more orders than can be tried."""
    host = [a_host_cell(number) for number in range(39)] + [a_host_cell(39, memory=2048)]
    assert placed(host, *[a_cell()] * 30, a_cell(2048), a_cell(2048)) is None
    assert placed(host, *[a_cell()] * 39, a_cell(2048)) == list(range(40))


def test_two_cells_of_a_guest_are_never_on_one_host_cell() -> None:
    host = [a_host_cell(0), a_host_cell(1, memory=100)]
    assert placed(host, a_cell(200), a_cell(200)) is None
    assert placed(host, a_cell(200)) == [0]


# Devices


@pytest.mark.parametrize(("suiting", "cells"), [
    ([{0, 1}], [0, 1]), ([{1, 2}], [1, 2]), ([{0, 2}, {1, 2}], [0, 2]), ([], None), ([{0}, {0, 1, 2}], None),
])  # fmt: skip
def test_a_guest_goes_to_the_first_cells_that_suit_its_devices(
    suiting: list[set[int]], cells: list[int] | None
) -> None:
    host = [a_host_cell(number) for number in range(3)]
    assert placed(host, a_cell(), a_cell(), suits=lambda found: found in suiting) == cells


def noted(cells: list[frozenset[int]]) -> Callable[[frozenset[int]], bool]:
    """Suits no cells, and notes which it is asked about."""

    def never(asked: frozenset[int]) -> bool:
        cells.append(asked)
        return False

    return never


def test_no_cells_are_tried_when_all_that_have_room_together_do_not_suit() -> None:
    asked: list[frozenset[int]] = []
    tried: list[frozenset[int]] = []
    host = [a_host_cell(0), a_host_cell(1, cpus=0), a_host_cell(2), a_host_cell(3)]
    may_suit, suits = noted(asked), noted(tried)
    assert fitted(host, pinned(2), pinned(1), may_suit=may_suit, suits=suits) is None
    assert (asked, tried) == ([frozenset({0, 2, 3})], [])


def test_cells_are_asked_about_once_whatever_their_order() -> None:
    host = [a_host_cell(number) for number in range(4)]
    asked: list[frozenset[int]] = []
    assert placed(host, a_cell(), a_cell(), suits=noted(asked)) is None
    assert len(asked) == len(set(asked)) == 6


def test_a_guest_that_does_not_fit_asks_for_no_devices() -> None:
    host = [a_host_cell(number) for number in range(3)]
    asked: list[frozenset[int]] = []
    assert placed(host, a_cell(), a_cell(memory=10**6), suits=noted(asked)) is None
    assert asked == []


def test_a_guest_on_all_cells_is_refused_at_once_when_these_do_not_suit() -> None:
    host = [a_host_cell(number) for number in range(64)]
    assert placed(host, *[a_cell()] * 64, suits=nowhere) is None


# Against all permutations


def by_permutations(
    host: list[CellUsage],
    guest: GuestTopology,
    limits: NumaLimits | None,
    preference: Preference,
    suits: Callable[[frozenset[int]], bool],
) -> GuestTopology | None:
    """The first permutation of the host's cells, sorted as Nova sorts them, that the guest fits."""
    if len(host) > len(guest.cells):
        host = sorted(host, key=lambda usage: usage.free_memory, reverse=not preference.pack)
        if guest.cells[0].cpu_policy in (None, "shared"):
            host = sorted(host, key=lambda usage: usage.cpu_usage, reverse=preference.pack)
        else:
            host = sorted(host, key=lambda usage: len(usage.free_pcpus), reverse=not preference.pack)
        host = sorted(
            host,
            key=lambda usage: preference.devices.get(usage.cell.id, 0),
            reverse=preference.wants_devices,
        )
    for order in permutations(host, len(guest.cells)):
        cells = [
            fitting._fit_cell(
                usage,
                free_cores(usage),
                cell,
                limits,
                int(not number and guest.emulator_threads_policy == "isolate"),
            )
            for number, (usage, cell) in enumerate(zip(order, guest.cells, strict=True))
        ]
        fitting_cells = [cell for cell in cells if isinstance(cell, GuestCell)]
        if len(fitting_cells) == len(cells) and suits(frozenset(usage.cell.id for usage in order)):
            return GuestTopology(fitting_cells, guest.emulator_threads_policy)
    return None


@st.composite
def host_cells(draw: st.DrawFn, id: int) -> CellUsage:
    cores, threads = draw(st.integers(2, 3)), draw(st.integers(1, 2))
    cpus = [100 * id + number for number in range(cores * threads)]
    dedicated = draw(st.sampled_from([cpus, cpus[1:], cpus[::2]]))
    cell = HostCell(
        id=id,
        cpuset=draw(st.sampled_from([cpus, [cpu for cpu in cpus if cpu not in dedicated]])),
        pcpuset=dedicated,
        memory=8,
        siblings=[cpus[core::cores] for core in range(cores)],
        mempages=draw(st.sampled_from([[], [PageSize(4, 8 * 256), PageSize(2048, 3)]])),
    )
    used = draw(st.integers(0, 6))
    pins = draw(st.sets(st.sampled_from(dedicated), max_size=3))
    return CellUsage(cell, used, draw(st.integers(0, 2)), frozenset(pins), {4: 256 * used})


@st.composite
def guest_cells(draw: st.DrawFn, policy: CpuPolicy | None) -> GuestCell:
    shared = 0 if policy == "dedicated" else draw(st.integers(0, 2))
    cpus = draw(st.integers(0 if policy == "mixed" else 1, 3)) if policy in ("dedicated", "mixed") else 0
    return a_cell(draw(st.sampled_from([1, 2, 4])), shared, cpus, policy)


@st.composite
def hosts_and_guests(draw: st.DrawFn) -> tuple[list[CellUsage], GuestTopology]:
    host = [draw(host_cells(id)) for id in range(draw(st.integers(1, 4)))]
    policy = draw(st.sampled_from([None, *CpuPolicy]))
    threads = draw(st.sampled_from([None, *CpuThreadPolicy]))
    size = draw(st.sampled_from([None, None, SMALL, LARGE, ANY, 4]))
    cells = [
        replace(cell, pagesize=size, cpu_thread_policy=threads)
        for cell in draw(st.lists(guest_cells(policy), min_size=1, max_size=len(host)))
    ]
    return host, GuestTopology(cells, draw(st.sampled_from([None, *EmulatorThreadsPolicy])))


RATIOS = st.none() | st.builds(NumaLimits, st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from([0.5, 1.0, 1.5]))
PREFERENCES = st.builds(
    Preference, st.dictionaries(st.integers(0, 3), st.integers(0, 2)), st.booleans(), st.booleans()
)
ALL = 2**16 - 1
SUITING = st.just(ALL) | st.integers(0, ALL)
"""Bit S is set when the devices suit the host cells of set S, cell N being bit N of S."""


@settings(max_examples=3 * settings().max_examples)
@given(hosts_and_guests(), RATIOS, PREFERENCES, SUITING)
def test_the_place_is_that_of_the_first_permutation_that_fits(
    host_and_guest: tuple[list[CellUsage], GuestTopology],
    limits: NumaLimits | None,
    preference: Preference,
    suiting: int,
) -> None:
    def suits(cells: frozenset[int]) -> bool:
        return bool(suiting >> sum(1 << cell for cell in cells) & 1)

    host, guest = host_and_guest
    expected = by_permutations(host, guest, limits, preference, suits)
    assert fit(host, guest, limits, preference, anywhere, suits) == expected


@settings(max_examples=3 * settings().max_examples)
@given(hosts_and_guests())
def test_what_a_guest_gets_is_there_and_free(host_and_guest: tuple[list[CellUsage], GuestTopology]) -> None:
    host, guest = host_and_guest
    found = fit(host, guest, None, SPREAD, anywhere, anywhere)
    assume(found is not None)
    assert found is not None
    before = {usage.cell.id: usage for usage in host}
    assert len({cell.id for cell in found.cells}) == len(guest.cells)
    for asked, cell in zip(guest.cells, found.cells, strict=True):
        usage = before[cell.id]
        pins = [*(cell.cpu_pinning or {}).values(), *(cell.cpuset_reserved or ())]
        assert len(pins) == len(set(pins))
        assert cpus_of(cell, usage.cell) <= usage.free_pcpus
        assert set(cell.cpu_pinning or {}) == {str(cpu) for cpu in asked.pcpuset}
        if asked.pagesize is not None:
            (page,) = [page for page in usage.cell.mempages if page.size_kb == cell.pagesize]
            assert pages_of(cell.memory, page.size_kb) <= usage.free_pages(page)


# Speed


def calls_of(refused: Fitting) -> int:
    """How many functions are called until a guest is refused."""
    called = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal called
        called += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        place = refused()
    finally:
        sys.setprofile(before)
    assert place is None
    return called


@pytest.mark.parametrize("refused", refused_guests(), ids=lambda refused: refused.name)
def test_a_guest_of_eight_large_cells_is_refused_without_a_look_at_all_orders(refused: Fitting) -> None:
    assert calls_of(refused) < ORDERS / 4
