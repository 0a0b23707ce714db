# SPDX-License-Identifier: Apache-2.0
"""A batch of `limit`: bodies in, rows and notifications out. Nothing is checked, no rule is applied."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import json

from tests.benchmarks.throughput.limit_rows import NodeState, Row, Rows, claim_key, claim_of, claim_row
from tests.benchmarks.throughput.payloads import EVENT_TYPE, UsagePayload, message_of

Json = dict[str, Any]


class Batch:
    """The rows of some commands; `nodes` is changed. `ids` are those of the outbox."""

    def __init__(self, nodes: dict[str, NodeState], payloads: UsagePayload, ids: Iterator[int]) -> None:
        self._ids = ids
        self._nodes = nodes
        self._payloads = payloads
        self._rows: Rows = {}
        self._seen: dict[str, NodeState] = {}
        self._events: Counter[str] = Counter()
        self._causes: dict[str, Json] = {}

    def apply(self, body: bytes) -> None:
        """Take the command in a body."""
        message = json.decode(json.decode(body)["oslo.message"])
        method, args = message["method"], message["args"]
        node = self._seen[args["node"]] = self._nodes[args["node"]]
        if method == "update_available_resource":
            if self._audit(node, args):
                self._record(node, message, body, None)
            return
        instance = args["instance"]
        self._instance(node, method, instance)
        self._origin(node, instance["uuid"], args["origin"])
        self._record(node, message, body, instance["uuid"])

    def rows(self) -> Rows:
        """The rows, of one usage notification a changed node, too."""
        commit_id = str(uuid.uuid4())
        for name, events in self._events.items():
            node = self._nodes[name]
            payload = self._payloads.of(node.figures(), self._causes[name], events)
            node.usage_sequence = node.sequence
            message_id = str(uuid.uuid4())
            self._add(
                "notifications",
                {
                    "id": next(self._ids),
                    "node": name,
                    "event_type": EVENT_TYPE,
                    "priority": "INFO",
                    "message_id": message_id,
                    "body": json.encode(message_of(payload, message_id, str(datetime.now(UTC)))),
                },
            )
        for name in sorted(self._seen):
            self._add("nodes", self._seen[name].row(commit_id))
        return self._rows

    def _instance(self, node: NodeState, method: str, instance: Json) -> None:
        if method == "instance_claim":
            self._claim(node, instance)
        elif instance["vm_state"] == "deleted":
            self._release(node, instance["uuid"])
        else:
            node.claims[instance["uuid"]] = claim_of(instance)
            states = {name: instance[name] for name in ("vm_state", "task_state")}
            self._add("changed", claim_key(node.name, instance["uuid"]) | states)

    def _audit(self, node: NodeState, args: Json) -> bool:
        origin = args["origin"]
        node.sources = {origin["source"]: {"audited": origin["sequence"], "evicted": 0}}
        instances = {instance["uuid"]: instance for instance in args["instances"]}
        claims = {uuid: claim_of(instance) for uuid, instance in instances.items()}
        if claims == node.claims:
            return False
        for each in node.claims.keys() - claims.keys():
            self._release(node, each)
        for each in claims.keys() - node.claims.keys():
            self._claim(node, instances[each])
        return True

    def _claim(self, node: NodeState, instance: Json) -> None:
        node.claims[instance["uuid"]] = claim_of(instance)
        node.add(node.claims[instance["uuid"]][0], 1)
        self._add("claimed", claim_row(node.name, instance))

    def _release(self, node: NodeState, instance_uuid: str) -> None:
        amounts, *_ = node.claims.pop(instance_uuid)
        node.add(amounts, -1)
        self._add("released", claim_key(node.name, instance_uuid))

    def _origin(self, node: NodeState, instance_uuid: str, origin: Json) -> None:
        if instance_uuid in node.origins:
            self._add("origins", {"b_node": node.name, "b_instance_uuid": instance_uuid, **origin})
        else:
            node.origins.add(instance_uuid)
            self._add("new_origins", {"node": node.name, "instance_uuid": instance_uuid, **origin})

    def _record(self, node: NodeState, message: Json, body: bytes, instance_uuid: str | None) -> None:
        method, args = message["method"], message["args"]
        node.sequence += 1
        self._events[node.name] += 1
        self._causes[node.name] = cause = {
            "method": method,
            "event_id": args["event_id"],
            "request_id": message["_context_request_id"],
            "instance_uuid": instance_uuid,
        }
        reply = {"outcome": "applied", "sequence": node.sequence}
        if method == "instance_claim":
            reply |= {"claim": args["instance"]}
        row = {
            "digest": hashlib.sha256(body).hexdigest(),
            "node": node.name,
            "sequence": node.sequence,
            "outcome": "applied",
            "reply": json.encode(reply).decode(),
            "delta": json.encode({"claims": [{"role": "instance", "old": {"amounts": node.used}}]}).decode(),
        }
        self._add("receipts", cause | row)

    def _add(self, statement: str, row: Row) -> None:
        self._rows.setdefault(statement, []).append(row)
