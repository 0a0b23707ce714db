# SPDX-License-Identifier: Apache-2.0
"""The bodies of notifications: JSON of messagingv2, of at most MAX_BODY_BYTES. Pure.

The outbox is published in order, so that a notification which the broker refuses would block all others.
"""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct, json
from msgspec.structs import replace

from tracker_worker.core.envelope import UNIQUE_ID
from tracker_worker.domain.errors import ErrorCode
from tracker_worker.domain.notifications import DATA, Notification, substitute_notification

MAX_BODY_BYTES = 1024 * 1024
"""Far below RabbitMQ's max_message_size (16 MiB or more): in its envelope a body is up to twice as long.
About 1,200 corrections of claims without devices fit."""

_READ_NODE = "read the node with get_node, or with: tracker-worker-manage node show NODE"


class Header(Struct, frozen=True):
    """The fields of a body besides those of its notification; `now` is UTC.

    A notification that is sent again has the same ids, so that consumers can drop duplicates.
    """

    message_id: str
    publisher_id: str
    now: datetime

    def encode(self, notification: Notification) -> bytes:
        """Return the JSON of a messagingv2 message, without oslo.messaging's outer envelope."""
        return json.encode(
            {
                "message_id": self.message_id,
                "publisher_id": self.publisher_id,
                "event_type": notification.event_type,
                "priority": notification.priority,
                "payload": notification.payload,
                "timestamp": self.now.isoformat(sep=" ", timespec="microseconds"),
                UNIQUE_ID: self.message_id.replace("-", ""),
            }
        )


class _Created(Struct, frozen=True):
    timestamp: datetime


_created = json.Decoder(_Created)


def created_at(body: bytes) -> datetime | None:
    """Return when a notification was made, UTC without a zone; None for a body that cannot be decoded."""
    try:
        return _created.decode(body).timestamp
    except msgspec.DecodeError:
        return None


def encode_bounded(header: Header, notification: Notification) -> tuple[Notification, bytes]:
    """Return the notification that can be sent for `notification`, and its body of at most MAX_BODY_BYTES.

    An audit keeps as many corrections as fit, in their order; `corrections_omitted` counts the others. A
    notification that is still too large is replaced by a `compute_node.event.error` of code
    `notification_too_large`. Each correction is encoded once.
    """
    if "corrections" in notification.payload[DATA]:
        notification = _with_corrections_that_fit(header, notification)
    body = header.encode(notification)
    if len(body) <= MAX_BODY_BYTES:
        return notification, body
    text = f"{notification.event_type} has {len(body)} bytes, at most {MAX_BODY_BYTES} are sent: {_READ_NODE}"
    substitute = substitute_notification(notification.payload[DATA], ErrorCode.NOTIFICATION_TOO_LARGE, text)
    return substitute, header.encode(substitute)


def encode_refused(
    header: Header, event_type: str, node: str | None, body: bytes, reason: str
) -> tuple[Notification, bytes]:
    """Return the notification that replaces a stored body which the bus refuses, and its body.

    It contains the fields that can be decoded from the stored body. `reason` is the text of the bus.
    """
    text = f"{event_type} of {len(body)} bytes was refused ({reason}): {_READ_NODE}"
    substitute = substitute_notification(
        {"node": node, **_known_data(body)}, ErrorCode.NOTIFICATION_REFUSED, text
    )
    return substitute, header.encode(substitute)


def _with_corrections_that_fit(header: Header, notification: Notification) -> Notification:
    corrections = notification.payload[DATA]["corrections"]
    room = MAX_BODY_BYTES - len(header.encode(_with_corrections(notification, [], len(corrections))))
    kept = []
    for correction in corrections:
        encoded = json.encode(correction)
        room -= len(encoded) + len(",")
        if room < 0:
            break
        kept.append(msgspec.Raw(encoded))
    return _with_corrections(notification, kept, len(corrections) - len(kept))


def _with_corrections(
    notification: Notification, corrections: list[msgspec.Raw], omitted: int
) -> Notification:
    data = notification.payload[DATA] | {"corrections": corrections, "corrections_omitted": omitted}
    return replace(notification, payload=notification.payload | {DATA: data})


class _Data(Struct, frozen=True):
    host: str | None = None
    uuid: str | None = None
    sequence: int = 0
    since: int = 0
    dead_letter_id: str | None = None
    cause: dict[str, Any] | None = None


class _Payload(Struct, frozen=True):
    data: _Data = msgspec.field(name=DATA)


class _Body(Struct, frozen=True):
    payload: _Payload


_body = json.Decoder(_Body)


def _known_data(body: bytes) -> dict[str, Any]:
    """Return the fields of a stored body that identify node and event; none if it cannot be decoded."""
    try:
        return msgspec.structs.asdict(_body.decode(body).payload.data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
