# SPDX-License-Identifier: Apache-2.0
"""The rows that `limit` writes: those of tracker-worker, without any rule, in SQL of constant text.

The texts are those of tracker-worker's own statements. They go straight to the driver, so that neither
SQLAlchemy nor what the worker does around it counts for the limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec import json

from tests.ledger_model import Amounts, amounts_of
from tracker_worker.db import bulk
from tracker_worker.db.tables import CLAIMS, NODES, OUTBOX, RECEIPTS, TOUCHED

Json = dict[str, Any]
Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""By statement, in `_STATEMENTS`."""

_NODE = ("sequence", "usage_sequence", "commit_id", "sources", "vcpus_used", "memory_mb_used", "disk_mb_used")
_RECEIPT = (
    "event_id", "digest", "node", "sequence", "method", "outcome", "reply", "instance_uuid", "request_id",
    "delta",
)  # fmt: skip
_KEY = ("node", "instance_uuid", "role")
_STATES = ("vm_state", "task_state")
_CLAIM = (
    *_KEY, *_STATES, "vcpus", "memory_mb", "disk_mb", "root_gb", "ephemeral_gb", "swap_mb", "volume_backed",
    "project_id", "os_type", "assigned",
)  # fmt: skip
_NOTIFICATION = ("id", "node", "event_type", "priority", "message_id", "body")

_STATEMENTS: Mapping[str, tuple[bulk.Bulk, Sequence[str] | None]] = {
    "nodes": (bulk.update(NODES, ("name",), _NODE, locked=True), None),
    "receipts": (bulk.insert(RECEIPTS, _RECEIPT), _RECEIPT),
    "claimed": (bulk.insert(CLAIMS, _CLAIM), _CLAIM),
    "changed": (bulk.update(CLAIMS, _KEY, _STATES), None),
    "released": (bulk.delete(CLAIMS, _KEY), None),
    "origins": (bulk.update(TOUCHED, ("node", "instance_uuid"), ("source", "sequence")), None),
    "new_origins": (bulk.insert(TOUCHED, TOUCHED.c.keys()), TOUCHED.c.keys()),
    "notifications": (bulk.insert(OUTBOX, _NOTIFICATION), _NOTIFICATION),
    "published": (bulk.delete(OUTBOX, ("id", "message_id")), None),
}
"""With the columns of an insert; in the order in which a transaction executes them."""


class Statements:
    """Executes the statements on one connection of the driver."""

    def __init__(self, engine: sa.Engine) -> None:
        self._connection = engine.raw_connection()
        self._dialect = engine.dialect.name
        self._one_by_one = self._dialect == "sqlite"
        self._compiled = {
            name: self._compile(engine.dialect, *statement) for name, statement in _STATEMENTS.items()
        }

    def commit(self, rows: Rows) -> None:
        """Execute the statements that have rows, in one transaction."""
        cursor = self._connection.cursor()
        for name, (text, constants) in self._compiled.items():
            if not rows.get(name):
                continue
            if self._one_by_one:
                cursor.executemany(text, rows[name])
            else:
                cursor.execute(text, constants | self._parameters(name, rows[name]))
        self._connection.commit()
        cursor.close()

    def _parameters(self, name: str, rows: Sequence[bulk.Row]) -> dict[str, Any]:
        concatenated: dict[str, Any] = {}
        if self._dialect == "postgresql":
            rows, concatenated = _STATEMENTS[name][0].without_bytes(rows)
        return {"rows": json.encode(rows).decode(), **concatenated}

    def _compile(
        self, dialect: Any, statement: bulk.Bulk, columns: Sequence[str] | None
    ) -> tuple[str, dict[str, Any]]:
        """The text for this driver, and the values of its constants."""
        compiler = type(dialect)(paramstyle="named" if self._one_by_one else "pyformat")
        if self._one_by_one:
            each: Any = statement.each
            return str(each.compile(dialect=compiler, column_keys=columns)), {}
        chosen: Any = statement.joined if dialect.name == "mysql" else statement.at_once
        compiled = chosen.compile(dialect=compiler)
        return str(compiled), dict(compiled.params)


@dataclass
class NodeState:
    """What is kept in memory of a node: the figures of its row, its claims and its origins."""

    name: str
    uuid: str
    host: str
    sequence: int
    usage_sequence: int
    used: Amounts
    sources: Json
    claims: dict[str, tuple[Amounts, str, str | None]]
    origins: set[str]

    def add(self, amounts: Amounts, sign: int) -> None:
        """Add to the usage, or take away (`sign` -1)."""
        self.used = Amounts(*(used + sign * more for used, more in zip(self.used, amounts, strict=True)))

    def row(self, commit_id: str) -> Row:
        """The node's row."""
        vcpus, memory_mb, disk_mb = self.used
        return {
            "b_name": self.name,
            "sequence": self.sequence,
            "usage_sequence": self.usage_sequence,
            "commit_id": commit_id,
            "sources": json.encode(self.sources).decode(),
            "vcpus_used": vcpus,
            "memory_mb_used": memory_mb,
            "disk_mb_used": disk_mb,
        }

    def figures(self) -> Json:
        """What a notification says."""
        vcpus, memory_mb, local_gb = self.used.shown
        return {
            "node": self.name,
            "uuid": self.uuid,
            "host": self.host,
            "sequence": self.sequence,
            "since": self.usage_sequence,
            "vcpus_used": vcpus,
            "memory_mb_used": memory_mb,
            "local_gb_used": local_gb,
        }


def load_nodes(engine: sa.Engine) -> dict[str, NodeState]:
    """Load all nodes."""
    nodes = {}
    with engine.connect() as connection:
        for row in connection.execute(sa.select(NODES)):
            used = Amounts(row.vcpus_used, row.memory_mb_used, row.disk_mb_used)
            figures = (row.name, row.uuid, row.host, row.sequence, row.usage_sequence)
            nodes[row.name] = NodeState(*figures, used, row.sources or {}, {}, set())
        for row in connection.execute(sa.select(CLAIMS)):
            amounts = Amounts(row.vcpus, row.memory_mb, row.disk_mb)
            nodes[row.node].claims[row.instance_uuid] = (amounts, row.vm_state, row.task_state)
        for row in connection.execute(sa.select(TOUCHED)):
            nodes[row.node].origins.add(row.instance_uuid)
    return nodes


def claim_of(instance: Json) -> tuple[Amounts, str, str | None]:
    """What is kept in memory of an instance."""
    return amounts_of(instance["flavor"]), instance["vm_state"], instance["task_state"]


def claim_row(node: str, instance: Json) -> Row:
    """The row of an instance's claim."""
    (vcpus, memory_mb, disk_mb), vm_state, task_state = claim_of(instance)
    return {
        "node": node,
        "instance_uuid": instance["uuid"],
        "role": "instance",
        "vm_state": vm_state,
        "task_state": task_state,
        "vcpus": vcpus,
        "memory_mb": memory_mb,
        "disk_mb": disk_mb,
        "root_gb": instance["flavor"]["root_gb"],
        "ephemeral_gb": 0,
        "swap_mb": 0,
        "volume_backed": False,
        "project_id": instance["project_id"],
        "os_type": instance["os_type"],
        "assigned": False,
    }


def claim_key(node: str, uuid: str) -> Row:
    """The parameters that find a claim."""
    return {"b_node": node, "b_instance_uuid": uuid, "b_role": "instance"}
