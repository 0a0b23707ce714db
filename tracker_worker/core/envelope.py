# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's envelope: decodes commands; encodes commands, replies and notifications. Pure.

Wire format: {"oslo.version": "2.0", "oslo.message": "<json>"}. The JSON of a command has method, args,
version, namespace, _unique_id and the sender's context, of which only the request id is read. A call also has
_msg_id, _reply_q and _timeout. No other module contains these keys.
"""

import hashlib
import json
import re
from functools import lru_cache
from typing import Any, NoReturn

import msgspec
from msgspec import Raw, Struct

from tracker_worker.core.delivery import BodyDigest
from tracker_worker.domain.commands import METHODS, VERSION, AnyCommand, GetNode
from tracker_worker.domain.errors import BadMessage, ErrorCode, InvalidValue
from tracker_worker.domain.fields import HOST_NAME, NAME, PATTERN_TEXTS

MAX_BODY_BYTES = 8 * 1024 * 1024
UNIQUE_ID = "_unique_id"
"""The key of a message's unique id, by which its receiver drops duplicates."""
REPLY_QUEUE_PREFIX = "reply_"
"""The prefix of the names of oslo.messaging's reply queues."""
_VERSION, _MESSAGE = "oslo.version", "oslo.message"
_CALL_ID, _REPLY_QUEUE, _MONITOR_TIMEOUT = "_msg_id", "_reply_q", "_timeout"
_CALL_ID_BYTES = _CALL_ID.encode()
_REQUEST_ID = "_context_request_id"
_UNVERSIONED = "1.0"
"""The version of a command without one."""
PING = "oslo_rpc_server_ping"
"""The method that oslo.messaging's RPC servers answer themselves ([DEFAULT] rpc_ping_enabled)."""
_NAME_BYTES = 12 * 255 + 2
"""Bytes of the longest name in JSON: a character outside the BMP takes two escapes of six bytes."""
_NODE = re.compile(HOST_NAME), 255
_ID = re.compile(NAME), 64
_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z"), 64
"""oslo.messaging's servers find a method by the name of its function."""
_NOT_DIGESTED = ("event_id", "origin")
_NULL = Raw(b"null")
_HOST_OF_REPLIES = re.compile(rf"{REPLY_QUEUE_PREFIX}([^:]+):.+:[0-9]+")


class Envelope(Struct, frozen=True):
    """A message with a valid envelope; `args` is the sender's JSON, not decoded.

    `reply_queue` is the caller's reply queue, None for a cast.
    """

    method: str
    args: Raw
    version: str
    namespace: str | None
    unique_id: str | None
    request_id: str | None
    reply_queue: str | None = None

    @property
    def printable_method(self) -> str | None:
        """The method, known or not, if it can be one: an identifier. Any other text may be a secret."""
        return self.method if is_method_name(self.method) else None

    @property
    def is_question(self) -> bool:
        """Whether the message is a call that cannot change anything: `get_node`, or an unknown method.

        If it is invalid the caller gets the error, so that no dead letter is needed.
        """
        exists = self.namespace is None and self.method in METHODS
        return self.reply_queue is not None and not (exists and METHODS[self.method] is not GetNode)

    @property
    def reply_host(self) -> str | None:
        """The host of the caller, if the name of its reply queue contains it.

        Source: oslo.messaging's QManager (use_queue_manager), "reply_<host>:<process>:<number>".
        """
        match = _HOST_OF_REPLIES.fullmatch(self.reply_queue or "")
        return match and _fitting(match[1], *_NODE)


class Caller(Struct, frozen=True):
    """The id of a call and the caller's reply queue, as the message has them.

    `monitor_timeout` is not decoded: a caller gets its reply even if this value is invalid.
    """

    call_id: str = msgspec.field(name=_CALL_ID)
    queue: str = msgspec.field(name=_REPLY_QUEUE)
    monitor_timeout: Raw = msgspec.field(name=_MONITOR_TIMEOUT, default=_NULL)


class _Outer(Struct, frozen=True):
    version: str = msgspec.field(name=_VERSION)
    message: str = msgspec.field(name=_MESSAGE)


class _AnyVersion(Struct, frozen=True):
    message: str = msgspec.field(name=_MESSAGE)


class _Inner(Struct, frozen=True):
    method: str
    args: Raw = Raw(b"{}")
    version: str = _UNVERSIONED
    namespace: str | None = None
    unique_id: str | None = msgspec.field(name=UNIQUE_ID, default=None)
    request_id: str | None = msgspec.field(name=_REQUEST_ID, default=None)
    call_id: Raw = msgspec.field(name=_CALL_ID, default=_NULL)
    reply_queue: Raw = msgspec.field(name=_REPLY_QUEUE, default=_NULL)


class _Names(Struct, frozen=True):
    """The fields that can be decoded from arguments that are otherwise invalid."""

    node: Raw = _NULL
    event_id: Raw = _NULL


_outer = msgspec.json.Decoder(_Outer)
_inner = msgspec.json.Decoder(_Inner)
_any_version = msgspec.json.Decoder(_AnyVersion)
_caller = msgspec.json.Decoder(Caller)
_names = msgspec.json.Decoder(_Names)
_string = msgspec.json.Decoder(str)
_canonical = msgspec.json.Encoder(order="deterministic")

# Built before any thread starts: two threads that build the same decoder crash the interpreter.
_commands: dict[str, msgspec.json.Decoder[AnyCommand]] = {
    method: msgspec.json.Decoder(command) for method, command in METHODS.items()
}
_digested: dict[type[AnyCommand], tuple[str, ...]] = {
    command: tuple(field for field in command.__struct_fields__ if field not in _NOT_DIGESTED)
    for command in METHODS.values()
}


def encode(
    method: str,
    args: dict[str, Any],
    version: str = VERSION,
    *,
    namespace: str | None = None,
    unique_id: str | None = None,
    request_id: str | None = None,
    reply_queue: str | None = None,
) -> bytes:
    """Return the body that oslo.messaging's RabbitMQ driver sends for a cast, or, with `reply_queue`, for a
    call.
    """
    inner: dict[str, Any] = {"method": method, "args": args}
    inner |= {"namespace": namespace} if namespace is not None else {}
    inner |= {"version": version}
    inner |= call_fields(unique_id or "", reply_queue) if reply_queue is not None else {}
    inner |= {UNIQUE_ID: unique_id} if unique_id is not None else {}
    inner |= {_REQUEST_ID: request_id} if request_id is not None else {}
    return json.dumps(_outer_fields(json.dumps(inner))).encode()


def encode_again(message: dict[str, Any], **fields: str | None) -> bytes:
    """Return the body of a command whose envelope oslo.messaging removed. `fields` are those of `encode`."""
    method: Any = message.get("method")
    version, namespace = message.get("version", _UNVERSIONED), message.get("namespace")
    return encode(method, message.get("args", {}), version, namespace=namespace, **fields)


def encode_reply(call_id: str, result: Any, failure: str | None) -> bytes:
    """Return the body of the reply to a call; `failure` is the JSON of an exception.

    The unique id of the reply is the id of the call, so that the caller's driver drops a duplicate.
    """
    return seal(_reply_text(call_id, result=result, failure=failure, ending=True, **{UNIQUE_ID: call_id}))


def encode_heartbeat(call_id: str) -> bytes:
    """Return the body of a heartbeat for a call.

    It has no unique id: it is sent repeatedly, and the caller's driver would drop it as a duplicate.
    """
    return seal(_reply_text(call_id, result=None, failure=None, ending=False))


def _reply_text(call_id: str, **fields: Any) -> str:
    return msgspec.json.encode({**fields, _CALL_ID: call_id}).decode()


def call_fields(call_id: str, reply_queue: str) -> dict[str, Any]:
    """Return the fields that make a message a call without heartbeats: the call's id and its reply queue."""
    return {_CALL_ID: call_id, _REPLY_QUEUE: reply_queue, _MONITOR_TIMEOUT: None}


def seal(message: str) -> bytes:
    """Return the body of a message: its JSON text in an envelope."""
    return msgspec.json.encode(_outer_fields(message))


def unseal(body: bytes) -> str:
    """Return the JSON text of a message in an envelope of any version.

    Raises msgspec.DecodeError, UnicodeError or RecursionError for any other body.
    """
    return _any_version.decode(body).message


def _outer_fields(message: str) -> dict[str, str]:
    return {_VERSION: "2.0", _MESSAGE: message}


def caller_of(body: bytes) -> Caller | None:
    """Return the caller of a call in an envelope of any version; None for any other body."""
    if _CALL_ID_BYTES not in body:
        return None
    try:
        return _caller.decode(unseal(body))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def open_envelope(body: bytes | BodyDigest) -> Envelope:
    """Decode the envelope of a body. Raises BadMessage."""
    if isinstance(body, BodyDigest) or len(body) > MAX_BODY_BYTES:
        raise BadMessage(
            ErrorCode.MESSAGE_TOO_LARGE, "$", f"more than {MAX_BODY_BYTES} bytes; send less at once"
        )
    try:
        outer = _outer.decode(body)
        if outer.version.split(".")[0] != "2":
            raise BadMessage(ErrorCode.BAD_ENVELOPE, "$", "oslo.version must be 2.x")
        inner = _inner.decode(outer.message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        _refuse(error, envelope=True)
    return Envelope(
        inner.method,
        inner.args,
        inner.version,
        inner.namespace,
        inner.unique_id,
        _fitting(inner.request_id, *_ID),
        _text(inner.reply_queue) if _text(inner.call_id) is not None else None,
    )


def check_method(envelope: Envelope) -> None:
    """Raise BadMessage unless the method exists in a version that this worker speaks."""
    if envelope.namespace is not None or envelope.method not in METHODS:
        where = f"version {VERSION}" if envelope.namespace is None else "a namespace: commands have none"
        text = f"no method {envelope.printable_method or 'of this name'} in {where}"
        raise BadMessage(ErrorCode.UNKNOWN_METHOD, "$", text)
    if not _supported(envelope.version):
        raise BadMessage(ErrorCode.UNSUPPORTED_VERSION, "$", "this worker speaks " + VERSION)


def read_command(envelope: Envelope) -> AnyCommand:
    """Decode the command in an envelope. Raises BadMessage with the path of the bad field."""
    check_method(envelope)
    try:
        return _commands[envelope.method].decode(envelope.args)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        _refuse(error, envelope=False)


def event_id_of(envelope: Envelope, command: AnyCommand) -> str:
    """Return the id for de-duplication: the one that was sent, else the command's digest."""
    return sent_id(envelope, command.event_id) or digest_of(envelope.method, command)


def sent_id(envelope: Envelope, event_id: str | None) -> str | None:
    """Return the id that a command was sent with: its `event_id`, else the message's unique id."""
    return event_id or _fitting(envelope.unique_id, *_ID)


def names_of(body: bytes | BodyDigest, envelope: Envelope | None) -> tuple[str, str | None]:
    """Return event id and node name of a message that is no valid command, as far as they can be decoded.

    A body without an id gets the SHA-256 of its bytes, so that its redelivery has the same id.
    """
    fallback = body.sha256 if isinstance(body, BodyDigest) else hashlib.sha256(body).hexdigest()
    if envelope is None:
        return fallback, None
    try:
        names = _names.decode(envelope.args)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        names = _Names()
    sent = _fitting(_text(names.event_id), *_ID) or _fitting(envelope.unique_id, *_ID)
    return sent or fallback, _fitting(_text(names.node), *_NODE)


def _text(raw: Raw) -> str | None:
    """Decode a text of at most a name's length; None for anything else. Longer values are not decoded."""
    if raw == _NULL or len(bytes(raw)) > _NAME_BYTES:
        return None
    try:
        return _string.decode(raw)
    except (msgspec.DecodeError, UnicodeError):
        return None


def digest_of(method: str, command: AnyCommand) -> str:
    """Return a digest of method, node and arguments, without event id and origin: these may differ when a
    client sends a command again.
    """
    # Absent arguments are left out, so that a new optional argument does not change older digests.
    given = {
        field: value
        for field in _digested[type(command)]
        if (value := getattr(command, field)) is not None and value is not False
    }
    return hashlib.sha256(method.encode() + b"\n" + _canonical.encode(given)).hexdigest()


def sent_digest_of(envelope: Envelope) -> str:
    """Return a digest of a message that is no valid command: of its method and of its arguments as sent."""
    about = _canonical.encode((envelope.method, envelope.namespace, envelope.version))
    return hashlib.sha256(about + b"\n" + envelope.args).hexdigest()


def is_method_name(text: str) -> bool:
    """Tell whether a text can be the name of a method, known or not."""
    return _fitting(text, *_METHOD) is not None


def _fitting(text: str | None, pattern: re.Pattern[str], longest: int) -> str | None:
    """Return a text that can be stored in its column, None for any other."""
    return text if text and len(text) <= longest and pattern.match(text) else None


@lru_cache(16)
def _supported(version: str) -> bool:
    """Tell whether the major version is VERSION's, and the minor version not higher."""
    match = re.fullmatch(r"(\d{1,9})(?:\.(\d{1,9}))?", version)
    major, minor = (int(part) for part in VERSION.split("."))
    return match is not None and int(match[1]) == major and int(match[2] or 0) <= minor


_PATH = re.compile(r"\$[\w.\[\]]*")
_MISMATCHES = {f"Expected `str` matching regex {key!r}": text for key, text in PATTERN_TEXTS.items()}
_CODES = (
    (re.compile(r"^Object contains unknown field"), ErrorCode.UNKNOWN_ARGUMENT),
    (re.compile(r"^Object missing required field"), ErrorCode.MISSING_ARGUMENT),
    (re.compile(r"^Expected `\w+` (?:<|>|of length)"), ErrorCode.OUT_OF_RANGE),
    (re.compile(r"^(?:Number|Integer value) out of range"), ErrorCode.OUT_OF_RANGE),
    (re.compile(r"^(?:Invalid |Expected `str` matching)"), ErrorCode.INVALID_VALUE),
    (re.compile(r"^Expected "), ErrorCode.WRONG_TYPE),
)


def _refuse(error: Exception, *, envelope: bool) -> NoReturn:
    """Raise a decoder's error as BadMessage. Its text contains types and names of fields, never a value."""
    if isinstance(error, RecursionError):
        raise BadMessage(ErrorCode.TOO_DEEP, "$", "nested too deeply") from None
    if not isinstance(error, msgspec.ValidationError):
        raise BadMessage(ErrorCode.MALFORMED_JSON, "$", "not valid JSON in UTF-8") from None
    text, _, path = str(error).rpartition(" - at `")
    text = text or str(error)
    path = path.rstrip("`")
    where = path if _PATH.fullmatch(path) else "$"
    if isinstance(error.__cause__, InvalidValue):
        found = error.__cause__
        raise BadMessage(ErrorCode.INVALID_VALUE, f"{where}.{found.field}"[:255], found.message) from None
    code = next((code for pattern, code in _CODES if pattern.match(text)), ErrorCode.INVALID_VALUE)
    if code is ErrorCode.INVALID_VALUE:
        text = _MISMATCHES.get(text, "not one of the values allowed here")
    field = re.search(r"field `(\w{1,64})`$", text)
    where += f".{field[1]}" if field else ""
    if code is ErrorCode.UNKNOWN_ARGUMENT:
        text = "no such field"
    if envelope:
        code = ErrorCode.BAD_ENVELOPE
    raise BadMessage(code, where[:255], text) from None
