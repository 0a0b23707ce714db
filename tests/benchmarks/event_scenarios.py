# SPDX-License-Identifier: Apache-2.0
"""What a lane computes for its events, without broker, database and thread: bytes -> events -> records.

`run` runs a scenario; `python -m tests.benchmarks.event_scenarios` runs all of them, for
`tests.benchmarks.instructions`, which counts their instructions.
"""

import gc
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.samples import Object, a_flavor, a_report, an_instance
from tests.unit.core.deliveries import Came
from tracker_worker.core.batch import Batch, BatchContext, Snapshot
from tracker_worker.core.decode import decode_in_windows
from tracker_worker.core.envelope import encode
from tracker_worker.domain.commands import CLAIM_METHODS
from tracker_worker.domain.decision import Decision, Outcome
from tracker_worker.domain.node import Node
from tracker_worker.domain.partitions import DEFAULT_PARTITIONS, partition_of
from tracker_worker.domain.settings import TrackerSettings

MARK = os.getppid
"""Called before and after the events that count. Nothing else calls this function of the C library."""
BATCH_BYTES = 1024 * 1024
"""The default of [worker] batch_bytes."""
SOURCE = "f3f7c3f0-5b51-4c5e-9d3c-5f1c2d0e0001"
REPLY_QUEUE = "reply_5f1c2d0e5b514c5e9d3c5f1c2d0e0002"
NOW = datetime(2026, 11, 29, 12, 0, 0, 123456)
LARGE = {"vcpus": 4096, "memory_mb": 2**24, "local_gb": 2**17}
TWO_CELLS = {
    "cells": [
        {
            "id": cell,
            "cpuset": list(range(64 * cell, 64 * cell + 32)),
            "pcpuset": list(range(64 * cell + 32, 64 * cell + 64)),
            "memory": 2**19,
            "siblings": [[cpu, cpu + 1] for cpu in range(64 * cell, 64 * cell + 64, 2)],
            "mempages": [{"size_kb": 4, "total": 2**27}, {"size_kb": 2048, "total": 0}],
        }
        for cell in range(2)
    ]
}
"""A host's topology: half of the CPUs of each cell are for pinned guests."""
PINNED = a_flavor(extra_specs={"hw:cpu_policy": "dedicated"})

Command = tuple[str, Object]
"""A method and its arguments, without those that every command has."""


@dataclass(frozen=True)
class Scenario:
    """Batches of one event for each of `nodes` nodes: first `batches` to warm up, then as many to count.

    `report` is the first command of a node, `event` the one that a batch has for it, whose outcome is
    `outcome`. Both take the number of the node, `event` also that of the batch.
    """

    name: str
    report: Callable[[int], Command]
    event: Callable[[int, int], Command]
    outcome: Outcome
    nodes: int = 32
    batches: int = 4


class Cloud:
    """The client and the lane of a scenario's nodes: fixed ids, and a clock that stands still."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._nodes: dict[str, Node] = {}
        self._context = BatchContext(
            tracker=TrackerSettings(),
            partitions=DEFAULT_PARTITIONS,
            publisher_id="tracker-worker:worker-1",
            notify=True,
            clock=lambda: NOW,
            new_id=self._new_id,
        )

    def send(self, number: int, command: Command) -> Came:
        """Return a command for the node of this number as the worker receives it from its client."""
        method, args = command
        node, count = f"compute-{number}", next(self._numbers)
        own = {"node": node, "event_id": self._new_id(), "origin": {"source": SOURCE, "sequence": count}}
        as_of = {"as_of": count} if "instances" in args else {}
        body = encode(
            method,
            args | own | as_of,
            unique_id=f"{count:032x}",
            request_id=f"req-{self._new_id()}",
            reply_queue=REPLY_QUEUE if method in CLAIM_METHODS else None,
        )
        return Came(body, partition_of(node, DEFAULT_PARTITIONS))

    def process(self, deliveries: Iterable[Came]) -> list[Decision]:
        """Make the records of a batch's transaction of its bytes, as a lane does; return what was decided."""
        decisions = []
        for events in decode_in_windows(deliveries, DEFAULT_PARTITIONS, BATCH_BYTES):
            names = {event.node for event in events if event.node is not None}
            nodes = {name: self._nodes.get(name) or Node(name) for name in names}
            batch = Batch(Snapshot({}, nodes, {}), self._context)
            for event in events:
                batch.apply(event)
            batch.transaction()
            batch.answers()
            decisions += [decision for _, decision in batch.decisions()]
            self._nodes |= {node.name: node for node in batch.nodes()}
        return decisions

    def _new_id(self) -> str:
        return f"00000000-0000-4000-8000-{next(self._numbers):012x}"


def run(scenario: Scenario, mark: Callable[[], object]) -> list[Decision]:
    """Run a scenario; call `mark` before and after the batches that count. Return what these decided."""
    cloud, nodes = Cloud(), range(scenario.nodes)
    for node in nodes:
        cloud.process([cloud.send(node, scenario.report(node))])
    batches = [
        [cloud.send(node, scenario.event(node, number)) for node in nodes]
        for number in range(2 * scenario.batches)
    ]
    gc.collect()  # Garbage of the set-up is not the events'.
    for batch in batches[: scenario.batches]:
        cloud.process(batch)
    mark()
    decided = [cloud.process(batch) for batch in batches[scenario.batches :]]
    mark()
    return [decision for decisions in decided for decision in decisions]


def _audit(node: int, held: int = 0, **resources: Any) -> Command:
    """An audit of a node, whose instances have the numbers up to `held`."""
    return "update_available_resource", {
        "resources": a_report(_uuid(node, 0xFFFF), f"host-{node}", **LARGE, **resources),
        "instances": [an_instance(_uuid(node, number)) for number in range(held)],
        "migrations": [],
    }


def _in_turned_order(audit: Command, number: int) -> Command:
    """Turn round the order of instances in each second audit, so that none repeats the one before."""
    method, args = audit
    return method, args | {"instances": args["instances"][:: -1 if number % 2 == 0 else 1]}


def _claim(node: int, number: int, flavor: Object | None = None) -> Command:
    instance = an_instance(_uuid(node, number), flavor, vm_state="building")
    return "instance_claim", {"instance": instance, "limits": {}}


def _update(node: int, number: int, vm_state: str, task_state: str | None) -> Command:
    instance = an_instance(_uuid(node, number), vm_state=vm_state, task_state=task_state)
    return "update_usage", {"instance": instance}


def _uuid(node: int, number: int) -> str:
    return f"{node:08x}-{number:04x}-4000-8000-000000000000"


SCENARIOS = (
    Scenario("claim", lambda node: _audit(node), _claim, Outcome.GRANTED),
    Scenario(
        "claim on a NUMA host", lambda node: _audit(node, numa_topology=TWO_CELLS), _claim, Outcome.GRANTED
    ),
    Scenario(
        "claim of pinned CPUs",
        lambda node: _audit(node, numa_topology=TWO_CELLS),
        lambda node, number: _claim(node, number, PINNED),
        Outcome.GRANTED,
    ),
    Scenario(
        "claim beside 1,000 instances",
        lambda node: _audit(node, held=1000),
        lambda node, number: _claim(node, 1000 + number),
        Outcome.GRANTED,
        nodes=1,
        batches=16,
    ),
    Scenario(
        "change of a state",
        lambda node: _audit(node, held=1),
        lambda node, number: _update(node, 0, "active", ("powering-off", "powering-on")[number % 2]),
        Outcome.APPLIED,
    ),
    Scenario(
        "delete",
        lambda node: _audit(node, held=8),
        lambda node, number: _update(node, number, "deleted", None),
        Outcome.APPLIED,
    ),
    Scenario(
        "audit of 50 instances, repeated",
        lambda node: _audit(node, held=50),
        lambda node, number: _audit(node, held=50),
        Outcome.IGNORED,
        nodes=16,
        batches=1,
    ),
    Scenario(
        "audit of 50 instances, no change",  # Another order is no change, but no repetition.
        lambda node: _audit(node, held=50),
        lambda node, number: _in_turned_order(_audit(node, held=50), number),
        Outcome.IGNORED,
        nodes=16,
        batches=1,
    ),
)


if __name__ == "__main__":
    for each in SCENARIOS:
        run(each, MARK)
