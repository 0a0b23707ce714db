# SPDX-License-Identifier: Apache-2.0
"""Shows what was measured: tables on the terminal."""

from collections.abc import Iterable

from rich.table import Table

from tests.benchmarks.growth.capacity import Capacity, Footprint
from tests.benchmarks.growth.figures import Growth
from tests.benchmarks.growth.memory import Restarted
from tests.benchmarks.growth.series import SERIES
from tests.benchmarks.growth.soak import Soak

KIB, MIB = 1024, 1024 * 1024


def growth_table(growth: Growth) -> Table:
    """The table of a series."""
    series = SERIES[growth.series]
    goal = "" if series.goal is None else f", goal {series.goal}"
    faults = f"; WRONG: {'; '.join(growth.wrong[:4])}" if growth.wrong else ""
    table = _table(series.title, "CPU us an event", "ratio")
    table.caption = f"largest / smallest {growth.factor:.2f}{goal}{faults}"
    for point in growth.points:
        table.add_row(series.plans[point.size].title, f"{point.cpu * 1e6:,.0f}", f"{point.ratio:.2f}")
    return table


def memory_table(restarted: Iterable[Restarted], footprint: Footprint) -> Table:
    """The table of workers that have loaded all their nodes."""
    table = _table("workers after a restart", "MiB", "peak MiB", "first event s", "loading us", "repeated us")
    table.caption = f"a node {footprint.node / KIB:.1f} KiB, a claim {footprint.claim / KIB:.2f} KiB"
    for each in restarted:
        table.add_row(
            f"{each.nodes:,} nodes x {each.held}",
            f"{each.resident / MIB:,.0f}",
            f"{each.peak / MIB:,.0f}",
            f"{each.first_event:.1f}",
            f"{each.loading_audit * 1e6:,.0f}",
            f"{each.repeated_audit * 1e6:,.0f}",
        )
    return table


def soak_table(soaks: Iterable[Soak]) -> Table:
    """The table of what an idle cloud leaves in PostgreSQL."""
    table = _table(
        "an idle cloud", "rows equal", "KiB before", "after N", "after 4 N", "ratio", "HOT", "vacuums"
    )
    for each in soaks:
        last = each.samples[-1]
        table.add_row(
            each.variant,
            "yes" if each.rows_are_equal else "NO",
            *(f"{sum(sample.bytes.values()) / KIB:,.0f}" for sample in each.samples),
            f"{each.growth:.2f}",
            f"{last.hot / max(last.updates, 1):.0%}",
            str(last.vacuums),
        )
    return table


def capacity_table(capacities: Iterable[Capacity]) -> Table:
    """The table of what clouds need."""
    table = _table(
        "nodes at one audit a minute; processors",
        "audits/s",
        "events/s",
        "alone",
        "in batches",
        "workers",
        "MiB each",
        "partitions",
        "databases",
    )
    for each in capacities:
        table.add_row(
            f"{each.nodes:,}",
            f"{each.audits_a_second:,.1f}",
            f"{each.events_a_second:,.1f}",
            f"{each.alone:.2f}",
            f"{each.in_batches:.2f}",
            f"{each.workers} + 1",
            f"{each.bytes_a_worker / MIB:,.0f}",
            str(each.partitions),
            each.databases,
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table("", title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table
