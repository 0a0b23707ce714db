# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's envelope on the wire: read and written byte for byte."""

import json
from typing import Any

import msgspec
import pytest
from oslo_messaging._drivers import amqp
from oslo_messaging._drivers import common as oslo_common
from oslo_serialization import jsonutils

from tests.samples import EXAMPLES, body, message
from tracker_worker.core.envelope import encode, event_id_of, names_of, open_envelope, read_command
from tracker_worker.domain.commands import METHODS, GetNode
from tracker_worker.domain.errors import BadMessage, ErrorCode

UNIQUE_ID = "0123456789abcdef0123456789abcdef"
INNER = (
    rb"{\"method\": \"do_it\", \"args\": {\"a\": 1, \"b\": {\"x\": [1, 2]}}, "
    rb"\"namespace\": \"ns\", \"version\": \"1.3\", "
    rb"\"_unique_id\": \"0123456789abcdef0123456789abcdef\", "
    rb"\"_context_request_id\": \"req-1\"}"
)
GOLDEN = b'{"oslo.version": "2.0", "oslo.message": "' + INNER + b'"}'


def by_oslo(
    method: str, args: dict[str, Any], context: dict[str, Any], unique_id: str, **target: str
) -> bytes:
    """The body that oslo.messaging's RabbitMQ driver makes of a cast."""
    inner = {"method": method, "args": args, **target, amqp.UNIQUE_ID: unique_id}
    amqp.pack_context(inner, context)
    return jsonutils.dumps(oslo_common.serialize_msg(inner)).encode()


def refusal(raw: bytes) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        read_command(open_envelope(raw))
    return caught.value


def test_the_golden_bytes_are_those_of_oslo_messaging() -> None:
    args = {"a": 1, "b": {"x": [1, 2]}}
    target = {"namespace": "ns", "version": "1.3"}
    assert by_oslo("do_it", args, {"request_id": "req-1"}, UNIQUE_ID, **target) == GOLDEN


def test_the_golden_bytes_are_read() -> None:
    envelope = open_envelope(GOLDEN)
    assert envelope.method == "do_it"
    assert json.loads(bytes(envelope.args)) == {"a": 1, "b": {"x": [1, 2]}}
    assert envelope.namespace == "ns"
    assert envelope.version == "1.3"
    assert envelope.unique_id == UNIQUE_ID
    assert envelope.request_id == "req-1"


def test_encode_writes_the_golden_bytes() -> None:
    args = {"a": 1, "b": {"x": [1, 2]}}
    written = encode("do_it", args, "1.3", namespace="ns", unique_id=UNIQUE_ID, request_id="req-1")
    assert written == GOLDEN


@pytest.mark.parametrize("method", METHODS)
def test_encode_writes_what_oslo_messaging_sends(method: str) -> None:
    args = EXAMPLES[method] | {"event_id": "größe-\U0001f600"}
    sent = by_oslo(method, args, {"request_id": "req-1"}, UNIQUE_ID, version="1.0")
    assert encode(method, args, unique_id=UNIQUE_ID, request_id="req-1") == sent


def test_a_call_is_read_like_a_cast() -> None:
    call = {"_msg_id": "m", "_reply_q": "reply_q", "_timeout": 60}
    raw = message("get_node", {"node": "node-1"}, **call)
    assert read_command(open_envelope(raw)) == GetNode(node="node-1")


@pytest.mark.parametrize(
    ("queue", "host"),
    [
        ("reply_compute-7.example.org:nova-compute:3", "compute-7.example.org"),
        ("reply_0123456789abcdef0123456789abcdef", None),
        ("reply_\u202ehost:nova-compute:3", None),
        ("host:nova-compute:3", None),
    ],
)
def test_the_host_of_a_caller_is_read_from_its_reply_queue(queue: str, host: str | None) -> None:
    envelope = open_envelope(encode("get_node", {}, unique_id="u", reply_queue=queue))
    assert (envelope.reply_queue, envelope.reply_host) == (queue, host)


@pytest.mark.parametrize("call", [{"_reply_q": "q"}, {"_msg_id": "m", "_reply_q": 1}, {"_msg_id": "m"}])
def test_what_nobody_waits_for_is_no_call(call: dict[str, Any]) -> None:
    envelope = open_envelope(message("get_node", {"node": "node-1"}, **call))
    assert envelope.reply_queue is None and not envelope.is_question


def test_a_context_is_not_read_but_for_the_request_id() -> None:
    context = {"roles": ["admin"], "auth_token": "secret", "deep": {"x": [1, None]}, "ok": True}
    raw = by_oslo("get_node", {"node": "n"}, {"request_id": "req-1", **context}, UNIQUE_ID)
    envelope = open_envelope(raw)
    assert envelope.request_id == "req-1"
    assert "secret" not in repr(envelope)


@pytest.mark.parametrize("request_id", ["", "x" * 65, "line\nbreak", "nul\x00", "\x1b[31m", "\u2028"])
def test_a_request_id_that_cannot_be_a_column_is_dropped(request_id: str) -> None:
    raw = message("get_node", {"node": "n"}, _context_request_id=request_id)
    assert open_envelope(raw).request_id is None


def test_without_a_version_it_is_1_0() -> None:
    assert open_envelope(body({"method": "get_node"})).version == "1.0"


@pytest.mark.parametrize("version", ["1.0", "1"])
def test_a_version_up_to_ours_is_taken(version: str) -> None:
    raw = message("get_node", {"node": "n"}, version=version)
    assert read_command(open_envelope(raw)) == GetNode(node="n")


@pytest.mark.parametrize(
    "version", ["1.1", "2.0", "0.9", "", "x", "1.0.0", "1.", ".0", "-1.0", "1.0\n", "1" * 5000]
)
def test_another_version_is_refused(version: str) -> None:
    bad = refusal(message("get_node", {"node": "n"}, version=version))
    assert (bad.code, bad.path) == (ErrorCode.UNSUPPORTED_VERSION, "$")


def test_a_namespace_is_refused_as_an_unknown_method() -> None:
    bad = refusal(message("get_node", {"node": "n"}, namespace="ns"))
    assert (bad.code, bad.path) == (ErrorCode.UNKNOWN_METHOD, "$")


@pytest.mark.parametrize("method", ["reboot", "_Reboot2", "x" * 64])
def test_unknown_method_is_named_in_the_error(method: str) -> None:
    """Found by a newcomer: a dead letter did not say which method it was."""
    bad = refusal(message(method, {"node": "n"}))
    assert bad.message == f"no method {method} in version 1.0"


@pytest.mark.parametrize(
    "method",
    ["a secret", "a-secret", "secret\n", "\x1b[2Jsecret", "\u202esecret", "s\u0435cret", "1secret", "s" * 65],
)
def test_method_that_can_be_none_is_not_repeated(method: str) -> None:
    bad = refusal(message(method, {"node": "n"}))
    assert bad.message == "no method of this name in version 1.0"


def test_method_in_a_namespace_is_named_without_that() -> None:
    bad = refusal(message("get_node", {"node": "n"}, namespace="secret"))
    assert bad.message == "no method get_node in a namespace: commands have none"


@pytest.mark.parametrize("method", ["reboot", "", "__class__", "GetNode", "get_node\n"])
def test_a_method_that_is_none_of_ours_is_refused(method: str) -> None:
    bad = refusal(message(method, {"node": "n"}))
    assert (bad.code, bad.path) == (ErrorCode.UNKNOWN_METHOD, "$")


def test_the_event_id_comes_before_the_unique_id() -> None:
    envelope = open_envelope(message("get_node", {"node": "n", "event_id": "e-1"}))
    assert event_id_of(envelope, read_command(envelope)) == "e-1"


def test_without_an_event_id_the_unique_id_identifies_the_event() -> None:
    envelope = open_envelope(message("get_node", {"node": "n"}))
    assert event_id_of(envelope, read_command(envelope)) == "u" * 32


@pytest.mark.parametrize("unique_id", [None, "", "x" * 65, "\n"])
def test_without_any_id_the_content_identifies_the_event(unique_id: str | None) -> None:
    def identified(node: str) -> str:
        envelope = open_envelope(message("get_node", {"node": node}, _unique_id=unique_id))
        return event_id_of(envelope, read_command(envelope))

    assert identified("n") == identified("n") != identified("m")
    assert len(identified("n")) == 64


def test_a_bad_message_keeps_the_names_that_can_be_told() -> None:
    raw = message("get_node", {"node": "n", "event_id": "e-1", "surplus": 1})
    assert names_of(raw, open_envelope(raw)) == ("e-1", "n")


@pytest.mark.parametrize("args", [{"node": 5, "event_id": []}, [], None, "x", {"node": "\n"}])
def test_a_bad_message_without_names_is_known_by_its_unique_id(args: Any) -> None:
    raw = message("get_node", args)
    assert names_of(raw, open_envelope(raw)) == ("u" * 32, None)


def test_an_unreadable_body_is_the_same_event_when_it_comes_again() -> None:
    event_id, node = names_of(b"\xff", None)
    assert names_of(b"\xff", None) == (event_id, node)
    assert names_of(b"\xfe", None)[0] != event_id
    assert len(event_id) == 64
    assert node is None


def test_no_lane_builds_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that build the same one at once crash the interpreter: all are there before."""
    monkeypatch.setattr(msgspec.json, "Decoder", None)
    read = {type(read_command(open_envelope(message(method, args)))) for method, args in EXAMPLES.items()}
    assert read == set(METHODS.values())
