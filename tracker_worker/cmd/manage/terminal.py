# SPDX-License-Identifier: Apache-2.0
"""Tables on a terminal, as wide as it is."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracker_worker.cmd.manage.formatting import Cell


def draw_table(columns: Sequence[str] | None, rows: list[list[Cell]], title: str | None) -> None:
    """Draw a table; without `columns` the first cell of each row is its heading.

    It has no lines, so that more columns fit: what is too wide for its column is folded.
    """
    table = Table(
        title=title and Text(title),
        title_justify="left",
        title_style="bold",
        show_header=columns is not None,
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for index, column in enumerate(columns or ["", ""]):
        table.add_column(
            column,
            style="bold" if columns is None and index == 0 else None,
            justify="right" if any(row[index].is_number for row in rows) else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell.text) for cell in row))
    console = Console()
    console.print(table)
    if title:
        console.print()
