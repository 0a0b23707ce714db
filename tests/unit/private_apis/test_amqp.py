# SPDX-License-Identifier: Apache-2.0
"""What is private to py-amqp and used is as it was read."""

import amqp
import pytest
from amqp import spec
from amqp.transport import SSLTransport, TCPTransport

from tests.unit.private_apis.pins import Library
from tracker_worker.private_apis.amqp import (
    fill_buffer,
    is_buffered,
    report_blocked,
    serialized_properties,
    take_frame,
)

AMQP = Library("amqp", "amqp")
BLOCKED = b"\0\x0a\0\x3c" + b"\x0alow memory"
"""The payload of a frame: the number of the method, then the reason with its length."""


class Socket:
    """A socket that has received something."""

    def __init__(self, received: bytes) -> None:
        self.received = received

    def recv(self, size: int) -> bytes:
        taken, self.received = self.received[:size], self.received[size:]
        return taken


@pytest.fixture(params=[TCPTransport, SSLTransport])
def connection(request: pytest.FixtureRequest) -> amqp.Connection:
    """A connection whose transport has received nothing yet."""
    transport = request.param("localhost:5672")
    transport.sock = Socket(b"abcdef")
    transport._quick_recv = transport.sock.recv
    connection = amqp.Connection()
    connection.transport = transport
    return connection


def test_transport_parses_from_its_read_buffer(connection: amqp.Connection) -> None:
    transport = connection.transport
    AMQP.has("an empty _read_buffer", transport._read_buffer, b"")
    assert not is_buffered(connection)
    fill_buffer(connection, 4)
    assert is_buffered(connection) and transport.sock.received == b"ef"
    AMQP.has("what _read takes of the buffer", (transport._read(3), transport._read_buffer), (b"abc", b"d"))


def test_buffer_that_holds_something_is_not_filled(connection: amqp.Connection) -> None:
    fill_buffer(connection, 1)
    fill_buffer(connection, 1)
    assert (connection.transport._read_buffer, connection.transport.sock.received) == (b"a", b"bcdef")


def test_frames_are_taken_out_of_the_buffer_once_they_are_whole(connection: amqp.Connection) -> None:
    transport = connection.transport
    for received in (b"", b"\3\0\1", b"\3\0\1\0\0\0\2ab"):
        transport._read_buffer = received
        assert take_frame(connection) is None
        assert transport._read_buffer == received
    transport._read_buffer = b"\3\0\1\0\0\0\2ab\xce" + b"\x08\0\0\0\0\0\0\xce" + b"\1"
    assert take_frame(connection) == (3, 1, b"ab")
    assert take_frame(connection) == (8, 0, b"")
    AMQP.has("what _read takes of the rest", transport._read(1), b"\1")


def test_frame_that_does_not_end_as_frames_do_is_an_error_of_the_connection(
    connection: amqp.Connection,
) -> None:
    connection.transport._read_buffer = b"\3\0\1\0\0\0\2ab\xcd"
    with pytest.raises(amqp.UnexpectedFrame, match="0xcd"):
        take_frame(connection)
    assert issubclass(amqp.UnexpectedFrame, amqp.AMQPError)


def test_properties_are_serialized_as_the_broker_reads_them() -> None:
    message = amqp.Message()
    header = b"\0\x3c\0\0" + bytes(8)  # The class of messages, and the size of the body.
    message.inbound_header(header + serialized_properties(amqp.Message(priority=3)))
    AMQP.has("the properties", message.properties, {"priority": 3})


def test_connection_dispatches_by_its_methods_and_callbacks() -> None:
    sent = {spec.Connection.Blocked, spec.Connection.Unblocked}
    for name in ("_METHODS", "_callbacks"):
        AMQP.has(f"the keys of {name}", sent & getattr(amqp.Connection(), name).keys(), sent)


def test_reason_of_a_blocked_connection_is_reported() -> None:
    connection = amqp.Connection()
    reported: list[str | None] = []
    report_blocked(connection, reported.append)
    connection.dispatch_method(spec.Connection.Blocked, BLOCKED, None)
    connection.dispatch_method(spec.Connection.Unblocked, b"\0\x0a\0\x3d", None)
    assert reported == ["low memory", None]


def test_reason_is_still_reported_by_no_public_callback() -> None:
    """Once py-amqp hands the reason to `on_blocked`, that replaces `report_blocked`."""
    reported: list[str] = []
    connection = amqp.Connection(on_blocked=reported.append)
    connection.dispatch_method(spec.Connection.Blocked, BLOCKED, None)
    AMQP.has("what on_blocked is told", reported, ["connection blocked, see broker logs"])


def test_another_connection_keeps_its_methods() -> None:
    known = dict(amqp.Connection._METHODS)
    report_blocked(amqp.Connection(), lambda _reason: None)
    assert known == amqp.Connection._METHODS
