# SPDX-License-Identifier: Apache-2.0
"""What a consumer makes of the bodies in its queue."""

import json

import pytest

from tests.samples import body
from tests.sent_notifications import DATA, SAMPLES, Json, body_of, of_nova, sent
from tracker_worker.core.received_notification import Unreadable, read_notification


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_documented_sample_is_read(path: object) -> None:
    message = json.loads(path.read_text())  # type: ignore[attr-defined]
    found = read_notification(body_of(message))
    assert found is not None
    assert (found.event_type, found.priority) == (message["event_type"], message["priority"])
    assert (found.message_id, found.timestamp) == (message["message_id"], message["timestamp"])
    data = message["payload"][DATA]
    assert (found.data.node, found.data.sequence, found.data.since) == (
        "node-1",
        data["sequence"],
        38 % data["sequence"],
    )
    assert found.data.cause.method == (data["cause"] and data["cause"][DATA]["method"])


def test_text_is_what_was_sent() -> None:
    text = json.dumps(sent("usage"), indent=1)
    found = read_notification(body(text))
    assert found is not None
    assert found.text == text


def test_corrections_are_read_without_their_claims() -> None:
    found = read_notification(body_of(sent("audit")))
    assert found is not None
    assert [(each.action, each.reason) for each in found.data.corrections] == [
        ("changed", "role_changed"),
        ("added", "instance_here"),
        ("released", "not_here"),
    ]


def test_null_node_and_cause_are_read() -> None:
    found = read_notification(body_of(sent("event.error", node=None, cause=None)))
    assert found is not None
    assert (found.data.node, found.data.cause.method) == (None, None)


def test_field_of_a_newer_version_is_ignored() -> None:
    assert read_notification(body_of(sent("usage", new_field={"a": [1]}))) is not None


@pytest.mark.parametrize("payload", [of_nova()["payload"], {"metrics": []}, [1], "text", None])
def test_notification_of_another_service_is_none(payload: object) -> None:
    assert read_notification(body_of(of_nova() | {"payload": payload})) is None


LONG: Json = sent("usage", node="n" * 256)
WRONG: Json = sent("usage", vcpus="eight")


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        body("no JSON"),
        body("{}"),
        body("[" * 100_000),
        body_of(LONG),
        body_of(WRONG),
        body_of(sent("usage", vcpus=10, cpu_allocation_ratio=1e308)),
        body_of(sent("usage", vcpus_used=10**400)),
        body_of(sent("usage", memory_mb_used=-(10**400))),
        body_of(sent("usage", sequence=2**63)),
    ],
    ids=[
        "empty",
        "no UTF-8",
        "list",
        "no envelope",
        "no JSON",
        "no payload",
        "deep",
        "long name",
        "type",
        "ratio",
        "huge number",
        "negative number",
        "sequence",
    ],
)
def test_other_body_is_unreadable(damaged: bytes) -> None:
    with pytest.raises(Unreadable):
        read_notification(damaged)
