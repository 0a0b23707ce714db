# SPDX-License-Identifier: Apache-2.0
"""Output of the commands: results as tables or as one document, diagnostics on standard error.

A terminal gets tables that rich draws. A pipe gets the same texts in columns, without lines and colours, so
that rich is imported for a terminal only.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from tracker_worker.cmd import failures
from tracker_worker.cmd.failures import OutputFailed
from tracker_worker.core.terminal import escaped, escaped_json
from tracker_worker.core.times import time_text

PROGRAM = "tracker-worker-manage"
TABLE, JSON, YAML = FORMATS = ("table", "json", "yaml")
"""The values of --format."""
NOTHING = "-"
"""The text of a cell without a value."""


class Cell(Struct, frozen=True):
    """The text of a table's cell, which may have several lines; numbers are aligned to the right."""

    text: str
    is_number: bool = False


@contextmanager
def _converting_errors() -> Iterator[None]:
    """Convert an OSError of writing to OutputFailed: callers may handle other OSErrors as database errors."""
    try:
        yield
    except OSError as error:
        raise OutputFailed from error


def converting_output_errors(advance: Callable[[int], None]) -> Callable[[int], None]:
    """Wrap a function that shows progress: its OSErrors are raised as OutputFailed."""

    def show(count: int) -> None:
        with _converting_errors():
            advance(count)

    return show


def print_document(value: Any, output_format: str) -> None:
    """Print one document, JSON or YAML, with all times in UTC."""
    if output_format == YAML:
        import yaml

        # Other characters than ASCII's are escaped, and so are those that could steer a terminal.
        document = yaml.safe_dump(_plain(value), sort_keys=False)
    else:
        document = _json_document(value) + "\n"
    with _converting_errors():
        sys.stdout.write(document)
        sys.stdout.flush()


def json_cell(value: Any) -> Cell:
    """Return an indented JSON document as a table's cell."""
    return Cell(_json_document(value))


def print_rows(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    title: str | None = None,
    keep: Collection[str] | None = None,
) -> None:
    """Print a table of several objects, one in each row. None is shown as a dash.

    A narrow terminal leaves out columns, but never those of `keep`, by default the first one.
    """
    _print_table(columns, [list(map(_cell, row)) for row in rows], title, keep or columns[:1])


def print_fields(fields: dict[str, Any], title: str | None = None) -> None:
    """Print a table of one object, one field in each row."""
    _print_table(None, [[_cell(name), Cell(_cell(value).text)] for name, value in fields.items()], title, ())


def _print_table(
    columns: Sequence[str] | None, rows: list[list[Cell]], title: str | None, keep: Collection[str]
) -> None:
    title = title and escaped(title)
    with _converting_errors():
        if sys.stdout.isatty():
            from tracker_worker.cmd.manage.terminal import draw_table

            draw_table(columns, rows, title, keep)
        else:
            sys.stdout.writelines(f"{line}\n" for line in plain_table(columns, rows, title))


def plain_table(
    columns: Sequence[str] | None, rows: list[list[Cell]], title: str | None = None
) -> Iterator[str]:
    """Yield the lines of a table whose columns are as wide as their widest cell."""
    if title:
        yield f"{title}:"
    lines = [line for row in rows for line in _lines(row)]
    if columns is not None:
        lines = [[Cell(name, _has_numbers(rows, index)) for index, name in enumerate(columns)], *lines]
    widths = [max(len(cell.text) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = zip(line, widths, strict=True)
        texts = (
            cell.text.rjust(width) if cell.is_number else cell.text.ljust(width) for cell, width in cells
        )
        yield "  ".join(texts).rstrip()
    if title:
        yield ""


def _lines(row: list[Cell]) -> Iterator[list[Cell]]:
    """Yield the lines of a row, more than one if a cell has several lines."""
    texts = [cell.text.split("\n") for cell in row]
    for index in range(max(map(len, texts))):
        yield [
            Cell(text[index] if index < len(text) else "", cell.is_number)
            for cell, text in zip(row, texts, strict=True)
        ]


def _has_numbers(rows: list[list[Cell]], index: int) -> bool:
    return any(row[index].is_number for row in rows)


def clear_terminal() -> None:
    """Clear the terminal, and have the next output begin at its top; in a pipe nothing happens."""
    if sys.stdout.isatty():
        with _converting_errors():
            sys.stdout.write("\x1b[H\x1b[2J\x1b[3J")


def print_diagnostic(text: str) -> None:
    """Print a message as one line on standard error, after the name of the program."""
    failures.print_diagnostic(PROGRAM, text)


def print_limit_note(shown: int, total: int, unit: str) -> None:
    """Print on standard error that a list was cut off by --limit, if it was."""
    if shown < total:
        print_diagnostic(f"the newest {shown} of {total} {unit}: --limit shows more")


def _cell(value: Any) -> Cell:
    """Return the text of a value with its control characters escaped."""
    match value:
        case Cell():
            return value
        case None | "":
            return Cell(NOTHING)
        case bool():
            return Cell("yes" if value else "no")
        case int() | float():
            return Cell(str(value), is_number=True)
        case datetime():
            return Cell(time_text(value))
        case list():
            return Cell(escaped(", ".join(map(str, value))) or NOTHING)
        case _:
            return Cell(escaped(str(value)))


def _json_document(value: Any) -> str:
    return escaped_json(msgspec.json.format(msgspec.json.encode(_plain(value))).decode())


def _plain(value: Any) -> Any:
    return _with_utc(msgspec.to_builtins(value, builtin_types=(datetime,)))


def _with_utc(value: Any) -> Any:
    """Return a value whose times have the time zone UTC."""
    match value:
        case dict():
            return {key: _with_utc(inner) for key, inner in value.items()}
        case list():
            return [_with_utc(inner) for inner in value]
        case datetime():
            return value.replace(tzinfo=UTC)
        case _:
            return value
