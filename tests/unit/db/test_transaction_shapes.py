# SPDX-License-Identifier: Apache-2.0
"""Which transactions write so few rows that one statement can."""

from typing import Any

import pytest
from msgspec.structs import replace

from tests.builders import NODE, a_claim, a_node, some_resources
from tracker_worker.core.records import (
    DeadLetter,
    NodeChange,
    OutboxRow,
    Receipt,
    Transaction,
    replay_id,
)
from tracker_worker.db.transaction_shapes import inserts_few_rows
from tracker_worker.domain.held_claims import HeldClaims
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Origin

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


def a_change(before: Node | None = None, claims: int = 1, touched: int = 1) -> NodeChange:
    """A node gets claims and touched instances."""
    before = before or KNOWN
    held = [a_claim(uuid=f"i-{number}") for number in range(claims)]
    origins = {f"i-{number}": Origin("nova-1", number) for number in range(touched)}
    after = replace(before, sequence=before.sequence + 1, claims=HeldClaims.of(held), last_origins=origins)
    return NodeChange(before, after, {(claim.instance_uuid, claim.role) for claim in held}, set(origins))


def reverse(change: NodeChange) -> NodeChange:
    """What a change puts goes away."""
    after = replace(change.after, claims=HeldClaims(), last_origins={})
    return NodeChange(change.after, after, change.claims, change.last_origins)


def a_report_of(before: Node) -> NodeChange:
    return NodeChange(before, replace(before, resources=some_resources(vcpus=9)), set(), set())


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
        {"nodes": [a_change(claims=0, touched=0)]},
        {"nodes": [a_change(a_change(claims=0).after)]},
        {"unchecked_id": "event-a"},
    ],
    ids=[
        "claim",
        "without a notification",
        "without a claim",
        "an instance that was touched before",
        "not looked up",
    ],
)
def test_transaction_of_a_lone_command_inserts_few_rows(more: dict[str, Any]) -> None:
    assert inserts_few_rows(a_claim_alone(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"nodes": []},
        {"nodes": [a_change(), a_change(replace(KNOWN, name="node-2"))]},
        {"nodes": [a_change(Node(NODE))]},
        {"nodes": [a_report_of(KNOWN)]},
        {"nodes": [a_change(claims=2)]},
        {"nodes": [reverse(a_change(touched=0))]},
        {"nodes": [a_change(a_change(touched=0).after)]},
        {"nodes": [a_change(touched=2)]},
        {"nodes": [reverse(a_change(claims=0))]},
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
        "no node", "two nodes", "a new node", "a report", "two claims", "a claim that is dropped",
        "a claim that is replaced",
        "two touched instances", "an instance that is forgotten", "no receipt",
        "two receipts", "a replay", "two notifications", "a dead letter", "attempts",
        "a node that was only read", "a node to sync",
    ],
)  # fmt: skip
def test_other_transactions_do_not_insert_few_rows(more: dict[str, Any]) -> None:
    assert not inserts_few_rows(a_claim_alone(**more))
