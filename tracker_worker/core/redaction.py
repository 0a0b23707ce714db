# SPDX-License-Identifier: Apache-2.0
"""Redaction of the bodies of dead letters: known fields of commands stay verbatim, any other value is
replaced by its type, length and digest.
"""

import hashlib
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from tracker_worker.core.delivery import BodyDigest
from tracker_worker.core.envelope import Envelope
from tracker_worker.domain.commands import METHODS
from tracker_worker.domain.extra_specs import READ_KEYS_ONLY, STATS, is_secret_name, read_keys
from tracker_worker.domain.shapes import branch

MAX_KEPT_BYTES = 64 * 1024
MAX_READ_BYTES = 2 * MAX_KEPT_BYTES
"""Limit of arguments that are redacted field by field. It is above MAX_KEPT_BYTES because redaction may
shorten them. Without a limit the summaries of a million small values would take gigabytes."""


def redacted_body(body: bytes | BodyDigest, envelope: Envelope | None) -> str:
    """Return the JSON text that a dead letter stores, at most 64 KiB."""
    try:
        readable = envelope is not None and len(bytes(envelope.args)) <= MAX_READ_BYTES
        kept = _kept_args(envelope) if envelope is not None and readable else _summary(body)
        text = msgspec.json.encode(kept).decode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        text = ""
    if not text or len(text.encode()) > MAX_KEPT_BYTES:
        text = msgspec.json.encode(_summary(body)).decode()
    return text


def _kept_args(envelope: Envelope) -> dict[str, Any]:
    args = msgspec.json.decode(envelope.args)
    return {
        "method": envelope.method if envelope.method in METHODS else _summary(envelope.method),
        "args": _kept(args, _shape(envelope.method)),
    }


@cache
def _shape(method: str) -> inspect.Type | None:
    return inspect.type_info(METHODS[method]) if method in METHODS else None


def _kept(value: Any, shape: inspect.Type | None) -> Any:
    """Return the redacted value: a scalar stays verbatim where a known field has a scalar type."""
    if isinstance(shape, inspect.UnionType):
        shape = branch(value, shape)
    match shape, value:
        case inspect.StructType(), dict():
            fields = {field.encode_name: field.type for field in shape.fields}
            return {key: _kept_field(key, inner, fields) for key, inner in value.items()}
        case inspect.DictType(), dict():
            return {key: _kept(inner, shape.value_type) for key, inner in value.items()}
        case inspect.ListType(), list():
            return [_kept(inner, shape.item_type) for inner in value]
        case ((None | inspect.StructType() | inspect.DictType() | inspect.ListType()), _):
            return _summary(value)
        case _, (dict() | list()):
            return _summary(value)
        case _:
            return value


def _kept_field(key: str, value: Any, fields: dict[str, inspect.Type]) -> Any:
    if key not in fields:
        return _summary(value)
    if key in READ_KEYS_ONLY and isinstance(value, dict):
        read = {inner for inner in read_keys(value) if isinstance(value[inner], str)}
        return {name: inner if name in read else _summary(inner) for name, inner in value.items()}
    if key == STATS and isinstance(value, dict):
        return {name: _figure(name, inner) for name, inner in value.items()}
    return _kept(value, fields[key])


def _figure(name: str, value: Any) -> Any:
    return _summary(value) if is_secret_name(name) or isinstance(value, dict | list) else value


def _summary(value: Any) -> dict[str, Any]:
    if isinstance(value, BodyDigest):
        return {"type": "bytes", "length": value.length, "sha256": value.sha256}
    raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return {
        "type": type(value).__name__,
        "length": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
