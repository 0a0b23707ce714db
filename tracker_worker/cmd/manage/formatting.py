# SPDX-License-Identifier: Apache-2.0
"""Output of the commands: results as a table or a JSON document, diagnostics on standard error."""

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
PIPE_WIDTH = 1000
"""Width of tables that are not printed on a terminal, so that no cell is wrapped."""


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


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    document = _json_document(value)
    with _converting_errors():
        sys.stdout.write(document + "\n")
        sys.stdout.flush()


def json_text(value: Any) -> Text:
    """Return an indented JSON document for a table cell."""
    return Text(_json_document(value))


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table of several objects, one in each row. None is shown as a dash."""
    table = Table(title=title and Text(escaped(title)), title_justify="left", title_style="bold")
    found = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numbers = any(_is_number(row[index]) for row in found)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in found:
        table.add_row(*(_cell(value) for value in row))
    with _converting_errors():
        _console().print(table)


def print_fields(fields: dict[str, Any], title: str | None = None) -> None:
    """Print a table of one object, one field in each row."""
    table = Table(
        title=title and Text(escaped(title)), title_justify="left", title_style="bold", show_header=False
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(_cell(name), _cell(value))
    with _converting_errors():
        _console().print(table)


def print_diagnostic(text: str) -> None:
    """Print a message as one line on standard error, after the name of the program."""
    failures.print_diagnostic(PROGRAM, text)


def print_limit_note(shown: int, total: int, unit: str) -> None:
    """Print on standard error that a list was cut off by --limit, if it was."""
    if shown < total:
        print_diagnostic(f"the newest {shown} of {total} {unit}: --limit shows more")


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PIPE_WIDTH)


def _cell(value: Any) -> Text:
    """Return a value as text, without markup and with its control characters escaped."""
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


def _json_document(value: Any) -> str:
    plain = _with_utc(msgspec.to_builtins(value, builtin_types=(datetime,)))
    return escaped_json(msgspec.json.format(msgspec.json.encode(plain)).decode())


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
