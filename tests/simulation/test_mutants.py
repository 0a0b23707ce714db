# SPDX-License-Identifier: Apache-2.0
"""The simulation finds what it is for: each planted fault, within 200 seeds."""

import pytest

from tests.simulation.conftest import Run
from tests.simulation.faults import Violation
from tests.simulation.mutants import MUTANTS

SEEDS = 200
FOUND_AT = {
    "applies_late_audits": 6,
    "sends_a_refused_notification_again": 6,
    "stops_without_draining": 13,
    "purges_receipts_by_wall_time": 13,
    "acknowledges_with_a_tag_of_a_closed_channel": 14,
    "purges_the_newest_of_a_node": 14,
    "drops_what_waits_with_a_refused_notification": 21,
    "parks_the_events_of_a_broken_node": 29,
    "forgets_the_events_of_a_broken_node": 29,
    "compares_the_sequence_alone": 36,
    "swaps_without_comparing": 52,
    "forgets_the_attempts_of_events_that_are_held": 53,
    "counts_no_attempts_of_events_that_were_held": 53,
    "answers_reads_from_a_stale_cache": 95,
    "takes_an_audit_for_a_repetition_although_events_came_between": 128,
    "dates_receipts_by_the_workers_clock": 175,
}
"""Seeds tried first, so that a run need not come to them from 1. `make chaos` counts from 1."""


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 14
    assert FOUND_AT.keys() <= MUTANTS.keys()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_is_found(run: Run, name: str, request: pytest.FixtureRequest) -> None:
    first = [] if request.config.getoption("--chaos") else [FOUND_AT.get(name, 1)]
    with MUTANTS[name](), pytest.raises(Violation):
        for seed in (*first, *range(1, SEEDS + 1)):
            run(seed)
