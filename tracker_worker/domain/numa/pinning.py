# SPDX-License-Identifier: Apache-2.0
"""Pinning: which free cpus of a host cell a guest cell gets exclusively, by its thread policy.

Source: nova.virt.hardware._pack_instance_onto_cores. Nova takes cpus in the order of a set, this module in
the order of their numbers.
"""

from collections.abc import Iterable, Sequence
from itertools import chain

from msgspec import Struct

from tracker_worker.domain.fields import CpuThreadPolicy
from tracker_worker.domain.numa.topology import CellUsage
from tracker_worker.domain.objects import GuestCell, HostCell

Core = tuple[int, ...]
"""The threads of a core."""


class Pins(Struct, frozen=True):
    """Host cpus by guest cpu, and the host cpus that are reserved for emulator threads."""

    cpu_pinning: dict[str, int]
    cpuset_reserved: list[int] | None


def free_cores(usage: CellUsage) -> list[Core]:
    """Return the free threads of each core, each once even if the report lists it in several cores.

    A cpu without siblings in the report is a core of its own.
    """
    left = set(usage.free_pcpus)
    cores: list[Core] = []
    for siblings in (*usage.cell.siblings, *([cpu] for cpu in sorted(usage.cell.pcpuset))):
        core = left.intersection(siblings)
        left -= core
        if core:
            cores.append(tuple(sorted(core)))
    return cores


def pin(cell: HostCell, cores: Sequence[Core], guest: GuestCell, reserved: int) -> Pins | None:
    """Return the pins of a guest cell and of `reserved` emulator cpus on a host cell's free cores.

    Return None if the free cores do not suffice.
    """
    wanted = len(guest.pcpuset)
    isolated = guest.cpu_thread_policy == CpuThreadPolicy.ISOLATE
    match guest.cpu_thread_policy:
        case CpuThreadPolicy.ISOLATE:
            cores = _whole(cell, cores)
            chosen = _isolated(cell, cores, wanted)
        case CpuThreadPolicy.REQUIRE:
            chosen = _on_siblings(cores, wanted, 2)
        case _:
            chosen = _on_siblings(cores, wanted, 1) or _first(cores, wanted)
    if chosen is None:
        return None
    emulator = _beside(chosen, cores, reserved, isolated) if reserved else []
    if emulator is None:
        return None
    pinning = {str(vcpu): cpu for vcpu, cpu in zip(sorted(guest.pcpuset), chosen, strict=True)}
    return Pins(pinning, emulator or None)


def _whole(cell: HostCell, cores: Iterable[Core]) -> list[Core]:
    """Return the cores whose threads are all free. (Nova pins emulator threads to others too, then fails.)"""
    threads = {cpu: len(siblings) for siblings in cell.siblings for cpu in siblings}
    return [core for core in cores if len(core) == threads.get(core[0], 1)]


def _isolated(cell: HostCell, cores: Iterable[Core], wanted: int) -> list[int] | None:
    """Take one thread of each core with the host's full number of threads. None for 0 cpus, as in Nova.

    On a host with hyperthreading return None unless shared and dedicated cpus are the same (vcpu_pin_set):
    otherwise a sibling thread could be a shared cpu (bug 1889633).
    """
    threads = max(map(len, cell.siblings), default=1)
    if not wanted or (threads > 1 and set(cell.pcpuset) != set(cell.cpuset)):
        return None
    return _first([core[:1] for core in cores if len(core) == threads], wanted)


def _beside(chosen: Iterable[int], cores: Iterable[Core], wanted: int, isolated: bool) -> list[int] | None:
    """Take cpus that are not chosen, if isolated on other cores. None if no cpu is chosen, as in Nova."""
    taken = frozenset(chosen)
    if isolated:
        cores = [core for core in cores if taken.isdisjoint(core)]
    left = [tuple(cpu for cpu in core if cpu not in taken) for core in cores]
    return _first(left, wanted) if taken else None


def _on_siblings(cores: Sequence[Core], wanted: int, least: int) -> list[int] | None:
    """Take the same number of threads of each core: the largest that suffices, at least `least`."""
    for threads in range(max(map(len, cores), default=0), least - 1, -1):
        chosen = _first([core[:threads] for core in cores if len(core) >= threads], wanted)
        if chosen is not None:
            return chosen
    return None


def _first(cores: Iterable[Core], wanted: int) -> list[int] | None:
    cpus = list(chain.from_iterable(cores))
    return cpus[:wanted] if len(cpus) >= wanted else None
