# SPDX-License-Identifier: Apache-2.0
"""Shows the figures: tables on the terminal."""

from collections.abc import Iterable

from rich.table import Table

from tests.benchmarks.latency.figures import Summary
from tests.benchmarks.latency.phases import KINDS
from tests.benchmarks.latency.table import shown
from tests.benchmarks.placement.figures import GOAL, NOVA, PHASES, RECOVERY_GOAL, UP, Recovery, Requests


def requests_table(found: Iterable[Requests]) -> Table:
    """The requests in each situation."""
    table = _table("Requests to Placement", "times", "requests", "each", "Nova 34")
    table.add_column("which")
    for one in found:
        table.add_row(
            one.situation,
            f"{one.times:,}",
            f"{one.total:,}",
            f"{one.each:.3g}",
            NOVA[one.situation],
            "\n".join(one.kinds),
        )
    table.caption = "Nova 34: measured; N: instances with allocations on the node"
    return table


def claims_table(summaries: Iterable[Summary], unsynced: dict[str, float]) -> Table:
    """The claims in each phase."""
    table = _table("Claims, ms", "calls", "p50", "p99", f"to {UP}", "unsynced nodes")
    for each in summaries:
        table.add_row(
            f"{each.phase}, {KINDS[each.kind]}",
            f"{each.calls:,}",
            *(f"{seconds * 1000:,.1f}" for seconds in (each.p50, each.p99)),
            shown(each.to_first.values()),
            f"{unsynced[each.phase]:.0f}",
        )
    phases = "; ".join(f"{name}: {title}" for name, title in PHASES.items())
    table.caption = f"Medians of the rounds, and ratios of p50 and p99; goal {GOAL}. {phases}"
    return table


def recovery_table(found: Iterable[Recovery]) -> Table:
    """The sync after an outage."""
    table = _table("Sync after an outage", "first s", "all s", "nodes a second")
    for one in found:
        what = "new" if one.new else "changed"
        table.add_row(f"{one.nodes:,} {what} nodes", f"{one.first:.1f}", f"{one.all:.1f}", f"{one.rate:.0f}")
    table.caption = f"Seconds from Placement's first answer; goal {RECOVERY_GOAL:.0f} for changed nodes"
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table
