# SPDX-License-Identifier: Apache-2.0
"""The client and a real broker: queues that nobody has declared, a broker that goes away and comes back."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import oslo_messaging
import pytest
from oslo_config import cfg

from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.exceptions import NoWorker, TrackerUnavailable
from tracker_worker.rpcapi import EXMODS, TrackerAPI

INSTANCE = {"uuid": "i-1"}


@pytest.fixture
def a_client(vhost_url) -> Iterator[Callable[..., TrackerAPI]]:
    transports: list[Any] = []

    def make(**settings: Any) -> TrackerAPI:
        url = f"{vhost_url}?amqp_durable_queues=true"
        transports.append(oslo_messaging.get_rpc_transport(cfg.CONF, url=url, allowed_remote_exmods=EXMODS))
        return TrackerAPI(transports[-1], partitions=1, **settings)

    yield make
    for transport in transports:
        transport.cleanup()


def declare_queue(vhost_url: str) -> kombu.Queue:
    """The queue of the only partition, as some worker once declared it."""
    with kombu.Connection(vhost_url.replace("rabbit://", "amqp://")) as connection:
        exchange = kombu.Exchange("tracker", "topic", durable=True)
        queue = kombu.Queue("tracker.p0", exchange, routing_key="tracker.p0", durable=True)
        queue(connection.channel()).declare()
    return queue


def waiting(vhost_url: str, queue: kombu.Queue) -> list[str]:
    """The methods of the commands that wait in the queue."""
    with kombu.Connection(vhost_url.replace("rabbit://", "amqp://")) as connection:
        bound = queue(connection.channel())
        bodies = []
        while message := bound.get(no_ack=True):
            bodies.append(oslo_messaging._drivers.common.deserialize_msg(message.decode())["method"])
        return bodies


@pytest.mark.parametrize("send", ["cast", "call"])
def test_without_a_queue_the_command_is_refused_at_once(a_client, send):
    with pytest.raises(NoWorker, match=r"no queue tracker\.p0 of exchange tracker: start a worker"):
        getattr(a_client(), send)({}, "build_failed", "compute1")


def test_a_claim_that_timed_out_is_followed_by_its_abort(a_client, vhost_url):
    api = a_client(timeout=2)
    queue = declare_queue(vhost_url)
    api.build_failed({}, "compute1")
    with pytest.raises(oslo_messaging.MessagingTimeout):
        api.instance_claim({}, "compute1", INSTANCE)
    # The call expires with its caller; what is left is its abort, which finds nothing and harms nothing.
    assert waiting(vhost_url, queue)[-1] == "abort_instance_claim"


def test_a_broker_that_goes_away_is_an_error_in_time_and_no_error_once_it_is_back(
    a_client, vhost_url, rabbitmq: RabbitMQ
):
    api = a_client(retry=2)
    queue = declare_queue(vhost_url)
    api.build_failed({}, "compute1")
    rabbitmq.kill()
    try:
        for send in (api.cast, api.call):
            started = time.monotonic()
            with pytest.raises(TrackerUnavailable, match="queue tracker.p0 of exchange tracker"):
                send({}, "build_succeeded", "compute1")
            assert time.monotonic() - started < 20
    finally:
        rabbitmq.start()
    api.set_service_status({}, "compute1", disabled=True)
    assert waiting(vhost_url, queue) == ["build_failed", "set_service_status"]
