# SPDX-License-Identifier: Apache-2.0
"""Notifications: event types, priorities, and payloads in Nova's versioned shape."""

from typing import Any

import msgspec
import pytest

from tests.builders import (
    HOST,
    INSTANCE,
    NODE,
    NODE_UUID,
    a_claim,
    a_node,
    a_report,
    an_instance,
    command,
    decided,
    some_resources,
)
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.domain.node import Node
from tracker_worker.domain.notifications import (
    CausePayload,
    Notification,
    effect_notification,
    event_error_notification,
    usage_notification,
)
from tracker_worker.domain.objects import Limits
from tracker_worker.domain.views import usage_view

CAUSE = CausePayload("instance_claim", "event-1", "req-1", INSTANCE)
FULL = command("instance_claim", instance=an_instance(), limits=Limits(vcpu=1))
VERSIONS = {"ComputeNodeAuditPayload": "1.2", "ComputeNodeEventErrorPayload": "1.2"}
CONFLICT = a_report(resources=some_resources(uuid="another"))


def data_of(notification: Notification, name: str) -> dict[str, Any]:
    """The fields of a payload, whose wrapping and whose cause are checked."""
    payload = msgspec.json.decode(msgspec.json.encode(notification.payload))
    data: dict[str, Any] = payload.pop("nova_object.data")
    assert payload == {
        "nova_object.name": name,
        "nova_object.namespace": "tracker_worker",
        "nova_object.version": VERSIONS.get(name, "1.0"),
    }
    assert data.pop("cause") == {
        "nova_object.name": "CausePayload",
        "nova_object.namespace": "tracker_worker",
        "nova_object.version": "1.0",
        "nova_object.data": {
            "method": "instance_claim",
            "event_id": "event-1",
            "request_id": "req-1",
            "instance_uuid": INSTANCE,
        },
    }
    return data


def test_usage_is_the_node_after_a_batch() -> None:
    node = a_node(a_claim(), sequence=7)
    notification = usage_notification(node, 4, CAUSE, 3)
    assert (notification.event_type, notification.priority) == ("compute_node.usage", "INFO")
    figures = usage_view(node)
    figures["node"] = figures.pop("name")
    data = data_of(notification, "ComputeNodeUsagePayload")
    assert data == {**figures, "since": 4, "events": 3}
    assert (data["node"], data["uuid"], data["host"], data["sequence"]) == (
        NODE,
        NODE_UUID,
        HOST,
        7,
    )


def effect_of(before: Node, asked: AnyCommand) -> tuple[Notification, Node]:
    """The notification of the one effect that a command has."""
    node, decision = decided(before, asked)
    (effect,) = decision.effects
    return effect_notification(effect, node, CAUSE), node


@pytest.mark.parametrize(
    ("before", "asked", "event_type", "priority", "name"),
    [
        (
            a_node(usage_sequence=3),
            FULL,
            "compute_node.claim.error",
            "ERROR",
            "ComputeNodeClaimErrorPayload",
        ),
        (Node(NODE), a_report(), "compute_node.create", "INFO", "ComputeNodePayload"),
        (
            a_node(usage_sequence=3),
            command("remove_node"),
            "compute_node.delete",
            "INFO",
            "ComputeNodePayload",
        ),
        (
            a_node(usage_sequence=3),
            a_report([an_instance()]),
            "compute_node.audit",
            "INFO",
            "ComputeNodeAuditPayload",
        ),
        (
            a_node(usage_sequence=3),
            CONFLICT,
            "compute_node.event.error",
            "ERROR",
            "ComputeNodeEventErrorPayload",
        ),
    ],
)
def test_effect_tells_which_node_it_is_about(
    before: Node, asked: AnyCommand, event_type: str, priority: str, name: str
) -> None:
    notification, node = effect_of(before, asked)
    assert (notification.event_type, notification.priority) == (event_type, priority)
    data = data_of(notification, name)
    assert (data["node"], data["host"], data["uuid"]) == (NODE, HOST, NODE_UUID)
    assert (data["sequence"], data["since"]) == (node.sequence, before.usage_sequence)


def test_refused_claim_tells_its_reason() -> None:
    notification, _ = effect_of(a_node(), FULL)
    reason = data_of(notification, "ComputeNodeClaimErrorPayload")["reason"]
    assert reason == "Free vcpu 1.00 VCPU < requested 2 VCPU"


def test_claim_refused_by_an_unknown_node_has_neither_host_nor_uuid() -> None:
    notification, _ = effect_of(Node(NODE), FULL)
    data = data_of(notification, "ComputeNodeClaimErrorPayload")
    assert (data["node"], data["host"], data["uuid"]) == (NODE, None, None)


def test_audit_tells_each_correction_with_old_and_new_values() -> None:
    before = a_node(a_claim(uuid="gone"))
    notification, _ = effect_of(before, a_report([an_instance()]))
    data = data_of(notification, "ComputeNodeAuditPayload")
    assert data["migrations_without_instance"] == 0
    assert {c["nova_object.name"] for c in data["corrections"]} == {"CorrectionPayload"}
    corrections = [c["nova_object.data"] for c in data["corrections"]]
    added, released = sorted(corrections, key=lambda c: c["action"])
    assert (added["action"], added["reason"], added["old"]) == ("added", "instance_here", None)
    assert (added["instance_uuid"], added["new"]["nova_object.data"]["vcpus"]) == (INSTANCE, 2)
    assert (released["action"], released["instance_uuid"]) == ("released", "gone")
    assert (released["old"]["nova_object.data"]["role"], released["new"]) == ("instance", None)


def test_conflict_tells_the_code_and_the_field() -> None:
    notification, _ = effect_of(a_node(), CONFLICT)
    data = data_of(notification, "ComputeNodeEventErrorPayload")
    assert (data["code"], data["path"]) == ("node_conflict", "$.resources.uuid")
    assert "'tracker-worker-manage node remove node-1' shows its claims" in data["message"]
    assert data["dead_letter_id"] is None


def test_excessive_reserve_is_an_error_without_a_dead_letter() -> None:
    notification, _ = effect_of(a_node(), a_report(resources=some_resources(memory_mb=100)))
    data = data_of(notification, "ComputeNodeEventErrorPayload")
    assert (data["code"], data["path"], data["dead_letter_id"]) == ("reserve_too_large", "$.resources", None)
    assert "reserved_host_memory_mb 512 > memory_mb 100" in data["message"]


@pytest.mark.parametrize(
    ("node", "names"),
    [
        (a_node(sequence=5), (NODE, HOST, NODE_UUID, 5)),
        (Node(NODE, sequence=5), (NODE, None, None, 5)),
        (None, (None, None, None, 0)),
    ],
    ids=["tracked", "removed", "not even a name"],
)
def test_parked_event_tells_why_and_where_it_is_kept(node: Node | None, names: tuple[Any, ...]) -> None:
    notification = event_error_notification(node, CAUSE, ErrorCode.WRONG_TYPE, "$.a", "text", "letter-1")
    assert (notification.event_type, notification.priority) == ("compute_node.event.error", "ERROR")
    data = data_of(notification, "ComputeNodeEventErrorPayload")
    assert (data["node"], data["host"], data["uuid"], data["sequence"]) == names
    assert (data["code"], data["path"], data["message"]) == ("wrong_type", "$.a", "text")
    assert data["dead_letter_id"] == "letter-1"


def test_cause_may_be_unknown() -> None:
    cause = CausePayload(None, "event-1", None, None)
    notification = event_error_notification(None, cause, ErrorCode.BAD_ENVELOPE, "$", "text")
    told = notification.payload["nova_object.data"]["cause"]["nova_object.data"]
    assert told == {
        "method": None,
        "event_id": "event-1",
        "request_id": None,
        "instance_uuid": None,
    }
