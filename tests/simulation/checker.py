# SPDX-License-Identifier: Apache-2.0
"""Checks the promises: SQL, queues and notifications against the histories. Imports nothing of the worker.

`check` must pass after every step: SQL shows a node exactly as it is after one of its events, and each change
has a notification in the outbox or on the bus. `check_end` must pass once the faults are over and no message
waits.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ledger_model import Json, Key
from tests.simulation.faults import Violation
from tests.simulation.history import Entry, History

MOST_KILLS = 4
MOST_SOURCES = 8

_NODES = "SELECT name, sequence, failed_builds, vcpus_used, memory_mb_used, disk_mb_used FROM nodes"
_CLAIMS = (
    "SELECT node, instance_uuid, role, vcpus, memory_mb, disk_mb, migration_uuid, vm_state, task_state"
    " FROM claims"
)
_RECEIPTS = "SELECT rowid, event_id, node, sequence, outcome FROM receipts WHERE rowid > ? ORDER BY rowid"
_LETTERS = "SELECT event_id, code, node FROM dead_letters"
_OUTBOX = "SELECT id, node, message_id, body FROM outbox ORDER BY id"


class Notification:
    """A notification, as the outbox or the bus has it."""

    def __init__(self, row_id: int, node: str | None, body: bytes) -> None:
        message = json.loads(body)
        data = message["payload"]["nova_object.data"]
        self.row_id = row_id
        self.node = node
        self.type: str = message["event_type"].removeprefix("compute_node.")
        self.sequence: int = data.get("sequence") or 0
        self.since: int | None = data.get("since")
        self.used = tuple(data.get(name) for name in ("vcpus_used", "memory_mb_used", "local_gb_used"))
        cause = data.get("cause") or {}
        self.code: str | None = data.get("code")
        self.event_id: str | None = cause.get("nova_object.data", {}).get("event_id")


@dataclass(frozen=True)
class RestorePoint:
    """What SQL had at a moment: the sequence of each node, the last receipt, the notifications."""

    sequences: dict[str, int]
    last_receipt: int
    notifications: dict[str, Notification]
    broken: set[str]


class Checker:
    """Reads the database on a connection of its own."""

    def __init__(self, file: Path, histories: Mapping[str, History]) -> None:
        self._database = sqlite3.connect(file)
        self._histories = histories
        self._last_receipt = 0
        self.broken: set[str] = set()
        """Nodes whose row was changed by SQL and is not rebuilt yet."""
        self._sequences: dict[str, int] = dict.fromkeys(histories, 0)
        self._settled: set[str] = set()
        self._seen: dict[str, Notification] = {}
        self._published: dict[str, None] = {}
        self._last_published: dict[str | None, int] = {}

    def close(self) -> None:
        self._database.close()

    def sequence(self, node: str) -> int:
        """What SQL has of a node."""
        found = self._rows("SELECT sequence FROM nodes WHERE name = ?", node)
        return found[0][0] if found else 0

    def restore_point(self) -> RestorePoint:
        """Return what a failover would go back to. To be called after `check`."""
        return RestorePoint(dict(self._sequences), self._last_receipt, dict(self._seen), set(self.broken))

    def roll_back(self, point: RestorePoint) -> None:
        """Forget what the database lost: no promise covers commits after the restore point.

        New outbox rows reuse lost ids, so that only the order of the rows that are left is checked.
        """
        self._sequences = dict(point.sequences)
        self._last_receipt = point.last_receipt
        self._seen = dict(point.notifications)
        self.broken = set(point.broken)
        self._last_published = {}
        for message_id in self._seen.keys() & self._published.keys():
            seen = self._seen[message_id]
            last = self._last_published.get(seen.node, 0)
            self._last_published[seen.node] = max(last, seen.row_id)

    def attempts_are_left(self) -> bool:
        """Whether there are rows in `attempts`, some of them perhaps of settled events."""
        return bool(self._rows("SELECT 1 FROM attempts LIMIT 1"))

    def settled(self, event_id: str) -> None:
        """A message was acknowledged: its event must be in SQL, or have been."""
        if event_id in self._settled or self._rows("SELECT 1 FROM receipts WHERE event_id = ?", event_id):
            return
        for node, history in self._histories.items():
            if event_id in history.unrecorded and self.has_seen(node, *history.unrecorded[event_id]):
                return
        raise Violation(f"lost: {event_id} is acknowledged and not in SQL")

    def has_seen(self, node: str, source: str, number: int) -> bool:
        """Whether a node remembers an audit, or the maximum number of newer sources."""
        ((text,),) = self._rows("SELECT sources FROM nodes WHERE name = ?", node)
        sources = json.loads(text or "{}")
        return len(sources) == MOST_SOURCES if source not in sources else sources[source]["audited"] >= number

    def break_sum(self, node: str) -> bool:
        """Change a node's usage by SQL, as an operator could; return whether the node has a row."""
        found = self._database.execute("UPDATE nodes SET vcpus_used = vcpus_used + 1 WHERE name = ?", (node,))
        self._database.commit()
        if found.rowcount:
            self.broken.add(node)
        return bool(found.rowcount)

    def rebuild(self) -> None:
        """Recompute the broken nodes from their claims."""
        claimed = "(SELECT coalesce(sum(vcpus), 0) FROM claims WHERE node = nodes.name)"
        for node in sorted(self.broken):
            self._database.execute(
                f"UPDATE nodes SET vcpus_used = reserved_vcpus + {claimed} WHERE name = ?", (node,)
            )
        self._database.commit()
        self.broken.clear()

    def knows(self, message_id: str) -> bool:
        """Whether a notification was seen in the outbox, or on the bus."""
        return message_id in self._seen

    def published(self, rows: Iterable[Any]) -> None:
        """The bus has taken these, in this order. First publications of a node must be in outbox order."""
        for row in rows:
            if row.message_id in self._published:
                continue
            self._published[row.message_id] = None
            self._seen.setdefault(row.message_id, Notification(row.id, row.node, row.body))
            if row.id < self._last_published.get(row.node, 0):
                raise Violation(f"notification {row.id} of {row.node} was overtaken")
            self._last_published[row.node] = row.id

    def shown(self, view: Json, least: int) -> None:
        """A reply to get_node: a state of the node that is not older than the call."""
        sequence, node = view["sequence"], view["name"]
        if sequence < least:
            raise Violation(f"stale read of {node}: {sequence}, {least} was committed before")
        if sequence > self.sequence(node):
            raise Violation(f"{node} is shown at {sequence}, which is not committed")
        must = self._histories[node].at(sequence).used.shown
        seen = (view["vcpus_used"], view["memory_mb_used"], view["local_gb_used"])
        if seen != must:
            raise Violation(f"{node} is shown with {seen} at {sequence}, not {must}")

    def check(self) -> None:
        """Check what must be true at any time of SQL and notifications. Raises Violation."""
        nodes = {row[0]: row[1:] for row in self._rows(_NODES)}
        self._check_receipts(nodes)
        claims: dict[str, dict[Key, tuple[object, ...]]] = {}
        for node, uuid, role, *held in self._rows(_CLAIMS):
            claims.setdefault(node, {})[uuid, role] = tuple(held)
        for name, (sequence, failed_builds, *used) in nodes.items():
            if not sequence:
                raise Violation(f"{name} has a row and no sequence")
            must = self._histories[name].at(sequence)
            _same(name, sequence, "claims", claims.get(name, {}), must.rows)
            if name not in self.broken:
                _same(name, sequence, "usage", tuple(used), must.used)
            _same(name, sequence, "failed builds", failed_builds, must.failed_builds)
        self._check_letters()
        self._check_notifications(nodes)

    def check_end(self, attempts_may_stay: bool) -> None:
        """Check that every cast is settled and every notification is published. Raises Violation."""
        self.check()
        for node, history in self._histories.items():
            if self._sequences[node] != len(history.entries):
                raise Violation(f"{node} ends at {self._sequences[node]} of {len(history.entries)}")
        for what in ("id FROM outbox", *([] if attempts_may_stay else ["* FROM attempts"])):
            left = self._rows(f"SELECT {what}")
            if left:
                raise Violation(f"left: {what}: {left}")
        unpublished = self._seen.keys() - self._published.keys()
        if unpublished:
            raise Violation(f"{len(unpublished)} notifications were never published")

    def _check_receipts(self, nodes: Mapping[str, Any]) -> None:
        """The new receipts of each node continue its sequence, and are those of its next events."""
        for rowid, event_id, node, sequence, outcome in self._rows(_RECEIPTS, self._last_receipt):
            self._last_receipt = rowid
            self._settled.add(event_id)
            if node is None or sequence is None:
                raise Violation(f"{event_id} left a receipt without a node or a sequence")
            if sequence != self._sequences[node] + 1:
                raise Violation(f"{node}: receipt {sequence} of {event_id} follows {self._sequences[node]}")
            self._sequences[node] = sequence
            expected = self._histories[node].entries[sequence - 1]
            if (_id_of(expected, event_id), outcome) != (expected.event_id, expected.outcome):
                raise Violation(
                    f"{node} at {sequence}: {event_id} is {outcome};"
                    f" it should be {expected.event_id}, {expected.outcome}"
                )
        for name, row in nodes.items():
            if row[0] != self._sequences[name]:
                raise Violation(f"{name} is at {row[0]}, its receipts end at {self._sequences[name]}")

    def _check_letters(self) -> None:
        expected = sorted(
            entry.code
            for node, history in self._histories.items()
            for entry in history.entries[: self._sequences[node]]
            if entry.code is not None
        )
        letters = self._rows(_LETTERS)
        if sorted(code for _, code, _ in letters) != expected:
            raise Violation(f"parked are {letters}, it should be {expected}")

    def _check_notifications(self, nodes: Mapping[str, Any]) -> None:
        waiting = set()
        for row_id, node, message_id, body in self._rows(_OUTBOX):
            waiting.add(message_id)
            if message_id not in self._seen:
                self._seen[message_id] = Notification(row_id, node, body)
        vanished = self._seen.keys() - self._published.keys() - waiting
        if vanished:
            raise Violation(f"{len(vanished)} notifications are gone, and were never published")
        in_order = sorted(self._seen.values(), key=lambda seen: seen.row_id)
        for node in nodes:
            self._check_notifications_of(node, [seen for seen in in_order if seen.node == node])

    def _check_notifications_of(self, node: str, notifications: list[Notification]) -> None:
        history, sequence = self._histories[node], self._sequences[node]
        last = 0
        for each in notifications:
            if each.type != "usage":
                continue
            if each.since != last or each.sequence <= last:
                raise Violation(f"{node}: usage at {each.sequence} since {each.since} follows {last}")
            if each.used != history.at(each.sequence).used.shown:
                raise Violation(f"{node}: usage at {each.sequence} says {each.used}")
            last = each.sequence
        if last < history.last_change(sequence):
            changed = history.last_change(sequence)
            raise Violation(f"{node} has changed at {changed}, its last usage notification is of {last}")
        entries = history.entries[:sequence]
        for kind, outcome in (("claim.error", "refused"), ("event.error", "parked")):
            must = sum(entry.outcome == outcome for entry in entries)
            seen = sum(each.type == kind and each.code != "ledger_broken" for each in notifications)
            if seen != must:
                raise Violation(f"{node}: {seen} notifications of {kind}, it should be {must}")

    def _rows(self, statement: str, *values: object) -> list[Any]:
        return self._database.execute(statement, values).fetchall()


def _id_of(expected: Entry, event_id: str) -> str:
    """An event that reuses the id of another one gets a receipt with an id of its own."""
    return expected.event_id if expected.code == "event_id_reused" else event_id


def _same(node: str, sequence: int, what: str, found: object, right: object) -> None:
    if found != right:
        raise Violation(f"{node} at {sequence}: {what} {found}, it should be {right}")
