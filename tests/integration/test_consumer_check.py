# SPDX-License-Identifier: Apache-2.0
"""A worker that the broker has silently stopped to serve notices it by itself, and consumes again."""

import logging
from collections.abc import Iterator

import pytest
from kombu.connection import Connection

from tests.integration.consumers import Start, declared, ids_of, settle, starting
from tests.integration.rabbit import commands, connected, publish, settings_of, until
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.bus.rabbit.connection import close_connection, connect

CHECK_SECONDS = 0.5
CALM_SECONDS = 4.0
"""Between two questions about a queue: longer than a leader is stalled here."""
HEARTBEAT = 2
"""Seconds after which a read of the consumer's connection ends."""


@pytest.fixture
def start(vhost_url: str) -> Iterator[Start]:
    """Starts consumers that ask often, on the test's virtual host, and ends them."""
    with starting(vhost_url, check_seconds=CHECK_SECONDS) as start:
        yield start


def test_consumer_that_the_broker_has_lost_is_noticed_and_consumes_again(
    start: Start, declared_client: Connection, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    one = start()
    publish(declared_client, commands(1))
    settle(one.lanes.take(1))
    rabbitmq.lose_consumers(declared_client.virtual_host, "tracker.p0")
    publish(declared_client, commands(1, first=1))
    assert ids_of(one.lanes.take(1)) == ["1"]
    assert one.stats.connections == 2
    assert "the broker has lost the consumer of tracker.p0" in caplog.text
    assert "transport_url" not in caplog.text


def test_stalled_leader_of_a_quorum_queue_costs_no_connection(
    start: Start, vhost_url: str, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    one = start(quorum=True, check_seconds=CALM_SECONDS)
    with connected(vhost_url) as client:
        until(lambda: declared(client))
        with rabbitmq.stalled_leader(client.virtual_host, "tracker.p0"):
            until(lambda: "Queue tracker.p0: the broker reports no consumer of it" in caplog.text)
        # More than the prefetch limit: the next answer about the queue has what waits in it.
        publish(client, commands(12))
        until(lambda: one.consumer.state.ready.get(0))
        settle(one.lanes.take(10))
    assert one.stats.connections == 1
    assert "cannot be used" not in caplog.text


def test_quorum_queue_without_its_consumer_twice_is_consumed_again(
    start: Start, vhost_url: str, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    one = start(quorum=True)
    with connected(vhost_url) as client:
        until(lambda: declared(client))
        with rabbitmq.stalled_leader(client.virtual_host, "tracker.p0"):
            until(lambda: "the broker has lost the consumer of tracker.p0" in caplog.text)
        publish(client, commands(1))
        settle(one.lanes.take(1))
    assert one.stats.connections == 2
    assert "transport_url" not in caplog.text


@pytest.mark.parametrize("quorum", [False, True])
def test_consumers_that_are_there_keep_their_connection(start: Start, vhost_url: str, quorum: bool) -> None:
    one = start(quorum=quorum)
    with connected(vhost_url) as client:
        until(lambda: declared(client))
        publish(client, commands(1))
        taken = one.lanes.take(1)
        publish(client, commands(3, first=1), partition=1)
    settle(one.lanes.take(3))
    # Each queue was asked about at least once: two partitions, the bare topic and the dead letters.
    until(lambda: len(one.consumer.state.ready) == 4)
    state = one.consumer.state
    assert state.connected
    assert state.partitions == {0, 1}
    assert state.unacknowledged == {0: 1}
    assert state.oldest_at == taken[0].received_at
    assert one.stats.connections == 1


def test_connection_that_is_silent_is_given_up_and_replaced(rabbitmq: RabbitMQ, vhost_url: str) -> None:
    """Packets are lost in both directions, without an error: a switch or a firewall has forgotten it."""
    with (
        Proxy(rabbitmq.port) as proxy,
        starting(
            proxy.through(vhost_url), check_seconds=CHECK_SECONDS, heartbeat_timeout_threshold=HEARTBEAT
        ) as start,
        connected(vhost_url) as client,
    ):
        one = start()
        until(lambda: declared(client))
        until(lambda: one.consumer.state.partitions)
        assert proxy.black_hole()
        publish(client, commands(1))
        assert ids_of(one.lanes.take(1)) == ["0"]
        assert one.stats.connections >= 2


@pytest.mark.timeout(60)
def test_read_from_a_silent_broker_ends_in_the_time_of_a_heartbeat(
    rabbitmq: RabbitMQ, vhost_url: str
) -> None:
    """Without the checks of a consumer, which give up a silent connection too."""
    with Proxy(rabbitmq.port) as proxy:
        settings = settings_of(proxy.through(vhost_url), heartbeat_timeout_threshold=HEARTBEAT)
        connection = connect(settings, "test")
        assert proxy.black_hole()
        with pytest.raises(TimeoutError):
            while True:
                connection.drain_events()  # What came before counts as read.
        close_connection(connection)
