# SPDX-License-Identifier: Apache-2.0
"""Encodes messages as the AMQP frames that publish them, so that one write to the socket has many.

py-amqp's `basic_publish` reads from the socket, serializes method and properties anew, and writes, for each
message: it takes five times as much CPU, and gives the GIL away twice.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from struct import pack

import amqp
from amqp import spec
from amqp.serialization import dumps
from msgspec import Struct

from tracker_worker.private_apis.amqp import serialized_properties

WRITE_BYTES = 64 * 1024
"""Bytes of bodies after which messages are written, and what has arrived is read."""

_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC, _ = spec.Basic.Publish
_END = b"\xce"
_OVERHEAD = 8
"""Bytes of a frame that are not its payload: type, channel, size and end."""
_PROPERTIES = serialized_properties(
    amqp.Message(content_type="application/json", content_encoding="utf-8", delivery_mode=2, priority=0)
)


class OutgoingMessage(Struct, frozen=True):
    """A persistent JSON message, with the properties of oslo.messaging's messages."""

    exchange: str
    routing_key: str
    body: bytes
    mandatory: bool = True


def publish_frames(message: OutgoingMessage, channel_id: int, frame_max: int) -> bytes:
    """Return the frames of a message. `frame_max` is the most bytes of a frame that the broker takes.

    Exchange and routing key have at most 255 bytes each.
    """
    body, most = message.body, frame_max - _OVERHEAD
    header = pack(">HHQ", _BASIC, 0, len(body)) + _PROPERTIES
    return b"".join(
        (
            *_frame(_METHOD, channel_id, _method(message.exchange, message.routing_key, message.mandatory)),
            *_frame(_HEADER, channel_id, header),
            *(
                part
                for start in range(0, len(body), most)
                for part in _frame(_BODY, channel_id, body[start : start + most])
            ),
        )
    )


def in_writes(messages: Iterable[OutgoingMessage]) -> Iterator[list[OutgoingMessage]]:
    """Divide messages into those that are written at once: WRITE_BYTES of bodies, or one more message."""
    together: list[OutgoingMessage] = []
    size = 0
    for message in messages:
        together.append(message)
        size += len(message.body)
        if size >= WRITE_BYTES:
            yield together
            together, size = [], 0
    if together:
        yield together


def _frame(kind: int, channel_id: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
    return pack(">BHI", kind, channel_id, len(payload)), payload, _END


@lru_cache(maxsize=256)
def _method(exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Return a method frame's payload. It is the same for all messages to a queue, and all replies to a
    client.
    """
    immediate = False
    arguments: bytes = dumps("Bssbb", (0, exchange, routing_key, mandatory, immediate))
    return pack(">HH", *spec.Basic.Publish) + arguments
