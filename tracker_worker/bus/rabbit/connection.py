# SPDX-License-Identifier: Apache-2.0
"""Connections to RabbitMQ, made from oslo.messaging's own options: operators configure one thing once."""

import socket
from collections.abc import Callable
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
"""What a lost or refused connection, or a channel that the broker closed, is raised as."""

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 5.0
"""Longest pause between connections. A larger rabbit_interval_max spares clients in their thousands the rush;
a worker is alone, and what waits for it waits longer the longer the broker was away."""
CLOSE_SECONDS = 1.0
DEFAULT_HEARTBEAT = 60
"""Seconds, in place of a heartbeat, where there is none."""


class BrokerSettings(Struct, frozen=True):
    """How to reach a broker. `urls` hold the password, so it has no other text than `name`.

    `tls` is what `tls.parameters` returns, None for plain TCP. `heartbeat` in seconds, 0 for none;
    `retry_initial` and `retry_max` are seconds between connections. `durable`, `auto_delete` and
    `queue_arguments` are those of the exchange and queues that notifiers share.
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

    Raises ValueError, in words, where files or versions of TLS cannot be used.
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
    """Return one host of a transport_url as it stands in kombu's URLs; guest is what oslo.messaging takes."""
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
    """Return an open connection, to the first host that takes it, listed there as `tracker-worker <purpose>`.

    `blocked` is called with the broker's reason when it stops taking what is published, and with None when
    it takes it again. `bodies` decides which deliveries are taken, by default all. No wait for the broker is
    longer than the heartbeat. Raises CONNECTION_ERRORS. The connection belongs to one thread.
    """
    options: dict[str, Any] = {
        "client_properties": {"connection_name": f"tracker-worker {purpose}"},
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
            # Not through kombu's own connection: that makes a new one behind our back when it is lost.
            connection = host.transport.establish_connection()
            _limit_waits(connection, settings.heartbeat or DEFAULT_HEARTBEAT)
            if blocked is not None:
                report_blocked(connection, blocked)
            return connection
        except CONNECTION_ERRORS as error:
            failure = tls.explained(error, hostname, port, tls=settings.tls is not None)
    raise failure


def _limit_waits(connection: amqp.Connection, seconds: float) -> None:
    """Let no peer that stands still hold a thread: not while it reads, writes or waits for an answer."""
    connection.sock.settimeout(seconds)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def close_connection(connection: amqp.Connection) -> None:
    """Close a connection, whatever state it is in, and wait a second at most for the broker."""
    if not connection.connected:
        connection.collect()
        return
    try:
        connection.sock.settimeout(CLOSE_SECONDS)
        connection.close()
    except CONNECTION_ERRORS:
        connection.collect()
