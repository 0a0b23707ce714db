# SPDX-License-Identifier: Apache-2.0
"""Tables on a terminal, as wide as it is."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracker_worker.cmd.manage.formatting import Cell

_GAP = 2


def draw_table(columns: Sequence[str] | None, rows: list[list[Cell]], title: str | None) -> None:
    """Draw a table; without `columns` the first cell of each row is its heading.

    It has no lines, so that more columns fit. Cells are wrapped at blanks. If the terminal is too narrow for
    their longest words, each row is drawn as a table of its own: a name or an id is never divided.
    """
    console = Console()
    if title:
        console.print(Text(title, style="bold underline"))
    if columns is None:
        _draw(console, None, rows)
    elif sum(_widths(columns, rows)) + _GAP * len(columns) <= console.width:
        _draw(console, columns, rows)
    else:
        for row in rows:
            fields = zip(columns, row, strict=True)
            _draw(console, None, [[Cell(name), Cell(cell.text)] for name, cell in fields])
            console.print()
    if title:
        console.print()


def _widths(columns: Sequence[str], rows: list[list[Cell]]) -> list[int]:
    """Return the width that the longest word of each column needs."""
    texts = [[name, *(row[index].text for row in rows)] for index, name in enumerate(columns)]
    return [max(len(word) for text in column for word in text.split() or [""]) for column in texts]


def _draw(console: Console, columns: Sequence[str] | None, rows: list[list[Cell]]) -> None:
    table = Table(show_header=columns is not None, box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    widths = [0, 0] if columns is None else _widths(columns, rows)
    for index, width in enumerate(widths):
        table.add_column(
            "" if columns is None else columns[index],
            style="bold" if columns is None and index == 0 else None,
            justify="right" if any(row[index].is_number for row in rows) else "left",
            overflow="fold",
            min_width=width,
        )
    for row in rows:
        table.add_row(*(Text(cell.text) for cell in row))
    console.print(table)
