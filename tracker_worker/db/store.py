# SPDX-License-Identifier: Apache-2.0
"""Nodes in SQL: load them, compare and swap them, save their changes. Statements of constant shape.

The compare-and-swap compares a token: the node's sequence and the random id of the commit that wrote it. If
the database loses commits, a sequence may be used again, but not a commit id.
"""

from collections.abc import Iterable, Mapping, Sequence
from sys import intern
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from tracker_worker.core.records import NodeChange, Token
from tracker_worker.db import bulk
from tracker_worker.db.bulk import Row, as_ids
from tracker_worker.db.single_statement import Insert, update_and_insert
from tracker_worker.db.tables import CLAIMS, NODES, RECEIPTS, TOUCHED
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Claim, HeldClaims, Role, numbers_of
from tracker_worker.domain.node import Node, Ratios
from tracker_worker.domain.objects import GuestTopology, Origin, PciRequest, Resources
from tracker_worker.domain.origins import (
    Source,
)
from tracker_worker.domain.pci.pools import HeldDevice
from tracker_worker.domain.report import Owner
from tracker_worker.domain.shapes import read_known

_LOAD_NODES = bulk.select(NODES.c.name)
_LOAD_CLAIMS = bulk.select(CLAIMS.c.node)
_LOAD_TOUCHED = bulk.select(TOUCHED.c.node)
_TOKENS = bulk.select(NODES.c.name, NODES.c.name, NODES.c.sequence, NODES.c.commit_id)
_OWNERS = bulk.select(NODES.c.uuid, NODES.c.uuid, NODES.c.name, NODES.c.host)

_STATE_COLUMNS = (
    "uuid", "sequence", "usage_sequence", "vcpus_used", "memory_mb_used", "disk_mb_used",
    "disabled", "failed_builds", "conflicts", "commit_id", "sources",
)  # fmt: skip
_REPORT_COLUMNS = (
    "host", "reserved_vcpus", "reserved_memory_mb", "reserved_disk_mb",
    "cpu_allocation_ratio", "ram_allocation_ratio", "disk_allocation_ratio", "resources",
)  # fmt: skip
_SWAP = bulk.update(NODES, ("name", "sequence", "commit_id"), _STATE_COLUMNS, locked=True)
_SWAP_ONE = (
    sa.update(NODES)
    .values({name: sa.bindparam(name) for name in _STATE_COLUMNS})
    .where(
        NODES.c.name == sa.bindparam("b_name"),
        NODES.c.sequence == sa.bindparam("b_sequence"),
        NODES.c.commit_id == sa.bindparam("b_commit_id"),
    )
)
_SWAP_UNLESS_RECEIVED = _SWAP_ONE.where(~sa.exists().where(RECEIPTS.c.event_id == sa.bindparam("b_event_id")))
_SAVE_REPORT = bulk.update(NODES, ("name",), _REPORT_COLUMNS)
_ADD_NODES = bulk.insert(NODES, ("name", *_STATE_COLUMNS, *_REPORT_COLUMNS))
_DROP_CLAIMS = bulk.delete(CLAIMS, ("node", "instance_uuid", "role"))
_ADD_CLAIMS = bulk.insert(CLAIMS, CLAIMS.c.keys())
_UNREADABLE = (msgspec.ValidationError, TypeError, ValueError)
_DROP_TOUCHED = bulk.delete(TOUCHED, ("node", "instance_uuid"))
_PUT_TOUCHED = bulk.upsert(TOUCHED, TOUCHED.c.keys())
_ADD_CLAIM = Insert(CLAIMS, tuple(CLAIMS.c.keys()))
_PUT_ONE_TOUCHED = Insert(TOUCHED, tuple(TOUCHED.c.keys()), replaces=True)


class StaleNode(Exception):
    """Another writer has changed a node since it was loaded. Nothing was committed: load the node again."""


class AlreadyReceived(StaleNode):
    """The event that was not looked up has a receipt. Nothing was committed: look it up."""


UNTIL_READABLE = (
    "its events wait until its rows can be read: restore them, or start the version that has written them"
)


class NodesBroken(Exception):
    """The ledgers of these nodes cannot be used, so that no event can be applied. `reasons` is by name."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons = reasons


def load(connection: sa.Connection, names: Iterable[str]) -> dict[str, Node]:
    """Return nodes by name; a name without a row is an untracked node. Three statements for any number.

    Raises NodesBroken if rows cannot be decoded.
    """
    nodes = load_ledgers(connection, names)
    last_origins: dict[str, dict[str, Origin]] = {}
    for row in sorted(connection.execute(_LOAD_TOUCHED, as_ids(nodes)), key=lambda row: row.sequence):
        last_origins.setdefault(row.node, {})[row.instance_uuid] = Origin(row.source, row.sequence)
    return {name: replace(node, last_origins=last_origins.get(name, {})) for name, node in nodes.items()}


def load_ledgers(connection: sa.Connection, names: Iterable[str]) -> dict[str, Node]:
    """Return nodes without the last origins of their instances (`last_origins`). Two statements.

    The rows of the nodes are read before the claims: if another writer adds a claim in between, the
    compare-and-swap refuses the sequence that was read. Unknown fields, which a newer version has written,
    are ignored. Raises NodesBroken.
    """
    nodes = {name: Node(name) for name in names}
    ids = as_ids(nodes)
    rows = connection.execute(_LOAD_NODES, ids).all()
    claims: dict[str, list[Claim]] = {}
    unreadable: dict[str, str] = {}
    for row in connection.execute(_LOAD_CLAIMS, ids):
        held = claims.setdefault(row.node, [])
        try:
            held.append(_claim(row))
        except _UNREADABLE as error:
            reason = f"a claim of instance {row.instance_uuid} cannot be read ({error}); {UNTIL_READABLE}"
            unreadable[row.node] = reason
    for row in rows:
        try:
            nodes[row.name] = _node(row, claims.get(row.name, ()))
        except _UNREADABLE as error:
            unreadable[row.name] = f"its row cannot be read ({error}); {UNTIL_READABLE}"
    for name in claims.keys() - {row.name for row in rows}:
        unreadable[name] = f"it has claims and no row; {UNTIL_READABLE}"
    if unreadable:
        raise NodesBroken(unreadable)
    return nodes


def load_reports(connection: sa.Connection, names: Iterable[str]) -> dict[str, Node]:
    """Return nodes without their claims and last origins: their reports, reserves and ratios. One statement.

    A name without a row is an untracked node. Raises NodesBroken.
    """
    nodes = {name: Node(name) for name in names}
    unreadable: dict[str, str] = {}
    for row in connection.execute(_LOAD_NODES, as_ids(nodes)):
        try:
            nodes[row.name] = _node(row, ())
        except _UNREADABLE as error:
            unreadable[row.name] = f"its row cannot be read ({error}); {UNTIL_READABLE}"
    if unreadable:
        raise NodesBroken(unreadable)
    return nodes


def tokens(connection: sa.Connection, names: Iterable[str]) -> dict[str, Token]:
    """Return the token of each node that has a row."""
    return {row.name: (row.sequence, row.commit_id) for row in connection.execute(_TOKENS, as_ids(names))}


def uuid_owners(connection: sa.Connection, uuids: Iterable[str]) -> dict[str, Owner]:
    """Return the tracked nodes that have these uuids, by uuid."""
    return {row.uuid: Owner(row.name, row.host) for row in connection.execute(_OWNERS, as_ids(uuids))}


def names(connection: sa.Connection) -> list[str]:
    """Return the names of all tracked nodes."""
    query = sa.select(NODES.c.name).where(NODES.c.uuid.is_not(None)).order_by(NODES.c.name)
    return list(connection.scalars(query))


def swap(connection: sa.Connection, changes: Iterable[NodeChange]) -> None:
    """Compare and swap the nodes in name order. Raises StaleNode if the token of any has changed."""
    ordered = sorted(changes, key=lambda change: change.after.name)
    known = [change for change in ordered if change.before.sequence]
    if known and _SWAP.execute(connection, [_swap_row(change) for change in known]) != len(known):
        raise StaleNode(", ".join(change.after.name for change in known))
    new = [
        {"name": change.after.name, **_state_row(change.after), **_report_row(change.after)}
        for change in ordered
        if not change.before.sequence
    ]
    if new:
        _ADD_NODES.execute(connection, new)


def swap_unless_received(connection: sa.Connection, change: NodeChange, event_id: str) -> None:
    """Compare and swap one node with a row. Raises StaleNode also if the event has a receipt."""
    swapped = connection.execute(_SWAP_UNLESS_RECEIVED, {**_swap_row(change), "b_event_id": event_id})
    if swapped.rowcount != 1:
        raise StaleNode(change.after.name)


def swap_and_insert(
    connection: sa.Connection, change: NodeChange, inserts: Sequence[tuple[Insert, Row]]
) -> None:
    """Compare and swap one node with a row, then insert rows in the order given: one statement of PostgreSQL.

    Raises StaleNode if the node's token has changed: nothing is inserted then.
    """
    if not update_and_insert(connection, _SWAP_ONE, _swap_row(change), inserts):
        raise StaleNode(change.after.name)


def inserts_of(change: NodeChange) -> list[tuple[Insert, Row]]:
    """Return the inserts of a node's new claims, and of its touched instances, which may be there already."""
    node = change.after
    claims = [claim for key in sorted(change.claims) if (claim := node.claim(*key)) is not None]
    uuids = [uuid for uuid in sorted(change.last_origins) if uuid in node.last_origins]
    return [
        *((_ADD_CLAIM, _claim_row(node.name, claim)) for claim in claims),
        *((_PUT_ONE_TOUCHED, _last_origin_row(node.name, uuid, node.last_origins[uuid])) for uuid in uuids),
    ]


def save(connection: sa.Connection, changes: Iterable[NodeChange]) -> None:
    """Write reports, claims and touched instances, which the swap leaves out: five statements at most.

    Raises StaleNode if a claim to delete does not exist: another writer has deleted it.
    """
    changed = list(changes)
    reports = [
        {"b_name": change.after.name, **_report_row(change.after)}
        for change in changed
        if change.before.sequence and change.after.resources is not change.before.resources
    ]
    keys = [(change, *key) for change in changed for key in sorted(change.claims)]
    dropped = [
        {"b_node": change.after.name, "b_instance_uuid": uuid, "b_role": role.value}
        for change, uuid, role in keys
        if change.before.claim(uuid, role) is not None
    ]
    added = [
        _claim_row(change.after.name, claim)
        for change, uuid, role in keys
        if (claim := change.after.claim(uuid, role)) is not None
    ]
    marks = [(change, uuid) for change in changed for uuid in sorted(change.last_origins)]
    forgotten = [
        {"b_node": change.after.name, "b_instance_uuid": uuid}
        for change, uuid in marks
        if uuid in change.before.last_origins and uuid not in change.after.last_origins
    ]
    last_origins = [
        _last_origin_row(change.after.name, uuid, origin)
        for change, uuid in marks
        if (origin := change.after.last_origins.get(uuid)) is not None
    ]
    for statement, rows in (
        (_SAVE_REPORT, reports),
        (_DROP_CLAIMS, dropped),
        (_ADD_CLAIMS, added),
        (_DROP_TOUCHED, forgotten),
        (_PUT_TOUCHED, last_origins),
    ):
        if rows and statement.execute(connection, rows) < len(rows) and statement is _DROP_CLAIMS:
            raise StaleNode(", ".join(sorted({row["b_node"] for row in rows})))


def _swap_row(change: NodeChange) -> dict[str, Any]:
    before, after = change.before, change.after
    key = {"b_name": after.name, "b_sequence": before.sequence, "b_commit_id": before.commit_id}
    return key | _state_row(after)


def _state_row(node: Node) -> dict[str, Any]:
    return {
        "uuid": node.resources and node.resources.uuid,
        "sequence": node.sequence,
        "usage_sequence": node.usage_sequence,
        "vcpus_used": node.used.vcpus,
        "memory_mb_used": node.used.memory_mb,
        "disk_mb_used": node.used.disk_mb,
        "disabled": node.disabled,
        "failed_builds": node.failed_builds,
        "conflicts": list(node.conflicts),
        "commit_id": node.commit_id,
        "sources": _plain(node.sources),
    }


def _report_row(node: Node) -> dict[str, Any]:
    report = node.resources
    return {
        "host": report and report.host,
        "reserved_vcpus": node.reserve.vcpus,
        "reserved_memory_mb": node.reserve.memory_mb,
        "reserved_disk_mb": node.reserve.disk_mb,
        "cpu_allocation_ratio": node.ratios.cpu,
        "ram_allocation_ratio": node.ratios.ram,
        "disk_allocation_ratio": node.ratios.disk,
        "resources": report and msgspec.to_builtins(report),
    }


def _claim_row(node: str, claim: Claim) -> dict[str, Any]:
    amounts, flavor = claim.amounts, claim.flavor
    return {
        "node": node,
        "instance_uuid": claim.instance_uuid,
        "role": claim.role.value,
        "migration_uuid": claim.migration_uuid,
        "vcpus": amounts.vcpus,
        "memory_mb": amounts.memory_mb,
        "disk_mb": amounts.disk_mb,
        "root_gb": flavor.root_gb,
        "ephemeral_gb": flavor.ephemeral_gb,
        "swap_mb": flavor.swap_mb,
        "volume_backed": claim.volume_backed,
        "project_id": claim.project_id,
        "os_type": claim.os_type,
        "vm_state": claim.vm_state,
        "task_state": claim.task_state,
        "numa_request": _plain(claim.numa_request),
        "numa_topology": _plain(claim.numa_topology),
        "pci_requests": _plain(claim.pci_requests),
        "pci_devices": _plain(claim.pci_devices),
        "assigned": claim.assigned,
    }


def _plain(value: Any) -> Any:
    """Return a topology, requests or devices as JSON values; None for empty ones, which most claims have."""
    return msgspec.to_builtins(value) if value else None


def _last_origin_row(node: str, uuid: str, origin: Origin) -> dict[str, Any]:
    return {
        "node": node,
        "instance_uuid": uuid,
        "source": origin.source,
        "sequence": origin.sequence,
    }


def _claim(row: Any) -> Claim:
    return Claim(
        instance_uuid=row.instance_uuid,
        role=Role(row.role),
        flavor=numbers_of(row.vcpus, row.memory_mb, row.root_gb, row.ephemeral_gb, row.swap_mb),
        volume_backed=row.volume_backed,
        project_id=intern(row.project_id),
        vm_state=intern(row.vm_state),
        migration_uuid=row.migration_uuid,
        os_type=row.os_type and intern(row.os_type),
        task_state=row.task_state and intern(row.task_state),
        numa_request=_topology(row.numa_request),
        numa_topology=_topology(row.numa_topology),
        pci_requests=read_known(row.pci_requests or (), tuple[PciRequest, ...]),
        pci_devices=read_known(row.pci_devices or (), tuple[HeldDevice, ...]),
        assigned=row.assigned,
    )


def _topology(value: Any) -> GuestTopology | None:
    return None if value is None else read_known(value, GuestTopology)


def _node(row: Any, claims: Iterable[Claim]) -> Node:
    reserve = Amounts(row.reserved_vcpus, row.reserved_memory_mb, row.reserved_disk_mb)
    used = Amounts(row.vcpus_used, row.memory_mb_used, row.disk_mb_used)
    report = None if row.resources is None else read_known(row.resources, Resources)
    return Node(
        name=row.name,
        sequence=row.sequence,
        commit_id=row.commit_id,
        usage_sequence=row.usage_sequence,
        resources=report,
        reserve=reserve,
        ratios=Ratios(row.cpu_allocation_ratio, row.ram_allocation_ratio, row.disk_allocation_ratio),
        disabled=row.disabled,
        failed_builds=row.failed_builds,
        conflicts=tuple(row.conflicts),
        claimed=used.minus(reserve),
        claims=HeldClaims.of(claims),
        sources=read_known(row.sources or {}, dict[str, Source]),
    )
