# SPDX-License-Identifier: Apache-2.0
"""The uses of oslo.messaging's private API. Checked against the source of oslo.messaging 18.3.1.

The whole package `oslo_messaging._drivers` is private, and so are the attributes of transports, servers and
drivers that begin with an underscore.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging import transport as transports
from oslo_messaging._drivers import impl_rabbit
from oslo_messaging._drivers.common import PURPOSE_LISTEN, ConfigOptsProxy
from oslo_messaging.notify import notifier
from oslo_messaging.rpc.server import RPCServer
from oslo_messaging.transport import RPCTransport

_RABBIT = "oslo_messaging_rabbit"


def set_option_defaults(*, transport_url: str, notification_drivers: list[str]) -> None:
    """Set the defaults of [DEFAULT] transport_url and [oslo_messaging_notifications] driver.

    Private: the lists `_transport_opts` and `_notifier_opts`. The public `set_transport_defaults` sets the
    default of control_exchange alone.
    """
    cfg.set_defaults(transports._transport_opts, transport_url=transport_url)
    cfg.set_defaults(notifier._notifier_opts, driver=notification_drivers)


def register_instrumentation(conf: Any) -> None:
    """Register in `conf` the options of metrics and tracing, which every RPC client and server reads there.

    Private: the modules with these lists, which oslo.messaging registers in cfg.CONF alone. Older releases
    lack one.
    """
    for name in ("metrics", "tracing"):
        group = f"oslo_messaging_{name}"
        with suppress(ImportError):
            module = import_module(f"oslo_messaging._{name}.client")
            conf.register_opts(getattr(module, group), group=group)


def rabbit_options(conf: Any, url: oslo_messaging.TransportURL) -> Any:
    """Return [oslo_messaging_rabbit]; options in the URL's query override it, as in oslo.messaging.

    Private: `ConfigOptsProxy`, through which the drivers read their options.
    """
    return ConfigOptsProxy(conf, url, _RABBIT)[_RABBIT]


def queue_arguments(options: Any) -> dict[str, Any]:
    """Return the arguments with which a notifier with these options declares its queues.

    Private: `_get_queue_arguments` of the RabbitMQ driver. A broker refuses to declare an existing queue with
    other arguments, so that both use the driver's code. `options` are [oslo_messaging_rabbit].
    """
    arguments: dict[str, Any] = impl_rabbit._get_queue_arguments(
        options.rabbit_ha_queues,
        0,
        options.rabbit_quorum_queue,
        impl_rabbit.QuorumMemConfig(
            options.rabbit_quorum_delivery_limit,
            options.rabbit_quorum_max_memory_length,
            options.rabbit_quorum_max_memory_bytes,
        ),
        False,
    )
    return arguments


def tls_versions() -> dict[str, Any]:
    """Return the values of ssl_version, in lower case, with the constant of the module ssl for each.

    Private: `_SSL_PROTOCOLS` of the RabbitMQ driver's connection.
    """
    versions: dict[str, Any] = impl_rabbit.Connection._SSL_PROTOCOLS
    return versions


def rabbit_driver_of(transport: Any) -> Any:
    """Return the driver of a transport to RabbitMQ, None for one of another kind or in memory.

    Private: a transport's `_driver`, the class RabbitDriver and a driver's `_url`. Transports are opaque.
    """
    driver = transport._driver
    in_memory = isinstance(driver, impl_rabbit.RabbitDriver) and driver._url.transport.endswith("+memory")
    return driver if isinstance(driver, impl_rabbit.RabbitDriver) and not in_memory else None


def url_of(transport: Any) -> oslo_messaging.TransportURL:
    """Return the URL of a transport, with the credentials that its driver uses.

    Private: a transport's `_driver` and its `_url`. A transport has no public attribute for the URL, which
    may come from an argument or from the configuration.
    """
    return transport._driver._url


def open_connection(driver: Any, retry: int) -> Any:
    """Open a connection of a RabbitMQ driver, with `retry` retries; its `connection` is kombu's.

    Private: `_connection_pool`, and PURPOSE_LISTEN. A connection for listening has no heartbeat thread, so
    that only the caller uses it. The caller must close it. Raises the driver's errors.
    """
    return driver._connection_pool.create(PURPOSE_LISTEN, retry=retry)


def send_notification(transport: Any, target: oslo_messaging.Target, message: dict[str, Any]) -> None:
    """Send a message of format messagingv2 unchanged, once. Raises oslo.messaging's errors.

    Private: a transport's `_send_notification`. The public Notifier creates a message with a new message id
    for each call, and logs a driver's errors instead of raising them.
    """
    transport._send_notification(target, {}, message, version=2.0, retry=0)


class CallReplies:
    """Receives the replies to calls that were published without the driver's own wait. Any thread.

    Private: a RabbitMQ driver's `_reply_q`, `_get_reply_q` and `_waiter`. The driver's public `send` both
    publishes a call and waits for the reply, with a timeout for the wait only.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @property
    def is_open(self) -> bool:
        """Whether the driver has opened its reply queue."""
        return self._driver._reply_q is not None

    def queue(self) -> str:
        """Return the name of the reply queue. Opens the queue, without a deadline, if there is none."""
        name: str = self._driver._get_reply_q()
        return name

    def expect(self, call_id: str) -> None:
        """Keep the reply to a call from now on. The reply queue must be open."""
        self._driver._waiter.listen(call_id)

    def wait(self, call_id: str, seconds: float, monitor_seconds: float | None, queue: str) -> Any:
        """Return the reply to a call; an exception in the reply is returned, not raised.

        `monitor_seconds` limits the time between two heartbeats of the server. Raises MessagingTimeout.
        """
        return self._driver._waiter.wait(call_id, seconds, monitor_seconds, queue)

    def forget(self, call_id: str) -> None:
        """Discard the reply to a call, also one that arrives later."""
        self._driver._waiter.unlisten(call_id)


class InterposedTransport(RPCTransport):  # type: ignore[misc]
    """A transport for oslo.messaging's RPCClient; a subclass defines the `send` that replaces the driver's.

    Private: `_send`, which RPCClient calls. A custom driver would have to be installed as a plug-in.
    """

    def __init__(self, driver: Any) -> None:
        super().__init__(driver)
        self.driver = driver

    send: Callable[..., Any]
    """Sends a message and returns the reply to a call; it has the arguments of `_send`."""

    def _send(self, target: Any, ctxt: Any, message: dict[str, Any], **how: Any) -> Any:
        return self.send(target, ctxt, message, **how)


class UndispatchedServer(RPCServer):  # type: ignore[misc]
    """An RPC server that passes messages to `take` on its listener's thread, one by one, in order.

    Private: `_on_incoming`, `_process_incoming` and `_create_listener` of servers, and the listener's
    `_poll_style_listener`, which is replaced by what `wrap` returns for it. The public server acknowledges
    a message and calls an endpoint on a pool's thread, in no defined order.
    """

    def __init__(
        self,
        transport: Any,
        target: Any,
        dispatcher: Any,
        executor: Any,
        *,
        take: Callable[[Any], None],
        wrap: Callable[[Any], Any],
    ) -> None:
        super().__init__(transport, target, dispatcher, executor)
        self._take = take
        self._wrap = wrap

    def _create_listener(self) -> Any:
        listener = super()._create_listener()
        listener._poll_style_listener = self._wrap(listener._poll_style_listener)
        return listener

    def _on_incoming(self, incoming: Iterable[Any]) -> None:
        self._process_incoming(incoming)

    def _process_incoming(self, incoming: Iterable[Any]) -> None:
        for message in incoming:
            self._take(message)


def process_on_listener_thread(server: Any) -> None:
    """Have a server or a notification listener call its endpoints on its listener's thread.

    Private: `_on_incoming` and `_process_incoming`. The public server's thread pool does not keep the order,
    and takes a second to shut down. Call it before `start`.
    """
    server._on_incoming = server._process_incoming


def reply_queue_of(message: Any) -> str | None:
    """Return the reply queue of a call, None for a cast.

    Private: `reply_q` of the AMQP drivers' incoming messages, and `_reply_q` of the fake driver's, which is
    no name. oslo.messaging has no public API that distinguishes a call from a cast.
    """
    queue = getattr(message, "reply_q", None) or getattr(message, "_reply_q", None)
    return None if queue is None else str(queue)
