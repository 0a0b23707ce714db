# SPDX-License-Identifier: Apache-2.0
"""Filters deliveries by size before their body is read. Without it py-amqp reads every body into memory.

AMQP sends a message as a method frame, a header frame with the size of the body, and body frames. The
filter keeps the method frame of a delivery until the header frame arrives.
"""

import hashlib
from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache
from struct import pack, unpack_from
from typing import Any

import amqp
from amqp import spec
from amqp.method_framing import frame_handler
from msgspec import Struct

from tracker_worker.core.delivery import BodyDigest

_METHOD, _HEADER, _BODY = 1, 2, 3
_SIZE_AT = 4
_HEADER_BYTES = 12  # class, weight and size of the body; flags and properties follow
_BASIC, _ = spec.Basic.Deliver
_KEPT_BYTES = 1024
"""Properties are remembered up to this size, so that all that are take little memory."""
_NO_BODY = pack(">HHQ", _BASIC, 0, 0)

Frame = tuple[int, int, bytes]
"""Frame type, channel number, payload."""


class BodyAction(Enum):
    """What the filter does with a delivery."""

    TAKE = auto()
    DIGEST = auto()
    """Deliver it with an empty body. `BodyFilter.digest` describes the original body meanwhile."""
    SKIP = auto()
    """Do not deliver it. It stays unacknowledged until its channel is closed."""


class _LeftOut(Struct):
    """A message whose body is dropped: the frames to pass on at its end, and the bytes still to come."""

    frames: list[Frame]
    size: int
    left: int
    sha256: Any


class BodyFilter:
    """The filter of one connection. Belongs to the connection's thread.

    `admit` is called for each delivery with its channel number and the size of its body in bytes.
    """

    def __init__(self) -> None:
        self.admit: Callable[[int, int], BodyAction] = lambda _channel, _size: BodyAction.TAKE
        self.digest: BodyDigest | None = None

    def handler(self, connection: amqp.Connection, callback: Callable[..., Any]) -> Callable[[Frame], Any]:
        """Return the frame handler. This method is the argument `frame_handler` of py-amqp's Connection."""
        return _FrameHandler(self, connection, callback)


class _FrameHandler:
    """Passes frames to py-amqp's frame handler, except those that the filter drops."""

    def __init__(self, bodies: BodyFilter, connection: amqp.Connection, callback: Callable[..., Any]) -> None:
        self._bodies = bodies
        self._connection = connection
        self._hand_on = frame_handler(connection, callback)
        self._methods: dict[int, Frame] = {}
        self._left_out: dict[int, _LeftOut] = {}

    def __call__(self, frame: Frame) -> Any:
        kind, channel, payload = frame
        if kind == _METHOD and unpack_from(">HH", payload) == spec.Basic.Deliver:
            self._methods[channel] = frame
            return self._keep_back()
        if kind == _HEADER:
            return self._header(channel, payload)
        if kind == _BODY and channel in self._left_out:
            return self._leave_out(channel, payload)
        return self._hand_on(frame)

    def _keep_back(self) -> bool:
        self._connection.bytes_recv += 1  # As py-amqp's frame handler does, for the heartbeat.
        return False

    def _header(self, channel: int, payload: bytes) -> Any:
        """Pass a header frame on, or start to drop the body.

        A message whose properties py-amqp cannot parse would break every connection to which it is
        delivered, so it is passed on without properties.
        """
        properties = bytes(payload[_HEADER_BYTES:])
        if not (_readable_again if len(properties) <= _KEPT_BYTES else _readable)(properties):
            payload = bytes(payload[:_HEADER_BYTES]) + b"\0\0"
        header = (_HEADER, channel, payload)
        method = self._methods.pop(channel, None)
        if method is None:
            return self._hand_on(header)
        (size,) = unpack_from(">Q", payload, _SIZE_AT)
        action = self._bodies.admit(channel, size)
        if action is BodyAction.TAKE:
            self._hand_on(method)
            return self._hand_on(header)
        frames: list[Frame] = []
        if action is BodyAction.DIGEST:
            empty = payload[:_SIZE_AT] + bytes(8) + payload[_HEADER_BYTES:]
            frames = [method, (_HEADER, channel, empty)]
        self._left_out[channel] = _LeftOut(frames, size, size, hashlib.sha256())
        return self._leave_out(channel, b"")

    def _leave_out(self, channel: int, payload: bytes) -> Any:
        message = self._left_out[channel]
        message.left -= len(payload)
        if message.frames:
            message.sha256.update(payload)
        if message.left > 0:
            # Channel.close() reads all frames sent on the channel, which may outlast the heartbeat interval.
            self._connection.heartbeat_tick()
            return self._keep_back()
        del self._left_out[channel]
        if not message.frames:
            return self._keep_back()
        self._bodies.digest = BodyDigest(message.size, message.sha256.hexdigest())
        try:
            return [self._hand_on(frame) for frame in message.frames][-1]
        finally:
            self._bodies.digest = None


def _readable(properties: bytes) -> bool:
    """Tell whether py-amqp can parse properties."""
    try:
        amqp.Message().inbound_header(_NO_BODY + properties)
    except Exception:  # The parser lets any error of its calls through: dates, text, unknown types.
        return False
    return True


_readable_again = lru_cache(maxsize=256)(_readable)
"""The same for small properties: those of a client's messages are the same in all of them."""
