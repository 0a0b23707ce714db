# SPDX-License-Identifier: Apache-2.0
"""Shows the summaries: a table on the terminal."""

from collections.abc import Iterable

from rich.table import Table

from tests.benchmarks.latency.figures import Summary
from tests.benchmarks.latency.phases import KINDS

COLUMNS = ("calls", "p50", "p99", "to empty", "to idle")

LEGEND = (
    "Medians of the rounds, in ms, and ratios of p50 and p99: to the empty call and the commit of the same "
    "phase, and to the same kind in the phase idle. A claim's node is in a partition whose other nodes are "
    "audited, or in the quiet one, of which none is."
)


def table_of(title: str, summaries: Iterable[Summary]) -> Table:
    """The table of one phase."""
    table = Table("", title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for each in summaries:
        table.add_row(
            KINDS[each.kind],
            f"{each.calls:,}",
            *(f"{seconds * 1000:,.1f}" for seconds in (each.p50, each.p99)),
            *(shown(ratios.values()) for ratios in (each.to_base, each.to_first)),
        )
    return table


def shown(ratios: Iterable[float | None]) -> str:
    """Ratios as they are shown."""
    return " ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
