# SPDX-License-Identifier: Apache-2.0
"""Audits that are not decoded yet. Most repeat the last audit of their node, as a digest shows. Pure."""

import hashlib
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tracker_worker.domain.commands import Command
from tracker_worker.domain.fields import Finite, Label, Sequence
from tracker_worker.domain.objects import Origin, Scalar
from tracker_worker.domain.report import NO_CHANGE_FIELDS, NO_CHANGE_STATS

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
    resources: dict[str, Raw]
    instances: Raw
    migrations: Raw = _NULL
    as_of: Sequence | None = None
    startup: bool = False
    disabled: bool | None = None


_decoder = msgspec.json.Decoder(_Arguments)
_figure_decoder = msgspec.json.Decoder(Finite | None)
_stats_decoder = msgspec.json.Decoder(dict[Label, Scalar] | None)
_encoder = msgspec.json.Encoder()


def unread_audit(args: Raw) -> UnreadAudit | None:
    """Return the audit that has these arguments of `update_available_resource`.

    None for a report without instances, an audit with `startup` or without an origin, and for arguments with
    a fault, which decoding the command will name.
    """
    try:
        given = _decoder.decode(args)
        resources = _essence(given.resources)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if given.startup or bytes(given.instances) == b"null":
        return None
    digest = hashlib.sha256()
    for part in (resources, given.instances, given.migrations, str(given.disabled).encode()):
        digest.update(part)
        digest.update(_SEPARATOR)
    return UnreadAudit(given.node, given.event_id, given.origin, given.as_of, digest.digest())


def _essence(resources: dict[str, Raw]) -> bytes:
    """Return a report without the figures that are no change. Raises DecodeError if one is not valid."""
    kept: dict[str, Any] = dict(resources)
    for name in NO_CHANGE_FIELDS:
        if (figure := kept.pop(name, None)) is not None:
            _figure_decoder.decode(figure)
    if "stats" in kept and (stats := _stats_decoder.decode(kept["stats"])):
        kept["stats"] = {name: value for name, value in stats.items() if name not in NO_CHANGE_STATS}
    return _encoder.encode(kept)
