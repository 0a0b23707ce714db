# SPDX-License-Identifier: Apache-2.0
"""`dead-letter list`, `dead-letter summary`, `dead-letter show`, `dead-letter discard`."""

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa
from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.arguments import STATES
from tracker_worker.cmd.manage.formatting import (
    TABLE,
    json_cell,
    print_diagnostic,
    print_document,
    print_fields,
    print_limit_note,
    print_rows,
)
from tracker_worker.cmd.manage.letter_command import NotReplayable, command_of
from tracker_worker.cmd.manage.selection import as_of_now, bulk_summary, filters_of, selection_of
from tracker_worker.cmd.manage.session import engine_at_head, snapshot
from tracker_worker.core.records import DISCARDED, PARKED, REPLAYED
from tracker_worker.db import dead_letter_queries, dead_letters
from tracker_worker.db.dead_letter_queries import LetterGroup, SettledReplay, StoredLetter, Wanted

_LISTED = (
    "id", "recorded_at", "state", "code", "path", "node", "method", "event_id", "message",
    "request_id", "reply_host",
)  # fmt: skip
_IN_TABLE = ("id", "recorded_at", "state", "code", "node", "method")


def show_list(conf: cfg.ConfigOpts, args: Any) -> int:
    """List the newest dead letters of a state."""
    wanted = filters_of(args, _state_of(args))
    with snapshot(conf) as connection:
        found = dead_letter_queries.newest(connection, wanted, args.limit)
        total = dead_letter_queries.count(connection, wanted) if len(found) == args.limit else len(found)
    rows = [{key: getattr(letter, key) for key in _LISTED} for letter in found]
    if args.format != TABLE:
        print_document(rows, args.format)
    else:
        print_rows(_IN_TABLE, ([row[key] for key in _IN_TABLE] for row in rows))
    print_limit_note(len(found), total, "letters")
    return 0


def summary(conf: cfg.ConfigOpts, args: Any) -> int:
    """Count the dead letters of a state by code and method."""
    with snapshot(conf) as connection:
        found = dead_letter_queries.summary(connection, filters_of(args, _state_of(args)))
    if args.format != TABLE:
        print_document(found, args.format)
    else:
        print_rows(LetterGroup.__struct_fields__, map(msgspec.structs.astuple, found))
    return 0


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show a dead letter: its fields, its body, and the outcome of its replays."""
    with snapshot(conf) as connection:
        letter = dead_letter_queries.find(connection, [args.id]).get(args.id)
        if letter is None:
            raise CommandFailed(absent(args.id))
        replays = dead_letter_queries.letter_history(connection, [letter]).replays[letter.id]
    fields = msgspec.structs.asdict(letter)
    fields["body"] = msgspec.json.decode(letter.body)
    if args.format != TABLE:
        print_document(fields | {"replays": replays}, args.format)
    else:
        body = fields.pop("body")
        print_fields(fields, "Dead letter")
        if replays:
            print_rows(SettledReplay.__struct_fields__, map(msgspec.structs.astuple, replays), "Replays")
        print_fields({"body": json_cell(body)})
    _print_why_not_replayable(letter)
    return 0


def _print_why_not_replayable(letter: StoredLetter) -> None:
    if letter.state != PARKED:
        return
    try:
        command_of(letter)
    except NotReplayable as error:
        print_diagnostic(str(error))


def discard(conf: cfg.ConfigOpts, args: Any) -> int:
    """Discard parked letters: they are no longer parked, and are deleted after [tracker] dead_letter_days."""
    wanted = selection_of(args)
    with engine_at_head(conf) as engine:
        if wanted is not None:
            return _discard_selected(conf, args, engine, wanted)
        return _discard_by_id(args, engine)


def _discard_selected(conf: cfg.ConfigOpts, args: Any, engine: sa.Engine, wanted: Wanted) -> int:
    wanted, total = as_of_now(engine, wanted)
    with bulk_summary(conf, args, "discarding", total) as bulk:
        for page in dead_letter_queries.pages_of_ids(engine, wanted):
            if args.dry_run:
                bulk.count("would be discarded", len(page))
                continue
            with engine.begin() as connection:
                changed = dead_letters.discard(connection, page)
            bulk.count(DISCARDED, changed)
            bulk.count("no longer parked", len(page) - changed)
    return bulk.exit_code


def _discard_by_id(args: Any, engine: sa.Engine) -> int:
    results = []
    problems = []
    for letter_id in dict.fromkeys(args.ids):
        with engine.begin() as connection:
            changed = not args.dry_run and dead_letters.discard(connection, [letter_id])
            letter = dead_letter_queries.find(connection, [letter_id]).get(letter_id)
        if letter is None:
            problems.append(absent(letter_id))
        elif letter.state == REPLAYED:
            problems.append(f"dead letter {letter_id} was replayed: there is nothing to discard")
        elif letter.state == PARKED:
            results.append({"id": letter_id, "result": "would be discarded"})
        else:
            results.append({"id": letter_id, "result": DISCARDED if changed else "discarded before"})
    print_results(args, results)
    return print_problems(problems)


def absent(letter_id: str) -> str:
    """Return the error for a dead letter that does not exist."""
    return f"there is no dead letter {letter_id}: 'dead-letter list --state all' lists the ids"


def print_results(args: Any, results: list[dict[str, Any]]) -> None:
    """Print the result of each letter."""
    if args.format != TABLE:
        print_document(results, args.format)
    elif results:
        print_rows(list(results[0]), (list(result.values()) for result in results))


def print_problems(problems: Iterable[str]) -> int:
    """Print problems, one a line; return the exit code."""
    code = 0
    for problem in problems:
        print_diagnostic(problem)
        code = 1
    return code


def _state_of(args: Any) -> str | None:
    return None if args.state == STATES[-1] else str(args.state)
