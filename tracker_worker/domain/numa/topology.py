# SPDX-License-Identifier: Apache-2.0
"""Usage of each host cell. It is always computed from the claims' topologies, so that it cannot drift.

Source: nova.virt.hardware.numa_usage_from_instance_numa. Pins that were decided elsewhere may overlap: a cpu
is free once the last claim that pins it is dropped (Nova raises CPUPinningInvalid).
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.domain.fields import CpuPolicy, CpuThreadPolicy
from tracker_worker.domain.objects import GuestCell, GuestTopology, HostCell, HostTopology, PageSize

KIB_PER_MB = 1024
PINNED_POLICIES = (CpuPolicy.DEDICATED, CpuPolicy.MIXED)


class CellUsage(Struct, frozen=True):
    """A host cell and its usage: memory in MB, number of shared cpus, pinned cpus, pages by size in KiB."""

    cell: HostCell
    memory_usage: int = 0
    cpu_usage: int = 0
    pinned_cpus: frozenset[int] = frozenset()
    pages: Mapping[int, int] = {}

    @property
    def free_pcpus(self) -> frozenset[int]:
        """The dedicated cpus that no claim pins."""
        return frozenset(self.cell.pcpuset) - self.pinned_cpus

    @property
    def free_memory(self) -> int:
        """Memory in MB that no claim holds; negative when over-committed."""
        return self.cell.memory - self.memory_usage

    def free_pages(self, page: PageSize) -> int:
        """Return the number of free pages of a size, without those reserved for the host."""
        return page.total - (page.reserved or 0) - self.pages.get(page.size_kb, 0)


def usage_of(host: HostTopology, guests: Iterable[GuestTopology]) -> list[CellUsage]:
    """Return the usage of each host cell, in the host's order. Guest cells on unknown cells are ignored."""
    held: dict[int, list[GuestCell]] = {cell.id: [] for cell in host.cells}
    for guest in guests:
        for guest_cell in guest.cells:
            if guest_cell.id in held:
                held[guest_cell.id].append(guest_cell)
    return [_usage(cell, held[cell.id]) for cell in host.cells]


def _usage(cell: HostCell, guests: Iterable[GuestCell]) -> CellUsage:
    memory = cpus = 0
    pinned: set[int] = set()
    pages: dict[int, int] = {}
    for guest in guests:
        memory += guest.memory
        cpus += len(guest.cpuset)
        pinned |= cpus_of(guest, cell)
        size = page_size_of(guest, cell)
        if size is not None:
            pages[size] = pages.get(size, 0) + pages_of(guest.memory, size)
    return CellUsage(cell, memory, cpus, frozenset(pinned), pages)


def cpus_of(guest: GuestCell, cell: HostCell) -> frozenset[int]:
    """Return the host cpus that a guest cell holds exclusively; with policy isolate also their siblings."""
    if guest.cpu_policy not in PINNED_POLICIES:
        return frozenset()
    own = frozenset((*(guest.cpu_pinning or {}).values(), *(guest.cpuset_reserved or ())))
    if guest.cpu_thread_policy != CpuThreadPolicy.ISOLATE:
        return own
    return own.union(*(siblings for siblings in cell.siblings if not own.isdisjoint(siblings)))


def smallest_page(cell: HostCell) -> PageSize | None:
    """Return the smallest pages of a host cell, None if it reports no pages."""
    return min(cell.mempages, key=lambda page: page.size_kb, default=None)


def page_size_of(guest: GuestCell, cell: HostCell) -> int | None:
    """Return the page size in KiB for a guest cell's memory, None if neither guest nor host cell has one."""
    if guest.pagesize is not None and guest.pagesize > 0:
        return guest.pagesize
    smallest = smallest_page(cell)
    return smallest.size_kb if smallest else None


def pages_of(memory_mb: int, size_kb: int) -> int:
    """Return the number of pages that an amount of memory takes, rounded up."""
    return -(-memory_mb * KIB_PER_MB // size_kb)


def request_of(topology: GuestTopology | None) -> GuestTopology | None:
    """Return the request of a topology, without the host cells and pins of an earlier claim."""
    if topology is None:
        return None
    cells = [
        replace(cell, id=number, cpu_pinning=None, cpuset_reserved=None)
        for number, cell in enumerate(topology.cells)
    ]
    return replace(topology, cells=cells)
