# SPDX-License-Identifier: Apache-2.0
"""The load: casts whose effects can be counted, and the ledger of a node after each of them. Pure.

The n-th event of a node has the id `<node>.<n>`. The first is the node's report; then come rounds of five:
a claim, a failed build, the instance's new state, another failed build, and mostly the release. A node has a
few instances, which return in other sizes, so that a lost, repeated or overtaken event changes the sums. A
repeated event also changes the count of failed builds.
"""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

from tests import samples
from tests.ledger_model import INSTANCE, Claim, Ledger, States

Json = dict[str, Any]

NODES = 50
PARTITIONS = 16
INSTANCES = 5
STEPS = ("claim", "fail", "activate", "fail", "release")
BUILDING: States = ("building", "spawning")
ACTIVE: States = ("active", None)
DELETED: States = ("deleted", None)
WHOLE = NODES * len(STEPS)
"""The length of a load must be a multiple of this. Otherwise a node's last event may change nothing, and the
last notification would be older than the node."""


def node_names() -> list[str]:
    """The nodes of every load."""
    return [f"node-{number:02}" for number in range(NODES)]


def server_of(node: str) -> str:
    """The server of a node's partition, by the rule that clients and workers share."""
    return f"p{crc32(node.encode()) % PARTITIONS}"


def events_of(node: str, casts: int | Mapping[str, int]) -> int:
    """How many of `casts` are a node's: an even share of a number, or its entry in a mapping."""
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
            return "instance_claim", given | {"instance": _instance(node, n, BUILDING)}
        case "fail":
            return "build_failed", given
        case "activate":
            return "update_usage", given | {"instance": _instance(node, n, ACTIVE)}
        case "release" if _round(n) % 2:
            return "abort_instance_claim", given | {"instance_uuid": _uuid(node, n)}
        case _:
            # Every second one of these instances stays: this event reports once more that it is active.
            states = DELETED if _round(n) % 4 else ACTIVE
            return "update_usage", given | {"instance": _instance(node, n, states)}


def applied(ledger: Ledger, node: str, n: int) -> Ledger:
    """The ledger of a node after its n-th event."""
    method, arguments = command(node, n)
    uuid = _uuid(node, n)
    match method:
        case "update_available_resource":
            return ledger
        case "build_failed":
            return ledger.build_failed()[0]
        case "instance_claim":
            return ledger.claim(uuid, INSTANCE, Claim(_flavor(n), None, BUILDING))[0]
        case "update_usage" if arguments["instance"]["vm_state"] == "active":
            return ledger.take_states(uuid, ACTIVE)[0]
        case _:
            return ledger.release(uuid, INSTANCE)[0]


def schedule(casts: int, share: int, shares: int) -> Iterator[tuple[int, str, int]]:
    """The casts of one of `shares` threads: number, node and the event's number on that node.

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


def _flavor(n: int) -> Json:
    factor = 1 + _round(n) % 4
    return samples.a_flavor(factor, 512 * factor, 10 * factor)


def _instance(node: str, n: int, states: States) -> Json:
    vm_state, task_state = states
    return samples.an_instance(_uuid(node, n), _flavor(n), vm_state=vm_state, task_state=task_state)


def _report(node: str) -> Json:
    uuid_of_node = str(uuid.uuid5(uuid.NAMESPACE_DNS, node))
    return samples.a_report(uuid_of_node, node, vcpus=64, memory_mb=65536, local_gb=1000)
