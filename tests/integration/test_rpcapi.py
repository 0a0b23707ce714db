# SPDX-License-Identifier: Apache-2.0
"""The client and a real broker: queues that nobody has declared, a broker that goes away and comes back."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import oslo_messaging
import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from oslo_config import cfg

from tests.integration.rabbit import SECONDS, connected, settings_of, until
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.bus.rabbit.connection import close_connection, connect
from tracker_worker.bus.rabbit.queues import Topology, TopologyMismatch, declare
from tracker_worker.client import sending
from tracker_worker.core.envelope import caller_of, encode_reply
from tracker_worker.exceptions import NoWorker, TrackerUnavailable, WrongPartition
from tracker_worker.rpcapi import EXMODS, TrackerAPI

INSTANCE = {"uuid": "i-1"}


@pytest.fixture
def a_client(vhost_url: str) -> Iterator[Callable[..., TrackerAPI]]:
    transports: list[Any] = []

    def make(query: str = "", **settings: Any) -> TrackerAPI:
        url = f"{vhost_url}?amqp_durable_queues=true{query}"
        transports.append(oslo_messaging.get_rpc_transport(cfg.CONF, url=url, allowed_remote_exmods=EXMODS))
        return TrackerAPI(transports[-1], **({"partitions": 1} | settings))

    yield make
    for transport in transports:
        transport.cleanup()


def declare_queue(vhost_url: str, partition: int = 0) -> Queue:
    """The queue of a partition, by default the only one, as some worker once declared it."""
    with Connection(vhost_url.replace("rabbit://", "amqp://")) as connection:
        exchange = Exchange("tracker", "topic", durable=True)
        name = f"tracker.p{partition}"
        queue = Queue(name, exchange, routing_key=name, durable=True)
        queue(connection.channel()).declare()
    return queue


def waiting(vhost_url: str, queue: Queue) -> list[str]:
    """The methods of the commands that wait in the queue."""
    with Connection(vhost_url.replace("rabbit://", "amqp://")) as connection:
        bound = queue(connection.channel())
        bodies = []
        while message := bound.get(no_ack=True):
            bodies.append(oslo_messaging._drivers.common.deserialize_msg(message.decode())["method"])
        return bodies


@pytest.mark.parametrize("send", ["cast", "call"])
@pytest.mark.parametrize(
    ("theirs", "ours", "says"),
    [
        (
            4,
            2,
            r"a queue tracker\.p2, but this client has partitions = 2.*delete_queue -p test-\w+ tracker\.p2",
        ),
        (2, 4, r"a queue tracker\.p0 and no queue tracker\.p3, but this client has partitions = 4"),
        (2, 1, r"a queue tracker\.p1, but this client has partitions = 1"),
    ],
)
def test_another_number_of_partitions_is_refused_before_anything_is_sent(
    a_client: Callable[..., TrackerAPI], vhost_url: str, theirs: int, ours: int, says: str, send: str
) -> None:
    queues = [declare_queue(vhost_url, partition) for partition in range(theirs)]
    api = a_client(partitions=ours)
    for _ in range(2):
        with pytest.raises(WrongPartition, match=says) as caught:
            getattr(api, send)({}, "build_failed", "compute1")
        assert "[bus] partitions" in str(caught.value)
    assert [waiting(vhost_url, queue) for queue in queues] == [[]] * theirs


def test_a_client_that_comes_while_the_queues_are_declared_sees_no_other_number(
    a_client: Callable[..., TrackerAPI], vhost_url: str
) -> None:
    """A worker that failed at the first partition's queue, the last that it declares."""
    declare_queue(vhost_url)
    settings = settings_of(f"{vhost_url}?amqp_durable_queues=true")
    connection = connect(settings, "test")
    with pytest.raises(TopologyMismatch, match="tracker.p0"):
        declare(connection, Topology("tracker", 2, quorum=False))
    close_connection(connection)
    a_client(partitions=2).build_failed({}, "compute1")


def test_partitions_are_compared_until_they_agree_and_not_again(
    a_client: Callable[..., TrackerAPI], vhost_url: str
) -> None:
    api = a_client()
    with pytest.raises(NoWorker, match=r"no queue tracker\.p0") as caught:
        api.build_failed({}, "compute1")
    assert caught.value.event_id
    first, second = declare_queue(vhost_url), declare_queue(vhost_url, 1)
    with pytest.raises(WrongPartition):
        api.build_failed({}, "compute1")
    with Connection(vhost_url.replace("rabbit://", "amqp://")) as connection:
        second(connection.channel()).delete()
    api.build_failed({}, "compute1")
    declare_queue(vhost_url, 1)
    api.build_succeeded({}, "compute1")
    assert waiting(vhost_url, first) == ["build_failed", "build_succeeded"]


@pytest.mark.parametrize("send", ["cast", "call"])
def test_a_queue_that_was_deleted_later_is_an_error_at_once(
    a_client: Callable[..., TrackerAPI], vhost_url: str, send: str
) -> None:
    api = a_client()
    queue = declare_queue(vhost_url)
    api.build_failed({}, "compute1")
    with Connection(vhost_url.replace("rabbit://", "amqp://")) as connection:
        queue(connection.channel()).delete()
    with pytest.raises(NoWorker, match=r"no queue tracker\.p0 of exchange tracker: start a worker") as caught:
        getattr(api, send)({}, "build_failed", "compute1")
    assert caught.value.event_id


@pytest.mark.parametrize("send", ["cast", "call"])
def test_without_a_queue_the_command_is_refused_at_once(
    a_client: Callable[..., TrackerAPI], send: str
) -> None:
    with pytest.raises(NoWorker, match=r"no queue tracker\.p0 of exchange tracker: start a worker"):
        getattr(a_client(), send)({}, "build_failed", "compute1")


def test_a_claim_that_timed_out_is_followed_by_its_abort(
    a_client: Callable[..., TrackerAPI], vhost_url: str
) -> None:
    api = a_client(timeout=2)
    queue = declare_queue(vhost_url)
    api.build_failed({}, "compute1")
    with pytest.raises(oslo_messaging.MessagingTimeout):
        api.instance_claim({}, "compute1", INSTANCE)
    # The call expires with its caller; what is left is its abort, which finds nothing and harms nothing.
    assert waiting(vhost_url, queue)[-1] == "abort_instance_claim"


def test_a_call_whose_reply_is_lost_gets_the_reply_to_its_repetition(
    a_client: Callable[..., TrackerAPI], vhost_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker does that is back after a restart of the broker, when the queue of replies is not."""
    monkeypatch.setattr(sending, "RESEND_SECONDS", 0.2)
    api = a_client()
    queue = declare_queue(vhost_url)
    granted: list[Any] = []
    claiming = threading.Thread(
        target=lambda: granted.append(api.instance_claim({}, "compute1", INSTANCE)), daemon=True
    )
    claiming.start()
    with connected(vhost_url) as connection:
        channel: Any = connection.default_channel
        taken: list[Any] = []

        def are_two() -> bool:
            message = queue(channel).get(no_ack=True)
            taken.extend([] if message is None else [message.body])
            return len(taken) == 2

        until(are_two, "the call is not sent again")
        first, second = (oslo_messaging._drivers.common.deserialize_msg(json.loads(body)) for body in taken)
        assert first["args"] == second["args"]
        caller = caller_of(taken[1].encode())
        assert caller is not None
        body = encode_reply(caller.call_id, {"outcome": "granted"}, None)
        reply = amqp.Message(body, content_type="application/json", content_encoding="utf-8")
        channel.basic_publish(reply, exchange="", routing_key=caller.queue)
        claiming.join(SECONDS)
    assert granted == [{"outcome": "granted"}]


def test_a_broker_that_goes_away_is_an_error_in_time_and_no_error_once_it_is_back(
    a_client: Callable[..., TrackerAPI], vhost_url: str, rabbitmq: RabbitMQ
) -> None:
    # Without the driver's longer pauses between its attempts.
    api = a_client("&kombu_reconnect_delay=0&rabbit_interval_max=1", retry=2)
    queue = declare_queue(vhost_url)
    api.build_failed({}, "compute1")
    rabbitmq.kill()
    try:
        for send in (api.cast, api.call):
            with pytest.raises(TrackerUnavailable, match="tracker.p0 of exchange tracker in 3 attempts"):
                send({}, "build_succeeded", "compute1")
    finally:
        rabbitmq.start()
    api.set_service_status({}, "compute1", disabled=True)
    assert waiting(vhost_url, queue) == ["build_failed", "set_service_status"]
