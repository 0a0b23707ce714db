# SPDX-License-Identifier: Apache-2.0
"""One batch: what its transaction consists of and what each delivery is answered, without a database."""

import itertools
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.builders import (
    HOST,
    INSTANCE,
    NODE,
    SETTINGS,
    a_claim,
    a_flavor,
    a_node,
    a_report,
    an_instance,
    command,
    some_resources,
)
from tests.unit.core.deliveries import PARTITIONS, Came, delivery_of
from tracker_worker import exceptions
from tracker_worker.core.batch import Batch, BatchContext, Snapshot
from tracker_worker.core.decode import attempts_key, decode_event
from tracker_worker.core.envelope import encode
from tracker_worker.core.records import Receipt, Transaction, token_of
from tracker_worker.core.unread_audit import UnreadAudit
from tracker_worker.domain.decide import STALE_AUDIT
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Role
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Origin
from tracker_worker.domain.origins import Source
from tracker_worker.domain.report import Owner

NOW = datetime(2026, 11, 28, 12)
OTHER = "node-2"


def a_context(*, notify: bool = True) -> BatchContext:
    ids = (f"00000000-0000-4000-8000-{number:012}" for number in itertools.count(1))
    return BatchContext(
        tracker=SETTINGS,
        partitions=PARTITIONS,
        publisher_id="tracker-worker:test",
        notify=notify,
        clock=lambda: NOW,
        new_id=lambda: next(ids),
    )


def a_batch(*nodes: Node, receipts: Mapping[str, Receipt] | None = None, notify: bool = True) -> Batch:
    known = {node.name: node for node in (Node(NODE), Node(OTHER), *nodes)}
    return Batch(Snapshot(receipts or {}, known, {}), a_context(notify=notify))


def applied(batch: Batch, *deliveries: Came) -> tuple[Transaction, list[Any]]:
    """What the batch commits, and what each delivery is answered, in order."""
    for delivery in deliveries:
        batch.apply(decode_event(delivery, PARTITIONS))
    answers = batch.answers()
    assert [each for each, _ in answers] == list(deliveries)
    return batch.transaction(), [answer for _, answer in answers]


def claim(event_id: str, uuid: str = INSTANCE, vcpus: int = 2, **how: Any) -> Came:
    return delivery_of(
        command("instance_claim", instance=an_instance(uuid, a_flavor(vcpus))), event_id, **how
    )


def notified(transaction: Transaction) -> list[str]:
    return [row.event_type for row in transaction.notifications]


def test_empty_batch_commits_nothing() -> None:
    transaction, answers = applied(a_batch())
    assert answers == []
    assert all(not getattr(transaction, field) for field in Transaction.__struct_fields__)


def test_claim_changes_its_node_and_leaves_a_receipt_and_a_notification() -> None:
    node = a_node(sequence=7, commit_id="before")
    transaction, (answer,) = applied(a_batch(node), claim("event-a"))
    (change,) = transaction.nodes
    assert (change.before, change.after.sequence) == (node, 8)
    assert change.claims == {(INSTANCE, Role.INSTANCE)}
    assert change.after.commit_id not in ("", "before")
    (receipt,) = transaction.receipts
    assert (receipt.event_id, receipt.node, receipt.sequence, receipt.outcome) == (
        "event-a",
        NODE,
        8,
        "granted",
    )
    assert receipt.reply == answer
    assert notified(transaction) == ["compute_node.usage"]


def test_events_of_one_node_share_one_change_and_one_usage_notification() -> None:
    transaction, answers = applied(a_batch(a_node()), claim("a", "i-1"), claim("b", "i-2"))
    (change,) = transaction.nodes
    assert change.after.used.vcpus == 4
    assert [answer["sequence"] for answer in answers] == [1, 2]
    (row,) = transaction.notifications
    assert msgspec.json.decode(row.body)["payload"]["nova_object.data"]["events"] == 2


def test_nodes_of_a_batch_have_one_commit_id() -> None:
    other = a_node(name=OTHER)
    transaction, _ = applied(
        a_batch(a_node(), other),
        claim("a"),
        delivery_of(command("instance_claim", node=OTHER, instance=an_instance("i-2")), "b"),
    )
    assert len({change.after.commit_id for change in transaction.nodes}) == 1


def test_second_delivery_of_an_event_gets_the_first_reply_and_changes_nothing() -> None:
    transaction, (first, second) = applied(a_batch(a_node()), claim("a"), claim("a"))
    assert first == second
    assert (len(transaction.receipts), transaction.nodes[0].after.sequence) == (1, 1)


def test_event_with_a_receipt_gets_its_stored_reply() -> None:
    done, (answer,) = applied(a_batch(a_node()), claim("a"))
    known = {receipt.event_id: receipt for receipt in done.receipts}
    transaction, answers = applied(a_batch(a_node(), receipts=known), claim("a"))
    assert (answers, transaction.nodes, transaction.receipts) == ([answer], [], [])


def test_reused_id_is_parked_under_the_digest_and_once() -> None:
    other = claim("a", "i-2")
    transaction, answers = applied(a_batch(a_node()), claim("a"), other, other)
    digest = decode_event(other, PARTITIONS).digest
    (letter,) = transaction.dead_letters
    assert (letter.event_id, letter.code) == (digest, "event_id_reused")
    assert [receipt.event_id for receipt in transaction.receipts] == ["a", digest]
    assert all(isinstance(answer, exceptions.EventIdReused) for answer in answers[1:])


def test_refused_claim_is_an_outcome_with_a_receipt_and_an_error_notification() -> None:
    too_much = command("instance_claim", instance=an_instance(), limits={"vcpu": 1})
    transaction, (answer,) = applied(a_batch(a_node()), delivery_of(too_much, "a"))
    assert isinstance(answer, exceptions.ComputeResourcesUnavailable)
    assert [receipt.outcome for receipt in transaction.receipts] == ["refused"]
    assert notified(transaction) == ["compute_node.claim.error"]


def test_invalid_event_is_parked_and_its_neighbours_are_applied() -> None:
    broken = Came(b"no json")
    transaction, answers = applied(a_batch(a_node()), claim("a", "i-1"), broken, claim("b", "i-2"))
    assert [letter.code for letter in transaction.dead_letters] == ["malformed_json"]
    assert transaction.nodes[0].after.used.vcpus == 4
    assert isinstance(answers[1], exceptions.InvalidCommand)


def test_event_that_raises_is_parked_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> None:
        raise ZeroDivisionError("planted-secret")

    monkeypatch.setattr("tracker_worker.core.batch.decide", fail)
    transaction, (answer,) = applied(a_batch(a_node(sequence=3)), claim("a"))
    (letter,) = transaction.dead_letters
    assert (letter.code, "ZeroDivisionError in fail" in letter.message) == ("internal_error", True)
    assert "planted-secret" not in letter.message
    assert (dict(transaction.nodes[0].after.claims), transaction.nodes[0].after.sequence) == ({}, 4)
    assert isinstance(answer, exceptions.EventParked)


def test_redelivered_event_settles_its_attempts() -> None:
    first = claim("a", redelivered=True)
    transaction, _ = applied(a_batch(a_node()), first, claim("b", "i-2"))
    assert transaction.finished_attempts == [attempts_key(first)]


def test_get_node_is_answered_with_the_state_of_the_batch_and_checked_against_the_database() -> None:
    node = a_node(sequence=3, commit_id="before")
    read = delivery_of(command("get_node"))
    transaction, answers = applied(a_batch(node), read, claim("a"), read)
    assert [answers[0]["vcpus_used"], answers[2]["vcpus_used"]] == [0, 2]
    assert transaction.unchanged == {}, "the swap compares the token already"
    transaction, _ = applied(a_batch(node), read)
    assert (transaction.unchanged, transaction.receipts) == ({NODE: token_of(node)}, [])


def test_get_node_of_an_unknown_node_raises_in_the_caller() -> None:
    _, (answer,) = applied(a_batch(), delivery_of(command("get_node")))
    assert isinstance(answer, exceptions.NodeNotFound)


def test_event_for_a_name_without_a_row_leaves_a_receipt_without_a_sequence() -> None:
    transaction, (answer,) = applied(a_batch(), delivery_of(command("build_failed"), "a"))
    assert (transaction.nodes, [receipt.sequence for receipt in transaction.receipts]) == ([], [None])
    assert (answer["outcome"], answer["sequence"]) == ("ignored", 0)
    assert transaction.unchanged == {NODE: (0, "")}, "the row must be missing still"


def test_uuid_of_a_report_belongs_to_its_node_for_the_rest_of_the_batch() -> None:
    """A second name with the same uuid, in the same batch."""
    theirs = replace(a_report(), node=OTHER)
    _, answers = applied(a_batch(), delivery_of(a_report(), "a"), delivery_of(theirs, "b"))
    assert answers[0]["outcome"] == "applied"
    assert isinstance(answers[1], exceptions.NodeConflict)


def test_known_owner_of_a_uuid_refuses_another_name() -> None:
    report = a_report()
    owners = {report.resources.uuid: Owner(OTHER, HOST)}
    batch = Batch(Snapshot({}, {NODE: Node(NODE)}, owners), a_context())
    _, (answer,) = applied(batch, delivery_of(report, "a"))
    assert isinstance(answer, exceptions.NodeConflict)


def test_batch_without_notifications_has_no_outbox_rows() -> None:
    transaction, _ = applied(a_batch(a_node(), notify=False), claim("a"), Came(b"no json"))
    assert transaction.notifications == []
    assert len(transaction.receipts) == 2


def test_usage_notification_names_the_one_before_it() -> None:
    node = a_node(sequence=5, usage_sequence=4)
    transaction, _ = applied(a_batch(node), claim("a"))
    (row,) = transaction.notifications
    data = msgspec.json.decode(row.body)["payload"]["nova_object.data"]
    assert (data["since"], data["sequence"], data["host"]) == (4, 6, HOST)
    assert transaction.nodes[0].after.usage_sequence == 6


def test_rebuilt_node_has_the_sum_of_its_claims_and_a_receipt() -> None:
    node = replace(a_node(sequence=2), claimed=Amounts(vcpus=3))
    batch = a_batch(node)
    batch.rebuild(NODE, "rebuild-1")
    transaction, _ = applied(batch)
    assert (transaction.nodes[0].after.sequence, transaction.nodes[0].after.used.vcpus) == (3, 0)
    assert [(receipt.event_id, receipt.method) for receipt in transaction.receipts] == [
        ("rebuild-1", "rebuild_node")
    ]
    assert "3 vcpus" in transaction.receipts[0].reply["reason"]


def test_broken_node_is_reported_without_a_change_of_its_row() -> None:
    batch = a_batch(a_node(sequence=2))
    batch.report_broken(decode_event(claim("a"), PARTITIONS), "vcpus: 3, claims: 2")
    transaction, _ = applied(batch)
    assert (transaction.nodes, transaction.receipts) == ([], [])
    assert notified(transaction) == ["compute_node.event.error"]


def an_audit(sequence: int, *instances: Any, **how: Any) -> Came:
    report = a_report(instances, origin=Origin("client-1", sequence), as_of=sequence)
    return delivery_of(report, f"audit-{sequence}", **how)


def audited(*deliveries: Came) -> tuple[list[bool], Batch]:
    """Whether each event of one batch is applied without being decoded, and the batch."""
    batch = a_batch(a_node(a_claim(), resources=some_resources(), sequence=7))
    applied(batch, *deliveries)
    return [isinstance(event.command, UnreadAudit) for event, _ in batch.decisions()], batch


def test_audit_that_repeats_the_last_one_is_not_decoded_and_is_ignored() -> None:
    unread, batch = audited(an_audit(1, an_instance()), an_audit(2, an_instance()))
    assert unread == [False, True]
    assert [decision.outcome for _, decision in batch.decisions()] == ["ignored", "ignored"]
    (node,) = batch.nodes()
    assert node.sources == {"client-1": Source(audited=2)}
    assert batch.transaction().receipts == []


def test_audit_that_repeats_one_before_a_change_corrects_it() -> None:
    audits = (an_audit(number, an_instance()) for number in (1, 2, 3))
    unread, batch = audited(next(audits), claim("a", "i-2"), *audits)
    assert not any(unread)
    outcomes = [decision.outcome for _, decision in batch.decisions()]
    assert outcomes == ["ignored", "granted", "applied", "ignored"]
    assert set(batch.nodes()[0].claims) == {INSTANCE}


def test_audit_that_repeats_one_with_other_facts_is_decoded() -> None:
    unread, _ = audited(an_audit(1, an_instance()), an_audit(2, an_instance(vm_state="stopped")))
    assert not any(unread)


def test_old_audit_that_repeats_the_last_one_is_stale() -> None:
    _, batch = audited(an_audit(2, an_instance()), an_audit(1, an_instance()))
    assert [decision.reason for _, decision in batch.decisions()] == [None, STALE_AUDIT]


def test_stale_audit_is_not_the_last_one() -> None:
    unread, _ = audited(an_audit(2, an_instance()), an_audit(1), an_audit(3))
    assert not any(unread)


def test_audit_that_is_redelivered_is_decoded() -> None:
    unread, _ = audited(an_audit(1, an_instance()), an_audit(2, an_instance(), redelivered=True))
    assert not any(unread)


def test_audit_with_a_fault_inside_its_lists_is_parked() -> None:
    args = {"node": NODE, "resources": {}, "instances": [], "origin": {"source": "s", "sequence": 1}}
    bad = Came(encode("update_available_resource", args, unique_id="bad"))
    transaction, _ = applied(a_batch(a_node()), bad)
    assert [letter.code for letter in transaction.dead_letters] == ["missing_argument"]


def test_audit_of_an_id_that_was_used_is_compared_with_its_receipt() -> None:
    first = an_audit(1, an_instance("i-2"))
    done, (answer,) = applied(a_batch(a_node(a_claim())), first)
    known = {receipt.event_id: receipt for receipt in done.receipts}
    other = delivery_of(a_report([], origin=Origin("client-1", 2)), "audit-1")
    transaction, answers = applied(a_batch(a_node(a_claim()), receipts=known), first, other)
    assert answers[0] == answer
    assert [letter.code for letter in transaction.dead_letters] == ["event_id_reused"]
