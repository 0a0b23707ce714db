# SPDX-License-Identifier: Apache-2.0
"""Inspects the queues of a broker over AMQP and over the management API, without changing any."""

import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import amqp
import requests
from kombu.entity import Exchange, Queue
from msgspec import Struct

from tracker_worker.bus.rabbit.connection import CONSUMER, PRODUCT, BrokerSettings
from tracker_worker.bus.rabbit.queues import Topology, declare, declare_notifications

MANAGEMENT_PORTS = {"http": 15672, "https": 15671}
_URL_FORM = "http://USER:PASSWORD@HOST:15672"
_SECONDS = 10.0
_COLUMNS = (
    "name,messages_unacknowledged,message_stats.ack_details.rate,head_message_timestamp,"
    "effective_policy_definition,arguments"
)
_LIMITS = frozenset(["max-length", "max-length-bytes", "message-ttl", "expires"])
"""What bounds a queue, as arguments (with the prefix x-) or in a policy."""
_ALARMS = {"mem_alarm": "memory", "disk_free_alarm": "disk"}
"""What a node is low on, by the field of the management API."""


class ManagementUnavailable(Exception):
    """The management API cannot be used. The text is one line with the reason, without the password."""


class QueueDepth(Struct, frozen=True):
    """The current counts of a queue, from AMQP. Both are None if the queue is missing.

    `ready` is the number of messages that wait for a consumer, without the unacknowledged ones.
    """

    queue: str
    ready: int | None
    consumers: int | None


class Activity(Struct):
    """The state of a queue from the management API, which lags by some seconds.

    `active` is the tag of the single active consumer. `oldest` is the time (UTC) of the message that is
    delivered next: classic queues have it, if the broker is configured to stamp messages. `is_bounded`: a
    policy or an argument limits the queue's length or the age of its messages.
    """

    unacknowledged: int | None = 0
    active: str | None = None
    acknowledged_per_second: float | None = None
    oldest: datetime | None = None
    is_bounded: bool = False


class ConsumingWorker(Struct):
    """A worker with consumers, from the management API: `name` is "host:pid", `since` (UTC) its connection's.

    `active` and `standby` are the queues by the state of the worker's consumer.
    """

    name: str
    version: str | None
    since: datetime | None
    active: list[str]
    standby: list[str]


class Activities(Struct, frozen=True):
    """What the management API says of a virtual host: the queues by name, and the workers by name.

    `low_on` is what the broker has alarms for, memory or disk or both; None if the API does not say.
    """

    queues: dict[str, Activity]
    workers: list[ConsumingWorker]
    low_on: list[str] | None = None


class _Standing(Topology, frozen=True):
    """The part of a topology that exists on the broker: the exchange and some of the queues."""

    present: frozenset[str]

    def queues(self) -> list[Any]:
        """The exchange, and the queues that exist. (kombu's Exchange is declared as a Queue is.)"""
        queues = super().queues()
        return [queues[0].exchange, *(queue for queue in queues if queue.name in self.present)]


def depths(connection: amqp.Connection, queues: Iterable[Queue]) -> list[QueueDepth]:
    """Return the depth of every queue. Raises CONNECTION_ERRORS."""
    found = []
    for queue in queues:
        channel = connection.channel()  # The broker closes it if the queue is missing.
        try:
            answer = queue(channel).queue_declare(passive=True)
        except amqp.NotFound:
            found.append(QueueDepth(queue.name, None, None))
            continue
        found.append(QueueDepth(queue.name, answer.message_count, answer.consumer_count))
        channel.close()
    return found


def compare(connection: amqp.Connection, topology: Topology) -> list[str]:
    """Return what is missing, as "exchange 'x'" or "queue 'y'"; declare what exists, which changes nothing.

    Raises TopologyMismatch if that has other arguments, and CONNECTION_ERRORS.
    """
    found = depths(connection, topology.queues())
    present = frozenset(depth.queue for depth in found if depth.ready is not None)
    missing = [f"queue '{depth.queue}'" for depth in found if depth.queue not in present]
    if not _exists(connection, topology.queues()[0].exchange):
        return [f"exchange '{topology.exchange}'", *missing]
    declare(connection, _Standing(topology.exchange, topology.partitions, topology.quorum, present))
    return missing


def compare_notifications(connection: amqp.Connection, queues: Iterable[Queue]) -> None:
    """Compare the notification queues and their exchange with the broker's; create none that is missing.

    Raises TopologyMismatch and CONNECTION_ERRORS.
    """
    for queue in queues:
        if _exists(connection, queue.exchange):
            declare_notifications(queue.exchange, connection.channel())
            if _exists(connection, queue):
                declare_notifications(queue, connection.channel())


def _exists(connection: amqp.Connection, thing: Queue | Exchange) -> bool:
    channel = connection.channel()  # The broker closes it if the queue or exchange is missing.
    try:
        if isinstance(thing, Queue):
            thing(channel).queue_declare(passive=True)
        else:
            thing(channel).declare(passive=True)
    except amqp.NotFound:
        return False
    channel.close()
    return True


def activities(url: str, virtual_host: str, ca_file: str | None = None) -> Activities:
    """Return the activity of every queue and worker of a virtual host, from the management API at `url`.

    The URL contains the user and the password. With https, the server's certificate is verified by `ca_file`,
    by default by the system's CAs. Raises ManagementUnavailable.
    """
    parts, where = _split(url)
    session = requests.Session()
    session.trust_env = False  # Use neither a proxy nor the credentials in ~/.netrc.
    system = ssl.get_default_verify_paths()  # The AMQP connections do not use certifi's CAs either.
    session.verify = ca_file or system.cafile or system.capath or True
    # As bytes, in UTF-8 as over AMQP: requests would send a text in Latin-1, or raise UnicodeEncodeError.
    login = (unquote(each or "guest").encode() for each in (parts.username, parts.password))
    session.auth = requests.auth.HTTPBasicAuth(*login)
    vhost = quote(virtual_host, safe="")
    api = f"{where}{parts.path.rstrip('/')}/api"
    get = partial(_get, session, where, _needs_of_login(parts))
    with session:
        queues = get(f"{api}/queues/{vhost}?columns={_COLUMNS}")
        consumers = get(f"{api}/consumers/{vhost}")
        connections = get(f"{api}/vhosts/{vhost}/connections")
        # Without any of its columns a node would be an empty list.
        nodes = get(f"{api}/nodes?columns={','.join(['name', *_ALARMS])}")
    try:
        return _activities_of(queues, consumers, connections, nodes)
    except (LookupError, TypeError, AttributeError):  # Lists, but of something else.
        raise _not_management(where) from None


def _activities_of(
    queues: list[dict[str, Any]],
    consumers: list[dict[str, Any]],
    connections: list[dict[str, Any]],
    nodes: list[dict[str, Any]],
) -> Activities:
    found = {queue["name"]: activity_of(queue) for queue in queues}
    for consumer in consumers:
        if consumer.get("active"):
            found.setdefault(consumer["queue"]["name"], Activity()).active = consumer["consumer_tag"]
    return Activities(found, consuming_workers(consumers, connections), low_on(nodes))


def low_on(nodes: Iterable[dict[str, Any]]) -> list[str] | None:
    """Return what any node of a cluster has an alarm for: all of them block publishers then.

    None if the management API collects no statistics. A node that is down has none.
    """
    known = [node for node in nodes if not node.keys().isdisjoint(_ALARMS)]
    return (
        [what for field, what in _ALARMS.items() if any(node.get(field) for node in known)] if known else None
    )


def activity_of(queue: dict[str, Any]) -> Activity:
    """Return the activity of a queue, as the management API describes it, without its consumers."""
    rates = queue.get("message_stats") or {}  # Without any of its columns it is an empty list.
    limits = {*(queue.get("effective_policy_definition") or ()), *(queue.get("arguments") or ())}
    return Activity(
        queue.get("messages_unacknowledged", 0),
        acknowledged_per_second=rates.get("ack_details", {}).get("rate"),
        oldest=_time_of(queue.get("head_message_timestamp")),
        is_bounded=bool({limit.removeprefix("x-") for limit in limits} & _LIMITS),
    )


def _time_of(stamp: Any) -> datetime | None:
    """Return the time (UTC) of a message, None without one: the stamp is whatever its publisher chose."""
    try:
        return datetime.fromtimestamp(stamp, UTC).replace(tzinfo=None)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def consuming_workers(
    consumers: Iterable[dict[str, Any]], connections: Iterable[dict[str, Any]]
) -> list[ConsumingWorker]:
    """Return the workers of some consumers, by name. The tag of a worker's consumer is "name.queue"."""
    by_name = {connection.get("name"): connection for connection in connections}
    found: dict[str, ConsumingWorker] = {}
    for consumer in consumers:
        queue, tag = consumer["queue"]["name"], consumer["consumer_tag"]
        connection = by_name.get((consumer.get("channel_details") or {}).get("connection_name"), {})
        properties = connection.get("client_properties") or {}
        if not tag.endswith(f".{queue}") or properties.get("connection_name") != f"{PRODUCT} {CONSUMER}":
            continue
        connected = connection.get("connected_at")
        name = tag.removesuffix(f".{queue}")
        worker = found.setdefault(
            name,
            ConsumingWorker(
                name,
                version=properties.get("product_version") if properties.get("product") == PRODUCT else None,
                since=datetime.fromtimestamp(connected / 1000, UTC).replace(tzinfo=None)
                if connected
                else None,
                active=[],
                standby=[],
            ),
        )
        (worker.active if consumer.get("active") else worker.standby).append(queue)
    return [found[name] for name in sorted(found)]


def _split(url: str) -> tuple[SplitResult, str]:
    """Return a URL's parts, and its scheme, host and port without the user and password."""
    parts = urlsplit(url)
    try:
        default = MANAGEMENT_PORTS[parts.scheme]
        port = parts.port or default
    except (KeyError, ValueError):  # The texts of these errors contain parts of the password.
        raise ManagementUnavailable(f"the URL must look like {_URL_FORM}") from None
    return parts, f"{parts.scheme}://{_in_url(parts.hostname)}:{port}"


def _in_url(hostname: str | None) -> str:
    return f"[{hostname}]" if ":" in (hostname or "") else hostname or "localhost"


def _needs_of_login(parts: SplitResult) -> str:
    """Return what a login that is refused needs. Without a user the API was asked as guest."""
    missing = "user" if not parts.username else "password" if parts.password is None else None
    if missing:
        return f"the URL has no {missing}: write {_URL_FORM}"
    return "it needs the right password and the tag 'monitoring', and permissions on the virtual host"


def _get(session: requests.Session, where: str, needs: str, url: str) -> list[dict[str, Any]]:
    try:
        response = session.get(url, timeout=_SECONDS)
    except requests.Timeout:
        raise ManagementUnavailable(f"{where} does not answer within {_SECONDS:.0f} s") from None
    except requests.exceptions.SSLError:
        raise ManagementUnavailable(
            f"{where}: its certificate is not accepted, or it speaks no TLS"
        ) from None
    except ValueError:  # InvalidURL of requests, LocationParseError of urllib3.
        raise ManagementUnavailable(f"{where} does not answer: its host is no host name") from None
    except requests.RequestException as error:
        raise ManagementUnavailable(f"{where} does not answer{_why_unanswered(error)}") from None
    if response.status_code in (401, 403):
        raise ManagementUnavailable(f"{where} refuses the user ({_reason(response)}): {needs}")
    if response.status_code == 404:
        raise ManagementUnavailable(
            f"{where} answers with status 404: its broker lacks the virtual host of transport_url, or the "
            "URL has the wrong path"
        )
    if response.status_code != 200:
        raise ManagementUnavailable(f"{where} answers with status {response.status_code}")
    return _rows(response, where)


def _why_unanswered(error: BaseException | None) -> str:
    """Return what follows "does not answer": the system's reason, which the errors of requests wrap."""
    while error is not None:
        match error:
            case ConnectionRefusedError(strerror=reason):
                return f": {reason}; the plugin rabbitmq_management listens there once it is enabled"
            case socket.gaierror(strerror=reason):
                return f": no address of its host: {reason}"
            case HTTPException() | ConnectionResetError():
                return " in HTTP: the port is another server's, such as that of AMQP, or needs https"
            case OSError(strerror=str() as reason):
                return f": {reason}"
        error = error.__context__
    return ""


def _rows(response: requests.Response, where: str) -> list[dict[str, Any]]:
    with suppress(ValueError, RecursionError):
        rows = response.json()
        if isinstance(rows, list):
            return rows
    raise _not_management(where)


def _not_management(where: str) -> ManagementUnavailable:
    return ManagementUnavailable(f"{where} is no management API of RabbitMQ: it answers with something else")


def _reason(response: requests.Response) -> str:
    """Return the API's own reason for its refusal."""
    try:
        return str(response.json()["reason"])
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}"


def management_url(settings: BrokerSettings) -> str:
    """Return the default URL of a broker's management API: on its first host, with its user and password."""
    parts = urlsplit(settings.urls[0])
    scheme = "https" if settings.tls else "http"
    credentials, _, _ = parts.netloc.rpartition("@")
    return f"{scheme}://{credentials}@{_in_url(parts.hostname)}:{MANAGEMENT_PORTS[scheme]}"


def ca_file(settings: BrokerSettings) -> str | None:
    """Return the configured CA file that verifies the broker's certificate, or None."""
    return settings.tls.get("ca_certs") if settings.tls is not None else None


def virtual_host(settings: BrokerSettings) -> str:
    """Return the virtual host of a broker's settings."""
    return unquote(urlsplit(settings.urls[0]).path.removeprefix("/"))
