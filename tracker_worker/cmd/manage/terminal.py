# SPDX-License-Identifier: Apache-2.0
"""Tables on a terminal, as wide as it is."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracker_worker.cmd.manage.formatting import Cell


def draw_table(columns: Sequence[str] | None, rows: list[list[Cell]], title: str | None) -> None:
    """Draw a table; without `columns` the first cell of each row is its heading."""
    table = Table(
        title=title and Text(title),
        title_justify="left",
        title_style="bold",
        show_header=columns is not None,
        box=box.SIMPLE_HEAD if columns is not None else box.SIMPLE,
    )
    for index, column in enumerate(columns or ["", ""]):
        numbers = columns is not None and any(row[index].is_number for row in rows)
        table.add_column(
            column,
            style="bold" if columns is None and index == 0 else None,
            justify="right" if numbers else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(cell.text) for cell in row))
    Console().print(table)
