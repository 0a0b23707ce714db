# SPDX-License-Identifier: Apache-2.0
"""The sync of resource providers converges from seeds; planted faults are found within 200 of them."""

from random import Random

import pytest

from tests.provider_world import Diverged, ProviderWorld
from tests.simulation.provider_mutants import PROVIDER_MUTANTS

SEEDS, CHAOS_SEEDS = 500, 20_000
MUTANT_SEEDS = 200


def run(seed: int) -> None:
    chance = Random(seed)
    try:
        ProviderWorld(chance).run(chance.randint(1, 25))
    except Diverged as diverged:
        raise Diverged(f"seed {seed}: {diverged}") from diverged


@pytest.mark.timeout(600)
def test_sync_converges_whatever_fails_and_whoever_interferes(request: pytest.FixtureRequest) -> None:
    for seed in range(1, CHAOS_SEEDS if request.config.getoption("--chaos") else SEEDS):
        run(seed)


@pytest.mark.parametrize("name", PROVIDER_MUTANTS)
def test_a_planted_fault_of_the_sync_is_found(name: str) -> None:
    with PROVIDER_MUTANTS[name](), pytest.raises(Diverged):
        for seed in range(1, MUTANT_SEEDS + 1):
            run(seed)
