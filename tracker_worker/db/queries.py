# SPDX-License-Identifier: Apache-2.0
"""The query of the operators' programs for the list of nodes. Reads only."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from tracker_worker.db.tables import CLAIMS, NODES, RECEIPTS
from tracker_worker.domain.flavors import MB_PER_GB, Amounts
from tracker_worker.domain.held_claims import Role
from tracker_worker.domain.objects import Resources
from tracker_worker.domain.report import excess_reserves
from tracker_worker.domain.shapes import read_known


class NodeSummary(Struct, frozen=True):
    """A line of the list of nodes; names and units are those of the node view.

    `conflicts` are the uuids whose reports were refused for this name. An untracked name with conflicts has
    no uuid, host or totals. `broken`: the used amounts in the node's row are not the sum of its claims, or
    its report cannot be read; the worker holds the events of such a node. `reserve_too_large` has each part
    of its reserve that exceeds it. `last_event` is the time (UTC) of the node's newest receipt; an audit that
    changes nothing leaves none. `fullness` is the largest used share of vcpus, memory and disk, each of its
    total times its allocation ratio.
    """

    name: str
    host: str | None
    uuid: str | None
    vcpus: int | None
    vcpus_used: int
    memory_mb: int | None
    memory_mb_used: int
    local_gb: int | None
    local_gb_used: int
    running_vms: int
    disabled: bool
    conflicts: list[str]
    broken: bool
    reserve_too_large: list[str]
    last_event: datetime | None
    fullness: float | None


def _as_it_is(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """Return a JSON column as text, so that a row with invalid JSON does not fail the whole query."""
    return sa.type_coerce(column, sa.Text).label(column.name)


_AMOUNTS = ("vcpus", "memory_mb", "disk_mb")
_CLAIMED = (
    sa.select(
        CLAIMS.c.node,
        sa.func.count(sa.case((CLAIMS.c.role == Role.INSTANCE.value, 1))).label("running_vms"),
        *(sa.func.sum(CLAIMS.c[amount]).label(amount) for amount in _AMOUNTS),
    )
    .group_by(CLAIMS.c.node)
    .subquery()
)
_BROKEN = sa.or_(
    *(
        NODES.c[f"{amount}_used"] != NODES.c[f"reserved_{amount}"] + sa.func.coalesce(_CLAIMED.c[amount], 0)
        for amount in _AMOUNTS
    )
)
_NODES = (
    sa.select(
        NODES.c.name, NODES.c.host, NODES.c.uuid, NODES.c.vcpus_used, NODES.c.memory_mb_used,
        NODES.c.disk_mb_used, NODES.c.disabled, NODES.c.reserved_vcpus, NODES.c.reserved_memory_mb,
        NODES.c.reserved_disk_mb, NODES.c.cpu_allocation_ratio, NODES.c.ram_allocation_ratio,
        NODES.c.disk_allocation_ratio, _as_it_is(NODES.c.conflicts), _as_it_is(NODES.c.resources),
        sa.func.coalesce(_CLAIMED.c.running_vms, 0).label("running_vms"), _BROKEN.label("broken"),
        RECEIPTS.c.recorded_at.label("last_event"),
    )
    .outerjoin(_CLAIMED, _CLAIMED.c.node == NODES.c.name)
    .outerjoin(RECEIPTS, sa.and_(RECEIPTS.c.node == NODES.c.name, RECEIPTS.c.sequence == NODES.c.sequence))
    .order_by(NODES.c.name)
)  # fmt: skip


def nodes(connection: sa.Connection) -> list[NodeSummary]:
    """Return the nodes that are tracked, in conflict or broken, by name: one statement.

    This function decodes the reports, since PostgreSQL cannot process JSON with a NUL in a text.
    """
    rows = connection.execute(_NODES)
    summaries = [(row.uuid, _summary(row)) for row in rows]
    return [each for uuid, each in summaries if uuid is not None or each.conflicts or each.broken]


def _json(value: Any) -> Any:
    """Return a JSON value, which some drivers return as text and others decode."""
    return msgspec.json.decode(value) if isinstance(value, str) else value


def _summary(row: Any) -> NodeSummary:
    report: dict[str, Any] = {}
    conflicts: list[str] = []
    excess: list[str] = []
    readable = True
    try:
        report = _json(row.resources) or {}
        conflicts = list(_json(row.conflicts))
        if report:
            reserve = Amounts(row.reserved_vcpus, row.reserved_memory_mb, row.reserved_disk_mb)
            excess = list(excess_reserves(read_known(report, Resources), reserve).values())
    except (msgspec.MsgspecError, TypeError, ValueError):
        readable = False
    return NodeSummary(
        name=row.name,
        host=row.host,
        uuid=row.uuid,
        vcpus=report.get("vcpus"),
        vcpus_used=row.vcpus_used,
        memory_mb=report.get("memory_mb"),
        memory_mb_used=row.memory_mb_used,
        local_gb=report.get("local_gb"),
        local_gb_used=row.disk_mb_used // MB_PER_GB,
        running_vms=row.running_vms,
        disabled=row.disabled,
        conflicts=conflicts,
        broken=bool(row.broken) or not readable,
        reserve_too_large=excess,
        last_event=row.last_event,
        fullness=_fullness(row, report),
    )


def _fullness(row: Any, report: dict[str, Any]) -> float | None:
    shares = (
        (row.vcpus_used, report.get("vcpus"), row.cpu_allocation_ratio),
        (row.memory_mb_used, report.get("memory_mb"), row.ram_allocation_ratio),
        (row.disk_mb_used / MB_PER_GB, report.get("local_gb"), row.disk_allocation_ratio),
    )
    found = [used / (total * ratio) for used, total, ratio in shares if total and ratio]
    return round(max(found), 4) if found else None
