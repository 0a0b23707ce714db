# SPDX-License-Identifier: Apache-2.0
"""Tables on a terminal, as wide as it is."""

from collections.abc import Collection, Sequence

from msgspec import Struct
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracker_worker.cmd.manage.formatting import NOTHING, Cell

LEAST_NEEDED = (
    "message_id", "event_id", "request_id", "migration_uuid", "project_id", "excluded_by", "numa_node",
    "device", "disk_mb_used", "memory_mb_used", "vcpus_used", "priority", "bytes", "host", "newest", "oldest",
    "nodes", "unacked", "consumers", "version", "standby", "task_state", "vm_state", "state", "devices",
    "local_gb", "disk_mb", "changes", "instance_uuid", "vms", "vcpus", "reason", "since", "outcome",
    "memory_mb", "method", "recorded_at", "ledger", "placement",
)  # fmt: skip
"""The columns that a table leaves out on a terminal that is too narrow for it, the first one first."""
_GAP = 2
_TEXT_WIDTH = 15
"""The width of a text of several words in which it is still easy to read."""


class _Column(Struct, frozen=True):
    """A column: its name, its cells, and how wide it has to be."""

    name: str
    cells: list[Cell]
    least: int
    """The width of its longest word."""
    longest: int
    """The width with which no cell is wrapped."""

    @property
    def readable(self) -> int:
        return max(self.least, min(self.longest, _TEXT_WIDTH))

    @property
    def has_values(self) -> bool:
        return any(cell.text != NOTHING for cell in self.cells)

    def need(self) -> int:
        """Return how much it is needed."""
        return LEAST_NEEDED.index(self.name) if self.has_values else -1


def draw_table(
    names: Sequence[str] | None, rows: list[list[Cell]], title: str | None, keep: Collection[str]
) -> None:
    """Draw a table; without `names` of columns the first cell of each row is its heading.

    It has no lines, so that more columns fit. Cells are wrapped at blanks. A narrow terminal gets the columns
    that fit, but always those of `keep`; if even these do not, each row is drawn as a table of its own. A
    name or an id is never divided.
    """
    console = Console()
    if title:
        console.print(Text(title, style="bold underline"))
    if names is None:
        _draw_fields(console, rows)
    else:
        columns = [_column(name, [row[index] for row in rows]) for index, name in enumerate(names)]
        shown = _fitting(columns, keep, console.width)
        if _total([column.least for column in shown]) <= console.width:
            _draw(console, shown)
            if left_out := [each.name for each in columns if each.has_values and each not in shown]:
                console.print(
                    Text(
                        f"no room for {', '.join(left_out)}: --format json has all",
                        style="dim",
                    )
                )
        else:
            for row in rows:
                _draw_fields(console, [[Cell(name), cell] for name, cell in zip(names, row, strict=True)])
                console.print()
    if title:
        console.print()


def _column(name: str, cells: list[Cell]) -> _Column:
    texts = [name, *(cell.text for cell in cells)]
    least = max(cell_len(word) for text in texts for word in text.split() or [""])
    return _Column(name, cells, least, max(cell_len(line) for text in texts for line in text.split("\n")))


def _fitting(columns: list[_Column], keep: Collection[str], width: int) -> list[_Column]:
    """Return the columns that are always shown, and of the others those that fit, the most needed first."""
    others = [
        column
        for column in columns
        if column.name not in keep and (column.name in LEAST_NEEDED or not column.has_values)
    ]
    shown = [column for column in columns if column not in others]
    for column in sorted(others, key=_Column.need, reverse=True):
        if _total([each.readable for each in (*shown, column)]) <= width:
            shown.append(column)
    return [column for column in columns if column in shown]


def _total(widths: list[int]) -> int:
    """Return the width of a table: rich adds a gap to the last column, too."""
    return sum(widths) + _GAP * len(widths)


def _spread(columns: list[_Column], width: int) -> list[int]:
    """Return the widths of columns: each gets what its longest word needs, and a share of what is left."""
    widths = [column.least for column in columns]
    while wanting := [i for i, column in enumerate(columns) if widths[i] < column.longest]:
        for index in wanting:
            if _total(widths) >= width:
                return widths
            widths[index] += 1
    return widths


def _draw(console: Console, columns: list[_Column]) -> None:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for column, width in zip(columns, _spread(columns, console.width), strict=True):
        is_number = any(cell.is_number for cell in column.cells)
        table.add_column(column.name, justify="right" if is_number else "left", overflow="fold", width=width)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell.text) for cell in row))
    console.print(table)


def _draw_fields(console: Console, rows: list[list[Cell]]) -> None:
    table = Table(show_header=False, box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.text) for cell in row))
    console.print(table)
