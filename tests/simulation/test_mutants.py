# SPDX-License-Identifier: Apache-2.0
"""The simulation finds what it is for: each planted fault, within 200 seeds."""

import pytest

from tests.simulation.conftest import Run
from tests.simulation.faults import Violation
from tests.simulation.mutants import MUTANTS

SEEDS = 200
FOUND_AT = {
    "swaps_without_comparing": 18,
    "takes_sent_notifications_for_confirmed": 25,
    "purges_the_newest_of_a_node": 25,
    "compares_the_sequence_alone": 49,
    "answers_reads_from_a_stale_cache": 104,
    "dates_receipts_by_the_workers_clock": 175,
}
"""Seeds tried first, so that a run need not come to them from 1. `make chaos` counts from 1."""


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 14


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_is_found(run: Run, name: str, request: pytest.FixtureRequest) -> None:
    first = [] if request.config.getoption("--chaos") else [FOUND_AT.get(name, 1)]
    with MUTANTS[name](), pytest.raises(Violation):
        for seed in (*first, *range(1, SEEDS + 1)):
            run(seed)
