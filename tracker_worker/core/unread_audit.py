# SPDX-License-Identifier: Apache-2.0
"""Audits that are not decoded yet. Most repeat the last audit of their node, as a digest shows. Pure."""

import hashlib

import msgspec
from msgspec import Raw, Struct

from tracker_worker.domain.commands import Command
from tracker_worker.domain.fields import Sequence
from tracker_worker.domain.objects import Origin, Resources
from tracker_worker.domain.report import essence

_NULL = Raw(b"null")
_SEPARATOR = b"\0"
"""No JSON text contains it."""


class UnreadAudit(Struct, frozen=True):
    """An audit with an origin. `facts` is a digest of all arguments but event id, `origin` and `as_of`, and
    without the driver's figures that are no change: libvirt reports another `memory_mb_used` each time.
    """

    node: str
    event_id: str | None
    origin: Origin
    as_of: int | None
    facts: bytes


class _Arguments(Command, frozen=True):
    """The arguments of an audit that a repetition may have. An audit with `startup` is none."""

    origin: Origin
    resources: Resources
    instances: Raw
    migrations: Raw = _NULL
    as_of: Sequence | None = None
    startup: bool = False
    disabled: bool | None = None


_decoder = msgspec.json.Decoder(_Arguments)
_encoder = msgspec.json.Encoder()


def unread_audit(args: Raw) -> UnreadAudit | None:
    """Return the audit that has these arguments of `update_available_resource`.

    None for a report without instances, an audit with `startup` or without an origin, and for arguments with
    a fault, which decoding the command will name.
    """
    try:
        given = _decoder.decode(args)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if given.startup or bytes(given.instances) == b"null":
        return None
    digest = hashlib.sha256()
    resources = _encoder.encode(essence(given.resources))
    for part in (resources, given.instances, given.migrations, str(given.disabled).encode()):
        digest.update(part)
        digest.update(_SEPARATOR)
    return UnreadAudit(given.node, given.event_id, given.origin, given.as_of, digest.digest())
