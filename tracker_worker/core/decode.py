# SPDX-License-Identifier: Apache-2.0
"""Decodes deliveries into events: each has a command, or the error for which it is parked."""

import traceback
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.core.compression import decompress
from tracker_worker.core.delivery import BodyDigest, Delivery, OtherQueue
from tracker_worker.core.envelope import (
    PING,
    Envelope,
    check_method,
    digest_of,
    event_id_of,
    names_of,
    open_envelope,
    read_command,
    sent_digest_of,
    sent_id,
)
from tracker_worker.core.records import Receipt, replayed_letter
from tracker_worker.core.unread_audit import UnreadAudit, unread_audit
from tracker_worker.domain.commands import METHODS, AnyCommand, UpdateAvailableResource, instance_uuid_of
from tracker_worker.domain.errors import BadMessage, ErrorCode
from tracker_worker.domain.node import Node
from tracker_worker.domain.notifications import CausePayload
from tracker_worker.domain.partitions import partition_of


class Event(Struct, frozen=True):
    """A decoded delivery: it has a command, or the error for which it is parked.

    `belongs_here`: the node belongs to the partition of the delivery, so that this lane may change the
    node's row. False for pings and invalid questions, which change none. `audit` is the digest of an audit's
    facts, empty for other events. An unread audit has no digest of its command before it is read.
    """

    delivery: Delivery
    event_id: str
    digest: str
    envelope: Envelope | None
    node: str | None
    belongs_here: bool
    command: AnyCommand | UnreadAudit | None
    error: BadMessage | None
    size: int = 0
    """Bytes of the body, decompressed."""
    audit: bytes = b""

    @property
    def method(self) -> str | None:
        """The method, None if it does not exist: metrics and receipts have the known ones only."""
        method = None if self.envelope is None else self.envelope.method
        return method if method in METHODS else None

    @property
    def printable_method(self) -> str | None:
        """The method for people: an unknown one too, if it is an identifier."""
        return None if self.envelope is None else self.envelope.printable_method

    @property
    def is_ping(self) -> bool:
        """Whether the event is a ping. A ping is answered, whatever its arguments, and never parked."""
        return self.envelope is not None and self.envelope.method == PING

    @property
    def is_question(self) -> bool:
        """Whether the event is a call that cannot change anything: it is answered, never parked or held."""
        return self.envelope is not None and self.envelope.is_question

    @property
    def cause(self) -> CausePayload:
        """The event as the `cause` of a notification."""
        command = self.command
        uuid = None
        if command is not None and not isinstance(command, UnreadAudit):
            uuid = instance_uuid_of(command)
        request_id = None if self.envelope is None else self.envelope.request_id
        return CausePayload(self.method, self.event_id, request_id, uuid)


def decode_event(delivery: Delivery, partitions: int) -> Event:
    """Decode a delivery. Never raises: an invalid message becomes an event with an error."""
    envelope = None
    try:
        came = delivery.body
        body = came if isinstance(came, BodyDigest) else decompress(came, delivery.compression)
        size = len(body) if isinstance(body, bytes) else 0
        envelope = open_envelope(body)
        if envelope.method == PING:
            key = attempts_key(delivery)
            return Event(delivery, key, key, envelope, None, False, None, None, size)
        if (audit := _unread_audit(delivery, envelope, partitions, size)) is not None:
            return audit
        return _read(delivery, envelope, partitions, size)
    except BadMessage as error:
        return _invalid_event(delivery, envelope, error, partitions)
    except Exception as error:
        return _invalid_event(delivery, envelope, internal_error(error), partitions)


def read_unless_repeated(event: Event, known: Receipt | None, node: Node, partitions: int) -> Event:
    """Return an event decoded, unless it is an audit that repeats the last one of its node. Never raises.

    `known` is the event's receipt: without its command an event cannot be compared with it.
    """
    if known is None and node.repeats(event.audit):
        return event
    return read(event, partitions)


def read(event: Event, partitions: int) -> Event:
    """Return an event decoded. Never raises."""
    if not isinstance(event.command, UnreadAudit):
        return event
    assert event.envelope is not None
    try:
        return replace(_read(event.delivery, event.envelope, partitions, event.size), audit=event.audit)
    except BadMessage as error:
        return _invalid_event(event.delivery, event.envelope, error, partitions)
    except Exception as error:
        return _invalid_event(event.delivery, event.envelope, internal_error(error), partitions)


def _read(delivery: Delivery, envelope: Envelope, partitions: int, size: int) -> Event:
    command = read_command(envelope)
    digest = digest_of(envelope.method, command)
    event_id = event_id_of(envelope, command)
    belongs_here = partition_of(command.node, partitions) == delivery.partition
    bad = None if belongs_here else _wrong_partition(delivery)
    return Event(delivery, event_id, digest, envelope, command.node, belongs_here, command, bad, size)


def _unread_audit(delivery: Delivery, envelope: Envelope, partitions: int, size: int) -> Event | None:
    """Return the event of an audit that may repeat the one before, not decoded; None for any other message.

    A redelivered one is decoded at once: the quarantine has to know whether decoding crashes the worker. So
    is the replay of a dead letter, which leaves a receipt whatever it finds.
    """
    if delivery.redelivered or METHODS.get(envelope.method) is not UpdateAvailableResource:
        return None
    check_method(envelope)
    audit = unread_audit(envelope.args)
    if audit is None or partition_of(audit.node, partitions) != delivery.partition:
        return None
    event_id = sent_id(envelope, audit.event_id)
    if event_id is None or replayed_letter(event_id) is not None:
        return None
    return Event(delivery, event_id, "", envelope, audit.node, True, audit, None, size, audit.facts)


def decode_in_windows(
    deliveries: Iterable[Delivery], partitions: int, most_bytes: int
) -> Iterator[list[Event]]:
    """Decode deliveries in order; yield the events whenever their decompressed bodies reach `most_bytes`.

    The inbox bounds a batch by the bytes received, which may decompress to a thousand times as many.
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
    """Return the key under which a delivery's attempts are recorded: the SHA-256 of its bytes.

    An event whose decoding crashes the worker has no other known id.
    """
    return names_of(delivery.body, None)[0]


def undecoded_event(delivery: Delivery, bad: BadMessage) -> Event:
    """Return the event of a delivery that must not be decoded, with the error for which it is parked."""
    key = attempts_key(delivery)
    return Event(delivery, key, key, None, None, False, None, bad)


def _wrong_partition(delivery: Delivery) -> BadMessage:
    """Return the error of a command that was not received from its node's queue."""
    if delivery.dead_lettered is not None:
        return BadMessage(ErrorCode.DEAD_LETTERED, "$", f"the broker gave it up: {delivery.dead_lettered}")
    text = "client and worker differ in [bus] partitions"
    if delivery.partition == OtherQueue.BARE_TOPIC:
        text = "sent to the topic alone: the client has to name the partition as server"
    return BadMessage(ErrorCode.WRONG_PARTITION, "$.node", text)


def _invalid_event(delivery: Delivery, envelope: Envelope | None, bad: BadMessage, partitions: int) -> Event:
    # A client that sends it again makes a new envelope, with another unique id, of the same arguments.
    digest = attempts_key(delivery) if envelope is None else sent_digest_of(envelope)
    event_id, node = names_of(delivery.body, envelope)
    asked = envelope is not None and envelope.is_question
    belongs_here = not asked and node is not None and partition_of(node, partitions) == delivery.partition
    return Event(delivery, event_id, digest, envelope, node, belongs_here, None, bad)


def internal_error(error: Exception) -> BadMessage:
    """Return the error for an unexpected exception: its type and traceback, without any payload value."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    places = " < ".join(f"{f.name} ({PurePath(f.filename).name}:{f.lineno})" for f in frames)
    return BadMessage(ErrorCode.INTERNAL_ERROR, "$", f"{type(error).__name__} in {places}")
