# SPDX-License-Identifier: Apache-2.0
"""The origins that a node stores: of the last event of each instance, and of the audits of each client.

Both are bounded. An audit must skip the instances with events after its `as_of`. When the last origin of an
instance is evicted, its sequence is kept, and an audit of its source with a lower `as_of` corrects nothing.
"""

from collections.abc import Mapping
from typing import Any, assert_never

from msgspec import Struct

from tracker_worker.domain.objects import Origin

MAX_ORIGINS = 1000
"""Maximum number of instances of a node whose last origin is stored."""
MOST_SOURCES = 8
"""Maximum number of client processes of a node whose last audit is stored."""


class Source(Struct, frozen=True):
    """Two sequences of one client process that a node stores.

    `audited` is the highest of its audits; `evicted` is the highest of its evicted last origins: an audit of
    this source with a lower `as_of` corrects nothing.
    """

    audited: int = 0
    evicted: int = 0


class OriginRecorded(Struct, frozen=True):
    """An event of this origin named the instance."""

    instance_uuid: str
    origin: Origin


class OriginCleared(Struct, frozen=True):
    """An audit has processed the instance: its last origin is no longer needed."""

    instance_uuid: str


class OriginEvicted(Struct, frozen=True):
    """The last origin of the instance is evicted; its source keeps the sequence as `evicted`."""

    instance_uuid: str


class AuditSeen(Struct, frozen=True):
    """An audit of this origin was processed: older audits of its source are stale."""

    origin: Origin


OriginMark = OriginRecorded | OriginCleared | OriginEvicted | AuditSeen


class Memory:
    """The origins of a node while changes are applied to it. Each mapping is copied at its first change."""

    def __init__(self, last_origins: Mapping[str, Origin], sources: Mapping[str, Source]) -> None:
        self._known = last_origins, sources
        self._last_origins: dict[str, Origin] | None = None
        self._sources: dict[str, Source] | None = None

    def note(self, change: OriginMark) -> None:
        """Apply one mark."""
        match change:
            case OriginRecorded(instance_uuid, origin):
                instances = self._instances()
                last = instances.pop(instance_uuid, None)
                # Threads of a client may send out of order: the event with the higher sequence is later.
                late = last is not None and last.source == origin.source and last.sequence > origin.sequence
                instances[instance_uuid] = last if late and last is not None else origin
            case OriginCleared(instance_uuid):
                self._instances().pop(instance_uuid, None)
            case OriginEvicted(instance_uuid):
                if (evicted := self._instances().pop(instance_uuid, None)) is not None:
                    self._remember(evicted.source, evicted=evicted.sequence)
            case AuditSeen(origin):
                self._remember(origin.source, audited=origin.sequence)
            case _:
                assert_never(change)

    def forget_instances(self) -> None:
        """Drop the last origins of all instances, for a node that is removed."""
        self._last_origins = {}

    def fields(self) -> dict[str, Any]:
        """Return the mappings that have changed, by the names of Node's fields."""
        changed = {"last_origins": self._last_origins, "sources": self._sources}
        return {name: value for name, value in changed.items() if value is not None}

    def _instances(self) -> dict[str, Origin]:
        if self._last_origins is None:
            self._last_origins = dict(self._known[0])
        return self._last_origins

    def _remember(self, source: str, audited: int = 0, evicted: int = 0) -> None:
        sources = dict(self._known[1]) if self._sources is None else self._sources
        known = sources.pop(source, Source())
        sources[source] = Source(max(known.audited, audited), max(known.evicted, evicted))
        if len(sources) > MOST_SOURCES:
            del sources[next(iter(sources))]
        self._sources = sources
