# SPDX-License-Identifier: Apache-2.0
"""What a node remembers of the events that named its instances, and of the audits that looked at them.

Both are bounded. An audit must leave alone what was touched after it was read; where a touch had to be given
up, its number stays, and an audit that does not know that event may correct nothing.
"""

from collections.abc import Mapping
from typing import Any, assert_never

from msgspec import Struct

from tracker_worker.domain.objects import Origin

MAX_ORIGINS = 1000
"""Of a node, how many instances are remembered with the event that touched them last."""
MOST_SOURCES = 8
"""Of a node, how many client processes are remembered with their audits."""


class Source(Struct, frozen=True):
    """What a node remembers of one client process, in numbers of its events.

    `audited` is the highest of its audits; `evicted` the highest of its events that touched an instance and
    are remembered no more: an audit of that source that knows less (`as_of`) may not correct anything.
    """

    audited: int = 0
    evicted: int = 0


class OriginRecorded(Struct, frozen=True):
    """An event of this origin named the instance."""

    instance_uuid: str
    origin: Origin


class OriginCleared(Struct, frozen=True):
    """An audit has seen what touched the instance."""

    instance_uuid: str


class OriginEvicted(Struct, frozen=True):
    """There is no room to remember what touched the instance; its source's audits have to know it."""

    instance_uuid: str


class AuditSeen(Struct, frozen=True):
    """An audit of this origin was looked at: older ones of its source come too late."""

    origin: Origin


OriginMark = OriginRecorded | OriginCleared | OriginEvicted | AuditSeen


class Memory:
    """What a node remembers of origins while changes are applied: copied when it first changes."""

    def __init__(self, last_origins: Mapping[str, Origin], sources: Mapping[str, Source]) -> None:
        self._known = last_origins, sources
        self._last_origins: dict[str, Origin] | None = None
        self._sources: dict[str, Source] | None = None

    def note(self, change: OriginMark) -> None:
        """Apply one mark."""
        match change:
            case OriginRecorded(instance_uuid, origin):
                last = self._instances().pop(instance_uuid, None)
                # A client's threads may overtake each other: what it numbered higher is the later event.
                late = last is not None and last.source == origin.source and last.sequence > origin.sequence
                self._instances()[instance_uuid] = last if late and last is not None else origin
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
        """Forget what touched which instance: all are gone."""
        self._last_origins = {}

    def fields(self) -> dict[str, Any]:
        """Return what has changed, by the names of the node's fields."""
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
