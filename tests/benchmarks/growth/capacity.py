# SPDX-License-Identifier: Apache-2.0
"""How many workers a cloud needs, by what its audits and events cost. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, exp

SIZES = (100, 1_000, 10_000, 100_000)
HELD = 50
EVENTS_A_DAY = 500
"""Of a node: each of its 50 instances is built, used and deleted in a day, with 10 events."""
MINUTE, DAY = 60, 86_400
AFTER_AN_EVENT = 1 - exp(-EVENTS_A_DAY * MINUTE / DAY)
"""The share of the audits before which their node had an event, if events come at random."""
BUSY = 0.5
"""The most of a processor that a worker may be busy with on average: the rest is for peaks and restarts."""
NODES_A_WORKER = 10_000
"""The default of [worker] cached_nodes: with more, audits in turn would load each node from the database."""
MOST_NODES_ON_SQLITE = 1_000
DEFAULT_PARTITIONS = 16
PARTITIONS_A_WORKER = 4
"""The least: nodes are spread over partitions by a hash, and these over the workers, evenly enough."""


@dataclass(frozen=True)
class Costs:
    """CPU seconds of the process for one audit or event, alone and in a batch.

    These audits repeat the last one. `audit_in_full` is compared in full, as each is that follows an event of
    its node; it includes loading the node.
    """

    audit_alone: float
    audit_in_batch: float
    audit_in_full: float
    event_alone: float
    event_in_batch: float


@dataclass(frozen=True)
class Footprint:
    """Resident bytes of a worker without nodes, of a node, and of a claim."""

    worker: float
    node: float
    claim: float


@dataclass(frozen=True)
class Capacity:
    """What a cloud needs.

    `alone` and `in_batches` are the processors that all of its audits and events take. `workers` share the
    load; one more stands by, or two where there is only one.
    """

    nodes: int
    audits_a_second: float
    events_a_second: float
    alone: float
    in_batches: float
    workers: int
    partitions: int
    bytes_a_worker: float
    databases: str


def capacity_of(nodes: int, costs: Costs, footprint: Footprint) -> Capacity:
    """Return what so many nodes need, at one audit of each a minute.

    Workers that are busy for less than BUSY handle most messages alone. At a higher rate messages wait and
    are handled in batches, so that the processors that these take bound the number of workers.
    """
    audits, events = nodes / MINUTE, nodes * EVENTS_A_DAY / DAY
    in_full = audits * AFTER_AN_EVENT * costs.audit_in_full
    alone = audits * costs.audit_alone + in_full + events * costs.event_alone
    in_batches = audits * (1 - AFTER_AN_EVENT) * costs.audit_in_batch + in_full
    in_batches += events * costs.event_in_batch
    workers = max(ceil(in_batches / BUSY), ceil(nodes / NODES_A_WORKER))
    a_node = footprint.node + HELD * footprint.claim
    return Capacity(
        nodes=nodes,
        audits_a_second=audits,
        events_a_second=events,
        alone=alone,
        in_batches=in_batches,
        workers=workers,
        partitions=max(DEFAULT_PARTITIONS, PARTITIONS_A_WORKER * workers),
        bytes_a_worker=footprint.worker + a_node * nodes / workers,
        databases="any" if nodes <= MOST_NODES_ON_SQLITE else "PostgreSQL, MariaDB",
    )


def costs_of(cpu: Mapping[str, float], audit_in_full: float) -> Costs:
    """Return the costs from the CPU an event of the plans in `series.COSTS`, by their names."""
    named = {name.replace("-", "_"): seconds for name, seconds in cpu.items()}
    return Costs(audit_in_full=audit_in_full, **named)
