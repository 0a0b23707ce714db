# SPDX-License-Identifier: Apache-2.0
"""Reads what a connection has received, a buffer at a time.

py-amqp makes three recv() calls a frame, and a message is three frames. Each call releases the GIL: under
load a caller would wait for hundreds of thread switches, so this reads in large chunks, and takes the frames
that are whole out of them.
"""

import select
import ssl
from collections.abc import Callable

import amqp

from tracker_worker.private_apis.amqp import fill_buffer, is_buffered, take_frame

BUFFER_BYTES = 16 * 1024
"""Bytes of one read. py-amqp copies the rest of its buffer whenever it takes bytes out of the buffer."""


def read_waiting(connection: amqp.Connection, enough: Callable[[], bool] = lambda: False) -> None:
    """Process the frames that have arrived, and run their callbacks, until `enough` returns True.

    Does not wait for more frames. Raises CONNECTION_ERRORS. Belongs to the connection's thread.
    """
    while waiting(connection) and not enough():
        fill_buffer(connection, BUFFER_BYTES)
        frame = take_frame(connection)
        if frame is None:
            connection.blocking_read()
        else:
            connection.on_inbound_frame(frame)


def waiting(connection: amqp.Connection, seconds: float = 0.0) -> bool:
    """Wait up to `seconds` for data to read; tell whether there are any. Raises CONNECTION_ERRORS."""
    if not connection.connected:
        raise amqp.RecoverableConnectionError("the connection is closed")
    if is_buffered(connection):
        return True
    sock = connection.sock
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    readable = select.poll()
    readable.register(sock, select.POLLIN)
    return bool(readable.poll(seconds * 1000))
