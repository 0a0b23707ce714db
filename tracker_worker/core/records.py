# SPDX-License-Identifier: Apache-2.0
"""What one transaction writes: node changes, receipts, dead letters, outbox rows. Pure values; `db` has the
statements.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from tracker_worker.domain.node import Node, Role

PARKED = "parked"
REPLAYED = "replayed"
DISCARDED = "discarded"

Token = tuple[int, str]
"""What is compared and swapped: sequence and commit id of a node."""
NO_ROW: Token = (0, "")

_REPLAY_ID = re.compile(r"([0-9a-f-]{36})\.[1-9][0-9]{0,9}")


def token_of(node: Node) -> Token:
    """Return the token of a node as it was loaded, or committed."""
    return node.sequence, node.commit_id


class NodeChange(Struct):
    """A node before and after a batch, and which of its rows differ."""

    before: Node
    after: Node
    claims: set[tuple[str, Role]]
    last_origins: set[str]


class Receipt(Struct, frozen=True):
    """What became of an event. `digest` covers method, node and arguments; `reply` is the first reply.

    `instance_uuid`: the instance that the event was about, where it was about one. When a receipt was written
    says the database's clock, in the column `recorded_at`.
    """

    event_id: str
    digest: str
    node: str | None
    sequence: int | None
    method: str | None
    outcome: str
    reply: dict[str, Any]
    instance_uuid: str | None = None


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One parked event, as it is written.

    `code` is stable; `path` names the bad field; the body is redacted (at most 64 KiB). `sequence` is the
    node's once the event was parked, 0 where it had none: every event with a higher one came later. None: it
    is not known, and `db.dead_letters.add` looks it up. `position` orders the letters of one batch.
    `request_id` is the sender's, `reply_host` the host that waited for a reply, where its queue has told it.
    """

    id: str
    event_id: str
    code: str
    path: str
    message: str
    node: str | None
    method: str | None
    body: str
    sequence: int | None
    position: int = 0
    state: str = PARKED
    request_id: str | None = None
    reply_host: str | None = None


class OutboxRow(Struct, frozen=True):
    """A notification as it will be published: its body changes only if the bus refuses it.

    `id` is 0 before the insert.
    """

    node: str | None
    event_type: str
    priority: str
    message_id: str
    body: bytes
    id: int = 0


class Transaction(Struct, frozen=True):
    """Everything that a batch commits.

    `unchanged`: the tokens of nodes that must still hold for its reads to be answered.
    """

    nodes: list[NodeChange]
    receipts: list[Receipt]
    dead_letters: list[DeadLetter]
    notifications: list[OutboxRow]
    finished_attempts: list[str]
    unchanged: Mapping[str, Token]


def replay_id(letter_id: str, number: int) -> str:
    """Return the event id of a dead letter's replay, counted from 1."""
    return f"{letter_id}.{number}"


def replayed_letter(event_id: str) -> str | None:
    """Return the id of the dead letter whose replay an event is, None for any other event."""
    match = _REPLAY_ID.fullmatch(event_id)
    return match and match[1]
