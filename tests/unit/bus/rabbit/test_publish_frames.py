# SPDX-License-Identifier: Apache-2.0
"""Messages are encoded as py-amqp's `basic_publish` writes them, and many are joined to one write."""

from types import SimpleNamespace

import amqp
import pytest
from amqp import spec
from amqp.method_framing import frame_writer
from amqp.serialization import dumps

from tracker_worker.bus.rabbit.publish_frames import WRITE_BYTES, OutgoingMessage, in_writes, publish_frames

FRAME_MAX = 4096
"""The smallest that AMQP allows."""


def written_by_amqp(message: OutgoingMessage, channel_id: int) -> bytes:
    """What py-amqp writes to publish a message with these properties."""
    written = bytearray()
    connection = SimpleNamespace(frame_max=FRAME_MAX, bytes_sent=0)
    write = frame_writer(connection, SimpleNamespace(write=written.extend))
    arguments = dumps("Bssbb", (0, message.exchange, message.routing_key, message.mandatory, False))
    content = amqp.Message(
        message.body,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        priority=0,
    )
    write(1, channel_id, spec.Basic.Publish, arguments, content)
    return bytes(written)


@pytest.mark.parametrize("size", [0, 1, 1000, FRAME_MAX - 8, FRAME_MAX - 7, 3 * FRAME_MAX])
@pytest.mark.parametrize(
    ("exchange", "routing_key", "mandatory"),
    [("nova", "versioned_notifications.info", True), ("", "reply_ä", False)],
)
def test_frames_are_those_of_py_amqp(size: int, exchange: str, routing_key: str, mandatory: bool) -> None:
    message = OutgoingMessage(exchange, routing_key, bytes(number % 251 for number in range(size)), mandatory)
    assert publish_frames(message, 7, FRAME_MAX) == written_by_amqp(message, 7)


def test_messages_are_written_together_until_a_write_is_full() -> None:
    small, half = (OutgoingMessage("", "queue", bytes(size)) for size in (1, WRITE_BYTES // 2))
    assert list(in_writes([small, half, half, small, small])) == [[small, half, half], [small, small]]
    assert list(in_writes([])) == []
