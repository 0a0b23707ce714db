# SPDX-License-Identifier: Apache-2.0
"""Which seeds are run: 100 of 200 steps, with --chaos 2,000 of 300 steps. And an empty database."""

# The commands choose oslo.service's threading model, before oslo.messaging is imported by anything.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.functional.conftest import empty_database  # noqa: F401
from tests.simulation.world import World, simulate

STEPS, CHAOS_STEPS = 200, 300
SEEDS, CHAOS_SEEDS = 100, 2_000
AT_ONCE = 25

Run = Callable[[int], World]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        last = CHAOS_SEEDS if metafunc.config.getoption("--chaos") else SEEDS
        ranges = [range(first, first + AT_ONCE) for first in range(1, last, AT_ONCE)]
        metafunc.parametrize("seeds", ranges, ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")


@pytest.fixture
def quiet() -> Iterator[None]:
    """Disable logs: a worker that crashes all the time logs a lot."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path, empty_database: Path, quiet: None) -> Run:  # noqa: F811
    """Runs one seed."""
    steps = CHAOS_STEPS if request.config.getoption("--chaos") else STEPS
    return partial(simulate, steps=steps, directory=tmp_path, empty_database=empty_database)
