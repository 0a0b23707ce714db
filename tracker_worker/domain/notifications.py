# SPDX-License-Identifier: Apache-2.0
"""Notifications: payloads in Nova's versioned shape, namespace `tracker_worker`.

Event types differ from Nova's, because ceilometer would bill those.
doc/source/user/notifications-reference.rst has all of them, with the fields of their payloads, generated from
the schemas in doc/notification_samples.
"""

from collections.abc import Mapping
from typing import Any, Literal, assert_never

from msgspec import Struct, to_builtins

from tracker_worker.domain.audit import Correction
from tracker_worker.domain.decision import (
    Audited,
    ClaimRefused,
    Effect,
    NodeCreated,
    NodeDeleted,
    ReportRefused,
    ReserveExceeded,
)
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.domain.node import Node
from tracker_worker.domain.views import usage_view

NAMESPACE = "tracker_worker"
DATA = "nova_object.data"
PAYLOAD_VERSION = "1.0"
_LATER_VERSIONS = {
    "ClaimPayload": "1.1",
    "CorrectionPayload": "1.1",
    "ComputeNodeAuditPayload": "1.2",
    "ComputeNodeEventErrorPayload": "1.2",
}
"""Versions of payloads that have changed since 1.0. Claims: 1.1 has topologies and devices. Audits: 1.2 has
`corrections_omitted`. Errors of events: 1.1 has the codes of replaced notifications, 1.2
`reserve_too_large`."""


class CausePayload(Struct, frozen=True):
    """The event that caused a notification."""

    method: str | None
    event_id: str
    request_id: str | None
    instance_uuid: str | None


class Notification(Struct, frozen=True):
    """A notification without its envelope."""

    event_type: str
    priority: Literal["INFO", "ERROR"]
    payload: dict[str, Any]


def usage_notification(node: Node, since: int, cause: CausePayload, events: int) -> Notification:
    """Return `compute_node.usage` for a node after a batch of `events` events.

    `since` is the sequence of the node's previous usage notification.
    """
    figures = usage_view(node)
    figures["node"] = figures.pop("name")
    return Notification(
        "compute_node.usage",
        "INFO",
        _wrap("ComputeNodeUsagePayload", {**figures, "since": since, "events": events}, cause),
    )


def effect_notification(effect: Effect, node: Node, cause: CausePayload) -> Notification:
    """Return the notification of one effect of a decision; `node` is the node after it."""
    match effect:
        case ClaimRefused(reason):
            return _about(node, "claim.error", "ERROR", "ComputeNodeClaimErrorPayload", cause, reason=reason)
        case NodeCreated():
            return _about(node, "create", "INFO", "ComputeNodePayload", cause)
        case NodeDeleted(uuid, host):
            return _about(node, "delete", "INFO", "ComputeNodePayload", cause, uuid=uuid, host=host)
        case Audited(corrections, missing):
            return _about(
                node, "audit", "INFO", "ComputeNodeAuditPayload", cause,
                corrections=[_correction(correction) for correction in corrections],
                corrections_omitted=0,
                migrations_without_instance=missing,
            )  # fmt: skip
        case ReportRefused(_, message):
            return event_error_notification(node, cause, ErrorCode.NODE_CONFLICT, "$.resources.uuid", message)
        case ReserveExceeded(message):
            return event_error_notification(node, cause, ErrorCode.RESERVE_TOO_LARGE, "$.resources", message)
        case _:
            assert_never(effect)


def event_error_notification(
    node: Node | None,
    cause: CausePayload,
    code: ErrorCode,
    path: str,
    message: str,
    dead_letter_id: str | None = None,
) -> Notification:
    """Return `compute_node.event.error` for an event that needs a person.

    With `dead_letter_id` the event is kept as a dead letter.
    """
    return _about(
        node or Node(""), "event.error", "ERROR", "ComputeNodeEventErrorPayload", cause,
        code=code.value, path=path, message=message, dead_letter_id=dead_letter_id,
    )  # fmt: skip


def sync_error_notification(node: Node, code: str, message: str) -> Notification:
    """Return `compute_node.sync.error` for a node whose providers in Placement are not as they shall be."""
    return _about_sync(node, "sync.error", "ERROR", code, message)


def sync_end_notification(node: Node, code: str, message: str) -> Notification:
    """Return `compute_node.sync.end` for providers that are as they shall be; `code` is the error's."""
    return _about_sync(node, "sync.end", "INFO", code, message)


def substitute_notification(data: Mapping[str, Any], code: ErrorCode, message: str) -> Notification:
    """Return the `compute_node.event.error` that replaces a notification that cannot be sent.

    `data` has those fields of the replaced payload that could be decoded; `cause` is null if it could not.
    """
    kept = {name: data.get(name) for name in ("node", "host", "uuid")}
    kept |= {name: data.get(name) or 0 for name in ("sequence", "since")}
    error = {"code": code.value, "path": "$", "message": message}
    kept |= error | {name: data.get(name) for name in ("dead_letter_id", "cause")}
    return Notification("compute_node.event.error", "ERROR", _object("ComputeNodeEventErrorPayload", kept))


def _about(
    node: Node,
    action: str,
    priority: Literal["INFO", "ERROR"],
    name: str,
    cause: CausePayload,
    **fields: Any,
) -> Notification:
    data = {**_identity(node), **fields}
    return Notification(f"compute_node.{action}", priority, _wrap(name, data, cause))


def _about_sync(
    node: Node, action: str, priority: Literal["INFO", "ERROR"], code: str, message: str
) -> Notification:
    """No event is the cause: a sync comes after any number of them, or after none."""
    data = {**_identity(node), "code": code, "message": message, "cause": None}
    return Notification(f"compute_node.{action}", priority, _object("ComputeNodeSyncPayload", data))


def _identity(node: Node) -> dict[str, Any]:
    report = node.resources
    return {
        "node": node.name or None,
        "host": report and report.host,
        "uuid": report and report.uuid,
        "sequence": node.sequence,
        "since": node.usage_sequence,
    }


def _wrap(name: str, data: dict[str, Any], cause: CausePayload) -> dict[str, Any]:
    return _object(name, {**data, "cause": _object("CausePayload", _plain(cause))})


def _object(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "nova_object.name": name,
        "nova_object.namespace": NAMESPACE,
        "nova_object.version": _LATER_VERSIONS.get(name, PAYLOAD_VERSION),
        DATA: data,
    }


def _correction(correction: Correction) -> dict[str, Any]:
    claims = {"old": correction.old, "new": correction.new}
    views = {name: view and _object("ClaimPayload", to_builtins(view)) for name, view in claims.items()}
    return _object("CorrectionPayload", {**_plain(correction), **views})


def _plain(struct: Struct) -> dict[str, Any]:
    return {field: getattr(struct, field) for field in struct.__struct_fields__}
