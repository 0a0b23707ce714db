# SPDX-License-Identifier: Apache-2.0
"""Sends a client's commands to the workers' queues, with a deadline, and errors that name the way out."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import amqp
import oslo_messaging
from kombu.compression import get_encoder
from kombu.exceptions import OperationalError

from tracker_worker.client.sending import BoundedTransport, DeadlineExceeded
from tracker_worker.client.transport import URL_OPTION
from tracker_worker.domain.commands import VERSION
from tracker_worker.domain.compressions import ALIASES, Compression
from tracker_worker.domain.partitions import TOPIC, partition_of, server_of
from tracker_worker.exceptions import (
    NoWorker,
    QueuesNotDurable,
    TrackerUnavailable,
    UnsupportedCompression,
    WrongPartition,
)
from tracker_worker.private_apis.oslo_messaging import (
    CallReplies,
    open_connection,
    rabbit_driver_of,
    register_instrumentation,
)

Json = dict[str, Any]


class Link:
    """Sends commands to the queues of their nodes' partitions. Any thread.

    `timeout`, in seconds, covers the publish, the broker's confirm and the reply of a call. Raises
    QueuesNotDurable if the broker would lose confirmed commands or refuse all commands, and
    UnsupportedCompression if no worker could decompress them. `new_id` makes ids of calls, `monotonic` is a
    clock in seconds that is never set back. Errors name `url_option` as the place of the broker's URL and of
    options behind its ?, if the client has an option of its own for it.
    """

    def __init__(
        self,
        transport: Any,
        exchange: str,
        partitions: int,
        timeout: float,
        retry: int,
        new_id: Callable[[], str],
        monotonic: Callable[[], float],
        url_option: str | None = None,
    ) -> None:
        self._url_option = url_option or URL_OPTION
        self._exchange = exchange
        self._partitions = partitions
        self._timeout = timeout
        self._retry = retry
        register_instrumentation(transport.conf)
        self._rabbit = rabbit_driver_of(transport)
        self._bounded: BoundedTransport | None = None
        self._partitions_agree = False
        if self._rabbit is not None:
            options = self._rabbit.conf.oslo_messaging_rabbit
            _require_durable(options, url_option)
            _require_readable(options.kombu_compression, url_option)
            self._bounded = BoundedTransport(self._rabbit, timeout, self._prepare, new_id, monotonic)
        self._unbounded_client = self._client_on(transport)
        self._client = self._client_on(self._bounded or transport)

    def within(self, seconds: float) -> Self:
        """Return this link with a timeout for calls that is no longer than `seconds`."""
        bounded = copy.copy(self)
        bounded._timeout = min(seconds, self._timeout)
        return bounded

    def call(self, context: Any, method: str, args: Json, undo: Callable[[], None] | None = None) -> Json:
        """Send a command and return its reply. Raises MessagingTimeout and what `cast` raises.

        `undo` is called on a sender thread when a send that missed the deadline has ended.
        """
        client = self._client
        if undo is not None and self._bounded is not None:
            client = self._client_on(self._bounded.undone_by(undo))
        with self._errors(method, args):
            bounded = client.prepare(server=self._server(args), timeout=self._timeout)
            reply: Json = bounded.call(_plain(context), method, **args)
            return reply

    def cast(self, context: Any, method: str, args: Json, within: float | None = None) -> None:
        """Send a command and wait for the confirm. Raises TrackerUnavailable, NoWorker, WrongPartition.

        `within` overrides the deadline, in seconds.
        """
        client = self._client
        if within is not None and self._bounded is not None:
            client = self._client_on(self._bounded.within(within))
        with self._errors(method, args):
            client.prepare(server=self._server(args)).cast(_plain(context), method, **args)

    def cast_behind(self, context: Any, method: str, args: Json) -> None:
        """Send a command from `undo`, before any other command to its partition. No deadline."""
        with self._errors(method, args):
            client = self._unbounded_client.prepare(server=self._server(args))
            client.cast(_plain(context), method, **args)

    def _client_on(self, transport: Any) -> Any:
        return oslo_messaging.get_rpc_client(
            transport,
            oslo_messaging.Target(exchange=self._exchange, topic=TOPIC, version=VERSION),
            timeout=self._timeout,
            retry=self._retry,
            # fake:// passes arguments by reference, and the caller may change them after a cast.
            serializer=None if self._rabbit else oslo_messaging.JsonPayloadSerializer(),
            transport_options=oslo_messaging.TransportOptions(at_least_once=True),
        )

    def _server(self, args: Json) -> str:
        return server_of(partition_of(args["node"], self._partitions))

    @contextmanager
    def _errors(self, method: str, args: Json) -> Iterator[None]:
        """Translate oslo.messaging's and kombu's errors to the client's, with the event and the way out."""
        where = f"queue {TOPIC}.{self._server(args)} of exchange {self._exchange}"
        what = f"{method} (event {args['event_id']}) for {where}"
        try:
            yield
        except TrackerUnavailable as error:
            error.event_id = args["event_id"]
            raise
        except oslo_messaging.MessageUndeliverable as error:
            raise NoWorker(
                f"There is no {where}: start a worker with the client's exchange and partitions ([bus])",
                args["event_id"],
            ) from error
        except DeadlineExceeded as error:
            raise TrackerUnavailable(
                f"The broker did not confirm {what} in {self._timeout:g} s, and still may: see that it has "
                "no memory or disk alarm and can be reached"
                if error.sent
                else f"{what} was not sent: what was sent there before is still not confirmed by the broker",
                args["event_id"],
            ) from None
        except (oslo_messaging.MessageDeliveryFailure, OperationalError, amqp.AMQPError, OSError) as error:
            raise TrackerUnavailable(
                f"The broker did not confirm {what} in {self._retry + 1} attempts ({error}): "
                f"see that it runs and that {self._url_option} names it",
                args["event_id"],
            ) from error

    def _prepare(self, is_call: bool) -> None:
        """Connect before the first send, and compare partitions with the broker's queues. Sender threads.

        Connect before the first call too: oslo.messaging opens its reply queue, once, without a deadline.
        """
        assert self._rabbit is not None
        if self._partitions_agree and not (is_call and not CallReplies(self._rabbit).is_open):
            return
        connection = open_connection(self._rabbit, self._retry)
        try:
            if not self._partitions_agree:
                self._compare_partitions(connection.connection)
                self._partitions_agree = True
        finally:
            connection.close()

    def _compare_partitions(self, connection: Any) -> None:
        """Check that the queue of the last partition exists and that of a further one does not.

        Raises WrongPartition, or NoWorker if no worker has ever run.
        """
        first, last, beyond = (
            f"{self._exchange}.{server_of(n)}" for n in (0, self._partitions - 1, self._partitions)
        )
        ours = f"this client has partitions = {self._partitions}"
        way_out = "give TrackerAPI and all workers ([bus] partitions) the same number"
        if _exists(connection, beyond):
            raise WrongPartition(
                f"There is a queue {beyond}, but {ours}: {way_out}. If a larger number left the queue "
                f"behind, delete it: rabbitmqctl delete_queue -p {connection.virtual_host} {beyond}"
            )
        if not _exists(connection, last):
            if last != first and _exists(connection, first):
                raise WrongPartition(f"There is a queue {first} and no queue {last}, but {ours}: {way_out}")
            raise NoWorker(
                f"There is no queue {last} of exchange {self._exchange}: "
                "start a worker with the client's exchange and partitions ([bus])"
            )


def _exists(connection: Any, queue: str) -> bool:
    channel = connection.channel()  # The broker closes it if the queue is missing.
    try:
        channel.queue_declare(queue, passive=True)
    except amqp.NotFound as error:
        # A cluster also answers NOT_FOUND for an existing queue whose node is down.
        return "is down or inaccessible" in str(error.reply_text)
    channel.close()
    return True


def _plain(context: Any) -> Json:
    """Return the part of a context that is sent, the request id: no token leaves the process."""
    plain = context if isinstance(context, dict) else context.to_dict()
    return {"request_id": plain["request_id"]} if plain.get("request_id") else {}


def _require_durable(options: Any, url_option: str | None) -> None:
    if options.amqp_auto_delete:
        way_out = _in_url(url_option, "amqp_auto_delete=false")
        raise QueuesNotDurable(
            f"{way_out or 'Unset amqp_auto_delete in [oslo_messaging_rabbit]'}: the workers' exchange stays "
            "when its queues are gone, and the broker refuses a client that declares it otherwise"
        )
    if not (options.amqp_durable_queues or options.rabbit_quorum_queue):
        way_out = _in_url(url_option, "amqp_durable_queues=true")
        raise QueuesNotDurable(
            f"{way_out or 'Set amqp_durable_queues or rabbit_quorum_queue in [oslo_messaging_rabbit]'}: "
            "the workers' exchange and queues are durable, and the broker refuses a client that declares "
            "them otherwise, or loses its commands when it restarts"
        )


def _in_url(url_option: str | None, parameter: str) -> str | None:
    """Return how to set an option for this client alone, if it has a URL of its own."""
    return url_option and f"Set {url_option} = rabbit://...?{parameter}"


def _require_readable(compression: str | None, url_option: str | None) -> None:
    """Raise UnsupportedCompression for a compression that kombu lacks or that no worker can decompress."""
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
            + (f", behind the ? of {url_option}" if url_option else "")
        )


def _is_available(compression: str) -> bool:
    try:
        get_encoder(compression)
    except KeyError:
        return False
    return True
