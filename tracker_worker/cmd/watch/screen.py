# SPDX-License-Identifier: Apache-2.0
"""Renders a picture for a terminal of any size. Names and texts are escaped, and are no markup. Pure."""

from collections.abc import Iterator
from textwrap import wrap

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tracker_worker.cmd.manage.formatting import NOTHING, Cell, plain_table
from tracker_worker.cmd.watch.entries import Entry, Kind
from tracker_worker.cmd.watch.picture import MAX_ENTRIES, MAX_NODES, Amount, NodeState, Picture
from tracker_worker.core.terminal import escaped
from tracker_worker.domain.flavors import MB_PER_GB

NARROWEST_BAR = 4
WIDEST_BAR = 16
_NODE_SHARE = 4
"""In the list of events, a node's name takes at most this part of a line, as a divisor."""
_INDENT = len("12:00:00 ")
"""The indentation of the further lines of an event; a narrow terminal has less, so that an id fits."""
_WIDEST_ID = len("bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb)")
_WIDEST_KIND = max(map(len, Kind))
_COLUMNS = ("node", "vcpus", "memory_GB", "disk_GB", "inst", "age", "marks")
_HEADINGS = ("node", "", "vcpus", "", "memory GB", "", "disk GB", "inst", "age", "")
_BAR_COLUMNS = (1, 3, 5)
_BARS = len(_BAR_COLUMNS)
_LEAST_NEEDED = (_BAR_COLUMNS, (8,), (7,), (6,))
"""The columns that are left out where the names of the nodes do not fit, the first ones first."""
_LONGEST_NAME = len("bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")
"""No column is left out for the rest of a longer name."""
_FRAME_LINES = 7
"""Lines besides nodes and events: status, counts (two), selection, heading, hidden nodes, a blank."""
_NEARLY_FULL, _FULL = 0.75, 0.9
_STYLES = {
    Kind.REFUSED: "yellow",
    Kind.CORRECTED: "cyan",
    Kind.ERROR: "bold red",
    Kind.GAP: "magenta",
    Kind.WATCH: "bold red",
}
_COUNTED = (Kind.USAGE, Kind.REFUSED, Kind.CORRECTED, Kind.ERROR, Kind.CREATED, Kind.DELETED, Kind.GAP)


class Size(Struct, frozen=True):
    """Columns and lines of a terminal; as many lines as there are, without `lines`."""

    columns: int
    lines: int | None = None

    def rows(self, nodes: int, entries: int) -> tuple[int, int]:
        """Return how many nodes, and lines of entries, are shown: half each, and what the nodes leave."""
        if self.lines is None:
            return min(nodes, MAX_NODES), min(entries, MAX_ENTRIES)
        room = max(self.lines - _FRAME_LINES, 2)
        for_entries = max(room // 2, room - nodes)
        return room - for_entries, for_entries


class Status(Struct, frozen=True):
    """The state of the connection, in words, and whether it is lost."""

    text: str
    lost: bool = False


def render(picture: Picture, status: Status, size: Size, now: float) -> RenderableType:
    """Return what the terminal shows at `now`, in the seconds of the picture's clock."""
    node_rows, entry_rows = size.rows(len(picture.nodes), len(picture.entries))
    parts: list[RenderableType] = [*_head(picture, status, now)]
    parts.append(_nodes(picture.fullest(node_rows), size.columns, now))
    if (hidden := len(picture.nodes) - node_rows) > 0:
        parts.append(_line(f"and {hidden} more nodes that are less full", "dim"))
    if newest := list(reversed(picture.entries))[:entry_rows]:
        parts += [Text(""), *_entries(newest, size.columns, entry_rows if size.lines else None)]
    return Group(*parts)


def plain_lines(picture: Picture, status: Status, now: float) -> Iterator[str]:
    """Yield the lines of a picture for a pipe or a file: as wide as they are, without bars."""
    node_rows, entry_rows = Size(0).rows(len(picture.nodes), len(picture.entries))
    yield from (line.plain for line in _head(picture, status, now))
    rows = [[Cell(text) for text in _texts(node, now)] for node in picture.fullest(node_rows)]
    yield from plain_table(_COLUMNS, rows)
    if newest := list(reversed(picture.entries))[:entry_rows]:
        yield ""
        yield from map(line_of, newest)


def _head(picture: Picture, status: Status, now: float) -> Iterator[Text]:
    yield _line(status.text, "bold red" if status.lost else "bold")
    yield _counts(picture, now)
    rest = [f"shown: {picture.selection}"] if str(picture.selection) else []
    rest += [f"{count} {what}" for what, count in picture.left_out.items() if count]
    if rest:
        yield _line("; ".join(rest), "dim")


def _counts(picture: Picture, now: float) -> Text:
    parts = [f"{picture.received.total} notifications, {picture.received.per_second(now):.0f}/s"]
    for kind in _COUNTED:
        rate = picture.rates[kind]
        if rate.total:
            speed = rate.per_second(now)
            parts.append(f"{rate.total} {kind.value}" + (f" ({speed:.0f}/s)" if speed >= 1 else ""))
    return Text("  ".join(parts))


def _nodes(nodes: list[NodeState], columns: int, now: float) -> Table:
    rows = [_cells(node, now) for node in nodes]
    widths = [
        max([len(heading), *(len(cell) for cell in (row[index] for row in rows) if isinstance(cell, Text))])
        for index, heading in enumerate(_HEADINGS)
    ]
    shown = _fitting(widths, columns)
    # What the figures leave is for names and bars, names first.
    room = columns - sum(widths[index] for index in shown[1:]) - len(shown)
    bars = sum(index in _BAR_COLUMNS for index in shown)
    bar = min(max((room - widths[0]) // _BARS, NARROWEST_BAR), WIDEST_BAR)
    name = max(room - bars * bar, NARROWEST_BAR)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    for index in shown:
        heading = _HEADINGS[index]
        table.add_column(
            heading,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if index and heading else "left",
            max_width=name if index == 0 else None,
            width=bar if index in _BAR_COLUMNS else None,
        )
    for row in rows:
        table.add_row(*(row[index] for index in shown))
    return table


def _fitting(widths: list[int], columns: int) -> list[int]:
    """Return the columns of the table that leave room for the names, the fewest if no choice of them does."""
    least = [NARROWEST_BAR if index in _BAR_COLUMNS else width for index, width in enumerate(widths)]
    least[0] = min(least[0], _LONGEST_NAME)
    shown = list(range(len(widths)))
    for left_out in _LEAST_NEEDED:
        if sum(least[index] + 1 for index in shown) <= columns:
            break
        shown = [index for index in shown if index not in left_out]
    return shown


def _cells(node: NodeState, now: float) -> list[Text | ProgressBar]:
    name, vcpus, memory, disk, instances, updated, _ = _texts(node, now)
    return [
        Text(name, style="dim" if node.disabled else ""),
        _bar(node.vcpus),
        Text(vcpus),
        _bar(node.memory_mb),
        Text(memory),
        _bar(node.local_gb),
        Text(disk),
        Text(instances),
        Text(updated),
        Text(" ").join(Text(text, style) for text, style in _marks(node)),
    ]


def _texts(node: NodeState, now: float) -> list[str]:
    return [
        escaped(node.name),
        _used(node.vcpus),
        _used(node.memory_mb, MB_PER_GB),
        _used(node.local_gb),
        str(node.instances),
        NOTHING if node.updated_at is None else age(now - node.updated_at),
        ", ".join(text for text, _ in _marks(node)) or NOTHING,
    ]


def _bar(amount: Amount) -> ProgressBar:
    style = "green" if amount.fraction < _NEARLY_FULL else "yellow" if amount.fraction < _FULL else "red"
    completed = min(amount.fraction, 1.0)
    return ProgressBar(total=1.0, completed=completed, complete_style=style, finished_style=style)


def _used(amount: Amount, unit: int = 1) -> str:
    return f"{_figure(amount.used / unit)}/{_figure(amount.capacity / unit)}"


def _figure(value: float) -> str:
    """Return a number of at most five characters, as long as it is below 100,000."""
    return f"{value:.1f}".removesuffix(".0") if abs(value) < 100 else f"{value:.0f}"


def _marks(node: NodeState) -> Iterator[tuple[str, str]]:
    """Yield what is to be noticed of a node, each with a style."""
    if node.gaps:
        yield f"gaps {node.gaps}", _STYLES[Kind.GAP]
    if node.refusals:
        yield f"refused {node.refusals}", _STYLES[Kind.REFUSED]
    if node.disabled:
        yield "disabled", "dim"


def age(seconds: float) -> str:
    """Return a duration in its largest whole unit: 59s, 59m, 23h, 9d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _entries(entries: list[Entry], columns: int, most: int | None) -> Iterator[Text]:
    """Yield the lines of entries, of which long ones have several: whole entries, `most` lines at most."""
    longest = min(max(len(escaped(entry.node)) for entry in entries), columns // _NODE_SHARE)
    used = 0
    for entry in entries:
        lines = _lines_of(entry, longest, columns)[:most]
        used += len(lines)
        if most is not None and used > most:
            return
        yield from lines


def _lines_of(entry: Entry, node_width: int, columns: int) -> list[Text]:
    """Return an entry as lines: what its text needs behind its node, the rest below its kind."""
    node = Text(escaped(entry.node))
    node.truncate(node_width, overflow="ellipsis", pad=True)
    head = Text.assemble(
        (escaped(_time_of_day(entry.time)), "dim"),
        " ",
        (f"{entry.kind.value:{_WIDEST_KIND}}", _STYLES.get(entry.kind, "")),
        " ",
        node,
        " ",
    )
    first, *others = _wrapped(escaped(entry.text), columns - len(head), columns)
    lines = [Text.assemble(head, first), *map(Text, others)]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines


def _wrapped(text: str, first: int, columns: int) -> list[str]:
    """Return a text as lines: the first has `first` columns, the others are indented.

    A word that does not fit into what the first line has left comes on the next one: only a word that is
    longer than a whole line is divided.
    """
    indent = " " * max(min(_INDENT, columns - _WIDEST_ID), 0)
    words = [
        part for word in text.split() for part in wrap(word, columns - len(indent), break_on_hyphens=False)
    ]
    if not words:
        return [""]
    begin = "" if len(words[0]) > first else " " * (columns - first)
    lines = wrap(
        " ".join(words),
        columns,
        initial_indent=begin or indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [lines[0][len(begin) :], *lines[1:]] if begin else ["", *lines]


def _time_of_day(time: str) -> str:
    """Return the time of a timestamp, without its date and fractions."""
    return time[11:19]


def _line(text: str, style: str) -> Text:
    return Text(escaped(text), style=style, no_wrap=True, overflow="ellipsis")


def line_of(entry: Entry) -> str:
    """Return an entry as one line of plain text."""
    time = f"{entry.time[:19].replace(' ', 'T')}Z"
    parts = (time, entry.kind.value, entry.node, entry.text)
    return escaped(" ".join(parts))
