# SPDX-License-Identifier: Apache-2.0
"""Time the fitting of topologies to hosts: `python -m tests.benchmarks.fitting [--times N]`.

A lane decides one command after the other: how long a topology takes, above all one that is refused, is how
long all others of its lane wait.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from tracker_worker.domain.fields import CpuPolicy
from tracker_worker.domain.numa.fitting import Preference, fit
from tracker_worker.domain.numa.topology import CellUsage
from tracker_worker.domain.objects import GuestCell, GuestTopology, HostCell, PageSize

MEMORY = 65_536
TOO_MUCH = MEMORY + 1
SPREAD = Preference({}, wants_devices=False, pack=False)


def anywhere(_cells: frozenset[int]) -> bool:
    """Devices are no obstacle."""
    return True


def nowhere(_cells: frozenset[int]) -> bool:
    """Devices can be had on no cells."""
    return False


@dataclass(frozen=True)
class Fitting:
    """A guest that is fitted to a host."""

    name: str
    host: Sequence[CellUsage]
    guest: GuestTopology
    fits: bool = True
    suits: Callable[[frozenset[int]], bool] = anywhere

    def __call__(self) -> GuestTopology | None:
        return fit(self.host, self.guest, None, SPREAD, lambda _cells: True, self.suits)


def a_host(cpus: int, memory: Sequence[int]) -> list[CellUsage]:
    """Cells of so many cpus, two a core, with so much free memory each."""
    return [_usage(_host_cell(number, cpus), MEMORY - free) for number, free in enumerate(memory)]


def _usage(cell: HostCell, used: int) -> CellUsage:
    return CellUsage(cell, used, pages={4: used * 256})


def _host_cell(number: int, cpus: int) -> HostCell:
    first, cores = number * cpus, cpus // 2
    return HostCell(
        id=number,
        cpuset=[],
        pcpuset=list(range(first, first + cpus)),
        memory=MEMORY,
        siblings=[[first + core, first + core + cores] for core in range(cores)],
        mempages=[PageSize(4, MEMORY * 256), PageSize(2048, 0), PageSize(1_048_576, 0)],
    )


def a_guest(cpus: int, memory: Sequence[int]) -> GuestTopology:
    """Cells of so many pinned cpus, each with so much memory."""
    return GuestTopology(
        [
            GuestCell(
                id=number,
                cpuset=[],
                pcpuset=list(range(number * cpus, (number + 1) * cpus)),
                memory=wanted,
                cpu_policy=CpuPolicy.DEDICATED,
            )
            for number, wanted in enumerate(memory)
        ]
    )


def _equal(cells: int) -> list[int]:
    return [MEMORY // 2] * cells


def fitting_guests() -> list[Fitting]:
    """Guests that fit."""
    small, large = a_host(64, _free(2)), a_host(256, _free(8))
    return [
        Fitting("1 of 2 cells", small, a_guest(8, _equal(1))),
        Fitting("2 of 2", small, a_guest(8, _equal(2))),
        Fitting("4 of 8, 256 cpus a cell", large, a_guest(64, _equal(4))),
        Fitting("8 of 8, 256 cpus a cell", large, a_guest(128, _equal(8))),
        Fitting("8 of 8, in the last order of all", a_host(256, _steps(8)), a_guest(128, _steps(8)[::-1])),
    ]


def refused_guests() -> list[Fitting]:
    """Guests that do not fit hosts of 8 cells with 256 cpus each."""
    host = a_host(256, _free(8))
    # Two guest cells want the only host cell with so much memory: all orders of the others could be tried.
    contested = a_host(256, [*_equal(7), MEMORY])
    return [
        Fitting("8 of 8, the last is too large", host, a_guest(128, [*_equal(7), TOO_MUCH]), fits=False),
        Fitting("8 of 8, no devices", host, a_guest(128, _equal(8)), fits=False, suits=nowhere),
        Fitting("7 of 8, no devices", host, a_guest(128, _equal(7)), fits=False, suits=nowhere),
        Fitting(
            "8 of 8, two want the same cell",
            contested,
            a_guest(128, [*_equal(6), MEMORY, MEMORY]),
            fits=False,
        ),
    ]


def _free(cells: int) -> list[int]:
    return [MEMORY] * cells


def _steps(cells: int) -> list[int]:
    """Memory of cells that gets less from one to the next."""
    return [MEMORY // (number + 1) for number in range(cells)]


def seconds_of(fitting: Fitting) -> float:
    """Return how long the answer takes, which has to be right."""
    start = time.perf_counter()
    answer = fitting()
    seconds = time.perf_counter() - start
    assert (answer is not None) == fitting.fits, fitting.name
    return seconds


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", metavar="N", type=int, default=50, help="of each guest (default: 50)")
    times = parser.parse_args().times
    table = Table("guest", "answer", box=None, pad_edge=False)
    for column in ("best µs", "median µs"):
        table.add_column(column, justify="right")
    for fitting in (*fitting_guests(), *refused_guests()):
        seconds = [seconds_of(fitting) for _ in range(times)]
        answer = "fits" if fitting.fits else "refused"
        table.add_row(
            fitting.name, answer, *(f"{1e6 * each:,.0f}" for each in (min(seconds), median(seconds)))
        )
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
