# SPDX-License-Identifier: Apache-2.0
"""`dead-letter replay`: a letter's command goes out once more, as the same event however often it is asked
for.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from oslo_config import cfg

from tracker_worker.cmd.failures import CommandFailed
from tracker_worker.cmd.manage.dead_letters import absent, print_problems, print_results
from tracker_worker.cmd.manage.selection import accounted, as_of_now, chosen
from tracker_worker.cmd.manage.session import broker_of, engine_at_head, snapshot_of
from tracker_worker.core.records import DISCARDED, REPLAYED, replay_id
from tracker_worker.db import dead_letter_queries
from tracker_worker.db.dead_letter_queries import Aftermath, StoredLetter, Wanted
from tracker_worker.domain.commands import (
    METHOD_OF,
    METHODS,
    AnyCommand,
    ClaimCommand,
    FinishMove,
    FinishRevertMove,
    GetNode,
    instance_uuid_of,
)
from tracker_worker.domain.extra_specs import READ_KEYS_ONLY, read_keys
from tracker_worker.exceptions import TrackerWorkerException
from tracker_worker.rpcapi import TrackerAPI

_SUMMARY = {"type", "length", "sha256"}
"""The keys of what a letter keeps in place of a value that it does not keep."""
_NAMED = 3


NEEDS_FORCE = "needs --force"
NOT_KEPT = "was not kept verbatim"
INVALID = "is no valid command"
QUESTION = "is a question"
GIVEN_UP = "was discarded"


class NotReplayable(Exception):
    """A letter that cannot be replayed; the text says why and what to do, `kind` is the reason in short."""

    def __init__(self, letter: StoredLetter, kind: str, text: str) -> None:
        super().__init__(f"dead letter {letter.id}{text}")
        self.letter_id = letter.id
        self.kind = kind


class Replay(Struct, frozen=True):
    """A letter's command as it goes out again; `settled` when that is done, and nothing goes out.

    `args` have the sender's origin: the `as_of` of an audit means nothing without it.
    """

    letter_id: str
    event_id: str
    settled: bool
    method: str
    node: str
    args: dict[str, Any]


Publish = Callable[[Replay], None]


def replay(conf: cfg.ConfigOpts, args: Any) -> int:
    """Publish the commands of parked letters again, each node's in the order in which they were parked.

    Each goes to the end of its node's queue. Letters that ids name are all examined first: when one cannot be
    replayed, none is published. Of letters that options choose, those that cannot are left. What was replayed
    before stays as it is, so the command may be repeated.
    """
    wanted = chosen(args)
    publish = _publisher(conf, dry_run=args.dry_run)
    with engine_at_head(conf) as engine:
        if wanted is not None:
            return replay_wanted(conf, args, engine, wanted, publish)
        with snapshot_of(engine) as connection:
            replays, problems = examine(connection, args.ids, force=args.force)
    if problems:
        return print_problems(problems)
    return _replay_named(args, replays, publish)


def _publisher(conf: cfg.ConfigOpts, *, dry_run: bool) -> Publish:
    """Return what publishes a replay and returns once the broker has confirmed it. Raises CommandFailed."""
    settings, _ = broker_of(conf)
    try:
        api = TrackerAPI.from_conf(conf, exchange=settings.exchange, partitions=settings.partitions)
    except TrackerWorkerException as error:
        raise CommandFailed(str(error)) from error
    if dry_run:
        return lambda _replay: None
    return lambda one: api.cast({}, one.method, one.node, **one.args, event_id=one.event_id)


def _replay_named(args: Any, replays: list[Replay], publish: Publish) -> int:
    results = []
    problems = []
    try:
        for one in replays:
            if not one.settled:
                publish(one)
            results.append(_result(one, dry_run=args.dry_run))
    except TrackerWorkerException as error:
        problems.append(f"{len(replays) - len(results)} of {len(replays)} not published: {error}")
    print_results(args, results)
    return print_problems(problems)


def replay_wanted(
    conf: cfg.ConfigOpts, args: Any, engine: sa.Engine, wanted: Wanted, publish: Publish
) -> int:
    """Replay what can be replayed, and count what cannot.

    More letters than there were at the beginning are never worked off, whatever the database's clock says.
    """
    wanted, total = as_of_now(engine, wanted)
    left = 0
    with accounted(conf, args, "replaying", total) as account:
        try:
            for page in dead_letter_queries.pages_in_order(engine, wanted):
                with snapshot_of(engine) as connection:
                    found = dead_letter_queries.find(connection, page)
                    examined = examine_each(connection, list(found.values()), force=args.force)
                for one in examined[: total - account.done]:
                    if isinstance(one, Replay):
                        if not one.settled:
                            publish(one)
                        account.note(_result(one, dry_run=args.dry_run)["result"], 1, one.letter_id)
                    else:
                        left += 1
                        account.note(one.kind, 1, one.letter_id)
        except TrackerWorkerException as error:
            account.end(f"{account.total - account.done} of {account.total} not published: {error}")
        if left:
            account.end(f"left: {left} of {total}; 'dead-letter replay ID' says of each what is against it")
    return account.code


def command_of(letter: StoredLetter) -> AnyCommand:
    """Return the command that a letter keeps. Raises NotReplayable."""
    body = msgspec.json.decode(letter.body)
    method, args = body.get("method"), body.get("args")
    if not isinstance(method, str) or not isinstance(args, dict):
        raise _not_verbatim(letter)
    try:
        command: AnyCommand = msgspec.convert(_read(args), METHODS[method])
    except msgspec.ValidationError:
        if _has_summary(args):
            raise _not_verbatim(letter) from None
        raise NotReplayable(
            letter,
            INVALID,
            f" is no valid command ({letter.code} at {letter.path}): it cannot be replayed; mend its sender, "
            "and discard it: the next audit corrects the node",
        ) from None
    if _has_summary(msgspec.to_builtins(command)):
        raise _not_verbatim(letter)
    if isinstance(command, GetNode):
        raise NotReplayable(letter, QUESTION, " is a question, which changes nothing: discard it")
    return command


def examine(
    connection: sa.Connection, letter_ids: list[str], *, force: bool
) -> tuple[list[Replay], list[str]]:
    """Return the replays, a node's oldest letter first, and what stands against them, one line each."""
    letters = dead_letter_queries.find(connection, letter_ids)
    problems = [absent(letter_id) for letter_id in dict.fromkeys(letter_ids) if letter_id not in letters]
    examined = examine_each(connection, list(letters.values()), force=force)
    problems += [str(one) for one in examined if isinstance(one, NotReplayable)]
    return [one for one in examined if isinstance(one, Replay)], problems


def examine_each(
    connection: sa.Connection, letters: list[StoredLetter], *, force: bool
) -> list[Replay | NotReplayable]:
    """Return what may be replayed and what may not, a node's oldest letter first.

    A constant number of statements, and two for each letter whose node has moved on since.
    """
    known = dead_letter_queries.aftermath(connection, letters)
    examined: list[Replay | NotReplayable] = []
    for letter in sorted(letters, key=lambda letter: (letter.node or "", letter.place)):
        try:
            examined.append(_replay_of(connection, letter, known, force=force))
        except NotReplayable as error:
            examined.append(error)
    return examined


def _replay_of(connection: sa.Connection, letter: StoredLetter, known: Aftermath, *, force: bool) -> Replay:
    """Return the replay of a letter.

    Its number grows only past replays that are settled: until one is, it is the same event however often it
    is published.
    """
    if letter.state == DISCARDED:
        raise NotReplayable(letter, GIVEN_UP, " was discarded: there is nothing to replay")
    command = command_of(letter)
    former = known.replays[letter.id]
    settled = letter.state == REPLAYED
    if not settled and not force:
        _ask_for_force(
            letter,
            _later_events(connection, letter, known, command)
            + _unknown_events(letter, known, command)
            + _claims_for_nobody(command),
        )
    args = {"origin": None} | msgspec.to_builtins(command)
    for stamped in ("node", "event_id"):
        args.pop(stamped, None)
    number = max(len(former), 1) if settled else len(former) + 1
    return Replay(
        letter_id=letter.id,
        event_id=replay_id(letter.id, number),
        settled=settled,
        method=METHOD_OF[type(command)],
        node=command.node,
        args=args,
    )


def _ask_for_force(letter: StoredLetter, doubts: list[str]) -> None:
    if doubts:
        raise NotReplayable(
            letter,
            NEEDS_FORCE,
            f": {'; '.join(doubts)}; add --force to replay it all the same, or discard it",
        )


def _claims_for_nobody(command: AnyCommand) -> list[str]:
    """Return the doubt about a claim: whoever asked for it has been told that it was not made."""
    if isinstance(command, FinishMove | FinishRevertMove):
        return [
            f"it makes a claim where instance {instance_uuid_of(command)} has none: see that the instance is "
            f"on node {command.node} still"
        ]
    if not isinstance(command, ClaimCommand):
        return []
    return [
        "the caller of this claim was told EventParked, or gave up: unless instance "
        f"{instance_uuid_of(command)} is on node {command.node}, or on its way there, the claim would hold "
        "room for nobody"
    ]


def _unknown_events(letter: StoredLetter, known: Aftermath, command: AnyCommand) -> list[str]:
    """Return the doubt about events whose receipts are gone: whether they came later, nothing tells."""
    if not known.has_receipt(letter):
        what = "its receipt has been purged, and those of later events may have been"
    elif letter.sequence is None:
        what = "which events came after it is not known"
    elif not known.is_history_kept(letter):
        what = "receipts of later events may have been purged"
    else:
        return []
    return [f"{what} ([tracker] receipt_days): compare 'node show {command.node}' with the host first"]


def _later_events(
    connection: sa.Connection, letter: StoredLetter, known: Aftermath, command: AnyCommand
) -> list[str]:
    """Return the doubt about events that are known to have come later."""
    if known.sequences.get(command.node, 0) == letter.sequence:
        return []
    uuid = instance_uuid_of(command)
    later = dead_letter_queries.later_events(connection, letter, uuid)
    if not later:
        return []
    about = f"instance {uuid}" if uuid else f"node {command.node}"
    named = ", ".join(f"{e.method} ({e.event_id}, sequence {e.sequence})" for e in later[:_NAMED])
    more = f" and {len(later) - _NAMED} more" if len(later) > _NAMED else ""
    return [f"{about} has been changed since, by {named}{more}"]


def _result(one: Replay, *, dry_run: bool) -> dict[str, str]:
    published = "would be published" if dry_run else "published"
    return {
        "id": one.letter_id,
        "event_id": one.event_id,
        "node": one.node,
        "method": one.method,
        "result": "replayed before" if one.settled else published,
    }


def _not_verbatim(letter: StoredLetter) -> NotReplayable:
    text = (
        " was not kept verbatim: it cannot be replayed; have its sender send it again under a new event id, "
        "and discard it"
    )
    return NotReplayable(letter, NOT_KEPT, text)


def _read(value: Any) -> Any:
    """Return arguments without what no rule reads: the worker drops it too, so whether it was kept is no
    matter.
    """
    match value:
        case dict():
            return {
                key: read_keys(inner) if key in READ_KEYS_ONLY and isinstance(inner, dict) else _read(inner)
                for key, inner in value.items()
            }
        case list():
            return [_read(inner) for inner in value]
        case _:
            return value


def _has_summary(value: Any) -> bool:
    match value:
        case dict():
            return value.keys() == _SUMMARY or any(map(_has_summary, value.values()))
        case list():
            return any(map(_has_summary, value))
        case _:
            return False
