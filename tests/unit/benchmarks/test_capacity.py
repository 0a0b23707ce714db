# SPDX-License-Identifier: Apache-2.0
import pytest

from tests.benchmarks.growth.capacity import AFTER_AN_EVENT, Costs, Footprint, capacity_of
from tests.benchmarks.growth.memory import Restarted, footprint_of

COSTS = Costs(
    audit_alone=0.006, audit_in_batch=0.0006, audit_in_full=0.0, event_alone=0.0864, event_in_batch=0.00864
)
FOOTPRINT = Footprint(worker=1000, node=10, claim=1)


def restarted(nodes: int, held: int, resident: int) -> Restarted:
    return Restarted(nodes, held, 1.0, 0.001, 0.0001, resident, resident)


def test_processors_are_those_of_audits_and_events_together() -> None:
    capacity = capacity_of(600, COSTS, FOOTPRINT)
    assert capacity.audits_a_second == 10
    assert capacity.events_a_second == pytest.approx(600 * 500 / 86400)
    assert capacity.alone == pytest.approx(0.06 + 0.3)
    assert capacity.in_batches == pytest.approx(0.006 * (1 - AFTER_AN_EVENT) + 0.03)


def test_audits_after_an_event_are_compared_in_full() -> None:
    """500 events a day are one in 2.9 audits; three of ten audits follow one or more."""
    in_full = Costs(0, 0, audit_in_full=0.01, event_alone=0, event_in_batch=0)
    capacity = capacity_of(600, in_full, FOOTPRINT)
    assert capacity.alone == capacity.in_batches == pytest.approx(10 * 0.01 * 0.293, rel=0.01)


def test_small_cloud_needs_one_worker_and_any_database() -> None:
    capacity = capacity_of(600, COSTS, FOOTPRINT)
    assert (capacity.workers, capacity.partitions, capacity.databases) == (1, 16, "any")
    assert capacity.bytes_a_worker == 1000 + 600 * (10 + 50)


def test_processors_bound_the_workers_of_a_busy_cloud() -> None:
    """100 times as many nodes take 3.4 processors, of which each worker is half busy."""
    assert capacity_of(60_000, COSTS, FOOTPRINT).workers == 7


def test_cached_nodes_bound_the_workers_of_an_idle_cloud() -> None:
    idle = Costs(1e-6, 1e-6, 1e-6, 1e-6, 1e-6)
    capacity = capacity_of(100_000, idle, FOOTPRINT)
    assert (capacity.workers, capacity.partitions) == (10, 40)
    assert capacity.bytes_a_worker == 1000 + 10_000 * 60
    assert "SQLite" not in capacity.databases


def test_footprint_is_what_more_nodes_and_their_claims_add() -> None:
    few, many, full = restarted(10, 0, 1100), restarted(110, 0, 2100), restarted(110, 50, 2100 + 110 * 50 * 3)
    assert footprint_of(few, many, full) == Footprint(worker=1000, node=10, claim=3)
