# SPDX-License-Identifier: Apache-2.0
"""The command of a dead letter, and why there is none."""

from typing import Any

import msgspec

from tracker_worker.db.dead_letter_queries import StoredLetter
from tracker_worker.domain.commands import METHODS, AnyCommand, GetNode
from tracker_worker.domain.extra_specs import READ_KEYS_ONLY, read_keys

_SUMMARY = {"type", "length", "sha256"}
"""The keys of the summary that a dead letter stores in place of a value that is not kept verbatim."""
NOT_VERBATIM = "was not kept verbatim"
INVALID = "is no valid command"
QUESTION = "is a question"


class NotReplayable(Exception):
    """A dead letter cannot be replayed; the text says why and what to do, `kind` is the short reason."""

    def __init__(self, letter: StoredLetter, kind: str, text: str) -> None:
        super().__init__(f"dead letter {letter.id}{text}")
        self.letter_id = letter.id
        self.kind = kind


def command_of(letter: StoredLetter) -> AnyCommand:
    """Return the command of a dead letter. Raises NotReplayable if it is not stored verbatim, or invalid."""
    body = msgspec.json.decode(letter.body)
    method, args = body.get("method"), body.get("args")
    if not isinstance(method, str) or not isinstance(args, dict):
        raise _not_verbatim(letter)
    try:
        command: AnyCommand = msgspec.convert(_without_unread(args), METHODS[method])
    except msgspec.ValidationError:
        if _has_summary(args):
            raise _not_verbatim(letter) from None
        raise NotReplayable(
            letter,
            INVALID,
            f" is no valid command ({letter.code} at {letter.path}): it cannot be replayed; correct its "
            "sender, and discard it: the next audit corrects the node",
        ) from None
    if _has_summary(msgspec.to_builtins(command)):
        raise _not_verbatim(letter)
    if isinstance(command, GetNode):
        raise NotReplayable(letter, QUESTION, " is a question, which changes nothing: discard it")
    return command


def _not_verbatim(letter: StoredLetter) -> NotReplayable:
    text = (
        " was not kept verbatim: it cannot be replayed; have its sender send it again under a new event id, "
        "and discard it"
    )
    return NotReplayable(letter, NOT_VERBATIM, text)


def _without_unread(value: Any) -> Any:
    """Return arguments without the keys that the worker does not read: they need not be stored verbatim."""
    match value:
        case dict():
            return {
                key: read_keys(inner)
                if key in READ_KEYS_ONLY and isinstance(inner, dict)
                else _without_unread(inner)
                for key, inner in value.items()
            }
        case list():
            return [_without_unread(inner) for inner in value]
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
