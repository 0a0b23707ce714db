# SPDX-License-Identifier: Apache-2.0
"""A client's way to the workers: the right queue, bounded retries, and errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import oslo_messaging
from kombu.compression import get_encoder
from kombu.exceptions import OperationalError
from oslo_messaging._drivers.impl_rabbit import RabbitDriver

from tracker_worker.domain.commands import VERSION
from tracker_worker.domain.compressions import ALIASES, Compression
from tracker_worker.domain.partitions import partition_of, server_of
from tracker_worker.exceptions import (
    NoWorker,
    QueuesNotDurable,
    TrackerUnavailable,
    UnsupportedCompression,
)

TOPIC = "tracker"

Json = dict[str, Any]


class Link:
    """Sends commands to the queues of their nodes' partitions. Any thread.

    Raises QueuesNotDurable where a broker would forget commands that it has confirmed, and
    UnsupportedCompression where no worker could read them.
    """

    def __init__(self, transport: Any, exchange: str, partitions: int, timeout: int, retry: int) -> None:
        driver = transport._driver
        self._rabbit = driver if isinstance(driver, RabbitDriver) else None
        if self._rabbit is not None:
            _require_durable(self._rabbit)
            _require_readable(self._rabbit.conf.oslo_messaging_rabbit.kombu_compression)
        self._client = oslo_messaging.get_rpc_client(
            transport,
            oslo_messaging.Target(exchange=exchange, topic=TOPIC, version=VERSION),
            timeout=timeout,
            retry=retry,
            # fake:// passes arguments by reference, and their owner may change them after a cast.
            serializer=None if self._rabbit else oslo_messaging.JsonPayloadSerializer(),
            transport_options=oslo_messaging.TransportOptions(at_least_once=True),
        )
        self._exchange = exchange
        self._partitions = partitions
        self._retry = retry

    def call(self, context: Any, method: str, args: Json) -> Json:
        """Send a command and return its reply. Raises MessagingTimeout and what `cast` raises."""
        with self._sending(args["node"]) as client:
            self._connect()
            reply: Json = client.call(_plain(context), method, **args)
            return reply

    def cast(self, context: Any, method: str, args: Json) -> None:
        """Send a command; the broker has it on return. Raises TrackerUnavailable, NoWorker."""
        with self._sending(args["node"]) as client:
            client.cast(_plain(context), method, **args)

    @contextmanager
    def _sending(self, node: str) -> Iterator[Any]:
        """Yield the client of the node's partition; oslo.messaging's and kombu's errors become ours."""
        server = server_of(partition_of(node, self._partitions))
        where = f"queue {TOPIC}.{server} of exchange {self._exchange}"
        try:
            yield self._client.prepare(server=server)
        except oslo_messaging.MessageUndeliverable as error:
            raise NoWorker(
                f"There is no {where}: start a worker with the client's exchange and partitions ([bus])"
            ) from error
        except (oslo_messaging.MessageDeliveryFailure, OperationalError) as error:
            raise TrackerUnavailable(
                f"The broker did not confirm a command for {where} in {self._retry + 1} attempts ({error}): "
                "see that it runs and that [DEFAULT] transport_url names it"
            ) from error

    def _connect(self) -> None:
        """See that there is a broker: oslo.messaging opens its queue of replies, once, without a bound."""
        if self._rabbit is not None and self._rabbit._reply_q is None:
            self._rabbit._connection_pool.create(retry=self._retry).close()


def _plain(context: Any) -> Json:
    """Return what goes on the wire of a context: no token leaves the process."""
    plain = context if isinstance(context, dict) else context.to_dict()
    return {"request_id": plain["request_id"]} if plain.get("request_id") else {}


def _require_durable(driver: Any) -> None:
    options = driver.conf.oslo_messaging_rabbit
    in_memory = driver._url.transport.endswith("+memory")
    if not (in_memory or options.amqp_durable_queues or options.rabbit_quorum_queue):
        raise QueuesNotDurable(
            "Set amqp_durable_queues or rabbit_quorum_queue in [oslo_messaging_rabbit], as the workers have "
            "it: with queues that are not durable the broker loses commands when it restarts"
        )


def _require_readable(compression: str | None) -> None:
    """Raise UnsupportedCompression for a compression that kombu has not, or that no worker reads."""
    if not compression:
        return
    try:
        _, content_type = get_encoder(compression)
    except KeyError:
        content_type = None
    if content_type not in set(Compression):
        names = ", ".join(name for name in ALIASES if _is_available(name))
        raise UnsupportedCompression(
            f"[oslo_messaging_rabbit] kombu_compression = {compression} is none that this client's kombu and "
            f"the workers have: unset it, or set one of {names}"
        )


def _is_available(compression: str) -> bool:
    try:
        get_encoder(compression)
    except KeyError:
        return False
    return True
