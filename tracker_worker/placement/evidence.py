# SPDX-License-Identifier: Apache-2.0
"""What the receipts of a node say of a consumer of its providers, and what they prove. Pure."""

from collections.abc import Collection, Iterable, Iterator

from tracker_worker.core.history import StoredEvent
from tracker_worker.domain.deltas import Holding
from tracker_worker.domain.rewind import changes_of
from tracker_worker.placement.audit import Finding, FindingKind

REMOVE_NODE = "remove_node"
"""It releases the claims of instances that may be there still."""


def last_events(events: Iterable[StoredEvent], wanted: Collection[str]) -> dict[str, StoredEvent]:
    """Return the last event that concerns each of some instances and migrations, from events, newest first.

    It ends with an event whose changes are not known: an older one may not be the last.
    """
    left = set(wanted)
    found: dict[str, StoredEvent] = {}
    for event in events:
        for uuid in left.intersection(_named(event)):
            found[uuid] = event
        left.difference_update(found)
        if event.delta is None or not left:
            break
    return found


def _named(event: StoredEvent) -> Iterator[str]:
    """Yield the instances of an event and of the claims that it changed, and their migrations."""
    if event.instance_uuid is not None:
        yield event.instance_uuid
    for uuid, old, new in _changed(event):
        yield uuid
        yield from (each.migration for each in (old, new) if each is not None and each.migration)


def _changed(event: StoredEvent) -> Iterator[tuple[str, Holding | None, Holding | None]]:
    if event.delta is not None:
        for (uuid, _), old, new in changes_of(event.delta, event.instance_uuid):
            yield uuid, old, new


def subject_of(finding: Finding) -> str | None:
    """Return the instance or the migration whose events explain a finding."""
    return finding.instance_uuid or finding.consumer


def why_kept(finding: Finding, event: StoredEvent | None) -> str | None:
    """Return why the ledger does not prove that an allocation is left over; None if it does.

    It does if no node claims the instance, and its last event on this node has released it.
    """
    match finding.kind:
        case FindingKind.MISSING:
            return f"the node has a claim of role {finding.role}, and Nova alone allocates"
        case FindingKind.SIZE:
            return "the amounts differ; the ledger does not keep resources:* of the flavor that override them"
        case FindingKind.DOUBLE if event is None:
            return f"{', '.join(finding.nodes)} claims the instance, which may be on its way here"
        case FindingKind.DOUBLE:
            return f"{', '.join(finding.nodes)} claims the instance, whose move is finished"
    if finding.nodes:
        return f"{', '.join(finding.nodes)} claims the instance"
    if event is None:
        return "no receipt on this node names it: its claim may be on its way"
    if event.method == REMOVE_NODE:
        return "its claim was removed with the node: the instance may be there"
    if not _releases(event, finding.consumer):
        return "its last event on this node released nothing"
    return None


def _releases(event: StoredEvent, consumer: str | None) -> bool:
    """Tell whether an event released all that it changed of a consumer."""
    changes = [
        (old, new)
        for uuid, old, new in _changed(event)
        if consumer in (uuid, *(each.migration for each in (old, new) if each is not None))
    ]
    return bool(changes) and all(new is None for _, new in changes)
