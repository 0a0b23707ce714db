# SPDX-License-Identifier: Apache-2.0
"""Connections to RabbitMQ, configured by oslo.messaging's own options, so that operators set them once."""

import socket
from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from urllib.parse import quote, urlsplit

import amqp
import oslo_messaging
from kombu.connection import Connection
from kombu.exceptions import KombuError
from msgspec import Struct

from tracker_worker.bus.rabbit import tls
from tracker_worker.bus.rabbit.frames import BodyFilter
from tracker_worker.private_apis.amqp import report_blocked
from tracker_worker.private_apis.oslo_messaging import queue_arguments

CONNECTION_ERRORS = (amqp.AMQPError, KombuError, OSError)
"""The errors of a lost or refused connection, and of a channel that the broker closed."""

PRODUCT = "tracker-worker"
CONSUMER = "consumer"
"""The purpose of the connection on which a worker consumes."""

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 5.0
"""Longest pause between connection attempts. A larger rabbit_interval_max spreads the reconnects of thousands
of clients. There are only a few workers, and the events in their queues wait for the reconnect."""
CLOSE_SECONDS = 1.0
DEFAULT_HEARTBEAT = 60
"""Limit, in seconds, of waits for the broker if heartbeats are disabled."""


class BrokerSettings(Struct, frozen=True):
    """How to reach a broker. Its repr contains `name` only, because `urls` contain the password.

    `tls` is what `tls.parameters` returns, None for plain TCP. `heartbeat` in seconds, 0 for none;
    `retry_initial` and `retry_max` are seconds between connection attempts. `durable`, `auto_delete` and
    `queue_arguments` apply to the exchange and queues of notifications.
    """

    name: str
    urls: tuple[str, ...]
    tls: dict[str, Any] | None = None
    login_method: str = "AMQPLAIN"
    heartbeat: int = 60
    heartbeat_rate: int = 3
    retry_initial: float = 1.0
    retry_max: float = 30.0
    quorum: bool = False
    durable: bool = False
    auto_delete: bool = False
    queue_arguments: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"BrokerSettings({self.name})"


def broker_settings(url: Any, options: Any) -> BrokerSettings:
    """Return the settings of an oslo.messaging TransportURL and the options `[oslo_messaging_rabbit]`.

    Raises ValueError, which names the option, if a TLS file or version cannot be used.
    """
    vhost = url.virtual_host or "/"
    hosts = url.hosts or [oslo_messaging.TransportHost()]
    names = ",".join(f"{host.hostname or 'localhost'}:{host.port or 5672}" for host in hosts)
    return BrokerSettings(
        name=f"{names} (virtual host {vhost})",
        urls=tuple(f"amqp://{_host(host)}/{quote(vhost, safe='')}" for host in hosts),
        tls=tls.parameters(options) if options.ssl else None,
        login_method=options.rabbit_login_method,
        heartbeat=options.heartbeat_timeout_threshold,
        heartbeat_rate=options.heartbeat_rate,
        retry_initial=min(float(options.rabbit_retry_interval), RETRY_SECONDS),
        retry_max=min(float(options.rabbit_interval_max), RETRY_SECONDS),
        quorum=options.rabbit_quorum_queue,
        durable=options.amqp_durable_queues or options.rabbit_quorum_queue,
        auto_delete=options.amqp_auto_delete,
        queue_arguments=queue_arguments(options),
    )


def _host(host: Any) -> str:
    """Return a host with its credentials for kombu's URL. oslo.messaging's default user is guest too."""
    hostname = host.hostname or "localhost"
    address = f"[{hostname}]" if ":" in hostname else hostname
    user = quote(host.username or "guest", safe="")
    password = quote(host.password or "guest", safe="")
    return f"{user}:{password}@{address}:{host.port or 5672}"


def connect(
    settings: BrokerSettings,
    purpose: str,
    blocked: Callable[[str | None], None] | None = None,
    bodies: BodyFilter | None = None,
) -> amqp.Connection:
    """Open a connection to the first host that accepts it, under the name `tracker-worker <purpose>`.

    The broker shows the name, and this program's version.

    `blocked` is called with the broker's reason when the broker blocks publishers, and with None when it
    unblocks them. `bodies` decides which deliveries are read, by default all. No read or write waits longer
    than the heartbeat. Raises CONNECTION_ERRORS. The connection belongs to one thread.
    """
    options: dict[str, Any] = {
        "client_properties": {
            "connection_name": f"{PRODUCT} {purpose}",
            "product": PRODUCT,
            "product_version": version(PRODUCT),
        },
        "frame_handler": (bodies or BodyFilter()).handler,
    }
    failure: Exception = ConnectionError("no host is configured")
    for url in settings.urls:
        hostname, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        host = Connection(
            url,
            ssl=tls.of_host(settings.tls, hostname),
            login_method=settings.login_method,
            heartbeat=settings.heartbeat,
            connect_timeout=CONNECT_SECONDS,
            transport_options=options,
        )
        try:
            # Not kombu's Connection.connection, which silently reconnects when the connection is lost.
            connection = host.transport.establish_connection()
            _limit_waits(connection, settings.heartbeat or DEFAULT_HEARTBEAT)
            if blocked is not None:
                report_blocked(connection, blocked)
            return connection
        except CONNECTION_ERRORS as error:
            failure = tls.explained(error, hostname, port, tls=settings.tls is not None)
    raise failure


def _limit_waits(connection: amqp.Connection, seconds: float) -> None:
    """Set the timeout of the socket's reads and writes, and TCP's for unacknowledged data."""
    connection.sock.settimeout(seconds)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def close_connection(connection: amqp.Connection) -> None:
    """Close a connection in any state. Waits for the broker for CLOSE_SECONDS at most."""
    if not connection.connected:
        connection.collect()
        return
    try:
        connection.sock.settimeout(CLOSE_SECONDS)
        connection.close()
    except CONNECTION_ERRORS:
        connection.collect()
