# SPDX-License-Identifier: Apache-2.0
"""Notifications on a real broker: confirmed, in order, kept before anybody listens."""

import itertools
import time
from typing import NamedTuple

import msgspec
import pytest
from kombu.connection import Connection

from tests.integration.rabbit import EXCHANGE, TOPIC, alarm, connected, depth, settings_of, until
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS
from tracker_worker.bus.rabbit.publisher import CONFIRM_SECONDS, ConfirmingPublisher
from tracker_worker.bus.rabbit.queues import TopologyMismatch
from tracker_worker.core.stats import Stats

QUEUE = "versioned_notifications.info"


class Note(NamedTuple):
    body: bytes
    priority: str = "INFO"


def notes(count: int, first: int = 0) -> list[Note]:
    return [Note(msgspec.json.encode({"message_id": str(number)})) for number in range(first, first + count)]


def received(client: Connection, queue: str = QUEUE) -> list[str]:
    """The ids of the messages that wait, in order."""
    with client.channel() as channel:
        found = iter(lambda: channel.basic_get(queue, no_ack=True), None)
        outer = [msgspec.json.decode(message.body) for message in found]
    assert all(envelope["oslo.version"] == "2.0" for envelope in outer)
    return [msgspec.json.decode(envelope["oslo.message"])["message_id"] for envelope in outer]


def test_windows_are_confirmed_and_kept_in_order_before_anybody_listens(
    publisher: ConfirmingPublisher, client: Connection, stats: Stats
) -> None:
    assert publisher.publish(notes(200)) == 200
    assert publisher.publish(notes(50, first=200)) == 50
    assert received(client) == [str(number) for number in range(250)]
    assert stats.unrouted_notifications == 0


def test_window_of_bodies_larger_than_a_frame_is_published(
    publisher: ConfirmingPublisher, client: Connection
) -> None:
    large = [
        Note(msgspec.json.encode({"message_id": str(number), "text": "x" * 300_000})) for number in range(8)
    ]
    assert publisher.publish(large) == 8
    assert received(client) == [str(number) for number in range(8)]


def test_each_priority_has_its_queue(publisher: ConfirmingPublisher, client: Connection) -> None:
    publisher.publish([Note(b'{"message_id": "e"}', "ERROR"), *notes(1)])
    assert received(client, "versioned_notifications.error") == ["e"]
    assert received(client) == ["0"]


def test_what_no_queue_takes_is_counted(
    publisher: ConfirmingPublisher, client: Connection, stats: Stats
) -> None:
    publisher.publish(notes(1))
    with client.channel() as channel:
        channel.queue_delete(QUEUE)
    assert publisher.publish(notes(3)) == 3
    assert stats.unrouted_notifications == 3


def test_large_window_that_the_broker_returns_is_read_while_it_is_written(
    publisher: ConfirmingPublisher, client: Connection, stats: Stats
) -> None:
    """More than the buffers of both sockets hold: a broker that cannot return a message reads no more."""
    publisher.publish(notes(1))
    with client.channel() as channel:
        channel.queue_delete(QUEUE)
    assert publisher.publish([Note(b'{"message_id": "%s"}' % (b"x" * 100_000))] * 200) == 200
    assert stats.unrouted_notifications == 200


def test_what_a_full_queue_refuses_is_told_and_can_be_sent_again(
    publisher: ConfirmingPublisher, client: Connection, rabbitmq: RabbitMQ
) -> None:
    vhost = client.virtual_host
    policy = {"pattern": ".*", "definition": {"max-length": 3, "overflow": "reject-publish"}}
    rabbitmq.api("PUT", f"policies/{vhost}/small", policy | {"apply-to": "queues"})
    publisher.publish(notes(1))
    until(lambda: rabbitmq.api("GET", f"queues/{vhost}/{QUEUE}").get("policy") == "small")
    confirmed = publisher.publish(notes(5, first=1))
    assert confirmed < 5
    rabbitmq.api("DELETE", f"policies/{vhost}/small")
    until(lambda: not rabbitmq.api("GET", f"queues/{vhost}/{QUEUE}").get("policy"))
    assert publisher.publish(notes(5 - confirmed, first=1 + confirmed)) == 5 - confirmed
    assert set(received(client)) == {"0", "1", "2", "3", "4", "5"}


def test_a_lost_connection_is_raised_and_made_again(
    publisher: ConfirmingPublisher, client: Connection, rabbitmq: RabbitMQ, vhost_url: str
) -> None:
    publisher.publish(notes(1))
    vhost = client.virtual_host
    until(lambda: len(rabbitmq.api("GET", f"vhosts/{vhost}/connections")) == 2)
    rabbitmq.close_connections(vhost)
    with pytest.raises(CONNECTION_ERRORS):
        publisher.publish(notes(1, first=1))
    assert publisher.publish(notes(1, first=1)) == 1
    with connected(vhost_url) as again:
        assert received(again)[-1] == "1"


def test_broker_that_confirms_nothing_for_a_minute_is_given_up(
    vhost_url: str, rabbitmq: RabbitMQ, stats: Stats
) -> None:
    """The minute passes on the publisher's clock alone, which goes on by half of one at each look."""
    half_minutes = itertools.count(step=CONFIRM_SECONDS / 2)
    publisher = ConfirmingPublisher(
        settings_of(vhost_url), EXCHANGE, TOPIC, lambda: next(half_minutes), stats
    )
    assert publisher.publish(notes(1)) == 1
    with alarm(rabbitmq), pytest.raises(TimeoutError, match="nothing was confirmed for 60 s"):
        publisher.publish(notes(1, first=1))
    assert publisher.publish(notes(1, first=1)) == 1
    publisher.close()


def notices_that_it_is_lost(publisher: ConfirmingPublisher, caplog: pytest.LogCaptureFixture) -> bool:
    publisher.keep_alive()
    return "is lost" in caplog.text


def test_an_idle_connection_that_is_lost_is_made_again_without_an_error(
    publisher: ConfirmingPublisher, client: Connection, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.publish(notes(1))
    vhost = client.virtual_host
    until(lambda: len(rabbitmq.api("GET", f"vhosts/{vhost}/connections")) == 2)
    rabbitmq.close_connections(vhost)
    until(lambda: notices_that_it_is_lost(publisher, caplog))
    assert publisher.publish(notes(1, first=1)) == 1


@pytest.mark.parametrize("thing", ["exchange", "queue"])
def test_what_consumers_declared_otherwise_is_told_in_one_line_with_the_way_out(
    vhost_url: str, client: Connection, thing: str, stats: Stats
) -> None:
    with client.channel() as channel:
        if thing == "exchange":
            channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        else:
            channel.queue_declare(QUEUE, durable=True, auto_delete=False)
    publisher = ConfirmingPublisher(settings_of(vhost_url), EXCHANGE, TOPIC, time.monotonic, stats)
    with pytest.raises(TopologyMismatch, match="amqp_durable_queues") as raised:
        publisher.publish(notes(1))
    assert "\n" not in str(raised.value)
    with client.channel() as channel:
        channel.queue_delete(QUEUE)
        channel.exchange_delete(EXCHANGE)
    assert publisher.publish(notes(1)) == 1
    publisher.close()


def test_queues_are_those_of_the_options(
    vhost_url: str, client: Connection, rabbitmq: RabbitMQ, stats: Stats
) -> None:
    publisher = ConfirmingPublisher(
        settings_of(vhost_url, rabbit_quorum_queue=True), EXCHANGE, TOPIC, time.monotonic, stats
    )
    publisher.publish(notes(1))
    publisher.close()
    queue = until(lambda: rabbitmq.api("GET", f"queues/{client.virtual_host}/{QUEUE}"))
    assert (queue["durable"], queue["arguments"]) == (True, {"x-queue-type": "quorum"})
    until(lambda: depth(client, QUEUE) == 1)
