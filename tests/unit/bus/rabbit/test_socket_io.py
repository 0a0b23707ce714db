# SPDX-License-Identifier: Apache-2.0
"""What a connection has received is taken in with few questions to the system, and nothing is waited for."""

import socket
from collections.abc import Iterator

import amqp
import pytest
from amqp.transport import TCPTransport

from tracker_worker.bus.rabbit.socket_io import BUFFER_BYTES, read_waiting, waiting

HEARTBEAT = b"\x08\0\0\0\0\0\0\xce"


class CountingSocket(socket.socket):
    """A socket that knows how often it was read."""

    reads = 0

    def recv(self, size: int, *flags: int) -> bytes:
        self.reads += 1
        return super().recv(size, *flags)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, amqp.Connection]]:
    """The broker's end, and the worker's as a connection that keeps its frames."""
    ours, theirs = socket.socketpair()
    with theirs, CountingSocket(fileno=ours.detach()) as sock:
        sock.settimeout(5)
        transport = TCPTransport("localhost")
        transport.sock = sock
        transport.connected = True
        transport._setup_transport()
        connection = amqp.Connection()
        connection.transport = transport
        connection.frames = []
        connection._on_inbound_frame = connection.frames.append
        yield theirs, connection


def test_frames_are_read_a_buffer_at_a_time(ends: tuple[socket.socket, amqp.Connection]) -> None:
    broker, connection = ends
    broker.sendall(HEARTBEAT * 100)
    read_waiting(connection)
    assert len(connection.frames) == 100
    assert connection.sock.reads == 1
    assert not waiting(connection)


def test_a_frame_larger_than_the_buffer_is_whole(ends: tuple[socket.socket, amqp.Connection]) -> None:
    broker, connection = ends
    payload = bytes(range(256)) * (2 * BUFFER_BYTES // 256)
    broker.sendall(b"\x03\0\1" + len(payload).to_bytes(4) + payload + b"\xce" + HEARTBEAT)
    read_waiting(connection)
    (kind, channel, read), _ = connection.frames
    assert (kind, channel, bytes(read)) == (3, 1, payload)


def test_what_is_left_when_it_is_enough_is_still_waiting(ends: tuple[socket.socket, amqp.Connection]) -> None:
    broker, connection = ends
    broker.sendall(HEARTBEAT * 3)
    read_waiting(connection, lambda: len(connection.frames) == 2)
    assert len(connection.frames) == 2
    assert waiting(connection)
    read_waiting(connection)
    assert len(connection.frames) == 3


def test_frames_before_the_end_of_a_connection_are_read_and_then_the_end_is_raised(
    ends: tuple[socket.socket, amqp.Connection],
) -> None:
    broker, connection = ends
    broker.sendall(HEARTBEAT * 2)
    broker.close()
    with pytest.raises(OSError, match="closed connection"):
        read_waiting(connection)
    assert len(connection.frames) == 2
    with pytest.raises(amqp.RecoverableConnectionError):
        waiting(connection)
