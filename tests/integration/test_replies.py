# SPDX-License-Identifier: Apache-2.0
"""Replies to many calls on a real broker: those that it does not take are counted, and delay nothing."""

import time
from collections.abc import Iterator

import pytest
from kombu.connection import Connection

from tests.integration.rabbit import alarm, depth, settings_of, until
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.bus.rabbit.publish_frames import WRITE_BYTES
from tracker_worker.bus.rabbit.replies import Replies, Reply
from tracker_worker.core.stats import Stats

QUEUE = "reply_1"
HEARTBEAT = 600
"""Seconds for which a write would wait: longer than a test may take."""


@pytest.fixture
def replies(vhost_url: str, client: Connection, stats: Stats) -> Iterator[Replies]:
    """Replies whose connection is open, to a queue that has one."""
    with client.channel() as channel:
        channel.queue_declare(QUEUE, durable=False, auto_delete=False)
    settings = settings_of(vhost_url, heartbeat_timeout_threshold=HEARTBEAT)
    replies = Replies(settings, time.monotonic, stats)
    replies.send([Reply(QUEUE, b"{}")])
    until(lambda: depth(client, QUEUE) == 1)
    yield replies
    replies.close()


def test_replies_arrive_in_their_order(replies: Replies, client: Connection) -> None:
    bodies = [b"%d" % number * 100 for number in range(3000)]
    replies.send([Reply(QUEUE, body) for body in bodies])
    until(lambda: depth(client, QUEUE) == 1 + len(bodies))
    with client.channel() as channel:
        found = list(iter(lambda: channel.basic_get(QUEUE, no_ack=True), None))
    assert [message.body.encode() for message in found[1:]] == bodies


def test_replies_that_a_broker_with_an_alarm_does_not_read_are_lost_without_a_wait(
    replies: Replies, client: Connection, rabbitmq: RabbitMQ, stats: Stats
) -> None:
    def is_told() -> bool:
        replies.keep_alive()
        return replies.alarm is not None

    def batch() -> Iterator[Reply]:
        """Replies of a write each; the broker tells of its alarm after the first of them."""
        yield Reply(QUEUE, bytes(WRITE_BYTES))
        until(is_told)
        yield from [Reply(QUEUE, bytes(WRITE_BYTES))] * 255

    with alarm(rabbitmq):
        replies.send(batch())
    assert stats.lost_replies == 255
    until(lambda: depth(client, QUEUE) == 1 + 1)


def test_replies_whose_callers_are_gone_are_each_lost_once(
    replies: Replies, client: Connection, stats: Stats
) -> None:
    replies.send([Reply("reply_gone", bytes(1000)), Reply(QUEUE, b"{}")] * 200)

    def are_counted() -> bool:
        replies.keep_alive()
        return stats.lost_replies == 200

    until(are_counted)
    until(lambda: depth(client, QUEUE) == 201)
    assert stats.lost_replies == 200
