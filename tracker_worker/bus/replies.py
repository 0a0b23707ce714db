# SPDX-License-Identifier: Apache-2.0
"""Replies to calls over RabbitMQ: sent once, not confirmed, never tried again. The caller has a time-out."""

import logging
import time
from typing import Any

import amqp
import msgspec
from msgspec import Struct

from tracker_worker.bus.broker import CONNECTION_ERRORS, BrokerSettings
from tracker_worker.bus.compression import decompress
from tracker_worker.bus.delivery import Answer, BodyDigest
from tracker_worker.bus.outgoing import OutgoingConnection
from tracker_worker.domain.errors import BadMessage

LOG = logging.getLogger(__name__)

MAX_QUEUE_BYTES = 255
"""AMQP's bound of a routing key."""


class Reply(Struct, frozen=True):
    """A reply and the queue that its caller listens on."""

    queue: str
    body: bytes


class _Outer(Struct, frozen=True):
    message: str = msgspec.field(name="oslo.message")


class _Caller(Struct, frozen=True):
    msg_id: str = msgspec.field(name="_msg_id")
    queue: str = msgspec.field(name="_reply_q")


_outer = msgspec.json.Decoder(_Outer)
_caller = msgspec.json.Decoder(_Caller)


def is_call(body: bytes | BodyDigest, compression: str | None = None) -> bool:
    """Tell whether somebody waits for a reply to this message."""
    return _caller_of(body, compression) is not None


def reply_to(body: bytes | BodyDigest, answer: Answer, compression: str | None = None) -> Reply | None:
    """Return the reply to a message, None where nobody waits for one, or its body was too large.

    A compressed body is decompressed once more here: a delivery that waits keeps the bytes that came.
    """
    caller = _caller_of(body, compression)
    if caller is None:
        return None
    failure: str | None = None
    result: dict[str, Any] | str | None = None
    if isinstance(answer, Exception):
        failure = _failure(answer)
    else:
        result = answer
    # The id of a repeated reply is the same, so that the caller's driver drops it.
    inner = {
        "result": result,
        "failure": failure,
        "ending": True,
        "_msg_id": caller.msg_id,
        "_unique_id": caller.msg_id,
    }
    text = msgspec.json.encode(inner).decode()
    return Reply(caller.queue, msgspec.json.encode({"oslo.version": "2.0", "oslo.message": text}))


def _failure(error: Exception) -> str:
    """Return an exception as oslo.messaging rebuilds it, without a traceback: that is the worker's own."""
    kind = type(error)
    failure = {
        "class": kind.__name__,
        "module": kind.__module__,
        "message": str(error),
        "tb": [],
        "args": error.args,
        "kwargs": {},
    }
    return msgspec.json.encode(failure).decode()


def _caller_of(body: bytes | BodyDigest, compression: str | None) -> _Caller | None:
    if isinstance(body, BodyDigest):
        return None
    try:
        plain = decompress(body, compression)
        if b"_msg_id" not in plain:
            return None
        caller = _caller.decode(_outer.decode(plain).message)
    except (BadMessage, msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return caller if len(caller.queue.encode(errors="replace")) <= MAX_QUEUE_BYTES else None


class Replies:
    """Has a connection of its own, opened with the first reply: a broker that is short of memory stops
    reading from connections that publish, and acknowledgements have to get through.

    Belongs to the consumer's thread, which must not wait here for long: a connection that failed is not tried
    again for every reply. `lost` counts replies that nobody got.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._connection = OutgoingConnection(settings, "replies", self._prepare, self._block)
        self._blocked = False
        self._pause = settings.retry_initial
        self._open_again_at = 0.0
        self.lost = 0

    def send(self, reply: Reply) -> None:
        """Send a reply, or count it as lost."""
        if self._blocked or time.monotonic() < self._open_again_at:
            self._lose("the broker does not take it")
            return
        message = amqp.Message(
            reply.body,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
        )
        try:
            channel = self._connection.channel()
            channel.basic_publish(message, exchange="", routing_key=reply.queue, mandatory=True)
        except CONNECTION_ERRORS as error:
            self._lose(type(error).__name__)
            self._connection.close()
            self._open_again_at = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, self._settings.retry_max)

    def tend(self) -> None:
        """Take in what the broker returned, and keep the connection alive. To be called often."""
        self._connection.tend()

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._connection.close()

    def _prepare(self, channel: Any) -> None:
        self._blocked = False
        self._pause = self._settings.retry_initial
        channel.events["basic_return"].add(self._returned)

    def _block(self, blocked: bool) -> None:
        self._blocked = blocked

    def _returned(self, _error: object, _exchange: str, _queue: str, _message: object) -> None:
        self._lose("its caller is gone")

    def _lose(self, why: str) -> None:
        self.lost += 1
        LOG.info("Reply lost, the %dth: %s", self.lost, why)
