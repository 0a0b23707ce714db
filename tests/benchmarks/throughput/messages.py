# SPDX-License-Identifier: Apache-2.0
"""The messages of a scenario, and what each adds to its node's account. Pure.

A scenario's messages go round its nodes: message `n` is of node `n % nodes`. All have the event id, the
origin and the arguments that rpcapi sends, in oslo.messaging's envelope.
"""

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from tests import samples
from tests.ledger_model import amounts_of
from tracker_worker.core.envelope import encode

Json = dict[str, Any]
Account = Counter[str]
"""The figures of a node that are checked afterwards: see `effect_of` and `exactness`."""

LIMITS = {"vcpu": 100_000, "memory_mb": 1_000_000_000, "disk_gb": 1_000_000}
SIZE = {"vcpus": 10_000, "memory_mb": 1_000_000_000, "local_gb": 1_000_000}
"""Of a node: it has room for everything, and each claim is tested against the limits."""
REPLY_QUEUE = "reply_benchmark"
"""Where the replies to calls go."""


@dataclass(frozen=True)
class Message:
    """A command on its way to a node; `effect` is what it adds to the node's account."""

    node: str
    body: bytes
    effect: Mapping[str, int]
    called: bool = False


def effect_of(sign: int = 0, flavor: Json | None = None) -> Json:
    """What a recorded event adds: itself, and an instance of the flavor (`sign` 1), or takes away (-1)."""
    effect = Counter({"sequence": 1, "receipts": 1, "notified": 1, "claims": sign})
    if flavor is not None:
        vcpus, memory_mb, disk_mb = amounts_of(flavor)
        for name, amount in (("vcpus", vcpus), ("memory_mb", memory_mb), ("disk_mb", disk_mb)):
            effect[f"{name}_used"] = effect[f"{name}_claimed"] = sign * amount
    return effect


@dataclass(frozen=True)
class Events:
    """A claim, its instance active, the oldest instance deleted; each node holds `held` instances."""

    nodes: int
    held: int

    @property
    def first(self) -> list[Message]:
        """The reports of the nodes, with the instances that they hold at the beginning."""
        return [_first(k, range(-self.held, 0)) for k in range(self.nodes)]

    def message(self, number: int) -> Message:
        """The message of this number, from 0."""
        n, k = divmod(number, self.nodes)
        index, step = divmod(n, 3)
        node = _node(k)
        if step == 0:
            return _claim(node, index, n)
        if step == 1:
            args: Json = {"instance": _instance(node, index)}
            return Message(node, _body("update_usage", node, n, args), effect_of())
        oldest = index - self.held
        args = {"instance": _instance(node, oldest, vm_state="deleted")}
        return Message(node, _body("update_usage", node, n, args), effect_of(-1, _flavor(oldest)))


@dataclass(frozen=True)
class Claims:
    """Claims, one after the other, `called` or cast; each node holds `held` instances at the beginning."""

    nodes: int
    held: int
    called: bool = False

    @property
    def first(self) -> list[Message]:
        """The reports of the nodes, with the instances that they hold at the beginning."""
        return Events(self.nodes, self.held).first

    def message(self, number: int) -> Message:
        """The message of this number, from 0."""
        n, k = divmod(number, self.nodes)
        return _claim(_node(k), n, n, self.called)


@dataclass(frozen=True)
class Audits:
    """Audits of nodes that hold `held` instances each.

    With `every`, one of so many finds its last instance gone, or back; the others change nothing.
    """

    nodes: int
    held: int
    every: int = 0

    @property
    def first(self) -> list[Message]:
        """The first audits of the nodes."""
        return [_first(k, range(self.held)) for k in range(self.nodes)]

    def message(self, number: int) -> Message:
        """The message of this number, from 0."""
        n, k = divmod(number, self.nodes)
        changes = bool(self.every) and (n + k) % self.every == 0
        gone = self._changes(n, k) % 2
        last = self.held - 1
        effect = Counter({"audited": 1})
        if changes:
            effect.update(effect_of(-1 if gone else 1, _flavor(last)))
        return Message(_node(k), _audit(k, range(self.held - gone), n), effect)

    def _changes(self, n: int, k: int) -> int:
        """How many of the audits of node k up to its n-th change something."""
        return (n + k) // self.every - (k - 1) // self.every if self.every else 0


class Scenario(Protocol):
    """Messages to some nodes, which hold instances at the beginning: see `Events` and `Audits`."""

    @property
    def nodes(self) -> int: ...

    @property
    def first(self) -> list[Message]: ...

    def message(self, number: int) -> Message: ...


def expected(start: Mapping[str, Account], messages: Iterable[Message]) -> dict[str, Account]:
    """The accounts of the nodes after these messages."""
    accounts = {node: Account(account) for node, account in start.items()}
    for message in messages:
        accounts.setdefault(message.node, Account()).update(message.effect)
    return accounts


def _first(k: int, instances: range) -> Message:
    return Message(_node(k), _audit(k, instances, -1), {"sequence": 1})


def _claim(node: str, index: int, n: int, called: bool = False) -> Message:
    args = {
        "instance": _instance(node, index, vm_state="building", task_state="spawning"),
        "limits": LIMITS,
    }
    body = _body("instance_claim", node, n, args, REPLY_QUEUE if called else None)
    return Message(node, body, effect_of(1, _flavor(index)), called)


def _audit(k: int, instances: range, n: int) -> bytes:
    node = _node(k)
    args = {
        # As libvirt does it: another figure in each audit.
        "resources": _report(node) | {"memory_mb_used": 4096 + n % 64},
        "instances": [_instance(node, index) for index in instances],
        "migrations": [],
        "as_of": n + 1,
    }
    return _body("update_available_resource", node, n, args)


def _body(method: str, node: str, n: int, args: Json, reply_queue: str | None = None) -> bytes:
    """A body; a node's first message has the number -1, and the origin's sequence 1."""
    stamp = {
        "event_id": _uuid(node, f"event {n}"),
        "origin": {"source": _uuid(node, "client"), "sequence": n + 2},
    }
    request_id = f"req-{_uuid(node, f'request {n}')}"
    return encode(
        method,
        {**stamp, **args, "node": node},
        unique_id=_uuid(node, f"message {n}"),
        request_id=request_id,
        reply_queue=reply_queue,
    )


def _node(k: int) -> str:
    return f"compute-{k:05}"


@cache
def _uuid(node: str, what: object) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{node}/{what}"))


def _flavor(index: int) -> Json:
    factor = 1 + index % 4
    return samples.a_flavor(factor, 2048 * factor, 20 * factor, name=f"m1.{factor}", id=str(factor))


def _instance(node: str, index: int, **more: Any) -> Json:
    given = {"os_type": "linux", "host": node, "node": node, **more}
    return samples.an_instance(
        _uuid(node, index), _flavor(index), project_id=_uuid("project", index % 5), **given
    )


def _report(node: str) -> Json:
    return samples.a_report(
        _uuid(node, "node"),
        node,
        **SIZE,
        hypervisor_type="QEMU",
        hypervisor_version=8002000,
        host_ip="192.0.2.1",
        disk_available_least=900_000,
        cpu_info={"arch": "x86_64", "model": "EPYC", "features": ["sse", "vmx"]},
    )
