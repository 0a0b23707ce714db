# SPDX-License-Identifier: Apache-2.0
"""Fitting: which host cell each cell of a guest is placed on.

Source: nova.virt.hardware.numa_fit_instance_to_host, which tries the permutations of the host's cells in
their order of preference until one fits. The result here is the same, but dead branches are pruned.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.fields import CpuPolicy, EmulatorThreadsPolicy
from tracker_worker.domain.numa.pages import ANY, LARGE, SMALL
from tracker_worker.domain.numa.pinning import Core, Pins, free_cores, pin
from tracker_worker.domain.numa.topology import (
    KIB_PER_MB,
    PINNED_POLICIES,
    CellUsage,
    smallest_page,
)
from tracker_worker.domain.objects import GuestCell, GuestTopology, NumaLimits, PageSize


class Misfit(StrEnum):
    """Why a guest cell does not fit on a host cell: the first of the tests that it does not pass."""

    PAGES = "not enough free pages of an allowed size"
    MEMORY = "not enough memory"
    SHARED_CPUS = "not enough shared CPUs, or beyond the limits of the cell"
    DEDICATED_CPUS = "not enough free dedicated CPUs for the thread policy"


class Preference(Struct, frozen=True):
    """The order in which host cells are tried.

    `devices` counts the free devices of each cell. For a guest that `wants_devices` the cells with most
    devices come first, for others those with fewest. Among equals the emptiest cells come first, with `pack`
    the fullest (packing_host_numa_cells_allocation_strategy).
    """

    devices: Mapping[int, int]
    wants_devices: bool
    pack: bool


def fit(
    host: Sequence[CellUsage],
    guest: GuestTopology,
    limits: NumaLimits | None,
    preference: Preference,
    may_suit: Callable[[frozenset[int]], bool],
    suits: Callable[[frozenset[int]], bool],
) -> GuestTopology | None:
    """Return the guest's topology with host cells, page sizes and pins; None if it does not fit.

    `suits` tells whether a guest on a set of host cells can get the requested devices and networks.
    `may_suit` is a necessary condition: where it is false for a set of cells, `suits` is false for all its
    subsets. It is called once, with all cells that fit a guest cell.
    """
    suits = cache(suits)
    if not _has_cells(host, guest, suits):
        return None
    ordered = _in_order(host, guest, preference, _is_pinned(guest))
    fitted = fit_cells(ordered, guest, limits)
    reachable = frozenset(cell.id for row in fitted for cell in row if isinstance(cell, GuestCell))
    if not may_suit(reachable):
        return None
    fits = [[isinstance(cell, GuestCell) for cell in row] for row in fitted]
    placed = _Search(fits, ordered, suits).place()
    if placed is None:
        return None
    chosen = (row[column] for row, column in zip(fitted, placed, strict=True))
    return replace(guest, cells=[cell for cell in chosen if isinstance(cell, GuestCell)])


def fit_cells(
    host: Sequence[CellUsage], guest: GuestTopology, limits: NumaLimits | None
) -> list[list[GuestCell | Misfit]]:
    """Return each guest cell placed on each of the host cells alone, or why it does not fit there."""
    pinned = _is_pinned(guest)
    isolated = guest.emulator_threads_policy == EmulatorThreadsPolicy.ISOLATE
    cores = [free_cores(usage) if pinned else [] for usage in host]
    return [
        [
            _fit_cell(usage, free, cell, limits, int(isolated and not number))
            for usage, free in zip(host, cores, strict=True)
        ]
        for number, cell in enumerate(guest.cells)
    ]


def _is_pinned(guest: GuestTopology) -> bool:
    return any(cell.cpu_policy in PINNED_POLICIES for cell in guest.cells)


def _has_cells(
    host: Sequence[CellUsage], guest: GuestTopology, suits: Callable[[frozenset[int]], bool]
) -> bool:
    """Tell whether the host has enough cells and, if the guest needs all of them, whether they suit."""
    spare = len(host) - len(guest.cells)
    return spare > 0 or (spare == 0 and suits(frozenset(usage.cell.id for usage in host)))


def _in_order(
    host: Sequence[CellUsage], guest: GuestTopology, by: Preference, pinned: bool
) -> list[CellUsage]:
    """Sort the host cells by devices, cpus, memory. If the guest needs all cells they stay in their order."""
    if len(host) == len(guest.cells):
        return list(host)

    def emptiness(usage: CellUsage) -> tuple[int, int]:
        return len(usage.free_pcpus) if pinned else -usage.cpu_usage, usage.free_memory

    def devices(usage: CellUsage) -> int:
        return by.devices.get(usage.cell.id, 0)

    by_emptiness = sorted(host, key=emptiness, reverse=not by.pack)
    return sorted(by_emptiness, key=devices, reverse=by.wants_devices)


def _fit_cell(
    usage: CellUsage, cores: Sequence[Core], guest: GuestCell, limits: NumaLimits | None, emulator: int
) -> GuestCell | Misfit:
    """Return the guest cell placed on a host cell, pinned to its free cores, or why it does not fit."""
    pinned = guest.cpu_policy in PINNED_POLICIES
    if guest.pagesize:
        page = _page(usage, guest)
        if page is None:
            return Misfit.PAGES
        guest = replace(guest, pagesize=page.size_kb)
    elif not _has_memory(usage, guest, pinned):
        return Misfit.MEMORY
    if guest.cpu_policy != CpuPolicy.DEDICATED and not _may_float(usage, guest, limits):
        return Misfit.SHARED_CPUS
    pins: Pins | None = None
    if pinned:
        pins = pin(usage.cell, cores, guest, emulator)
        if pins is None:
            return Misfit.DEDICATED_CPUS
    return replace(
        guest,
        id=usage.cell.id,
        cpu_pinning=pins.cpu_pinning if pins else None,
        cpuset_reserved=pins.cpuset_reserved if pins else None,
    )


def _page(usage: CellUsage, guest: GuestCell) -> PageSize | None:
    """Return the largest pages that the request allows and of which enough are free, None without such."""
    sizes = sorted(usage.cell.mempages, key=lambda page: page.size_kb, reverse=True)
    named = {SMALL: sizes[-1:], LARGE: sizes[:-1], ANY: sizes}
    allowed = named.get(guest.pagesize or ANY) or [page for page in sizes if page.size_kb == guest.pagesize]
    return next((page for page in allowed if _has_pages(guest, page, usage.free_pages(page))), None)


def _has_memory(usage: CellUsage, guest: GuestCell, pinned: bool) -> bool:
    """Tell whether a guest cell without a page size fits the host cell's memory, if pinned its free memory.

    Memory of unpinned guests may be over-committed between guests, but not by one guest alone.
    """
    page = smallest_page(usage.cell)
    if page is None:
        return guest.memory <= (usage.free_memory if pinned else usage.cell.memory)
    return _has_pages(guest, page, usage.free_pages(page) if pinned else page.total)


def _has_pages(guest: GuestCell, page: PageSize, available: int) -> bool:
    memory_kb = guest.memory * KIB_PER_MB
    return memory_kb % page.size_kb == 0 and memory_kb <= available * page.size_kb


def _may_float(usage: CellUsage, guest: GuestCell, limits: NumaLimits | None) -> bool:
    """Tell whether a cell has enough shared cpus and stays within its ratios, a mixed guest's memory too."""
    cpus = usage.cpu_usage + len(guest.cpuset)
    memory = usage.memory_usage + guest.memory
    return len(guest.cpuset) <= len(usage.cell.cpuset) and (
        limits is None
        or (
            cpus <= len(usage.cell.cpuset) * limits.cpu_allocation_ratio
            and memory <= usage.cell.memory * limits.ram_allocation_ratio
        )
    )


class _Search:
    """Depth-first search for the first placement by preference. Guest cells are rows, host cells columns.

    A bipartite matching prunes each branch whose remaining rows cannot be placed, so that the search
    backtracks only because of `suits`. A set of used columns is tried once, whatever their order.
    """

    def __init__(
        self,
        fits: Sequence[Sequence[bool]],
        host: Sequence[CellUsage],
        suits: Callable[[frozenset[int]], bool],
    ) -> None:
        self._fits = fits
        self._host = host
        self._suits = suits
        self._dead: set[frozenset[int]] = set()

    def place(self, taken: tuple[int, ...] = ()) -> tuple[int, ...] | None:
        """Return the column of each row, None when there is no placement."""
        used = frozenset(taken)
        if used in self._dead or not self._can_be_placed(len(taken), used):
            return None
        if len(taken) == len(self._fits):
            if self._suits(frozenset(self._host[column].cell.id for column in taken)):
                return taken
        else:
            for column, fits in enumerate(self._fits[len(taken)]):
                if fits and column not in used:
                    placed = self.place((*taken, column))
                    if placed is not None:
                        return placed
        self._dead.add(used)
        return None

    def _can_be_placed(self, first: int, used: frozenset[int]) -> bool:
        """Tell whether the rows from `first` on have a complete matching with unused columns."""
        row_of: dict[int, int] = {}
        return all(self._match(row, used, row_of, set()) for row in range(first, len(self._fits)))

    def _match(self, row: int, used: frozenset[int], row_of: dict[int, int], seen: set[int]) -> bool:
        for column, fits in enumerate(self._fits[row]):
            if fits and column not in used and column not in seen:
                seen.add(column)
                if column not in row_of or self._match(row_of[column], used, row_of, seen):
                    row_of[column] = row
                    return True
        return False
