# SPDX-License-Identifier: Apache-2.0
"""Decodes the workers' notifications on the side of a consumer. Pure.

The exchange and topic are Nova's, so that a consumer receives the notifications of other services, too.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from tracker_worker.core.envelope import unseal
from tracker_worker.domain.fields import Ratio
from tracker_worker.domain.notifications import DATA, NAMESPACE

Name = Annotated[str, Meta(max_length=255)]
"""A name that a consumer keeps: its length is bounded, whoever sent it."""
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""What the database stores: no arithmetic on it leaves the range of floats."""


class Unreadable(Exception):
    """A body is no notification, or one of a worker whose fields have other types or are out of range."""


class Correction(Struct, frozen=True):
    """A correction of an audit, without its claims."""

    action: str
    reason: str
    instance_uuid: str


class Cause(Struct, frozen=True):
    """The event that caused a notification."""

    method: str | None = None
    instance_uuid: str | None = None


class _CorrectionObject(Struct, frozen=True):
    data: Correction = msgspec.field(name=DATA)


class _CauseObject(Struct, frozen=True):
    data: Cause = msgspec.field(name=DATA)


class NotificationData(Struct, frozen=True):
    """The fields of all payloads of the workers; those that a payload lacks have their defaults.

    Units are those of the payloads: memory in MB, disk in GB. `node` is None if it is not known.
    """

    node: Name | None = None
    host: Name | None = None
    sequence: Number = 0
    since: Number = 0
    vcpus: Number = 0
    vcpus_used: Number = 0
    memory_mb: Number = 0
    memory_mb_used: Number = 0
    local_gb: Number = 0
    local_gb_used: Number = 0
    cpu_allocation_ratio: Ratio = 1.0
    ram_allocation_ratio: Ratio = 1.0
    disk_allocation_ratio: Ratio = 1.0
    running_vms: Number = 0
    disabled: bool = False
    stats: dict[str, Any] = {}
    events: Number = 0
    reason: str = ""
    code: str = ""
    path: str = ""
    message: str = ""
    dead_letter_id: str | None = None
    correction_objects: list[_CorrectionObject] = msgspec.field(name="corrections", default=[])
    corrections_omitted: Number = 0
    migrations_without_instance: Number = 0
    cause_object: _CauseObject | None = msgspec.field(name="cause", default=None)

    @property
    def corrections(self) -> list[Correction]:
        """The corrections of an audit."""
        return [each.data for each in self.correction_objects]

    @property
    def cause(self) -> Cause:
        """The cause, without values if it is null."""
        return Cause() if self.cause_object is None else self.cause_object.data


class ReceivedNotification(Struct, frozen=True):
    """A notification of a worker. `text` is its JSON without oslo.messaging's envelope, as it was sent."""

    text: str
    message_id: Name
    event_type: Name
    priority: Name
    timestamp: Name
    data: NotificationData


class _Header(Struct, frozen=True):
    payload: Raw
    message_id: Name = ""
    event_type: Name = ""
    priority: Name = ""
    timestamp: Name = ""


class _Namespace(Struct, frozen=True):
    namespace: str = msgspec.field(name="nova_object.namespace", default="")


class _Payload(Struct, frozen=True):
    data: NotificationData = msgspec.field(name=DATA)


_header = msgspec.json.Decoder(_Header)
_namespace = msgspec.json.Decoder(_Namespace)
_payload = msgspec.json.Decoder(_Payload)


def read_notification(body: bytes) -> ReceivedNotification | None:
    """Return the notification of a worker in a message's body; None for another service's.

    Raises Unreadable, with the reason in one line.
    """
    try:
        text = unseal(body)
        header = _header.decode(text)
        if not _is_ours(header.payload):
            return None
        data = _payload.decode(header.payload).data
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Unreadable(str(error)) from None
    return ReceivedNotification(
        text, header.message_id, header.event_type, header.priority, header.timestamp, data
    )


def _is_ours(payload: Raw) -> bool:
    """Tell whether a payload is of the workers' namespace; those of other services may be of any type."""
    try:
        return _namespace.decode(payload).namespace == NAMESPACE
    except msgspec.ValidationError:
        return False
