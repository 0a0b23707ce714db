# SPDX-License-Identifier: Apache-2.0
"""Results on standard output: a table for people, one JSON document for programs."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracker_worker.cmd import failures
from tracker_worker.cmd.failures import OutputFailed
from tracker_worker.core.terminal import escaped, escaped_json

PROGRAM = "tracker-worker-manage"
WIDE = 1000
"""Columns of what is no terminal: nothing is cut where another program reads."""


@contextmanager
def _output() -> Iterator[None]:
    """Tell errors of writing from those of what is written about. Raises OutputFailed."""
    try:
        yield
    except OSError as error:
        raise OutputFailed from error


def writing(advance: Callable[[int], None]) -> Callable[[int], None]:
    """Return what shows progress, and raises OutputFailed where it cannot."""

    def show(count: int) -> None:
        with _output():
            advance(count)

    return show


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    document = _document(value)
    with _output():
        sys.stdout.write(document + "\n")
        sys.stdout.flush()


def json_text(value: Any) -> Text:
    """Return a JSON document, indented, as it stands in a table."""
    return Text(_document(value))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table: one row a thing. None is shown as a dash."""
    table = Table(title=title and Text(escaped(title)), title_justify="left", title_style="bold")
    found = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numbers = any(_is_number(row[index]) for row in found)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in found:
        table.add_row(*(_cell(value) for value in row))
    with _output():
        _console().print(table)


def print_fields(fields: dict[str, Any], title: str | None = None) -> None:
    """Print a table of one thing: a row a field."""
    table = Table(
        title=title and Text(escaped(title)), title_justify="left", title_style="bold", show_header=False
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(_cell(name), _cell(value))
    with _output():
        _console().print(table)


def print_diagnostic(text: str) -> None:
    """Print one line on standard error."""
    failures.print_diagnostic(PROGRAM, text)


def print_limit_note(shown: int, total: int, things: str) -> None:
    """Say that a list does not show all that there is."""
    if shown < total:
        print_diagnostic(f"the newest {shown} of {total} {things}: --limit shows more")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _cell(value: Any) -> Text:
    """Return a value as text: without markup, and without what drives a terminal."""
    match value:
        case Text():
            return value
        case None:
            return Text("-")
        case bool():
            return Text("yes" if value else "no")
        case datetime():
            return Text(f"{value.isoformat(sep=' ', timespec='seconds')} UTC")
        case list():
            return Text(escaped(", ".join(map(str, value))) or "-")
        case _:
            return Text(escaped(str(value)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _document(value: Any) -> str:
    plain = _with_zones(msgspec.to_builtins(value, builtin_types=(datetime,)))
    return escaped_json(msgspec.json.format(msgspec.json.encode(plain)).decode())


def _with_zones(value: Any) -> Any:
    """Return a value in which every time says that it is UTC."""
    match value:
        case dict():
            return {key: _with_zones(inner) for key, inner in value.items()}
        case list():
            return [_with_zones(inner) for inner in value]
        case datetime():
            return value.replace(tzinfo=UTC)
        case _:
            return value
