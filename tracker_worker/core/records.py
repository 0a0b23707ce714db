# SPDX-License-Identifier: Apache-2.0
"""The records of one transaction: node changes, receipts, dead letters, outbox rows. Pure values; `db` has
the statements.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, json

from tracker_worker.domain.deltas import Delta
from tracker_worker.domain.held_claims import Role
from tracker_worker.domain.node import Node

REBUILD = "rebuild_node"
"""The method of a rebuild in receipts and notifications. No command has this name."""
PARKED = "parked"
REPLAYED = "replayed"
DISCARDED = "discarded"

Token = tuple[int, str]
"""Sequence and commit id of a node, which are compared and swapped."""
NO_ROW: Token = (0, "")
NO_DELTA = ""
"""The delta of an event that changed no usage."""

_delta_encoder = json.Encoder()
_delta_decoder = json.Decoder(Delta)

_REPLAY_ID = re.compile(r"([0-9a-f-]{36})\.[1-9][0-9]{0,9}")


def token_of(node: Node) -> Token:
    """Return the token of a node that was loaded or committed."""
    return node.sequence, node.commit_id


class NodeChange(Struct):
    """A node before and after a batch, and the keys of the claims and last origins that differ."""

    before: Node
    after: Node
    claims: set[tuple[str, Role]]
    last_origins: set[str]


class Receipt(Struct, frozen=True):
    """The outcome of an event. `digest` covers method, node and arguments; `reply` is the first reply.

    `instance_uuid` is the event's instance, if it has one. The database's clock sets the time of the receipt,
    in the column `recorded_at`. `request_id` is the sender's. `delta` is what `encode_delta` returns; None:
    an earlier version wrote the receipt, and did not keep what the event changed.
    """

    event_id: str
    digest: str
    node: str | None
    sequence: int | None
    method: str | None
    outcome: str
    reply: dict[str, Any]
    instance_uuid: str | None = None
    request_id: str | None = None
    delta: str | None = NO_DELTA


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One parked event, as it is inserted.

    `code` is stable; `path` names the bad field; the body is redacted (at most 64 KiB). `sequence` is the
    node's after the event was parked, 0 if the node had none: events with a higher sequence came later. If it
    is None, `db.dead_letters.add` looks it up. `position` orders the letters of one batch. `request_id` is
    the sender's; `reply_host` is the caller's host, if the name of the reply queue contains it. `method`
    may be unknown to this worker.
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

    `unchanged`: tokens of the nodes that were only read. Unless they are still current, the commit fails.
    `unsynced`: names of the nodes whose resource providers change: they are to be synced with Placement.
    `unchecked_id`: the id of the only event, if its receipt was not looked up. If there is one, the commit
    fails.
    """

    nodes: list[NodeChange]
    receipts: list[Receipt]
    dead_letters: list[DeadLetter]
    notifications: list[OutboxRow]
    finished_attempts: list[str]
    unchanged: Mapping[str, Token]
    unsynced: Sequence[str] = ()
    unchecked_id: str | None = None


def replay_id(letter_id: str, number: int) -> str:
    """Return the event id of a dead letter's replay, counted from 1."""
    return f"{letter_id}.{number}"


def replayed_letter(event_id: str) -> str | None:
    """Return the id of the dead letter that an event replays, None if it is no replay."""
    match = _REPLAY_ID.fullmatch(event_id)
    return match and match[1]


def encode_delta(delta: Delta | None) -> str:
    """Return a delta as a receipt keeps it."""
    return NO_DELTA if delta is None else _delta_encoder.encode(delta).decode()


def decode_delta(text: str) -> Delta:
    """Return the delta of a receipt. Raises msgspec.DecodeError for one that this version cannot read."""
    return _delta_decoder.decode(text) if text else Delta()
