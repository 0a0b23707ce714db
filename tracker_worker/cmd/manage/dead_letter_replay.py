# SPDX-License-Identifier: Apache-2.0
"""`dead-letter replay`: publishes the command of a dead letter again.

Until a worker has applied or parked the replay, every repetition publishes the same event id.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from oslo_config import cfg

from tracker_worker.cmd.manage.client import client_of
from tracker_worker.cmd.manage.dead_letters import absent, print_problems, print_results
from tracker_worker.cmd.manage.letter_command import NotReplayable, command_of
from tracker_worker.cmd.manage.operator_request import request_of_operator
from tracker_worker.cmd.manage.selection import as_of_now, bulk_summary, selection_of
from tracker_worker.cmd.manage.session import engine_at_head, snapshot_of
from tracker_worker.core.records import DISCARDED, REPLAYED, replay_id
from tracker_worker.db import dead_letter_queries
from tracker_worker.db.dead_letter_queries import LetterHistory, StoredLetter, Wanted
from tracker_worker.domain.commands import (
    METHOD_OF,
    AnyCommand,
    ClaimCommand,
    FinishMove,
    FinishRevertMove,
    instance_uuid_of,
)
from tracker_worker.exceptions import TrackerWorkerException

_MAX_NAMED_EVENTS = 3

NEEDS_FORCE = "needs --force"
WAS_DISCARDED = "was discarded"


class Replay(Struct, frozen=True):
    """The command of a dead letter, to be published again unless `is_replayed`.

    `args` include the sender's `origin`, because the `as_of` of an audit counts the events of that origin.
    `request_id` is the sender's, or the operator's if the sender had none.
    """

    letter_id: str
    event_id: str
    is_replayed: bool
    method: str
    node: str
    args: dict[str, Any]
    request_id: str


Publish = Callable[[Replay], None]


def replay(conf: cfg.ConfigOpts, args: Any) -> int:
    """Publish the commands of parked letters again, each node's in the order in which they were parked.

    Each command goes to the end of the queue of its node's partition. Letters selected by id are examined
    before the first is published: if one cannot be replayed, none is. Of letters selected by filters, those
    that cannot be replayed stay parked. Replayed letters are skipped, so the command may be repeated.
    """
    wanted = selection_of(args)
    publish = _publisher(conf, dry_run=args.dry_run)
    with engine_at_head(conf) as engine:
        if wanted is not None:
            return replay_selected(conf, args, engine, wanted, publish)
        with snapshot_of(engine) as connection:
            replays, problems = examine(connection, args.ids, force=args.force)
    if problems:
        return print_problems(problems)
    return _replay_by_id(args, replays, publish)


def _publisher(conf: cfg.ConfigOpts, *, dry_run: bool) -> Publish:
    """Return a function that publishes a replay and waits for the publisher confirm; none with `dry_run`.

    Raises CommandFailed.
    """
    api = client_of(conf)
    if dry_run:
        return lambda _replay: None
    return lambda one: api.cast(
        {"request_id": one.request_id}, one.method, one.node, **one.args, event_id=one.event_id
    )


def _replay_by_id(args: Any, replays: list[Replay], publish: Publish) -> int:
    results = []
    problems = []
    try:
        for one in replays:
            if not one.is_replayed:
                publish(one)
            results.append(_result(one, dry_run=args.dry_run))
    except TrackerWorkerException as error:
        problems.append(f"{len(replays) - len(results)} of {len(replays)} not published: {error}")
    print_results(args, results)
    return print_problems(problems)


def replay_selected(
    conf: cfg.ConfigOpts, args: Any, engine: sa.Engine, wanted: Wanted, publish: Publish
) -> int:
    """Replay the selected letters that can be replayed, and count the others by their reasons.

    Processes at most as many letters as were selected at the start, even if the database's clock was set back
    and replays that are parked again match the filters.
    """
    wanted, total = as_of_now(engine, wanted)
    left = 0
    with bulk_summary(conf, args, "replaying", total) as bulk:
        try:
            for page in dead_letter_queries.pages_in_order(engine, wanted):
                with snapshot_of(engine) as connection:
                    found = dead_letter_queries.find(connection, page)
                    examined = examine_each(connection, list(found.values()), force=args.force)
                for one in examined[: total - bulk.done]:
                    if isinstance(one, Replay):
                        if not one.is_replayed:
                            publish(one)
                        bulk.count(_result(one, dry_run=args.dry_run)["result"], 1, one.letter_id)
                    else:
                        left += 1
                        bulk.count(one.kind, 1, one.letter_id)
        except TrackerWorkerException as error:
            bulk.fail(f"{bulk.total - bulk.done} of {bulk.total} not published: {error}")
        if left:
            bulk.fail(f"not replayed: {left} of {total}; 'dead-letter replay ID' shows the reason for each")
    return bulk.exit_code


def examine(
    connection: sa.Connection, letter_ids: list[str], *, force: bool
) -> tuple[list[Replay], list[str]]:
    """Return the replays, the oldest letter of each node first, and an error for each letter without one."""
    letters = dead_letter_queries.find(connection, letter_ids)
    problems = [absent(letter_id) for letter_id in dict.fromkeys(letter_ids) if letter_id not in letters]
    examined = examine_each(connection, list(letters.values()), force=force)
    problems += [str(one) for one in examined if isinstance(one, NotReplayable)]
    return [one for one in examined if isinstance(one, Replay)], problems


def examine_each(
    connection: sa.Connection, letters: list[StoredLetter], *, force: bool
) -> list[Replay | NotReplayable]:
    """Return a replay or an error for each letter, the oldest letter of each node first.

    Runs a constant number of statements, and two for each letter whose node has later events.
    """
    known = dead_letter_queries.letter_history(connection, letters)
    examined: list[Replay | NotReplayable] = []
    for letter in sorted(letters, key=lambda letter: (letter.node or "", letter.place)):
        try:
            examined.append(_replay_of(connection, letter, known, force=force))
        except NotReplayable as error:
            examined.append(error)
    return examined


def _replay_of(
    connection: sa.Connection, letter: StoredLetter, known: LetterHistory, *, force: bool
) -> Replay:
    """Return the replay of a letter.

    The number in its event id is incremented only after a worker has applied or parked the former replay:
    until then, a repetition publishes the same event id.
    """
    if letter.state == DISCARDED:
        raise NotReplayable(letter, WAS_DISCARDED, " was discarded: there is nothing to replay")
    command = command_of(letter)
    former = known.replays[letter.id]
    is_replayed = letter.state == REPLAYED
    if not is_replayed and not force:
        _refuse_objections(
            letter,
            _later_events(connection, letter, known, command)
            + _purged_receipts(letter, known, command)
            + _orphaned_claim(command),
        )
    args = {"origin": None} | msgspec.to_builtins(command)
    for key in ("node", "event_id"):
        args.pop(key, None)
    number = max(len(former), 1) if is_replayed else len(former) + 1
    return Replay(
        letter_id=letter.id,
        event_id=replay_id(letter.id, number),
        is_replayed=is_replayed,
        method=METHOD_OF[type(command)],
        node=command.node,
        args=args,
        request_id=letter.request_id or request_of_operator(),
    )


def _refuse_objections(letter: StoredLetter, objections: list[str]) -> None:
    if objections:
        raise NotReplayable(
            letter,
            NEEDS_FORCE,
            f": {'; '.join(objections)}; add --force to replay it all the same, or discard it",
        )


def _orphaned_claim(command: AnyCommand) -> list[str]:
    """Return the objection to a claim: its caller got an error, so the claim may be for no instance."""
    if isinstance(command, FinishMove | FinishRevertMove):
        return [
            f"it creates a claim if instance {instance_uuid_of(command)} has none: check that the instance "
            f"is still on node {command.node}"
        ]
    if not isinstance(command, ClaimCommand):
        return []
    return [
        "the caller of this claim got EventParked or timed out: unless instance "
        f"{instance_uuid_of(command)} is on node {command.node}, or moving there, the claim would reserve "
        "resources that no instance uses"
    ]


def _purged_receipts(letter: StoredLetter, known: LetterHistory, command: AnyCommand) -> list[str]:
    """Return the objection if the receipts do not show whether later events have changed the node."""
    if not known.has_receipt(letter):
        what = "its receipt has been purged, and those of later events may have been"
    elif letter.sequence is None:
        what = "it is unknown which events came after it"
    elif not known.is_history_kept(letter):
        what = "receipts of later events may have been purged"
    else:
        return []
    return [f"{what} ([tracker] receipt_days): compare 'node show {command.node}' with the host first"]


def _later_events(
    connection: sa.Connection, letter: StoredLetter, known: LetterHistory, command: AnyCommand
) -> list[str]:
    """Return the objection that later events have changed the instance or the node."""
    if known.sequences.get(command.node, 0) == letter.sequence:
        return []
    uuid = instance_uuid_of(command)
    later = dead_letter_queries.later_events(connection, letter, uuid)
    if not later:
        return []
    about = f"instance {uuid}" if uuid else f"node {command.node}"
    named = ", ".join(f"{e.method} ({e.event_id}, sequence {e.sequence})" for e in later[:_MAX_NAMED_EVENTS])
    rest = len(later) - _MAX_NAMED_EVENTS
    more = f" and {rest} more" if rest > 0 else ""
    return [f"{about} has been changed since, by {named}{more}"]


def _result(one: Replay, *, dry_run: bool) -> dict[str, str]:
    published = "would be published" if dry_run else "published"
    return {
        "id": one.letter_id,
        "event_id": one.event_id,
        "node": one.node,
        "method": one.method,
        "result": "replayed before" if one.is_replayed else published,
    }
