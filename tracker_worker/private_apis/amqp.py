# SPDX-License-Identifier: Apache-2.0
"""The uses of py-amqp's private API. Checked against the source of amqp 5.4.2.

Every function belongs to the connection's thread.
"""

from collections.abc import Callable
from struct import unpack_from

import amqp
from amqp import spec

_FRAME_START = 7
"""Bytes before a frame's payload: its type, its channel, and the payload's size."""
_FRAME_END = 0xCE


def is_buffered(connection: amqp.Connection) -> bool:
    """Tell whether the transport has received bytes that are not parsed yet.

    Private: the transport's `_read_buffer`. These bytes do not make the socket readable, and py-amqp has no
    public API for them.
    """
    return bool(connection.transport._read_buffer)


def fill_buffer(connection: amqp.Connection, size: int) -> None:
    """Receive at most `size` bytes at once into the transport's buffer, if it is empty; may block.

    Private: the transport's `_read_buffer`, from which py-amqp parses. py-amqp's own reads receive only the
    next few bytes, three times a frame. Raises OSError.
    """
    transport = connection.transport
    if not transport._read_buffer:
        transport._read_buffer = transport.sock.recv(size)


def take_frame(connection: amqp.Connection) -> tuple[int, int, bytes] | None:
    """Take a frame out of the transport's buffer: its type, its channel and its payload; None if none is
    there as a whole.

    Private: the transport's `_read_buffer`. py-amqp's own `blocking_read` reads a frame in three parts and in
    a context with a timeout, which takes five times as much CPU. Raises amqp.UnexpectedFrame.
    """
    transport = connection.transport
    buffer = transport._read_buffer
    if len(buffer) < _FRAME_START:
        return None
    kind, channel, size = unpack_from(">BHI", buffer)
    end = _FRAME_START + size
    if len(buffer) <= end:
        return None
    if buffer[end] != _FRAME_END:
        raise amqp.UnexpectedFrame(f"a frame ends with {buffer[end]:#04x} instead of {_FRAME_END:#04x}")
    transport._read_buffer = buffer[end + 1 :]
    return kind, channel, buffer[_FRAME_START:end]


def serialized_properties(message: amqp.Message) -> bytes:
    """Return the properties of a message as its header frame has them.

    Private: `_serialize_properties`. py-amqp serializes them anew whenever it publishes a message.
    """
    properties: bytes = message._serialize_properties()
    return properties


def report_blocked(connection: amqp.Connection, blocked: Callable[[str | None], None]) -> None:
    """Have a connection call `blocked` with the broker's reason when it is blocked, with None when unblocked.

    Private: `_METHODS`, the argument formats of the methods that the broker sends, and `_callbacks`. The
    public `on_blocked` gets a fixed text, because py-amqp does not parse the reason.
    """
    connection._METHODS = connection._METHODS | {
        spec.Connection.Blocked: spec.method(spec.Connection.Blocked, "s")
    }
    connection._callbacks[spec.Connection.Blocked] = blocked
    connection._callbacks[spec.Connection.Unblocked] = lambda: blocked(None)
