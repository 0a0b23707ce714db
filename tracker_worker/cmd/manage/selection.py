# SPDX-License-Identifier: Apache-2.0
"""Selection of dead letters, and the summary of a bulk command.

A bulk command processes the selected letters in pages. If it is interrupted, the results of the letters that
are done are kept and summarized, and a repetition of the command continues with the rest.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg

from tracker_worker.cmd.failures import INTERRUPTED, WRONG_COMMAND_LINE, CommandFailed
from tracker_worker.cmd.manage.formatting import (
    TABLE,
    converting_output_errors,
    print_diagnostic,
    print_document,
    print_rows,
)
from tracker_worker.cmd.manage.session import reporting_database_errors
from tracker_worker.cmd.progress import progress_bar
from tracker_worker.core.records import PARKED
from tracker_worker.db import dead_letter_queries
from tracker_worker.db.dead_letter_queries import Wanted


def filters_of(args: Any, state: str | None) -> Wanted:
    """Return the filters of the command line, for letters of a state."""
    return Wanted(state, args.code, args.name_of_node, args.method, args.since)


def selection_of(args: Any) -> Wanted | None:
    """Return the filters for parked letters, or None if the command line has ids.

    Exits as argparse does if the command line has both or neither.
    """
    wanted = filters_of(args, PARKED)
    filtered = wanted != Wanted(PARKED) or args.all_letters
    if filtered == bool(args.ids):
        print_diagnostic(
            "select letters either by id, or with --code, --node, --method and --since, or with --all"
        )
        raise SystemExit(WRONG_COMMAND_LINE)
    return wanted if filtered else None


class BulkSummary:
    """The summary of a bulk command: for each result the number of letters, and the first letter.

    `problems` are the errors that end the command early, or letters that it leaves; `exit_code` is theirs.
    """

    def __init__(self, total: int, advance: Callable[[int], None]) -> None:
        self.total = total
        self.done = 0
        self.problems: list[str] = []
        self.exit_code = 0
        self._advance = advance
        self._results: dict[str, tuple[int, str | None]] = {}

    def count(self, result: str, letters: int, first: str | None = None) -> None:
        """Add letters with a result, and advance the progress bar."""
        if letters:
            before, first = self._results.get(result, (0, first))
            self._results[result] = before + letters, first
            self.done += letters
            self._advance(letters)

    def fail(self, problem: str, exit_code: int = 1) -> None:
        """Add a problem with its exit code."""
        self.problems.append(problem)
        self.exit_code = exit_code

    def print(self, output_format: str) -> None:
        """Print the summary, without the problems."""
        rows = [{"result": r, "letters": n, "first": first} for r, (n, first) in self._results.items()]
        if output_format != TABLE:
            print_document(rows, output_format)
        elif rows:
            columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
            print_rows(columns, ([row[name] for name in columns] for row in rows))


def as_of_now(engine: sa.Engine, wanted: Wanted) -> tuple[Wanted, int]:
    """Return the filters limited to letters parked until now, and the number of these letters.

    Letters that are parked later, such as replays that are parked again, are not processed.
    """
    with engine.connect() as connection:
        wanted = dead_letter_queries.as_of_now(connection, wanted)
        return wanted, dead_letter_queries.count(connection, wanted)


@contextmanager
def bulk_summary(conf: cfg.ConfigOpts, args: Any, description: str, total: int) -> Iterator[BulkSummary]:
    """Run the block with a progress bar, then print its summary and problems.

    Ctrl-C and errors of the database end the block; they are problems of the summary, and not raised.
    """
    with progress_bar(total, description, "letters") as advance:
        summary = BulkSummary(total, converting_output_errors(advance))
        try:
            with reporting_database_errors(conf):
                yield summary
        except CommandFailed as error:
            summary.fail(str(error))
        except KeyboardInterrupt:
            summary.fail(
                f"interrupted after {summary.done} of {total} letters: their results are kept, repeat the "
                "command for the rest",
                INTERRUPTED,
            )
    summary.print(args.format)
    if not total:
        print_diagnostic("no parked letter matches these options")
    for problem in summary.problems:
        print_diagnostic(problem)
