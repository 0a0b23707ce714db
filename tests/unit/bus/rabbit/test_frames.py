# SPDX-License-Identifier: Apache-2.0
"""Which messages are collected, decided by their headers; frames are those of a real py-amqp."""

import hashlib
from struct import pack
from typing import Any

import amqp
import pytest
from amqp import spec
from amqp.serialization import dumps

from tracker_worker.bus.rabbit.frames import BodyAction, BodyFilter
from tracker_worker.core.delivery import BodyDigest

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8


class Receiver:
    """A connection's handler of frames, and what came of them: channel, method, body and digest."""

    def __init__(self) -> None:
        self.bytes_recv = 0
        self.beats = 0
        self.asked: list[tuple[int, int]] = []
        self.received: list[tuple[int, tuple[int, int], bytes | None, BodyDigest | None]] = []
        self.fates: dict[int, BodyAction] = {}
        self.bodies = BodyFilter()
        self.bodies.admit = self._admit
        self.on_frame = self.bodies.handler(self, self._receive)

    def heartbeat_tick(self) -> None:
        self.beats += 1

    def feed(self, *frames: tuple[int, int, bytes]) -> list[bool]:
        return [self.on_frame(frame) for frame in frames]

    def _admit(self, channel: int, size: int) -> BodyAction:
        self.asked.append((channel, size))
        return self.fates.get(channel, BodyAction.TAKE)

    def _receive(
        self, channel: int, method: tuple[int, int], _arguments: bytes, content: amqp.Message
    ) -> None:
        body = None if content is None else bytes(content.body or b"")
        self.received.append((channel, method, body, self.bodies.digest))


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def message(
    body: bytes,
    channel: int = 1,
    method: tuple[int, int] = spec.Basic.Deliver,
    parts: int = 1,
    **properties: Any,
) -> list[tuple[int, int, bytes]]:
    header = pack(">HxxQ", 60, len(body)) + amqp.Message(**properties)._serialize_properties()
    step = max(-(-len(body) // parts), 1)
    return [
        (METHOD, channel, pack(">HH", *method) + dumps("sLbss", ("tag", 7, False, "exchange", "key"))),
        (HEADER, channel, header),
        *[(BODY, channel, body[at : at + step]) for at in range(0, len(body), step)],
    ]


def test_message_is_taken_once_it_is_whole(receiver: Receiver) -> None:
    assert receiver.feed(*message(b"abcdef", parts=3)) == [False, False, False, False, True]
    assert receiver.received == [(1, spec.Basic.Deliver, b"abcdef", None)]
    assert receiver.asked == [(1, 6)]


def test_empty_message_is_taken(receiver: Receiver) -> None:
    receiver.feed(*message(b""))
    assert receiver.received == [(1, spec.Basic.Deliver, b"", None)]


def test_skipped_message_is_not_handed_on_and_the_next_one_is(receiver: Receiver) -> None:
    receiver.fates[1] = BodyAction.SKIP
    assert not any(receiver.feed(*message(b"abcdef", parts=3), *message(b"")))
    receiver.fates[1] = BodyAction.TAKE
    receiver.feed(*message(b"next"))
    assert receiver.received == [(1, spec.Basic.Deliver, b"next", None)]


def test_digest_of_a_body_comes_with_an_empty_message(receiver: Receiver) -> None:
    receiver.fates[1] = BodyAction.DIGEST
    body = bytes(range(256)) * 10
    receiver.feed(*message(body, parts=4, headers={"a": 1}))
    digest = BodyDigest(2560, hashlib.sha256(body).hexdigest())
    assert receiver.received == [(1, spec.Basic.Deliver, b"", digest)]
    receiver.fates.clear()
    receiver.feed(*message(b"next"))
    assert receiver.received[1:] == [(1, spec.Basic.Deliver, b"next", None)]


def test_messages_of_several_channels_may_be_interleaved(receiver: Receiver) -> None:
    receiver.fates = {1: BodyAction.SKIP, 2: BodyAction.DIGEST}
    all_frames = [message(b"abcdef", channel, parts=2) for channel in (1, 2, 3)]
    for frames in zip(*all_frames, strict=True):
        receiver.feed(*frames)
    assert [(channel, body) for channel, _, body, _ in receiver.received] == [(2, b""), (3, b"abcdef")]


def test_only_deliveries_are_asked_about(receiver: Receiver) -> None:
    receiver.fates[1] = BodyAction.SKIP
    receiver.feed(*message(b"got", method=spec.Basic.GetOk), *message(b"returned", method=spec.Basic.Return))
    assert [body for _, _, body, _ in receiver.received] == [b"got", b"returned"]
    assert receiver.asked == []


def test_every_frame_counts_as_a_sign_of_life(receiver: Receiver) -> None:
    receiver.fates[1] = BodyAction.SKIP
    for frame in message(b"abcdef", parts=3):
        before = receiver.bytes_recv
        receiver.feed(frame)
        assert receiver.bytes_recv > before
