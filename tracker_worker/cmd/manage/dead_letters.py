# SPDX-License-Identifier: Apache-2.0
"""`dead-letter list`, `dead-letter show`, `dead-letter discard`."""

from collections.abc import Iterable
from typing import Any

import msgspec
from oslo_config import cfg

from tracker_worker.cmd.manage.rendering import complain, json_text, print_fields, print_json, print_rows
from tracker_worker.cmd.manage.session import CommandFailed, engine_at_head, snapshot
from tracker_worker.db import dead_letters
from tracker_worker.db.dead_letters import DISCARDED, PARKED, REPLAYED, SettledEvent

ALL_STATES = "all"
STATES = (PARKED, REPLAYED, DISCARDED, ALL_STATES)
_LISTED = ("id", "recorded_at", "state", "code", "path", "node", "method", "event_id", "message")
_IN_TABLE = ("id", "recorded_at", "state", "code", "node", "method")


def show_list(conf: cfg.ConfigOpts, args: Any) -> int:
    """List the newest dead letters of a state."""
    state = None if args.state == ALL_STATES else args.state
    with snapshot(conf) as connection:
        found = dead_letters.newest(connection, args.limit, state=state, node=args.name_of_node)
    rows = [{key: getattr(letter, key) for key in _LISTED} for letter in found]
    if args.format == "json":
        print_json(rows)
    else:
        print_rows(_IN_TABLE, ([row[key] for key in _IN_TABLE] for row in rows))
    return 0


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show a dead letter: all fields, the body that was kept, and what became of its replays."""
    with snapshot(conf) as connection:
        letter = dead_letters.find(connection, [args.id]).get(args.id)
        replays = dead_letters.replays(connection, args.id)
    if letter is None:
        raise CommandFailed(absent(args.id))
    fields = msgspec.structs.asdict(letter)
    fields["body"] = msgspec.json.decode(letter.body)
    if args.format == "json":
        print_json(fields | {"replays": replays})
        return 0
    body = fields.pop("body")
    print_fields(fields, "Dead letter")
    if replays:
        print_rows(SettledEvent.__struct_fields__, map(msgspec.structs.astuple, replays), "Replays")
    print_fields({"body": json_text(body)})
    return 0


def discard(conf: cfg.ConfigOpts, args: Any) -> int:
    """Give parked letters up: they are kept, and no longer listed as parked."""
    results = []
    problems = []
    with engine_at_head(conf) as engine:
        for letter_id in dict.fromkeys(args.ids):
            with engine.begin() as connection:
                changed = dead_letters.discard(connection, letter_id)
                letter = dead_letters.find(connection, [letter_id]).get(letter_id)
            if letter is None:
                problems.append(absent(letter_id))
            elif letter.state == REPLAYED:
                problems.append(f"dead letter {letter_id} was replayed: there is nothing to discard")
            else:
                result = DISCARDED if changed else "discarded before"
                results.append({"id": letter_id, "result": result})
    print_results(args, results)
    return complain_all(problems)


def absent(letter_id: str) -> str:
    """Return the line about a letter that does not exist."""
    return f"there is no dead letter {letter_id}: 'dead-letter list --state all' has the ids"


def print_results(args: Any, results: list[dict[str, Any]]) -> None:
    """Print what became of each letter."""
    if args.format == "json":
        print_json(results)
    elif results:
        print_rows(list(results[0]), (list(result.values()) for result in results))


def complain_all(problems: Iterable[str]) -> int:
    """Print problems, one a line; return the exit code."""
    code = 0
    for problem in problems:
        complain(problem)
        code = 1
    return code
