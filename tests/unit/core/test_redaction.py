# SPDX-License-Identifier: Apache-2.0
"""What a dead letter keeps: the fields of the commands verbatim, of all else type, length and digest."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.json_paths import at, positions, with_value
from tests.samples import EXAMPLES, FREE, MAPS, body, message
from tracker_worker.core.delivery import BodyDigest
from tracker_worker.core.envelope import names_of, open_envelope
from tracker_worker.core.redaction import MAX_KEPT_BYTES, redacted_body
from tracker_worker.domain.commands import METHODS
from tracker_worker.domain.errors import BadMessage

SECRET = "hunter2"
SUMMARY = {
    "type": "str",
    "length": len(SECRET) + 2,
    "sha256": hashlib.sha256(f'"{SECRET}"'.encode()).hexdigest(),
}


def kept_text(raw: bytes) -> str:
    """What is kept of a body; without its envelope when that cannot be read, as the worker does it."""
    try:
        envelope = open_envelope(raw)
    except BadMessage:
        envelope = None
    return redacted_body(raw, envelope)


def kept(method: str, args: Any, **context: Any) -> dict[str, Any]:
    text = kept_text(message(method, args, **context))
    assert SECRET not in text
    shown: dict[str, Any] = json.loads(text)
    return shown


def fields_of(method: str) -> Iterator[tuple[str | int, ...]]:
    """The paths of the objects that have fields."""
    for path in positions(EXAMPLES[method]):
        inside = any(key in FREE + MAPS for key in path)
        if not inside and isinstance(at(EXAMPLES[method], path), dict):
            yield path


@pytest.mark.parametrize("method", METHODS)
def test_the_fields_of_a_command_are_kept_verbatim(method: str) -> None:
    assert kept(method, EXAMPLES[method]) == {"method": method, "args": EXAMPLES[method]}


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_value_of_a_known_field_is_kept_verbatim(method: str) -> None:
    args = EXAMPLES[method] | {"node": -1, "event_id": None}
    assert kept(method, args)["args"] == args


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("secret", [SECRET, [SECRET], {"k": SECRET}, {SECRET: 1}], ids=repr)
def test_the_value_of_an_unknown_field_is_summarised_at_any_depth(method: str, secret: Any) -> None:
    for path in fields_of(method):
        changed = with_value(EXAMPLES[method], (*path, "admin_pass"), secret)
        found = at(kept(method, changed)["args"], (*path, "admin_pass"))
        assert found.keys() == {"type", "length", "sha256"}
        assert found["type"] == type(secret).__name__
        if secret == SECRET:
            assert found == SUMMARY


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("secret", [[SECRET], {"k": SECRET}, [[{"k": [SECRET]}]]], ids=repr)
def test_what_stands_where_a_number_or_text_should_is_summarised(method: str, secret: Any) -> None:
    for path in positions(EXAMPLES[method]):
        free = any(key in FREE + MAPS for key in path)
        if not free and not isinstance(at(EXAMPLES[method], path), dict | list):
            kept(method, with_value(EXAMPLES[method], path, secret))


EXTRA_SPECS = ("instance", "flavor", "extra_specs")
IMAGE = ("instance", "image_properties")


@pytest.mark.parametrize("path", [EXTRA_SPECS, IMAGE])
@pytest.mark.parametrize("key", ["os_admin_password", "HW:upper", " hw:space", "quota:x"])
def test_a_key_that_no_rule_reads_is_summarised(path: tuple[str, ...], key: str) -> None:
    mixed = {"hw:cpu_policy": "shared", key: SECRET}
    found = at(kept("update_usage", with_value(EXAMPLES["update_usage"], path, mixed))["args"], path)
    assert found == {"hw:cpu_policy": "shared", key: SUMMARY}


def test_the_image_properties_of_a_move_are_redacted_too() -> None:
    args = EXAMPLES["resize_claim"] | {"image_properties": {"owner_secret": SECRET}}
    assert kept("resize_claim", args)["args"]["image_properties"] == {"owner_secret": SUMMARY}


@pytest.mark.parametrize("path", [EXTRA_SPECS, IMAGE])
@pytest.mark.parametrize("secret", [{"password": SECRET}, [SECRET]], ids=repr)
def test_what_is_no_text_under_a_key_that_a_rule_reads_is_summarised(
    path: tuple[str, ...], secret: dict[str, str] | list[str]
) -> None:
    kept("update_usage", with_value(EXAMPLES["update_usage"], (*path, "hw:cpu_policy"), secret))


@pytest.mark.parametrize("args", [SECRET, [SECRET], [[SECRET]]], ids=repr)
def test_arguments_that_are_no_object_are_summarised(args: str | list[Any]) -> None:
    kept("get_node", args)


def test_a_context_is_not_kept() -> None:
    context = {"_context_auth_token": SECRET, "_context_roles": [SECRET], "_reply_q": SECRET}
    assert kept("get_node", {"node": "n"}, **context) == {"method": "get_node", "args": {"node": "n"}}


@pytest.mark.parametrize("more", [{"namespace": SECRET}, {"version": SECRET}, {"_unique_id": SECRET}])
def test_the_rest_of_the_envelope_is_not_kept(more: dict[str, str]) -> None:
    kept("get_node", {"node": "n"}, **more)


def test_an_unknown_method_and_its_arguments_are_summarised() -> None:
    found = kept(SECRET, {"node": "n", "admin_pass": SECRET})
    assert found["method"] == SUMMARY
    assert found["args"].keys() == {"type", "length", "sha256"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" + SECRET.encode(),
        SECRET.encode(),
        message("get_node", {"admin_pass": SECRET})[:-2],
        body(f'{{"method": "get_node", "args": {{"admin_pass": "{SECRET}"'),
        body({"method": 5, "args": SECRET}),
        json.dumps({"oslo.version": "9.0", "oslo.message": SECRET}).encode(),
    ],
)
def test_a_body_that_cannot_be_decoded_is_summarised(raw: bytes) -> None:
    assert json.loads(kept_text(raw)) == {
        "type": "bytes",
        "length": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


def test_arguments_that_are_too_deep_are_summarised() -> None:
    for depth in (100, 500, 900, 5000):
        deep = "[" * depth + f'"{SECRET}"' + "]" * depth
        text = kept_text(body(f'{{"method": "get_node", "args": {{"node": {deep}}}}}'))
        assert SECRET not in text
        assert json.loads(text)


@pytest.mark.parametrize("filler", ["x", "\u20ac", '"'])
def test_at_most_64_kib_are_kept(filler: str) -> None:
    sizes = set()
    for length in range(MAX_KEPT_BYTES // 8, MAX_KEPT_BYTES + 2, MAX_KEPT_BYTES // 64):
        text = kept_text(message("get_node", {"node": filler * length}))
        assert len(text.encode()) <= MAX_KEPT_BYTES
        sizes.add(len(text.encode()) > 200)
    assert sizes == {True, False}


def test_a_body_of_8_mib_is_summarised() -> None:
    raw = message("get_node", {"node": "n", "admin_pass": "x" * 8 * 1024 * 1024})
    assert len(kept_text(raw)) < 200


def test_digest_of_a_body_is_kept_as_the_body_itself_would_be() -> None:
    raw = b"x" * 100
    digest = BodyDigest(len(raw), hashlib.sha256(raw).hexdigest())
    assert redacted_body(digest, None) == redacted_body(raw, None)


MANY = "1," * 100_000


@pytest.mark.parametrize("args", ['{"resources":{},"instances":[%s1]}', '{"node":[%s1]}'])
def test_many_small_values_are_kept_as_one_digest(args: str) -> None:
    """Found by a review: a summary of each took gigabytes, and the process with them."""
    inner = '{"method":"update_available_resource","args":' + args % MANY + "}"
    raw = json.dumps({"oslo.version": "2.0", "oslo.message": inner}).encode()
    envelope = open_envelope(raw)
    assert json.loads(redacted_body(raw, envelope)).keys() == {"type", "length", "sha256"}
    assert names_of(raw, envelope)[1] is None


def test_figure_of_a_driver_with_the_name_of_a_secret_is_summarised() -> None:
    report = {**EXAMPLES["update_available_resource"]["resources"], "stats": {"a": 1, "auth_token": SECRET}}
    found = kept("update_available_resource", {"node": "n", "x": 1, "resources": report})
    assert found["args"]["resources"]["stats"] == {"a": 1, "auth_token": SUMMARY}
