# SPDX-License-Identifier: Apache-2.0
"""The uses of py-amqp's private API. Checked against the source of amqp 5.4.2.

Every function belongs to the connection's thread.
"""

from collections.abc import Callable

import amqp
from amqp import spec


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
