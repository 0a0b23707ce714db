# SPDX-License-Identifier: Apache-2.0
"""The ledger as one would write it with SQLAlchemy's ORM: one transaction an event."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, registry, sessionmaker

from tests.benchmarks.throughput.payloads import UsagePayload
from tests.ledger_model import amounts_of
from tracker_worker.db.tables import CLAIMS, NODES, RECEIPTS

Json = dict[str, Any]

INSTANCE = "instance"
AMOUNTS = ("vcpus", "memory_mb", "disk_mb")


class Node:
    """A row of `nodes`."""


class Claim:
    """A row of `claims`."""


class Receipt:
    """A row of `receipts`."""


class OrmLedger:
    """Applies events. Any thread; the events of a node must come in order."""

    def __init__(self, engine: sa.Engine) -> None:
        mapped = registry()
        for row, table in ((Node, NODES), (Claim, CLAIMS), (Receipt, RECEIPTS)):
            mapped.map_imperatively(row, table)
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._payloads = UsagePayload()

    def apply(self, method: str, args: Json) -> Json | None:
        """Commit an event; return the payload of its notification, None if it changed nothing."""
        with self._sessions.begin() as session:
            node: Any = session.get(Node, args["node"])
            changed = getattr(self, f"_{method}")(session, node, args)
            if not changed:
                return None
            node.sequence += 1
            session.add(_receipt(method, args, node.sequence))
        return self._payloads.of(_figures(node), _cause(method, args))

    def _instance_claim(self, session: Session, node: Any, args: Json) -> bool:
        limits = args["limits"]
        vcpus, memory_mb, disk_mb = amounts_of(args["instance"]["flavor"])
        if (
            node.vcpus_used + vcpus > limits["vcpu"]
            or node.memory_mb_used + memory_mb > limits["memory_mb"]
            or node.disk_mb_used + disk_mb > limits["disk_gb"] * 1024
        ):
            raise ValueError("insufficient compute resources")
        self._add(session, node, args["instance"])
        return True

    def _update_usage(self, session: Session, node: Any, args: Json) -> bool:
        instance = args["instance"]
        claim: Any = session.get(Claim, (node.name, instance["uuid"], INSTANCE))
        if instance["vm_state"] == "deleted":
            self._remove(session, node, claim)
        else:
            _take_states(claim, instance)
        return True

    def _update_available_resource(self, session: Session, node: Any, args: Json) -> bool:
        """Nova's audit: every claim of the node is compared with what the hypervisor's host has reported."""
        claims: Iterable[Any] = session.scalars(sa.select(Claim).where(CLAIMS.c.node == node.name))
        held = {claim.instance_uuid: claim for claim in claims}
        changed = False
        for instance in args["instances"]:
            claim = held.pop(instance["uuid"], None)
            if claim is None:
                self._add(session, node, instance)
                changed = True
            elif _amounts(claim) != amounts_of(instance["flavor"]):
                raise NotImplementedError("no instance of a benchmark is resized")
            else:
                _take_states(claim, instance)
        for claim in held.values():
            self._remove(session, node, claim)
            changed = True
        origin = args["origin"]
        node.sources = {origin["source"]: {"audited": origin["sequence"], "evicted": 0}}
        return changed

    def _add(self, session: Session, node: Any, instance: Json) -> None:
        flavor = instance["flavor"]
        claim: Any = Claim()
        values = dict(zip(AMOUNTS, amounts_of(flavor), strict=True)) | {
            "node": node.name,
            "instance_uuid": instance["uuid"],
            "role": INSTANCE,
            "root_gb": flavor["root_gb"],
            "ephemeral_gb": 0,
            "swap_mb": 0,
            "volume_backed": False,
            "project_id": instance["project_id"],
            "os_type": instance["os_type"],
            "vm_state": instance["vm_state"],
            "task_state": instance["task_state"],
            "assigned": False,
        }
        for name, value in values.items():
            setattr(claim, name, value)
        session.add(claim)
        _count(node, claim, 1)

    def _remove(self, session: Session, node: Any, claim: Any) -> None:
        session.delete(claim)
        _count(node, claim, -1)


def _count(node: Any, claim: Any, sign: int) -> None:
    for name in AMOUNTS:
        used = f"{name}_used"
        setattr(node, used, getattr(node, used) + sign * getattr(claim, name))


def _amounts(claim: Any) -> tuple[int, ...]:
    return tuple(getattr(claim, name) for name in AMOUNTS)


def _take_states(claim: Any, instance: Json) -> None:
    claim.vm_state, claim.task_state = instance["vm_state"], instance["task_state"]


def _receipt(method: str, args: Json, sequence: int) -> Receipt:
    receipt: Any = Receipt()
    receipt.event_id = receipt.digest = args["event_id"]
    receipt.node, receipt.sequence = args["node"], sequence
    receipt.method, receipt.outcome = method, "applied"
    receipt.reply = {"outcome": "applied", "sequence": sequence}
    return receipt  # type: ignore[no-any-return]


def _figures(node: Any) -> Json:
    return {
        "node": node.name,
        "uuid": node.uuid,
        "host": node.host,
        "sequence": node.sequence,
        "since": node.sequence - 1,
        "vcpus_used": node.vcpus_used,
        "memory_mb_used": node.memory_mb_used,
        "local_gb_used": node.disk_mb_used // 1024,
    }


def _cause(method: str, args: Json) -> Json:
    instance_uuid = args["instance"]["uuid"] if "instance" in args else None
    return {
        "method": method,
        "event_id": args["event_id"],
        "request_id": None,
        "instance_uuid": instance_uuid,
    }
