# SPDX-License-Identifier: Apache-2.0
"""The client's deadline, on a broker in alarm and one that is silently gone: bounded, in order, undone."""

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import oslo_messaging
import pytest
from kombu.entity import Queue
from oslo_config import cfg

from tests.integration.rabbit import alarm, connected, depth, until
from tests.integration.test_rpcapi import INSTANCE, declare_queue
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.exceptions import TrackerUnavailable
from tracker_worker.rpcapi import EXMODS, TrackerAPI

NODE = "compute1"
SECONDS = 4
"""A deadline that is passed in an alarm and kept right after one."""
MIGRATION = {"uuid": "m-1", "type": "resize", "status": "migrating", "instance_uuid": "i-1"}

Send = Callable[[TrackerAPI], Any]
SENDS: dict[str, Send] = {
    "cast": lambda api: api.build_failed({}, NODE),
    "call": lambda api: api.get_node({}, NODE),
    "claim": lambda api: api.instance_claim({}, NODE, INSTANCE),
}


# oslo.messaging drops the connection of a send that is abandoned while it connects, without closing it.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def queue(vhost_url: str) -> Queue:
    return declare_queue(vhost_url)


@pytest.fixture
def proxy(rabbitmq: RabbitMQ) -> Iterator[Proxy]:
    with Proxy(rabbitmq.port) as proxy:
        yield proxy


@pytest.fixture
def a_client(
    vhost_url: str, rabbitmq: RabbitMQ, queue: Queue, proxy: Proxy
) -> Iterator[Callable[..., TrackerAPI]]:
    """Makes clients, which end before the proxy: a sender that still connects then would try for ever."""
    transports: list[Any] = []

    def make(port: int | None = None, query: str = "", timeout: float = 1, **settings: Any) -> TrackerAPI:
        url = f"{vhost_url}?amqp_durable_queues=true{query}"
        url = url.replace(f":{rabbitmq.port}/", f":{port or rabbitmq.port}/")
        transports.append(oslo_messaging.get_rpc_transport(cfg.CONF, url=url, allowed_remote_exmods=EXMODS))
        return TrackerAPI(transports[-1], partitions=1, timeout=timeout, **settings)

    yield make
    for transport in transports:
        transport.cleanup()
    gc.collect()  # So that such a socket is not found in a test of another module.


def taken(vhost_url: str, queue: Queue, count: int) -> list[tuple[str, str]]:
    """Method and event id of what is in the queue, once there are so many."""
    with connected(vhost_url) as connection:
        until(lambda: depth(connection, queue.name) >= count, "not all has come")
        bound = queue(connection.default_channel)
        found = []
        while message := bound.get(no_ack=True):
            inner = oslo_messaging._drivers.common.deserialize_msg(message.decode())
            found.append((inner["method"], inner["args"]["event_id"]))
        return found


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_an_alarm_is_an_error_that_names_the_event_while_it_lasts(
    a_client: Callable[..., TrackerAPI], rabbitmq: RabbitMQ, send: Send
) -> None:
    api = a_client()
    api.build_failed({}, NODE)
    with alarm(rabbitmq), pytest.raises(TrackerUnavailable, match="memory or disk alarm") as caught:
        send(api)
    assert caught.value.event_id and caught.value.event_id in str(caught.value)


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_a_broker_that_is_silently_gone_is_an_error_too(
    a_client: Callable[..., TrackerAPI], proxy: Proxy, send: Send
) -> None:
    api = a_client(proxy.port)
    api.build_failed({}, NODE)
    proxy.freeze()
    with pytest.raises(TrackerUnavailable, match="can be reached"):
        send(api)
    proxy.thaw()


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_a_first_connection_that_is_never_answered_is_an_error_too(
    a_client: Callable[..., TrackerAPI], proxy: Proxy, send: Send
) -> None:
    api = a_client(proxy.port)
    proxy.freeze()
    with pytest.raises(TrackerUnavailable, match="can be reached"):
        send(api)
    proxy.thaw()


def test_nothing_overtakes_what_is_overdue(
    a_client: Callable[..., TrackerAPI], rabbitmq: RabbitMQ, vhost_url: str, queue: Queue
) -> None:
    api = a_client(timeout=SECONDS)
    with alarm(rabbitmq):
        with pytest.raises(TrackerUnavailable, match="and still may") as overdue:
            api.build_failed({}, NODE)
        with pytest.raises(TrackerUnavailable, match="was not sent") as unsent:
            api.build_succeeded({}, NODE)
    api.set_service_status({}, NODE, disabled=True)
    api.cast({}, "build_succeeded", NODE, event_id=unsent.value.event_id)
    first, second, third = taken(vhost_url, queue, 3)
    assert first == ("build_failed", overdue.value.event_id)
    assert second[0] == "set_service_status"
    assert third == ("build_succeeded", unsent.value.event_id)


CLAIMS = {
    "abort_instance_claim": lambda api: api.instance_claim({}, NODE, INSTANCE),
    "drop_move_claim": lambda api: api.resize_claim({}, NODE, INSTANCE, {}, MIGRATION),
}


@pytest.mark.parametrize("undo", CLAIMS)
def test_a_claim_that_is_confirmed_too_late_is_undone_before_anything_else(
    a_client: Callable[..., TrackerAPI], rabbitmq: RabbitMQ, vhost_url: str, queue: Queue, undo: str
) -> None:
    api = a_client(timeout=SECONDS)
    api.build_failed({}, NODE)
    with alarm(rabbitmq), pytest.raises(TrackerUnavailable) as overdue:
        CLAIMS[undo](api)
    api.build_succeeded({}, NODE)
    found = taken(vhost_url, queue, 4)
    assert [method for method, _ in found][2:] == [undo, "build_succeeded"]
    assert found[1][1] == overdue.value.event_id


def test_a_claim_in_an_alarm_leaves_one_copy_of_itself(
    a_client: Callable[..., TrackerAPI], rabbitmq: RabbitMQ, vhost_url: str, queue: Queue
) -> None:
    """A driver that gave its connection up would publish it again, and the copies would come in any order."""
    api = a_client(timeout=1)
    api.build_failed({}, NODE)
    with alarm(rabbitmq):
        with pytest.raises(TrackerUnavailable):
            api.instance_claim({}, NODE, INSTANCE)
        for _ in range(3):
            with pytest.raises(TrackerUnavailable, match="was not sent"):
                api.build_failed({}, NODE)
    assert [method for method, _ in taken(vhost_url, queue, 3)] == [
        "build_failed",
        "instance_claim",
        "abort_instance_claim",
    ]


def test_threads_that_a_broker_holds_are_as_few_as_its_connections(
    a_client: Callable[..., TrackerAPI], rabbitmq: RabbitMQ
) -> None:
    api = a_client(query="&rpc_conn_pool_size=3")
    api.build_failed({}, NODE)
    errors: list[Exception] = []
    before = set(threading.enumerate())

    def cast() -> None:
        try:
            api.build_failed({}, NODE)
        except TrackerUnavailable as error:
            errors.append(error)

    with alarm(rabbitmq):
        callers = [threading.Thread(target=cast) for _ in range(12)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        held = [each for each in threading.enumerate() if each.name == "tracker-sender"]
    assert len(errors) == 12
    assert 0 < len(set(held) - before) <= 3


PROGRAM = """
import sys
if sys.argv[2] == "eventlet":
    import eventlet
    eventlet.monkey_patch()
import tracker_worker.cmd
from oslo_config import cfg
from tracker_worker.exceptions import TrackerUnavailable
from tracker_worker.rpcapi import TrackerAPI
api = TrackerAPI.from_conf(cfg.CONF, sys.argv[1], partitions=1, timeout=2)
api.build_failed({}, "compute1")
print("cast", flush=True)
sys.stdin.readline()
for send in (api.build_failed, api.get_node):
    try:
        send({}, "compute1")
    except TrackerUnavailable:
        print("unavailable", flush=True)
"""


@pytest.mark.parametrize("threads", ["native", "eventlet"])
def test_a_process_ends_while_the_broker_holds_what_it_sent(
    vhost_url: str, rabbitmq: RabbitMQ, queue: Queue, proxy: Proxy, threads: str
) -> None:
    url = f"{vhost_url}?amqp_durable_queues=true".replace(f":{rabbitmq.port}/", f":{proxy.port}/")
    program = PROGRAM if threads == "native" else PROGRAM.replace("import tracker_worker.cmd\n", "")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, url, threads],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == "cast\n", process.stderr.read()
        proxy.freeze()
        said, _ = process.communicate("\n", timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (said, process.returncode) == ("unavailable\nunavailable\n", 0)
    proxy.thaw()
