# SPDX-License-Identifier: Apache-2.0
"""No fault loses, repeats, reorders or half applies an event, or drops a notification. All from seeds."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.conftest import Run
from tests.simulation.faults import NAMED_POINTS, Violation
from tests.simulation.mutants import MUTANTS

FAULTS = {
    "clock set", "commit reported as failed", "database clock set", "down time", "drop", "failed", "failover",
    "failover behind a pooler", "full", "kill", "lease lost", "locked", "notification refused",
    "publisher lost", "redelivery of everything", "stop", "sum broken", "time passes", "unavailable",
}  # fmt: skip


@pytest.mark.timeout(600)
def test_the_promises_hold_after_every_step(run: Run, seeds: range) -> None:
    for seed in seeds:
        run(seed)


@pytest.mark.timeout(600)
def test_every_fault_happens_and_workers_die_at_every_named_point(run: Run) -> None:
    points: Counter[str] = Counter()
    happened: Counter[str] = Counter()
    for seed in range(1, 101):
        world = run(seed)
        points += world.points
        happened += world.happened
        if set(NAMED_POINTS) <= points.keys() and happened.keys() >= FAULTS:
            return
    pytest.fail(f"never crashed {set(NAMED_POINTS) - points.keys()}; never {FAULTS - happened.keys()}")


def test_a_seed_does_the_same_in_another_process(run: Run) -> None:
    """Not even the order of sets of texts, which differs from process to process, makes a difference."""
    here = run(7)
    for hash_seed in ("1", "2"):
        again = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "7", "--log", "--steps", str(here.steps)],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert again.stdout.splitlines()[:-1] == here.log


def test_a_broken_promise_is_reported_with_its_seed(run: Run) -> None:
    with MUTANTS["leaves_no_receipt"](), pytest.raises(Violation) as caught:
        for seed in range(1, 20):
            run(seed)
    text = str(caught.value)
    reported = re.search(r"SEED=(\d+): ", text)
    assert reported and f"python -m tests.simulation {reported[1]} --steps " in text
