# SPDX-License-Identifier: Apache-2.0
"""Shows the summaries: a table on the terminal."""

from collections.abc import Iterable

from rich.table import Table

from tests.benchmarks.throughput.figures import OURS, Summary

MEBIBYTE = 1024 * 1024
COLUMNS = ("events", "events/s", "CPU us", "MiB", "by wall", "by CPU", "exact")

LEGEND = (
    "Medians of the rounds. CPU and memory are those of the contestant's process, CPU of one event. "
    f"{OURS} is so many times as fast as the others (by wall), and takes so many times less CPU (by CPU)."
)


def table_of(title: str, summaries: Iterable[Summary]) -> Table:
    """The table of one scenario on one database."""
    table = Table("", title=title)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for each in summaries:
        ours = each.contestant == OURS
        table.add_row(
            each.contestant,
            f"{each.events:,}",
            f"{each.rate:,.0f}",
            f"{each.cpu * 1e6:,.0f}",
            f"{each.peak_bytes / MEBIBYTE:,.0f}",
            "" if ours else factor(each.by_wall),
            "" if ours else factor(each.by_cpu),
            "NO" if each.wrong else "yes",
        )
    return table


def factor(ratio: float | None) -> str:
    """A ratio as it is shown."""
    return "-" if ratio is None else f"{ratio:.2f}"
