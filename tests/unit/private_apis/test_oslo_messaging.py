# SPDX-License-Identifier: Apache-2.0
"""What is private to oslo.messaging and used is as it was read."""

import queue
import threading
from pkgutil import resolve_name
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging._drivers import amqpdriver, base, common, impl_fake, pool

from tests.unit.private_apis.pins import Library
from tracker_worker.private_apis.oslo_messaging import (
    CallReplies,
    InterposedTransport,
    UndispatchedServer,
    rabbit_driver_of,
    reply_queue_of,
    tls_versions,
    url_of,
)

OSLO_MESSAGING = Library("oslo.messaging", "oslo_messaging")
SECONDS = 20
TARGET = oslo_messaging.Target(exchange="private-apis", topic="topic", server="server")


def a_transport(url: str) -> Any:
    """A transport; none of the drivers connects before it is used. oslo.messaging has options in cfg.CONF."""
    return oslo_messaging.get_rpc_transport(cfg.CONF, url=url)


SEND = "self target ctxt message wait_for_reply= timeout= call_monitor_timeout= retry= transport_options="


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_drivers.impl_rabbit:_get_queue_arguments",
         "rabbit_ha_queues rabbit_queue_ttl rabbit_quorum_queue rabbit_quorum_queue_config "
         "rabbit_stream_fanout"),
        ("_drivers.impl_rabbit:QuorumMemConfig", "delivery_limit max_memory_length max_memory_bytes"),
        ("_drivers.common:ConfigOptsProxy", "conf url group"),
        ("_drivers.amqpdriver:AMQPDriverBase.send", SEND),
        ("_drivers.amqpdriver:AMQPDriverBase._get_reply_q", "self"),
        ("_drivers.amqpdriver:ReplyWaiter.listen", "self msg_id"),
        ("_drivers.amqpdriver:ReplyWaiter.wait", "self msg_id timeout call_monitor_timeout reply_q"),
        ("_drivers.amqpdriver:ReplyWaiter.unlisten", "self msg_id"),
        ("_drivers.pool:ConnectionPool.create", "self purpose= retry="),
        ("transport:Transport._send", SEND),
        ("transport:Transport._send_notification", "self target ctxt message version retry="),
        ("server:MessageHandlingServer._on_incoming", "self incoming"),
        ("server:MessageHandlingServer._process_incoming", "self incoming"),
        ("rpc.server:RPCServer._create_listener", "self"),
        ("notify.listener:NotificationServer._process_incoming", "self incoming"),
    ],
)  # fmt: skip
def test_private_function_takes_what_it_is_given(name: str, parameters: str) -> None:
    OSLO_MESSAGING.takes(f"oslo_messaging.{name}", parameters)


@pytest.mark.parametrize(
    ("name", "option"),
    [("transport:_transport_opts", "transport_url"), ("notify.notifier:_notifier_opts", "driver")],
)
def test_option_with_a_default_of_ours_is_in_its_private_list(name: str, option: str) -> None:
    options = {each.dest for each in resolve_name(f"oslo_messaging.{name}")}
    OSLO_MESSAGING.has(f"the options in {name}", options & {option}, {option})


def test_versions_of_tls_are_in_lower_case() -> None:
    found = "tlsv1_2" in tls_versions() and all(name == name.lower() for name in tls_versions())
    OSLO_MESSAGING.has("the keys of _SSL_PROTOCOLS", found, True)


@pytest.mark.parametrize(("url", "is_rabbit"), [("rabbit://", True), ("kombu+memory://", False)])
def test_driver_of_rabbitmq_is_told_from_others(url: str, is_rabbit: bool) -> None:
    assert (rabbit_driver_of(a_transport(url)) is not None) == is_rabbit


def test_driver_in_memory_is_not_one_of_rabbitmq() -> None:
    assert rabbit_driver_of(a_transport("fake://")) is None


def test_hosts_have_the_credentials_of_the_url() -> None:
    (host,) = url_of(a_transport("rabbit://user:password@host:5/")).hosts
    found = (host.username, host.password, host.hostname, host.port)
    OSLO_MESSAGING.has("_driver._url of a transport", found, ("user", "password", "host", 5))


def test_driver_has_the_attributes_of_calls_and_connections() -> None:
    driver = rabbit_driver_of(a_transport("rabbit://"))
    known = {"_reply_q": type(None), "_waiter": type(None), "_connection_pool": pool.ConnectionPool}
    found = {name: type(value) for name, value in vars(driver).items() if name in known}
    OSLO_MESSAGING.has("what a new driver has", found, known)
    replies = CallReplies(driver)
    assert not replies.is_open
    driver._reply_q = "reply_1"
    assert replies.is_open and replies.queue() == "reply_1"


def test_connection_that_listens_is_told_from_one_that_sends() -> None:
    """The driver starts a thread for the heartbeat of the latter."""
    OSLO_MESSAGING.has("PURPOSE_LISTEN", common.PURPOSE_LISTEN, "listen")
    OSLO_MESSAGING.has("PURPOSE_SEND", common.PURPOSE_SEND, "send")


def test_client_sends_through_what_is_interposed() -> None:
    sent = []

    class Noting(InterposedTransport):
        def send(
            self,
            target: oslo_messaging.Target,
            _ctxt: dict[str, Any],
            message: dict[str, Any],
            wait_for_reply: bool | None = None,
            timeout: float | None = None,
            **_how: Any,
        ) -> str:
            sent.append((target.server, message["method"], wait_for_reply, timeout))
            return "reply"

    driver = rabbit_driver_of(a_transport("rabbit://"))
    client = oslo_messaging.get_rpc_client(Noting(driver), TARGET, timeout=7)
    client.cast({}, "one")
    assert client.call({}, "two") == "reply"
    known = [("server", "one", None, None), ("server", "two", True, 7)]
    OSLO_MESSAGING.has("how RPCClient sends", sent, known)


def test_server_hands_messages_on_in_order_on_the_listener_s_thread() -> None:
    """On the real fake driver; what is called tells its sender from what is cast."""
    transport = a_transport("fake://")
    taken: queue.SimpleQueue[tuple[Any, int]] = queue.SimpleQueue()
    wrapped = []

    def wrap(listener: Any) -> Any:
        wrapped.append(type(listener))
        return listener

    server = oslo_messaging.get_rpc_server(
        transport,
        TARGET,
        endpoints=[],
        server_cls=lambda *args: UndispatchedServer(
            *args, take=lambda message: taken.put((message, threading.get_ident())), wrap=wrap
        ),
    )
    client = oslo_messaging.get_rpc_client(transport, TARGET, timeout=SECONDS)
    client.cast({}, "one")
    client.cast({}, "two")
    caller = threading.Thread(target=client.call, args=[{}, "three"])
    caller.start()
    server.start()
    try:
        received = [taken.get(timeout=SECONDS) for _ in range(3)]
        received[-1][0].reply("done")
        caller.join(SECONDS)
    finally:
        server.stop()
        server.wait()
    messages = [message for message, _ in received]
    assert [message.message["method"] for message in messages] == ["one", "two", "three"]
    assert len({thread for _, thread in received}) == 1
    assert not caller.is_alive()
    OSLO_MESSAGING.has("the listener of a server", wrapped, [impl_fake.FakeListener])
    waits = [reply_queue_of(message) is not None for message in messages]
    OSLO_MESSAGING.has("_reply_q of the fake driver's messages", waits, [False, False, True])


def test_listener_polls_the_private_one_that_can_be_replaced() -> None:
    class Listener:
        prefetch_size = 1

    made = base.PollStyleListenerAdapter(Listener(), 1, None)
    OSLO_MESSAGING.has("_poll_style_listener", type(made._poll_style_listener), Listener)


def test_message_of_an_amqp_driver_has_its_reply_queue() -> None:
    made = amqpdriver.AMQPIncomingMessage(None, {}, {}, "unique", "id", "reply_1", None, None, None)
    OSLO_MESSAGING.has("reply_q of a driver's messages", reply_queue_of(made), "reply_1")
