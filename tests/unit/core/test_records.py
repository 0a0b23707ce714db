# SPDX-License-Identifier: Apache-2.0
"""Which transactions write few enough rows to be one statement."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import NODE, a_node
from tracker_worker.core.records import (
    DeadLetter,
    NodeChange,
    OutboxRow,
    Receipt,
    Transaction,
    replay_id,
    writes_few_rows,
)
from tracker_worker.domain.held_claims import Role
from tracker_worker.domain.node import Node

KNOWN = replace(a_node(), sequence=1)
RECEIPT = Receipt("event-a", "digest", NODE, 2, "instance_claim", "granted", {})
NOTIFICATION = OutboxRow(NODE, "compute_node.usage", "INFO", "message-1", b"{}")
LETTER = DeadLetter(
    id="letter-1",
    event_id="event-a",
    code="bad_message",
    path="$",
    message="no",
    node=NODE,
    method="instance_claim",
    body="",
    sequence=2,
)


def a_change(before: Node | None = None, claims: int = 1, marks: int = 1) -> NodeChange:
    before = before or KNOWN
    keys = {(f"i-{number}", Role.INSTANCE) for number in range(claims)}
    after = replace(before, sequence=before.sequence + 1)
    return NodeChange(before, after, keys, {f"i-{number}" for number in range(marks)})


def a_claim_alone(**more: Any) -> Transaction:
    """The transaction of a claim that came alone."""
    parts: dict[str, Any] = {
        "nodes": [a_change()],
        "receipts": [RECEIPT],
        "dead_letters": [],
        "notifications": [NOTIFICATION],
        "finished_attempts": [],
        "unchanged": {},
    }
    return Transaction(**(parts | more))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"notifications": []},
        {"nodes": [a_change(claims=0, marks=0)]},
        {"unchecked_id": "event-a"},
    ],
    ids=["claim", "without a notification", "without a claim", "not looked up"],
)
def test_transaction_of_a_lone_command_writes_few_rows(more: dict[str, Any]) -> None:
    assert writes_few_rows(a_claim_alone(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"nodes": []},
        {"nodes": [a_change(), a_change(replace(KNOWN, name="node-2"))]},
        {"nodes": [a_change(Node(NODE))]},
        {"nodes": [a_change(claims=2)]},
        {"nodes": [a_change(marks=2)]},
        {"receipts": []},
        {"receipts": [RECEIPT, replace(RECEIPT, event_id="event-b")]},
        {"receipts": [replace(RECEIPT, event_id=replay_id("0c017240-4cf8-49f7-9466-b4e3ccbfaa10", 1))]},
        {"notifications": [NOTIFICATION, replace(NOTIFICATION, message_id="message-2")]},
        {"dead_letters": [LETTER]},
        {"finished_attempts": ["event-a"]},
        {"unchanged": {NODE: (1, "commit-1")}},
        {"unsynced": [NODE]},
    ],
    ids=[
        "no node", "two nodes", "a new node", "two claims", "two touched instances", "no receipt",
        "two receipts", "a replay", "two notifications", "a dead letter", "attempts",
        "a node that was only read", "a node to sync",
    ],
)  # fmt: skip
def test_transaction_that_writes_more_does_not_write_few_rows(more: dict[str, Any]) -> None:
    assert not writes_few_rows(a_claim_alone(**more))
