# SPDX-License-Identifier: Apache-2.0
"""Bodies of notifications: bounded, complete where they can be, and never silently less."""

from datetime import datetime
from typing import Any

import msgspec
import pytest

from tests.builders import a_node
from tracker_worker.core import notification_body
from tracker_worker.core.notification_body import MAX_BODY_BYTES, Header, encode_bounded, encode_refused
from tracker_worker.domain.audit import Correction
from tracker_worker.domain.decision import Audited
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.domain.notifications import (
    DATA,
    CausePayload,
    Notification,
    effect_notification,
    event_error_notification,
    usage_notification,
)

HEADER = Header("00000000-0000-4000-8000-000000000001", "tracker-worker:host", datetime(2026, 11, 22, 12))
CAUSE = CausePayload("update_available_resource", "event-1", "req-1", None)
NODE = a_node(sequence=7, usage_sequence=5)


def correction(number: int, size: int = 36) -> Correction:
    return Correction("released", f"{number:0{size}}", "not_here", None, None)


def audit(*corrections: Correction) -> Notification:
    return effect_notification(Audited(corrections, 2), NODE, CAUSE)


def usage(size: int) -> Notification:
    notification = usage_notification(NODE, 5, CAUSE, 1)
    notification.payload[DATA]["stats"]["driver"] = "x" * size
    return notification


def data_of(body: bytes) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(body)["payload"][DATA]
    return data


def numbers(data: dict[str, Any]) -> list[int]:
    return [int(each[DATA]["instance_uuid"]) for each in data["corrections"]]


def test_audit_that_fits_is_complete() -> None:
    notification, body = encode_bounded(HEADER, audit(*map(correction, range(100))))
    data = data_of(body)
    assert numbers(data) == list(range(100))
    assert data["corrections_omitted"] == 0
    assert notification.event_type == "compute_node.audit"


def test_audit_above_the_bound_keeps_the_first_corrections_and_counts_the_others() -> None:
    sent, body = encode_bounded(HEADER, audit(*map(correction, range(20_000))))
    data = data_of(body)
    kept = len(data["corrections"])
    assert numbers(data) == list(range(kept))
    assert data["corrections_omitted"] == 20_000 - kept
    assert (data["sequence"], data["since"], data["migrations_without_instance"]) == (7, 5, 2)
    assert sent.event_type == "compute_node.audit"
    one_more = len(msgspec.json.encode(data["corrections"][0])) + 1
    assert MAX_BODY_BYTES - one_more - len("20000") < len(body) <= MAX_BODY_BYTES


def test_audit_is_cut_before_a_correction_that_does_not_fit_whatever_comes_behind() -> None:
    _, body = encode_bounded(HEADER, audit(correction(1), correction(2, MAX_BODY_BYTES), correction(3)))
    data = data_of(body)
    assert (numbers(data), data["corrections_omitted"]) == ([1], 2)


def test_audit_is_encoded_once_however_many_corrections_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is encoded grows with what is sent: the rest of the corrections is not even looked at."""
    encoded = []

    class Counting:
        @staticmethod
        def encode(value: dict[str, Any]) -> bytes:
            encoded.append(len(result := msgspec.json.encode(value)))
            return result

    monkeypatch.setattr(notification_body, "json", Counting)
    encode_bounded(HEADER, audit(*map(correction, range(20_000))))
    assert sum(encoded) < 3 * MAX_BODY_BYTES


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_notification_that_is_one_byte_too_large_is_replaced(over: int) -> None:
    size = MAX_BODY_BYTES - len(encode_bounded(HEADER, usage(0))[1]) + over
    sent, body = encode_bounded(HEADER, usage(size))
    if over <= 0:
        assert (sent.event_type, len(body)) == ("compute_node.usage", MAX_BODY_BYTES + over)
        return
    message = msgspec.json.decode(body)
    assert message["message_id"] == HEADER.message_id
    assert (message["event_type"], message["priority"]) == ("compute_node.event.error", "ERROR")
    assert (sent.event_type, sent.priority) == ("compute_node.event.error", "ERROR")
    data = data_of(body)
    assert (data["code"], data["node"], data["sequence"]) == ("notification_too_large", "node-1", 7)
    assert NODE.resources is not None
    assert (data["uuid"], data["host"]) == (NODE.resources.uuid, NODE.resources.host)
    assert data["cause"][DATA]["event_id"] == "event-1"
    assert f"compute_node.usage has {MAX_BODY_BYTES + 1} bytes" in data["message"]
    assert "get_node" in data["message"]


def test_substitute_for_an_error_keeps_its_dead_letter() -> None:
    error = event_error_notification(
        NODE, CAUSE, ErrorCode.INTERNAL_ERROR, "$", "x" * MAX_BODY_BYTES, "letter-1"
    )
    data = data_of(encode_bounded(HEADER, error)[1])
    assert (data["code"], data["dead_letter_id"]) == ("notification_too_large", "letter-1")


def test_refused_notification_is_replaced_by_what_names_its_node_sequence_and_cause() -> None:
    stored = HEADER.encode(usage(100))
    _, body = encode_refused(HEADER, "compute_node.usage", "node-1", stored, "too long")
    data = data_of(body)
    assert (data["code"], data["node"], data["sequence"], data["since"]) == (
        "notification_refused", "node-1", 7, 5,
    )  # fmt: skip
    assert data["cause"][DATA]["request_id"] == "req-1"
    assert f"compute_node.usage of {len(stored)} bytes was refused (too long)" in data["message"]


@pytest.mark.parametrize("stored", [b"", b"\xff", b"[", b"{}", b'{"payload": null}', b"[" * 100_000])
def test_refused_body_that_cannot_be_decoded_is_replaced_with_what_the_row_says(stored: bytes) -> None:
    _, body = encode_refused(HEADER, "compute_node.audit", "node-1", stored, "no JSON")
    data = data_of(body)
    assert (data["node"], data["sequence"], data["cause"]) == ("node-1", 0, None)
