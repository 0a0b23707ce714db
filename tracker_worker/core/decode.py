# SPDX-License-Identifier: Apache-2.0
"""Deliveries as far as they can be read: a command, or the error that it is parked for."""

import traceback
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from msgspec import Struct

from tracker_worker.core.compression import decompress
from tracker_worker.core.delivery import BodyDigest, Delivery, OtherQueue
from tracker_worker.core.envelope import (
    PING,
    Envelope,
    digest_of,
    event_id_of,
    names_of,
    open_envelope,
    read_command,
)
from tracker_worker.domain.commands import METHODS, AnyCommand, instance_uuid_of
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.domain.notifications import CausePayload
from tracker_worker.domain.partitions import partition_of


class Event(Struct, frozen=True):
    """A delivery as far as it could be read: a command, or the error that it is parked for.

    `belongs_here` tells that the node named belongs to the partition that the delivery came from: only then
    may this lane change its row. Nothing of a question that cannot be answered needs it.
    """

    delivery: Delivery
    event_id: str
    digest: str
    envelope: Envelope | None
    node: str | None
    belongs_here: bool
    command: AnyCommand | None
    error: BadMessage | None
    size: int = 0
    """Bytes of the body, decompressed."""

    @property
    def method(self) -> str | None:
        """The method asked for, if there is such a one: any other word may be anything."""
        method = None if self.envelope is None else self.envelope.method
        return method if method in METHODS else None

    @property
    def is_ping(self) -> bool:
        """Whether it asks for an answer alone, whatever else is in it: it is never parked."""
        return self.envelope is not None and self.envelope.method == PING

    @property
    def is_question(self) -> bool:
        """Whether it is a call that can change nothing: it is answered, and never parked nor held."""
        return self.envelope is not None and self.envelope.is_question

    @property
    def cause(self) -> CausePayload:
        """The event as notifications name it."""
        uuid = None if self.command is None else instance_uuid_of(self.command)
        request_id = None if self.envelope is None else self.envelope.request_id
        return CausePayload(self.method, self.event_id, request_id, uuid)


def decode_event(delivery: Delivery, partitions: int) -> Event:
    """Decode a delivery. Never raises: what cannot be read becomes an event that is parked."""
    envelope = None
    try:
        came = delivery.body
        body = came if isinstance(came, BodyDigest) else decompress(came, delivery.compression)
        size = len(body) if isinstance(body, bytes) else 0
        envelope = open_envelope(body)
        if envelope.method == PING:
            key = attempts_key(delivery)
            return Event(delivery, key, key, envelope, None, False, None, None, size)
        command = read_command(envelope)
        event_id = event_id_of(envelope, command)
        digest = digest_of(envelope.method, command)
    except BadMessage as error:
        return _invalid_event(delivery, envelope, error, partitions)
    except Exception as error:
        return _invalid_event(delivery, envelope, internal_error(error), partitions)
    belongs_here = partition_of(command.node, partitions) == delivery.partition
    bad = None if belongs_here else _wrong_partition(delivery)
    return Event(delivery, event_id, digest, envelope, command.node, belongs_here, command, bad, size)


def decode_in_windows(
    deliveries: Iterable[Delivery], partitions: int, most_bytes: int
) -> Iterator[list[Event]]:
    """Decode deliveries in order, and yield the events as soon as their decompressed bodies fill a window.

    A batch is taken by the bytes that came: compressed, they may be a thousandth of what they become.
    """
    window: list[Event] = []
    size = 0
    for delivery in deliveries:
        event = decode_event(delivery, partitions)
        window.append(event)
        size += event.size
        if size >= most_bytes:
            yield window
            window, size = [], 0
    if window:
        yield window


def attempts_key(delivery: Delivery) -> str:
    """Return the id under which attempts of a delivery are counted: one made of its bytes.

    An event that kills while it is decoded has no other.
    """
    return names_of(delivery.body, None)[0]


def undecoded_event(delivery: Delivery, bad: BadMessage) -> Event:
    """Return the event of a delivery that must not be decoded."""
    key = attempts_key(delivery)
    return Event(delivery, key, key, None, None, False, None, bad)


def _wrong_partition(delivery: Delivery) -> BadMessage:
    """Return why a command is not applied that did not come from its node's queue."""
    if delivery.dead_lettered is not None:
        return BadMessage(ErrorCode.DEAD_LETTERED, "$", f"the broker gave it up: {delivery.dead_lettered}")
    text = "client and worker differ in [bus] partitions"
    if delivery.partition == OtherQueue.BARE_TOPIC:
        text = "sent to the topic alone: the client has to name the partition as server"
    return BadMessage(ErrorCode.WRONG_PARTITION, "$.node", text)


def _invalid_event(delivery: Delivery, envelope: Envelope | None, bad: BadMessage, partitions: int) -> Event:
    digest, _ = names_of(delivery.body, None)
    event_id, node = names_of(delivery.body, envelope)
    asked = envelope is not None and envelope.is_question
    belongs_here = not asked and node is not None and partition_of(node, partitions) == delivery.partition
    return Event(delivery, event_id, digest, envelope, node, belongs_here, None, bad)


def internal_error(error: Exception) -> BadMessage:
    """Return how an unexpected exception is parked: where it happened, without any payload value."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    places = " < ".join(f"{f.name} ({PurePath(f.filename).name}:{f.lineno})" for f in frames)
    return BadMessage(ErrorCode.INTERNAL_ERROR, "$", f"{type(error).__name__} in {places}")
