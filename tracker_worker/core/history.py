# SPDX-License-Identifier: Apache-2.0
"""The history of a node: its events, the newest first, and the state of the node after each.

States are computed from the present one, and only as far as receipts tell what was changed: a `Walk` says
where that ends, and never guesses.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from msgspec import Struct

from tracker_worker.core.records import REBUILD
from tracker_worker.core.times import time_text
from tracker_worker.domain.deltas import Delta, Holding, Totals
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import Node
from tracker_worker.domain.rewind import HeldOfCell, Key, State, held_cells

Point = int | datetime
"""A point in the history of a node: a sequence, or a time (UTC, without a zone)."""


class StoredEvent(Struct, frozen=True):
    """An event as its receipt keeps it.

    `sequence` is None for an event that did not change its node: it was parked, or came before the node had
    a row. `reason` is the reason why it was refused, ignored or parked, or what a rebuild corrected. `delta`
    is None if it is not known what the event changed: an earlier version, or a newer one, has written the
    receipt, or the receipt is damaged: then `fault` says where, and `recorded_at` may be None.
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
    delta: Delta | None
    fault: str | None = None


class Walk:
    """Iterates over the events of a node that have a sequence, the newest first. Belongs to one thread.

    While an event is yielded, `state` is the node's state after it; after the last event it is the state
    before it. It is None as soon as it is not known, and `lost` says why; always, without a `node`.
    """

    def __init__(self, node: Node | None, events: Iterable[StoredEvent]) -> None:
        self.state: State | None = None if node is None else State(node)
        self.lost: str | None = None
        self._events = events

    def __iter__(self) -> Iterator[StoredEvent]:
        for event in self._events:
            self._check(event)
            yield event
            if self.state is None:
                continue
            if event.method == REBUILD:
                # A rebuild changes no claim: its delta is empty. Since when the row was wrong is not known.
                what = event.reason or "what it corrected was not recorded"
                self._lose(f"event {event.event_id} corrected the row of the node: {what}")
            elif event.fault is not None:
                self._lose(f"what event {event.event_id} changed is not known: {event.fault}")
            elif event.delta is None:
                self._lose(f"what event {event.event_id} changed was not recorded by the version of its time")
            else:
                self.state.undo(event.delta, event.instance_uuid)

    def _check(self, event: StoredEvent) -> None:
        """Lose the state if it is not the one that this event has left."""
        if self.state is None:
            return
        if event.sequence != self.state.sequence:
            self._lose(f"the receipts from sequence {event.sequence} to {self.state.sequence} are missing")
        elif event.delta is not None and (
            difference := self.state.difference(event.delta, event.instance_uuid)
        ):
            self._lose(f"rows were changed by hand: at sequence {event.sequence} {difference}")

    def _lose(self, why: str) -> None:
        self.state, self.lost = None, why


class PastNode(Struct, frozen=True):
    """A node after the event of a sequence. `event` is None if that event's receipt is not kept.

    `totals` is None if the node was not tracked. `cells` has what the claims held of each host cell.
    """

    sequence: int
    event: StoredEvent | None
    totals: Totals | None
    used: Amounts
    claims: Mapping[Key, Holding]
    cells: Mapping[int, HeldOfCell]


class NotKept(Exception):
    """The state at a point of the history is not known; the text says why, and how far the history goes."""


def past_nodes(node: Node, events: Iterable[StoredEvent], points: Iterable[Point]) -> dict[Point, PastNode]:
    """Return the node at each of some points: after the last event that is not later than the point.

    Raises NotKept.
    """
    walk = Walk(node, events)
    left = list(points)
    found: dict[Point, PastNode] = {}
    for number in left:
        if isinstance(number, int) and number > node.sequence:
            raise NotKept(f"node '{node.name}' is at sequence {node.sequence}, {number} is not reached yet")
    oldest: StoredEvent | None = None
    for event in walk:
        if walk.state is None:
            break
        found |= _reached(walk, event, left)
        oldest = event
        if not left:
            break
    else:
        found |= _reached(walk, None, left)
    if left:
        raise NotKept(_limits(node, oldest, walk.lost))
    return found


def _reached(walk: Walk, event: StoredEvent | None, left: list[Point]) -> dict[Point, PastNode]:
    """Take the points that the state of a walk answers out of `left`; return them with the node."""
    state = walk.state
    if state is None:
        return {}
    here = [point for point in left if _is_reached(point, state.sequence, event)]
    left[:] = [point for point in left if point not in here]
    if not here:
        return {}
    past = PastNode(state.sequence, event, state.totals, state.used, dict(state.claims), held_cells(state))
    return dict.fromkeys(here, past)


def _is_reached(point: Point, sequence: int, event: StoredEvent | None) -> bool:
    if isinstance(point, int):
        return point == sequence
    if event is None:
        # Before its first event a node was not known.
        return sequence == 0
    return event.recorded_at is not None and event.recorded_at <= point


def _limits(node: Node, oldest: StoredEvent | None, lost: str | None) -> str:
    if oldest is None:
        return f"node '{node.name}' has no receipts"
    known = f"the history of node '{node.name}' is known back to sequence {oldest.sequence}"
    if oldest.recorded_at is not None:
        known += f", {time_text(oldest.recorded_at)}"
    return known if lost is None else f"{known}: {lost}"
