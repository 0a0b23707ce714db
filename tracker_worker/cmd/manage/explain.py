# SPDX-License-Identifier: Apache-2.0
"""`node explain`: why a node is full."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict
from oslo_config import cfg

from tracker_worker.cmd.manage.changes import Change, amounts_text, change_of
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.cmd.manage.hardware import page_size_text, ranges
from tracker_worker.cmd.manage.loading import loaded, print_faults, untracked
from tracker_worker.cmd.manage.session import snapshot
from tracker_worker.core.claim_origins import Correction, Origins, origins_of
from tracker_worker.core.history import StoredEvent
from tracker_worker.db import receipt_queries
from tracker_worker.domain.deltas import HeldCell, holding_of
from tracker_worker.domain.flavors import MB_PER_GB
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node, sum_fault, sum_of
from tracker_worker.domain.numa.topology import pages_of
from tracker_worker.domain.report import excess_reserves

MOST_CORRECTIONS = 10
MOST_EVENTS = 10_000
"""A node without corrections would have all its receipts read each time."""
_CLAIM = ("instance_uuid", "role", "project_id", "vcpus", "memory_mb", "disk_mb")
_CAUSE = ("since", "method", "request_id", "event_id")
_CELL = ("instance_uuid", "role", "cell", "memory_mb", "shared cpus", "pinned cpus", "pages")
_CORRECTION = ("recorded_at", "action", "instance_uuid", "role", "change", "reason", "event_id")


class Line(Struct, frozen=True):
    """The arithmetic of one resource: reserved + claimed = used; limit = total * ratio; free = limit - used.

    Disk in MB.
    """

    resource: str
    reserved: int
    claimed: int
    used: int
    total: int
    ratio: float
    limit: int
    free: int


class Cause(Struct, frozen=True):
    """The event that gave a claim its present size. All None: it is older than what receipts tell."""

    since: datetime | None
    sequence: int | None
    method: str | None
    event_id: str | None
    request_id: str | None


class ExplainedClaim(Struct, frozen=True):
    """A claim, who has it, since when, and what it holds."""

    instance_uuid: str
    role: str
    migration_uuid: str | None
    project_id: str
    vcpus: int
    memory_mb: int
    disk_mb: int
    cause: Cause
    cells: list[dict[str, Any]]
    devices: list[str]


class ExplainedCorrection(Struct, frozen=True):
    """A correction of an audit."""

    recorded_at: datetime | None
    sequence: int | None
    event_id: str
    change: Change


class Explanation(Struct, frozen=True):
    """Why a node is full. `broken` says how the used figures of its row differ from its claims, `conflicts`
    has the uuids whose reports were refused, `reserve_too_large` each part of its reserve that exceeds it.
    """

    name: str
    sequence: int
    broken: str | None
    conflicts: list[str]
    reserve_too_large: list[str]
    usage: list[Line]
    claims: list[ExplainedClaim]
    corrections: list[ExplainedCorrection]


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Explain the usage of a node: each claim with its origin, the sum, what audits corrected."""
    with snapshot(conf) as connection:
        node = loaded(connection, args.name_of_node)
        if not node.tracked:
            raise untracked(node)
        events = islice(receipt_queries.sequenced(connection, node.name), MOST_EVENTS)
        explained = explain(node, origins_of(node, events, MOST_CORRECTIONS))
    if args.format != TABLE:
        print_document(explained, args.format)
    else:
        _print(explained)
    print_faults(node)
    if any(claim.cause.since is None for claim in explained.claims):
        print_diagnostic(
            "claims without a time are older than what the receipts of the node tell, of which the newest "
            f"{MOST_EVENTS} are read"
        )
    return 0


def explain(node: Node, origins: Origins) -> Explanation:
    """Return the explanation of a tracked node."""
    claims = sorted(node.held(), key=lambda claim: (-claim.amounts.memory_mb, -claim.amounts.vcpus))
    return Explanation(
        name=node.name,
        sequence=node.sequence,
        broken=sum_fault(node),
        conflicts=list(node.conflicts),
        reserve_too_large=list(excess_reserves(node.resources, node.reserve).values()),
        usage=list(_usage(node)),
        claims=[_claim(node, claim, origins) for claim in claims],
        corrections=[_correction(each) for each in origins.corrections],
    )


def _usage(node: Node) -> Iterator[Line]:
    report, reserve, ratios, claimed = node.resources, node.reserve, node.ratios, sum_of(node)
    assert report is not None
    for name, total, ratio in (
        ("vcpus", report.vcpus, ratios.cpu),
        ("memory_mb", report.memory_mb, ratios.ram),
        ("disk_mb", report.local_gb * MB_PER_GB, ratios.disk),
    ):
        reserved, held, limit = getattr(reserve, name), getattr(claimed, name), int(total * ratio)
        used = reserved + held
        yield Line(name, reserved, held, used, total, ratio, limit, limit - used)


def _claim(node: Node, claim: Claim, origins: Origins) -> ExplainedClaim:
    holding = holding_of(node, claim)
    return ExplainedClaim(
        instance_uuid=claim.instance_uuid,
        role=claim.role.value,
        migration_uuid=claim.migration_uuid,
        project_id=claim.project_id,
        vcpus=holding.amounts.vcpus,
        memory_mb=holding.amounts.memory_mb,
        disk_mb=holding.amounts.disk_mb,
        cause=_cause(origins.claims.get((claim.instance_uuid, claim.role))),
        cells=[_cell(cell) for cell in holding.cells],
        devices=list(holding.devices),
    )


def _cause(event: StoredEvent | None) -> Cause:
    if event is None:
        return Cause(None, None, None, None, None)
    return Cause(event.recorded_at, event.sequence, event.method, event.event_id, event.request_id)


def _cell(cell: HeldCell) -> dict[str, Any]:
    pages = None if cell.page_kb is None else pages_of(cell.memory_mb, cell.page_kb)
    return {**asdict(cell), "pages": pages}


def _correction(found: Correction) -> ExplainedCorrection:
    event, delta = found.event, found.delta
    change = change_of(found.key, delta.old, delta.new, delta.reason)
    return ExplainedCorrection(event.recorded_at, event.sequence, event.event_id, change)


def _print(explained: Explanation) -> None:
    print_rows(
        Line.__struct_fields__,
        (list(asdict(line).values()) for line in explained.usage),
        f"Usage of node {explained.name} (reserved + claimed = used, total * ratio = limit)",
    )
    print_rows((*_CLAIM, *_CAUSE), _sum(explained), "Claims")
    held = [row for claim in explained.claims for row in _held(claim)]
    if held:
        print_rows(_CELL, held, "Held of NUMA cells")
    devices = [(each.instance_uuid, each.role, one) for each in explained.claims for one in each.devices]
    if devices:
        print_rows(("instance_uuid", "role", "device"), devices, "Held PCI devices")
    if explained.corrections:
        rows = map(_corrected, explained.corrections)
        print_rows(_CORRECTION, rows, "Last corrections of audits", keep=("instance_uuid",))


def _sum(explained: Explanation) -> Iterator[list[Any]]:
    """Yield the reserve, each claim, and the usage that they add up to."""
    none = [None] * len(_CAUSE)
    yield ["(reserved)", None, None, *(line.reserved for line in explained.usage), *none]
    for claim in explained.claims:
        yield [
            *(getattr(claim, name) for name in _CLAIM),
            *(getattr(claim.cause, name) for name in _CAUSE),
        ]
    yield ["(used)", None, None, *(line.used for line in explained.usage), *none]


def _held(claim: ExplainedClaim) -> Iterator[list[Any]]:
    for cell in claim.cells:
        size = cell["page_kb"]
        pages = None if size is None else f"{cell['pages']} of {page_size_text(size)}"
        shared, pinned = cell["shared_cpus"], ranges(cell["pinned_cpus"])
        yield [claim.instance_uuid, claim.role, cell["id"], cell["memory_mb"], shared, pinned or None, pages]


def _corrected(correction: ExplainedCorrection) -> list[Any]:
    change = correction.change
    return [
        correction.recorded_at,
        change.action,
        change.instance_uuid,
        change.role,
        amounts_text(change),
        change.reason,
        correction.event_id,
    ]
