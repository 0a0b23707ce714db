# SPDX-License-Identifier: Apache-2.0
"""The picture of the nodes that notifications draw: usage, the newest events, counts and rates.

No I/O and no clock: a picture is what was applied to it. Its size is bounded whatever arrives.
"""

from collections import Counter, deque
from collections.abc import Iterable
from heapq import nsmallest

from msgspec import Struct
from msgspec.structs import replace

from tracker_worker.cmd.watch.entries import Entry, Kind, correction_count, entry_of, gap_entry, kind_of
from tracker_worker.cmd.watch.selection import Selection
from tracker_worker.core.received_notification import NotificationData, ReceivedNotification

MAX_NODES = 10_000
MAX_ENTRIES = 200
MAX_IDS = 20_000
"""Message ids by which repetitions are recognised: twice the largest `[notifications] window`."""
RATE_SECONDS = 5


class Amount(Struct, frozen=True):
    """The used amount of a resource and its capacity: the total times the allocation ratio."""

    used: int
    capacity: int

    @property
    def fraction(self) -> float:
        """The used part of the capacity; 0 for a node without the resource."""
        return self.used / self.capacity if self.capacity > 0 else 0.0


class NodeState(Struct, frozen=True):
    """The last usage of a node; memory in MB, disk in GB.

    `sequence` is that of its last usage notification. `updated_at` is in seconds, None if the state was read
    from the database. `gaps` and `refusals` count since the watch started.
    """

    name: str
    sequence: int
    vcpus: Amount
    memory_mb: Amount
    local_gb: Amount
    instances: int
    disabled: bool
    updated_at: float | None = None
    gaps: int = 0
    refusals: int = 0

    @property
    def fullness(self) -> float:
        """The used part of the node's scarcest resource."""
        return max(self.vcpus.fraction, self.memory_mb.fraction, self.local_gb.fraction)


class Rate:
    """A total, and how many a second there were in the last RATE_SECONDS."""

    def __init__(self) -> None:
        self.total = 0
        self._seconds: deque[tuple[int, int]] = deque(maxlen=RATE_SECONDS + 1)

    def add(self, now: float, count: int = 1) -> None:
        """Count events at a time in seconds, which is never before that of an earlier call."""
        self.total += count
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            count += self._seconds.pop()[1]
        self._seconds.append((second, count))

    def per_second(self, now: float) -> float:
        """Return the mean of the last whole seconds."""
        newest = int(now)
        counts = [count for second, count in self._seconds if newest - RATE_SECONDS <= second < newest]
        return sum(counts) / RATE_SECONDS


class Picture:
    """Belongs to one thread. `nodes` are ordered by their last update, the oldest first, `entries` too.

    Above MAX_NODES the node that was not updated for the longest time is forgotten.
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.nodes: dict[str, NodeState] = {}
        self.entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self.received = Rate()
        self.rates = {kind: Rate() for kind in Kind}
        self.left_out: Counter[str] = Counter()
        self._ids: dict[str, None] = {}

    def apply(self, notification: ReceivedNotification, now: float) -> list[Entry] | None:
        """Apply a notification that was received at `now`, in seconds. Return its entries, the newest last.

        Return none for a repetition, and None for a notification that is not selected. Usage of nodes is
        applied whatever the selected event types are.
        """
        if not self._has_node(notification):
            return None
        self.received.add(now)
        if self._is_repeated(notification.message_id):
            self.left_out["repeated"] += 1
            entries = []
        else:
            entries = self._apply_new(notification, now)
        if not self.selection.has_type(notification.event_type):
            return None
        self.entries.extend(entry for entry in entries if entry.kind is not Kind.USAGE)
        return entries

    def fill(self, usages: Iterable[NotificationData]) -> None:
        """Add nodes from the database, unless a notification about them was received already."""
        found: dict[str, NodeState] = {}
        for data in usages:
            name = data.node
            if name is None or name in self.nodes or not self.selection.has_node(name):
                continue
            if self.selection.has_instances_in(data) and len(self.nodes) + len(found) < MAX_NODES:
                found[name] = _state_of(name, data)
        if found:
            self.nodes = found | self.nodes

    def add(self, entry: Entry) -> None:
        """Add an entry that no notification makes."""
        self.entries.append(entry)

    def fullest(self, count: int) -> list[NodeState]:
        """Return the fullest nodes, at most `count`, the fullest first."""
        return nsmallest(count, self.nodes.values(), key=lambda node: (-node.fullness, node.name))

    def _has_node(self, notification: ReceivedNotification) -> bool:
        data = notification.data
        if not self.selection.has_node(data.node):
            return False
        # With a project, `nodes` has the nodes on which it has instances.
        return (
            self.selection.project is None
            or data.node in self.nodes
            or (kind_of(notification) is Kind.USAGE and self.selection.has_instances_in(data))
        )

    def _is_repeated(self, message_id: str) -> bool:
        if message_id in self._ids:
            return True
        self._ids[message_id] = None
        if len(self._ids) > MAX_IDS:
            del self._ids[next(iter(self._ids))]
        return False

    def _apply_new(self, notification: ReceivedNotification, now: float) -> list[Entry]:
        kind, data = kind_of(notification), notification.data
        known = self.nodes.get(data.node or "")
        entries = [entry_of(notification)]
        if kind is Kind.USAGE and data.node is not None:
            if known is not None and data.since > 0 and data.sequence < known.sequence:
                self.left_out["outdated"] += 1
                return []
            if known is not None and data.since > known.sequence:
                entries.insert(0, gap_entry(notification, known.sequence))
                self.rates[Kind.GAP].add(now)
                known = replace(known, gaps=known.gaps + 1)
            self._put(_state_of(data.node, data, known, now), data)
        elif kind is Kind.DELETED and known is not None and data.sequence >= known.sequence:
            del self.nodes[known.name]
        elif kind is Kind.REFUSED and known is not None:
            self.nodes[known.name] = replace(known, refusals=known.refusals + 1)
        self.rates[kind].add(now, correction_count(data) if kind is Kind.CORRECTED else 1)
        return entries

    def _put(self, state: NodeState, usage: NotificationData) -> None:
        """Replace a node's state; remove the node if the selected project has no instances on it any more."""
        self.nodes.pop(state.name, None)
        if not self.selection.has_instances_in(usage):
            return
        self.nodes[state.name] = state
        if len(self.nodes) > MAX_NODES:
            del self.nodes[next(iter(self.nodes))]
            self.left_out["forgotten"] += 1


def _state_of(
    name: str, data: NotificationData, known: NodeState | None = None, now: float | None = None
) -> NodeState:
    return NodeState(
        name=name,
        sequence=data.sequence,
        vcpus=_amount(data.vcpus_used, data.vcpus, data.cpu_allocation_ratio),
        memory_mb=_amount(data.memory_mb_used, data.memory_mb, data.ram_allocation_ratio),
        local_gb=_amount(data.local_gb_used, data.local_gb, data.disk_allocation_ratio),
        instances=data.running_vms,
        disabled=data.disabled,
        updated_at=now,
        gaps=known.gaps if known else 0,
        refusals=known.refusals if known else 0,
    )


def _amount(used: int, total: int, ratio: float) -> Amount:
    return Amount(used, int(total * ratio))
