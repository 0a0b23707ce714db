# SPDX-License-Identifier: Apache-2.0
"""Run seeds again: `python -m tests.simulation SEED... [--steps N] [--mutant NAME] [--log]`."""

# The commands choose oslo.service's threading model, before oslo.messaging is imported by anything.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import argparse
import contextlib
import logging
import tempfile
from pathlib import Path

from tests.simulation.faults import Violation
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import simulate
from tracker_worker.cmd.bootstrap import embedded_engine
from tracker_worker.cmd.database import database_file


def main() -> int:
    """1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", metavar="SEED", type=int, nargs="+")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break the worker first")
    parser.add_argument("--log", action="store_true", help="print every step")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    mutated = MUTANTS[options.mutant]() if options.mutant else contextlib.nullcontext()
    with tempfile.TemporaryDirectory(prefix="simulation-") as name, mutated:
        directory = Path(name)
        embedded_engine(directory).dispose()
        for seed in options.seeds:
            try:
                world = simulate(seed, options.steps, directory, database_file(directory))
            except Violation as violation:
                print(violation)
                return 1
            if options.log:
                print("\n".join(world.log))
            print(
                f"seed {seed}: {world.commits} commits, crashed {dict(world.points)}, {dict(world.happened)}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
