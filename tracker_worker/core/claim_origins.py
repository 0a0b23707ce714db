# SPDX-License-Identifier: Apache-2.0
"""The events that gave a node's claims what they hold now, and the last corrections of audits."""

from collections.abc import Iterable

from msgspec import Struct

from tracker_worker.core.history import StoredEvent
from tracker_worker.domain.deltas import ClaimDelta, Holding
from tracker_worker.domain.node import Node
from tracker_worker.domain.rewind import Key, changes_of

AUDIT = "update_available_resource"


class Correction(Struct, frozen=True):
    """A claim that an audit has added, released or changed, and the audit's event."""

    event: StoredEvent
    key: Key
    delta: ClaimDelta


class Origins(Struct, frozen=True):
    """`claims`: the event that gave a claim its present size, by claim; claims without one are older than
    what receipts tell. `corrections`: those of the last audits, the newest first.
    """

    claims: dict[Key, StoredEvent]
    corrections: list[Correction]


def origins_of(node: Node, events: Iterable[StoredEvent], most_corrections: int) -> Origins:
    """Find the origins of a node's claims in its events, the newest first.

    It ends with an event whose changes are not known: older ones may not be the last to change a claim.
    """
    wanted: set[Key] = {(claim.instance_uuid, claim.role) for claim in node.held()}
    found = Origins({}, [])
    for event in events:
        if event.delta is None:
            break
        for delta, (key, old, new) in zip(
            event.delta.claims, changes_of(event.delta, event.instance_uuid), strict=True
        ):
            if key in wanted and _is_resized(old, new):
                wanted.discard(key)
                found.claims[key] = event
            if event.method == AUDIT and len(found.corrections) < most_corrections:
                found.corrections.append(Correction(event, key, delta))
        if not wanted and len(found.corrections) == most_corrections:
            break
    return found


def _is_resized(old: Holding | None, new: Holding | None) -> bool:
    return (old and old.amounts) != (new and new.amounts)


def device_origin(events: Iterable[StoredEvent], instance_uuid: str, address: str) -> StoredEvent | None:
    """Return the event that gave a device to an instance, from a node's events, the newest first.

    An event that hands the device to another claim of the instance does not count. None if what receipts
    tell does not go back to it.
    """
    for event in events:
        if event.delta is None:
            return None
        own = [each for each in changes_of(event.delta, event.instance_uuid) if each[0][0] == instance_uuid]
        if any(address in _devices(new) for _, _, new in own) and not any(
            address in _devices(old) for _, old, _ in own
        ):
            return event
    return None


def _devices(holding: Holding | None) -> tuple[str, ...]:
    return holding.devices if holding is not None else ()
