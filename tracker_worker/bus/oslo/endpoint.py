# SPDX-License-Identifier: Apache-2.0
"""The endpoint for transports without acknowledgement, mainly fake://.

It receives commands through oslo.messaging's RPC server, and passes them to the dispatcher in the encoding
that they have on RabbitMQ. Delivery is at most once: a message is acknowledged before it is processed.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import oslo_messaging
from msgspec.structs import replace
from oslo_serialization import jsonutils

from tracker_worker.bus.reply_errors import raised_in_caller
from tracker_worker.bus.state import IngressState
from tracker_worker.core import envelope
from tracker_worker.core.delivery import Answer, EventInbox, EventSink
from tracker_worker.domain.partitions import server_of
from tracker_worker.private_apis.oslo_messaging import UndispatchedServer, reply_queue_of

EAGER_POLL_SECONDS = 0.001
IDLE_POLL_SECONDS = 0.05
EAGER_POLLS = 100


class EndpointDelivery:
    """A message of an oslo.messaging server; `settle` replies to a call and does nothing for a cast."""

    compression = None
    redelivered = False
    live = True
    dead_lettered = None

    def __init__(self, body: bytes, partition: int, received_at: float, incoming: Any) -> None:
        self.body = body
        self.received_at = received_at
        self.partition = partition
        self._incoming = incoming

    def settle(self, answer: Answer) -> None:
        """Reply with the value, or raise the exception in the caller."""
        if isinstance(answer, Exception):
            error = raised_in_caller(answer)
            self._incoming.reply(failure=(type(error), error, error.__traceback__))
        else:
            self._incoming.reply(answer)


class _EagerListener:
    """A poll-style listener with short polls after a message, which drains its queue when it is stopped.

    The fake driver sleeps 50 ms whenever its queue is empty, which delays each call of a caller that sends
    one call after the other. After a message this listener polls with a short timeout, until EAGER_POLLS
    polls in a row are empty. The fake driver also stops at once and leaves queued messages. Here it is
    stopped last, after the messages cast before have been passed on.
    """

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self._eager = 0
        self._stopping = False
        self._refused = False

    def poll(self, **bounds: Any) -> Any:
        """Return the incoming messages, or an empty list after a short timeout."""
        if self._refused:
            return []
        bounds["timeout"] = EAGER_POLL_SECONDS if self._eager else IDLE_POLL_SECONDS
        if self._stopping:
            bounds["timeout"] = 0
        incoming = self._listener.poll(**bounds)
        self._eager = EAGER_POLLS if incoming else max(self._eager - 1, 0)
        return incoming

    def stop(self) -> None:
        """Poll without waiting from now on."""
        self._stopping = True

    def refuse(self) -> None:
        """Receive no more messages. Queued ones stay in the queue."""
        self._refused = True

    def cleanup(self) -> None:
        """Stop the driver's listener."""
        self._listener.stop()
        self._listener.cleanup()


class _Receiver:
    """Passes the messages of one partition to its inbox, on the thread of its listener: a full lane blocks
    the listener.
    """

    def __init__(
        self,
        partition: int,
        inbox: EventInbox,
        new_id: Callable[[], str],
        monotonic: Callable[[], float],
    ) -> None:
        self._partition = partition
        self._inbox = inbox
        self._new_id = new_id
        self._monotonic = monotonic
        self._listener: _EagerListener | None = None

    def wrap(self, listener: Any) -> _EagerListener:
        """Return the listener that replaces the driver's."""
        self._listener = _EagerListener(listener)
        return self._listener

    def take(self, message: Any) -> None:
        """Put a message into the inbox; once that is closed, requeue the message and receive no more."""
        message.acknowledge()
        delivery = EndpointDelivery(self._encode(message), self._partition, self._monotonic(), message)
        if not self._inbox.put(delivery):
            message.requeue()
            assert self._listener is not None
            self._listener.refuse()

    def _encode(self, message: Any) -> bytes:
        # As the RabbitMQ driver serializes it: an id may be a uuid.UUID there, a time a datetime.
        sent = jsonutils.loads(jsonutils.dumps(message.message))
        return envelope.encode_again(
            sent,
            unique_id=getattr(message, "unique_id", None) or self._new_id(),
            request_id=message.ctxt.get("request_id") if isinstance(message.ctxt, dict) else None,
            reply_queue=reply_queue_of(message),
        )


class Endpoint:
    """One server for each partition."""

    def __init__(
        self,
        transport: Any,
        exchange: str,
        topic: str,
        partitions: Iterable[int],
        sink: EventSink,
        new_id: Callable[[], str],
        monotonic: Callable[[], float],
    ) -> None:
        self._servers = []
        self._monotonic = monotonic
        self._partitions = frozenset(partitions)
        now = monotonic()
        self._state = IngressState(at=now, since=now, connected=False)
        for partition in partitions:
            receiver = _Receiver(partition, sink.inbox(partition), new_id, monotonic)
            self._servers.append(
                oslo_messaging.get_rpc_server(
                    transport,
                    oslo_messaging.Target(exchange=exchange, topic=topic, server=server_of(partition)),
                    endpoints=[],
                    server_cls=partial(UndispatchedServer, take=receiver.take, wrap=receiver.wrap),
                )
            )

    @property
    def state(self) -> IngressState:
        """What the endpoint is doing. oslo.messaging does not tell whether it is connected. Any thread."""
        return replace(self._state, at=self._monotonic())

    def start(self) -> None:
        """Start taking messages."""
        now = self._monotonic()
        consumed = self._partitions
        self._state = IngressState(at=now, since=now, connected=True, partitions=consumed, active=consumed)
        for server in self._servers:
            server.start(override_pool_size=1)

    def stop(self) -> None:
        """Stop receiving; return once every message received is in its inbox."""
        for server in self._servers:
            server.stop()
        for server in self._servers:
            server.wait()

    def close(self, _timeout: float) -> bool:
        """Return True at once: the lanes send the replies."""
        return True
