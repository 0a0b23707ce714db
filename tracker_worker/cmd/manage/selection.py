# SPDX-License-Identifier: Apache-2.0
"""Which dead letters a command is about, and the account of a command that is about many.

Many are worked off in pages. What is done stays done: a command that was interrupted says what it has done,
and goes on with the rest when it is repeated.
"""

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from rich.console import Console

from tracker_worker.cmd.failures import INTERRUPTED, WRONG_COMMAND_LINE, CommandFailed
from tracker_worker.cmd.manage.formatting import print_diagnostic, print_json, print_rows, writing
from tracker_worker.cmd.manage.session import named_database
from tracker_worker.cmd.progress import progress_bar
from tracker_worker.core.records import PARKED
from tracker_worker.db import dead_letter_queries
from tracker_worker.db.dead_letter_queries import Wanted
from tracker_worker.domain.commands import METHODS
from tracker_worker.domain.errors import ErrorCode


def add_filters(parser: Any) -> None:
    """Add the options that choose letters."""
    codes = sorted(code.value for code in ErrorCode)
    parser.add_argument("--code", choices=codes, metavar="CODE", help="parked with this code")
    parser.add_argument("--node", dest="name_of_node", type=_name, metavar="NODE", help="of this node")
    parser.add_argument("--method", choices=sorted(METHODS), metavar="METHOD", help="of this method")
    parser.add_argument(
        "--since", type=_time, metavar="TIME", help="parked at this time or later: 2026-11-22T12:00, UTC"
    )


def add_choice(parser: Any) -> None:
    """Add what names letters, or chooses them."""
    parser.add_argument("ids", nargs="*", metavar="ID")
    add_filters(parser)
    parser.add_argument("--all", action="store_true", dest="all_letters", help="all that are parked")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done, and do nothing")


def wanted_of(args: Any, state: str | None) -> Wanted:
    """Return which letters of a state the options choose."""
    return Wanted(state, args.code, args.name_of_node, args.method, args.since)


def chosen(args: Any) -> Wanted | None:
    """Return which parked letters the options choose, None where ids name them.

    Ends the program, as argparse does, where the command line has both or neither.
    """
    wanted = wanted_of(args, PARKED)
    filtered = wanted != Wanted(PARKED) or args.all_letters
    if filtered == bool(args.ids):
        print_diagnostic(
            "name letters by their ids, or choose them by --code, --node, --method and --since, or by --all"
        )
        raise SystemExit(WRONG_COMMAND_LINE)
    return wanted if filtered else None


def _name(text: str) -> str:
    """Refuse what a script makes of a variable that is not set."""
    if not text:
        raise ArgumentTypeError("a name is needed: --all chooses the letters of all nodes")
    return text


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"a time like 2026-11-22T12:00 is needed, not {text!r}") from None


class Account:
    """How many letters came to which result, and the first of those. `problems` are told at the end."""

    def __init__(self, total: int, advance: Callable[[int], None]) -> None:
        self.total = total
        self.done = 0
        self.problems: list[str] = []
        self.code = 0
        self._advance = advance
        self._results: dict[str, tuple[int, str | None]] = {}

    def note(self, result: str, letters: int, first: str | None = None) -> None:
        """Count letters that came to a result."""
        if letters:
            before, first = self._results.get(result, (0, first))
            self._results[result] = before + letters, first
            self.done += letters
            self._advance(letters)

    def end(self, problem: str, code: int = 1) -> None:
        """Note why not all was done, and the exit code of that."""
        self.problems.append(problem)
        self.code = code

    def print(self, output_format: str) -> None:
        """Print the results."""
        rows = [{"result": r, "letters": n, "first": first} for r, (n, first) in self._results.items()]
        if output_format == "json":
            print_json(rows)
        elif rows:
            columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
            print_rows(columns, ([row[name] for name in columns] for row in rows))


def as_of_now(engine: sa.Engine, wanted: Wanted) -> tuple[Wanted, int]:
    """Return the question as it is answered now, and how many letters that are.

    What is parked from now on is not worked off: a replay that is parked again, above all.
    """
    with engine.connect() as connection:
        wanted = dead_letter_queries.as_of_now(connection, wanted)
        return wanted, dead_letter_queries.count(connection, wanted)


@contextmanager
def accounted(conf: cfg.ConfigOpts, args: Any, doing: str, total: int) -> Iterator[Account]:
    """Show the progress of some work on letters, and print its account however it ends.

    Ctrl-C and errors of the database end the work; both are told by the account.
    """
    with progress_bar(Console(stderr=True), total, doing, "letters") as advance:
        account = Account(total, writing(advance))
        try:
            with named_database(conf):
                yield account
        except CommandFailed as error:
            account.end(str(error))
        except KeyboardInterrupt:
            account.end(
                f"interrupted after {account.done} of {total} letters: what is done stays done, repeat the "
                "command for the rest",
                INTERRUPTED,
            )
    account.print(args.format)
    if not total:
        print_diagnostic("no parked letter is chosen by these options")
    for problem in account.problems:
        print_diagnostic(problem)
