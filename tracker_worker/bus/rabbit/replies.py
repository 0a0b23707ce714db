# SPDX-License-Identifier: Apache-2.0
"""Sends replies to calls over RabbitMQ once, without confirm or retry: the caller has a timeout."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import amqp
import msgspec
from amqp import spec
from msgspec import Struct

from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings
from tracker_worker.bus.rabbit.publish_connection import PublishConnection
from tracker_worker.bus.rabbit.publish_frames import OutgoingMessage, in_writes
from tracker_worker.bus.reply_errors import raised_in_caller
from tracker_worker.core.compression import decompress
from tracker_worker.core.delivery import Answer, BodyDigest
from tracker_worker.core.envelope import (
    REPLY_QUEUE_PREFIX,
    Caller,
    caller_of,
    encode_heartbeat,
    encode_reply,
)
from tracker_worker.core.stats import Stats
from tracker_worker.domain.errors import BadMessage

LOG = logging.getLogger(__name__)

MAX_QUEUE_BYTES = 255
"""AMQP's limit for the length of a routing key."""
LEAST_MONITOR_TIMEOUT = 2.0
"""Seconds. oslo.messaging's servers send no heartbeats to callers with a shorter call_monitor_timeout."""


class Reply(Struct, frozen=True):
    """A reply, and the reply queue of its caller."""

    queue: str
    body: bytes


class Heartbeat(Struct, frozen=True):
    """A message to be sent to the caller every `interval` seconds until the reply."""

    reply: Reply
    interval: float


_seconds = msgspec.json.Decoder(float)


def is_call(body: bytes | BodyDigest, compression: str | None = None) -> bool:
    """Tell whether an oslo.messaging client waits for a reply to this message."""
    return _caller_of(body, compression) is not None


def reply_to(body: bytes | BodyDigest, answer: Answer, compression: str | None = None) -> Reply | None:
    """Return the reply to a message; None if it is no call, or its body was too large.

    A compressed body is decompressed a second time here, because a waiting delivery keeps the received bytes.
    """
    caller = _caller_of(body, compression)
    if caller is None:
        return None
    failure: str | None = None
    result: dict[str, Any] | str | None = None
    if isinstance(answer, Exception):
        failure = _failure(raised_in_caller(answer))
    else:
        result = answer
    return Reply(caller.queue, encode_reply(caller.call_id, result, failure))


def heartbeat_for(body: bytes | BodyDigest, compression: str | None = None) -> Heartbeat | None:
    """Return the heartbeat that the caller of this message asks for with oslo.messaging's
    call_monitor_timeout; None where it asks for none.
    """
    caller = _caller_of(body, compression)
    if caller is None:
        return None
    try:
        timeout = _seconds.decode(caller.monitor_timeout)
    except msgspec.DecodeError:
        return None
    if timeout < LEAST_MONITOR_TIMEOUT:
        return None
    return Heartbeat(Reply(caller.queue, encode_heartbeat(caller.call_id)), timeout / 2)


def _failure(error: Exception) -> str:
    """Return an exception as oslo.messaging deserializes it, without the worker's traceback."""
    kind = type(error)
    failure = {
        "class": kind.__name__,
        "module": kind.__module__,
        "message": str(error),
        "tb": [],
        "args": error.args,
        "kwargs": {},
    }
    return msgspec.json.encode(failure).decode()


def _caller_of(body: bytes | BodyDigest, compression: str | None) -> Caller | None:
    """Return the caller of a message; None unless its reply queue has a name as oslo.messaging makes it."""
    if isinstance(body, BodyDigest):
        return None
    try:
        caller = caller_of(decompress(body, compression))
    except BadMessage:
        return None
    if caller is None:
        return None
    fits = len(caller.queue.encode(errors="replace")) <= MAX_QUEUE_BYTES
    return caller if fits and caller.queue.startswith(REPLY_QUEUE_PREFIX) else None


class Replies:
    """Sends replies on its own connection, opened with the first probe. A broker with a memory alarm stops
    reading from connections that publish; acknowledgements, on the consumer's connection, must get through.

    Belongs to the consumer's thread, which must not wait here for long: after an error it reconnects with
    back-off, not for every reply. `monotonic` is a clock in seconds that is never set back.
    """

    def __init__(self, settings: BrokerSettings, monotonic: Callable[[], float], stats: Stats) -> None:
        self._settings = settings
        self._connection = PublishConnection(settings, "replies", self._prepare)
        self._probes: Any = None
        self._pause = settings.retry_initial
        self._open_again_at = 0.0
        self._monotonic = monotonic
        self._stats = stats

    def send(self, replies: Iterable[Reply]) -> None:
        """Send replies, or count them as lost. Whether the broker has an alarm is known before each write."""
        messages = (OutgoingMessage("", reply.queue, reply.body) for reply in replies)
        for together in in_writes(messages):
            if error := self._attempt(partial(self._connection.publish, together)):
                self._lose(len(together), error)

    def send_heartbeat(self, heartbeat: Reply) -> None:
        """Send a heartbeat. A lost one is not counted: the next one, or the reply, follows."""
        message = OutgoingMessage("", heartbeat.queue, heartbeat.body, mandatory=False)
        self._attempt(partial(self._connection.publish, [message]))

    def probe(self) -> None:
        """Publish, and roll that back: the broker tells a connection of an alarm once it publishes.

        `alarm` has the answer soon after, once `keep_alive` has read it. Without the rollback the broker
        would count a message that was dropped as unroutable, for which operators have alerts.
        """
        self._attempt(self._publish_in_vain)

    @property
    def alarm(self) -> str | None:
        """Why the broker takes no messages, in its own words; None while it takes them."""
        return self._connection.alarm

    def _publish_in_vain(self) -> None:
        self._connection.channel()
        self._probes.basic_publish(amqp.Message(b""), exchange="", routing_key=REPLY_QUEUE_PREFIX)
        # Not its tx_rollback, which waits for the answer: a broker with an alarm sends none.
        self._probes.send_method(spec.Tx.Rollback)

    def _attempt(self, publish: Callable[[], None]) -> str | None:
        """Publish on this connection; return the reason if that is not possible, else None."""
        if self.alarm is not None or self._monotonic() < self._open_again_at:
            return "the broker does not take it"
        try:
            publish()
        except CONNECTION_ERRORS as error:
            self._connection.close()
            self._open_again_at = self._monotonic() + self._pause
            self._pause = min(self._pause * 2, self._settings.retry_max)
            return type(error).__name__
        return None

    def keep_alive(self) -> None:
        """Process the messages that the broker returned, and keep the connection alive. Call it often."""
        self._connection.keep_alive()

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._connection.close()

    def _prepare(self, channel: Any) -> None:
        self._probes = self._connection.another_channel()
        self._probes.tx_select()
        self._pause = self._settings.retry_initial
        channel.events["basic_return"].add(self._returned)

    def _returned(self, _error: object, _exchange: str, _queue: str, _message: object) -> None:
        self._lose(1, "its caller is gone")

    def _lose(self, count: int, why: str) -> None:
        self._stats.lost_replies += count
        LOG.info("Replies lost, %d: %s; %d since the start", count, why, self._stats.lost_replies)
