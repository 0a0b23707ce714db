# SPDX-License-Identifier: Apache-2.0
"""Events of the history as the commands show them: what each changed, as a document and as a line of text."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from tracker_worker.core.history import StoredEvent
from tracker_worker.domain.deltas import Delta, Holding, Totals
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.rewind import Key, changes_of

_MOST_IN_A_LINE = 3


class Change(Struct, frozen=True):
    """A claim that was added, released or changed; the amounts are the differences, disk in MB."""

    action: str
    instance_uuid: str
    role: str
    reason: str | None
    vcpus: int
    memory_mb: int
    disk_mb: int
    old: dict[str, Any] | None
    new: dict[str, Any] | None


class Entry(Struct, frozen=True):
    """An event in the history of a node. `changes` is None if it is not known what it changed.

    `recorded_at` is None, and `reason` says so, if the receipt is damaged.
    `used` is the usage after it, None if the event has no sequence, or if the usage is not known.
    """

    sequence: int | None
    recorded_at: datetime | None
    node: str | None
    method: str | None
    event_id: str
    request_id: str | None
    outcome: str
    reason: str | None
    instance_uuid: str | None
    changes: list[Change] | None
    totals: dict[str, Any] | None
    used: dict[str, int] | None


def entry_of(event: StoredEvent, used: Amounts | None = None) -> Entry:
    """Return an event as it is shown, with the usage after it."""
    delta = event.delta
    return Entry(
        sequence=event.sequence,
        recorded_at=event.recorded_at,
        node=event.node,
        method=event.method,
        event_id=event.event_id,
        request_id=event.request_id,
        outcome=event.outcome,
        reason=event.reason,
        instance_uuid=event.instance_uuid,
        changes=None if delta is None else list(changes(delta, event.instance_uuid)),
        totals=None if delta is None else totals_change(delta.totals),
        used=None if used is None else asdict(used),
    )


def of_instance(entry: Entry, instance_uuid: str) -> Entry | None:
    """Return an event with its changes of one instance only, None if it does not concern the instance."""
    own = [change for change in entry.changes or () if change.instance_uuid == instance_uuid]
    if not own and entry.instance_uuid != instance_uuid:
        return None
    return entry if entry.changes is None else replace(entry, changes=own)


def changes(delta: Delta, instance_uuid: str | None) -> Iterator[Change]:
    """Yield what an event changed; `instance_uuid` is the event's instance."""
    reasons = [each.reason for each in delta.claims]
    for (key, old, new), reason in zip(changes_of(delta, instance_uuid), reasons, strict=True):
        yield change_of(key, old, new, reason)


def change_of(key: Key, old: Holding | None, new: Holding | None, reason: str | None = None) -> Change:
    """Return the change of a claim from an old to a new holding."""
    action = "added" if old is None else "released" if new is None else "changed"
    by = (new.amounts if new else Amounts()).minus(old.amounts if old else Amounts())
    return Change(
        action=action,
        instance_uuid=key[0],
        role=key[1].value,
        reason=reason,
        vcpus=by.vcpus,
        memory_mb=by.memory_mb,
        disk_mb=by.disk_mb,
        old=None if old is None else holding_view(old),
        new=None if new is None else holding_view(new),
    )


def totals_change(totals: tuple[Totals | None, Totals | None] | None) -> dict[str, Any] | None:
    """Return old and new totals as a document, None if they have not changed."""
    if totals is None:
        return None
    old, new = totals
    return {"old": old and asdict(old), "new": new and asdict(new)}


def holding_view(holding: Holding) -> dict[str, Any]:
    """Return what a claim holds as a document: cells and devices only where there are any."""
    view: dict[str, Any] = asdict(holding.amounts)
    if holding.migration is not None:
        view["migration_uuid"] = holding.migration
    if holding.cells:
        view["cells"] = [asdict(cell) for cell in holding.cells]
    if holding.devices:
        view["devices"] = list(holding.devices)
    return view


def line_of(entry: Entry) -> str | None:
    """Return what an event changed as one line, None if it changed no usage."""
    if entry.changes is None:
        return "not recorded"
    texts = list(_texts(entry.changes, entry.instance_uuid))
    if len(texts) > _MOST_IN_A_LINE:
        texts = [*texts[:_MOST_IN_A_LINE], f"and {len(texts) - _MOST_IN_A_LINE} more"]
    if entry.totals is not None:
        texts.append(_totals_text(entry.totals["new"]))
    return "; ".join(texts) or None


def _texts(changed: list[Change], own: str | None) -> Iterator[str]:
    """Yield a text for each change; a claim that only changes its role is one change."""
    left = list(changed)
    while left:
        change = left.pop(0)
        other = next((each for each in left if _is_role_change(change, each)), None)
        named = "" if change.instance_uuid == own else f" of {change.instance_uuid}"
        if other is None:
            devices = f", devices {text}" if (text := devices_text(change)) else ""
            yield f"{change.action} {change.role}{named}: {amounts_text(change)}{devices}{_why(change)}"
        else:
            left.remove(other)
            old, new = (change, other) if change.old is not None else (other, change)
            yield f"{old.role} -> {new.role}{named}{_why(new)}"


def _is_role_change(one: Change, other: Change) -> bool:
    """Tell whether a claim was released and added again in another role."""
    held = [one.old or one.new, other.old or other.new]
    same = [{**(view or {}), "migration_uuid": None} for view in held]
    return (
        one.instance_uuid == other.instance_uuid
        and {one.action, other.action} == {"added", "released"}
        and same[0] == same[1]
    )


def _why(change: Change) -> str:
    return f" ({change.reason})" if change.reason else ""


def amounts_text(change: Change) -> str:
    """Return the differences of a change for people, such as "+2 vcpus, +2048 MB, +20480 MB disk"."""
    parts = (
        (change.vcpus, "vcpus"),
        (change.memory_mb, "MB"),
        (change.disk_mb, "MB disk"),
    )
    return ", ".join(f"{amount:+d} {unit}" for amount, unit in parts if amount) or "same size"


def devices_text(change: Change) -> str:
    """Return the devices that a claim got and lost, such as "+0000:81:00.1 -0000:81:00.2"."""
    old, new = ((view or {}).get("devices", []) for view in (change.old, change.new))
    signed = [f"+{address}" for address in new if address not in old]
    return " ".join([*signed, *(f"-{address}" for address in old if address not in new)])


def _totals_text(totals: dict[str, Any] | None) -> str:
    if totals is None:
        return "no longer tracked"
    return f"totals {totals['vcpus']} vcpus, {totals['memory_mb']} MB, {totals['local_gb']} GB disk"
