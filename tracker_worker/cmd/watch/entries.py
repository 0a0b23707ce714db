# SPDX-License-Identifier: Apache-2.0
"""The entries that a notification makes in the list of events: what happened, in one line. Pure."""

from enum import StrEnum

from msgspec import Struct

from tracker_worker.core.received_notification import NotificationData, ReceivedNotification

MAX_TEXT = 500
MAX_CORRECTIONS = 3
_PRIORITY_ERROR = "ERROR"


class Kind(StrEnum):
    """What an entry is about."""

    USAGE = "usage"
    REFUSED = "refused"
    CORRECTED = "corrected"
    ERROR = "error"
    CREATED = "created"
    DELETED = "deleted"
    GAP = "gap"
    WATCH = "watch"
    OTHER = "other"


class Entry(Struct, frozen=True):
    """One line about a node, about none ("-"), or about a server that the watch uses.

    `time` is the notification's own, in UTC. Texts may be the sender's: escape them for a terminal.
    """

    time: str
    kind: Kind
    node: str
    text: str


_KINDS = {
    "compute_node.usage": Kind.USAGE,
    "compute_node.claim.error": Kind.REFUSED,
    "compute_node.audit": Kind.CORRECTED,
    "compute_node.event.error": Kind.ERROR,
    "compute_node.create": Kind.CREATED,
    "compute_node.delete": Kind.DELETED,
}


def kind_of(notification: ReceivedNotification) -> Kind:
    """Return the kind of a notification; of an unknown event type by its priority."""
    other = Kind.ERROR if notification.priority == _PRIORITY_ERROR else Kind.OTHER
    return _KINDS.get(notification.event_type, other)


def entry_of(notification: ReceivedNotification) -> Entry:
    """Return the entry of a notification."""
    kind, data = kind_of(notification), notification.data
    match kind:
        case Kind.USAGE:
            text = _usage(data)
        case Kind.REFUSED:
            text = f"{data.reason} ({data.cause.method} {data.cause.instance_uuid})"
        case Kind.CORRECTED:
            text = _corrections(data)
        case Kind.ERROR if data.code and data.path:
            text = f"{data.code} at {data.path}: {data.message}"
            text += f" (dead letter {data.dead_letter_id})" if data.dead_letter_id else ""
        case Kind.CREATED | Kind.DELETED:
            text = f"host {data.host}"
        case _:
            text = f"{notification.event_type} {data.reason or data.message}"
            text += f" ({data.code})" if data.code else ""
    return Entry(notification.timestamp, kind, data.node or "-", text[:MAX_TEXT])


def gap_entry(notification: ReceivedNotification, sequence: int) -> Entry:
    """Return the entry of a gap before a usage notification; `sequence` is that of the last one received."""
    data = notification.data
    text = f"usage after sequence {sequence} up to {data.since} was not received"
    return Entry(notification.timestamp, Kind.GAP, data.node or "-", text)


def _usage(data: NotificationData) -> str:
    return (
        f"vcpus {data.vcpus_used}/{data.vcpus}, memory {data.memory_mb_used}/{data.memory_mb} MB, "
        f"disk {data.local_gb_used}/{data.local_gb} GB, instances {data.running_vms}, "
        f"sequence {data.sequence}, {data.cause.method}"
    )


def correction_count(data: NotificationData) -> int:
    """Return the number of an audit's corrections, those included for which the notification had no room."""
    return len(data.correction_objects) + data.corrections_omitted


def _corrections(data: NotificationData) -> str:
    count = correction_count(data)
    parts = [
        f"{each.action} {each.instance_uuid} ({each.reason})" for each in data.corrections[:MAX_CORRECTIONS]
    ]
    if count > len(parts):
        parts.append(f"and {count - len(parts)} more")
    if data.migrations_without_instance:
        parts.append(f"migrations without their instance: {data.migrations_without_instance}")
    return f"{count}: {', '.join(parts)}"
