# SPDX-License-Identifier: Apache-2.0
"""The simulation finds what it is for: each planted fault, within 200 seeds."""

import pytest

from tests.simulation.faults import Violation
from tests.simulation.mutants import MUTANTS

SEEDS = 200


def test_there_are_enough_of_them():
    assert len(MUTANTS) >= 14


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_fault_is_found(run, name):
    with MUTANTS[name](), pytest.raises(Violation):
        for seed in range(1, SEEDS + 1):
            run(seed)
