# SPDX-License-Identifier: Apache-2.0
"""The load: casts whose effects can be counted, and what they must add up to. Pure.

The n-th event of a node has the id `<node>.<n>`. The first is the node's report; then come rounds of five:
a claim, a failed build, the instance's new state, another failed build, and mostly the release. The few
instances of a node come again and again in other sizes, so that a lost, repeated or overtaken event shows in
the sums, and the counter of failed builds shows a repetition whatever its place.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

NODES = 50
PARTITIONS = 16
RESERVED_MEMORY_MB = 512  # the worker's default
INSTANCES = 5
STEPS = ("claim", "fail", "activate", "fail", "release")
WHOLE = NODES * len(STEPS)
"""A load is a multiple of it. Else a node's last event may be one that changes nothing, so that the last
notification is older than the node."""

Json = dict[str, Any]


def node_names() -> list[str]:
    """The nodes of every load."""
    return [f"node-{number:02}" for number in range(NODES)]


def server_of(node: str) -> str:
    """The server of a node's partition: the rule that clients and workers have agreed on."""
    return f"p{crc32(node.encode()) % PARTITIONS}"


def events_of(node: str, casts: int | Mapping[str, int]) -> int:
    """How many of so many casts are a node's; or how many, where that is said of each node."""
    if not isinstance(casts, int):
        return casts.get(node, 0)
    number = node_names().index(node)
    return len(range(number, casts, NODES))


def command(node: str, n: int) -> tuple[str, Json]:
    """The method and the arguments of a node's n-th event."""
    given: Json = {"node": node, "event_id": f"{node}.{n}"}
    if n == 0:
        return "update_available_resource", given | {"resources": _report(node)}
    match _step(n):
        case "claim":
            return "instance_claim", given | {"instance": _instance(node, n, "building", "spawning")}
        case "fail":
            return "build_failed", given
        case "activate":
            return "update_usage", given | {"instance": _instance(node, n, "active", None)}
        case "release" if _round(n) % 2:
            return "abort_instance_claim", given | {"instance_uuid": _uuid(node, n)}
        case _:
            # Every other of these is kept: its release is one more report that it is active.
            state = "deleted" if _round(n) % 4 else "active"
            return "update_usage", given | {"instance": _instance(node, n, state, None)}


@dataclass
class State:
    """What a node's row and claims must say: sizes are (vcpus, memory MB, disk MB) by instance."""

    failed_builds: int = 0
    claims: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def used(self) -> tuple[int, int, int]:
        """The node's usage: its reserve and the sum of its claims."""
        sums = [sum(size) for size in zip(*self.claims.values(), strict=True)] or [0, 0, 0]
        return sums[0], sums[1] + RESERVED_MEMORY_MB, sums[2]

    @property
    def told(self) -> tuple[int, int, int, int]:
        """What a notification must say of it: vcpus, memory MB, disk GB, failed builds."""
        vcpus, memory_mb, disk_mb = self.used
        return vcpus, memory_mb, disk_mb // 1024, self.failed_builds

    def apply(self, node: str, n: int) -> None:
        """Let the node's n-th event happen."""
        if n == 0:
            return
        method, arguments = command(node, n)
        uuid = _uuid(node, n)
        if method == "build_failed":
            self.failed_builds += 1
        elif method == "instance_claim":
            self.claims[uuid] = _size(n)
        elif method == "abort_instance_claim" or arguments["instance"]["vm_state"] == "deleted":
            self.claims.pop(uuid, None)


def schedule(casts: int, share: int, shares: int) -> Iterator[tuple[int, str, int]]:
    """The casts of one of the threads that share them: number, node and the event's number on that node.

    All events of a node are in one share, in order.
    """
    for number in range(casts):
        if number % NODES % shares == share:
            yield number, node_names()[number % NODES], number // NODES


def _step(n: int) -> str:
    return STEPS[(n - 1) % len(STEPS)]


def _round(n: int) -> int:
    return (n - 1) // len(STEPS)


def _uuid(node: str, n: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{node}/{_round(n) % INSTANCES}"))


def _size(n: int) -> tuple[int, int, int]:
    factor = 1 + _round(n) % 4
    return factor, 512 * factor, 10 * factor * 1024


def _instance(node: str, n: int, vm_state: str, task_state: str | None) -> Json:
    vcpus, memory_mb, disk_mb = _size(n)
    return {
        "uuid": _uuid(node, n),
        "project_id": "project-1",
        "vm_state": vm_state,
        "task_state": task_state,
        "flavor": {"vcpus": vcpus, "memory_mb": memory_mb, "root_gb": disk_mb // 1024},
    }


def _report(node: str) -> Json:
    return {
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, node)),
        "host": node,
        "vcpus": 64,
        "memory_mb": 65536,
        "local_gb": 1000,
    }
