# SPDX-License-Identifier: Apache-2.0
"""Count the instructions of an event and compare them with their bounds: `python -m
tests.benchmarks.instructions [--renew]`.

Time depends on what else a machine does; the number of instructions is the same to half a percent. Valgrind
counts them while `tests.benchmarks.event_scenarios` runs. `instructions.json` has the bounds of each
interpreter.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.benchmarks.event_scenarios import MARK, SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
BOUNDS_FILE = Path(__file__).with_suffix(".json")
TOLERANCE_PERCENT = 5
RENEW = "'make instructions RENEW=1' stores these figures as the bounds"

Figures = Mapping[str, int]
"""Instructions of an event, by the name of its scenario."""

_TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


class Bounds(msgspec.Struct, frozen=True):
    """The figures of one interpreter, and the versions that they were counted with."""

    counted_with: str
    instructions: dict[str, int]


def excess_percent(figure: int, bound: int) -> float:
    """Return by how much a figure exceeds its bound, negative if it is below."""
    return 100 * (figure - bound) / bound


def faults(figures: Figures, bounds: Figures) -> list[str]:
    """Return what is wrong with figures: one line for each scenario that needs too many, or has no bound."""
    found = [
        f"{name}: {figures[name]:,} instructions an event are {excess_percent(figures[name], bound):.1f} % "
        f"more than the bound of {bound:,}; {TOLERANCE_PERCENT} % are allowed"
        for name, bound in bounds.items()
        if name in figures and figures[name] * 100 > bound * (100 + TOLERANCE_PERCENT)
    ]
    found += [f"{name}: has no bound" for name in figures if name not in bounds]
    return found + [f"{name}: has a bound, but is not counted" for name in bounds if name not in figures]


def figures_of(totals: Sequence[int], events: Mapping[str, int]) -> Figures:
    """Return the figures of scenarios with so many events, in their order.

    Each scenario has two totals: the instructions before its events, and theirs.
    """
    assert len(totals) == 2 * len(events), "something else calls the function that marks the events"
    return {name: total // count for (name, count), total in zip(events.items(), totals[1::2], strict=True)}


def interpreter() -> str:
    """Return what bounds hold for. With the patch level: another one is often another build.

    Debian's 3.11.2 takes some 11 % fewer instructions than pyenv's 3.11.7.
    """
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"


def count(valgrind: str) -> Figures:
    """Run the scenarios under callgrind and return their figures. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [
                *(valgrind, "-q", "--tool=callgrind", f"--dump-before={MARK.__name__}"),
                f"--callgrind-out-file={directory}/out",
                *(sys.executable, "-m", "tests.benchmarks.event_scenarios"),
            ],
            cwd=ROOT,
            # Nothing else: sets of texts have the same order in each run.
            env={"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        # The file without a number has what came after the last mark.
        dumps = sorted(Path(directory).glob("out.*"), key=lambda file: int(file.suffix[1:]))
        totals = [int(match[1]) for file in dumps if (match := _TOTALS.search(file.read_text()))]
    return figures_of(totals, {each.name: each.nodes * each.batches for each in SCENARIOS})


def table_of(figures: Figures, bounds: Figures) -> Table:
    """Return figures and bounds as a table."""
    table = Table("scenario", box=None, pad_edge=False)
    for column in ("instructions an event", "bound", "%"):
        table.add_column(column, justify="right")
    for name, figure in figures.items():
        bound = bounds.get(name)
        compared = ("-", "-") if bound is None else (f"{bound:,}", f"{excess_percent(figure, bound):+.1f}")
        table.add_row(name, f"{figure:,}", *compared)
    return table


def check(figures: Figures, here: str, stored: Mapping[str, Bounds], counted_with: str) -> int:
    """Print the figures of the interpreter `here`, and what is wrong with them; return the exit status."""
    if here not in stored:
        Console().print(table_of(figures, {}))
        print(f"{BOUNDS_FILE.name} has no bounds for {here}: NOTHING WAS COMPARED. {RENEW}.")
        return 0
    bounds = stored[here]
    Console().print(table_of(figures, bounds.instructions))
    found = faults(figures, bounds.instructions)
    if found:
        print(*found, sep="\n")
        print(f"The bounds were counted with {bounds.counted_with}; this is {counted_with}.")
        print(f"Where the increase is intended, {RENEW}.")
    return 1 if found else 0


def main() -> int:
    """Count; print the figures; return 1 if one exceeds its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renew", action="store_true", help="store the figures as this interpreter's bounds")
    renew = parser.parse_args().renew
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("valgrind is not installed: 'sudo make test-packages' installs it", file=sys.stderr)
        return 1
    version = subprocess.run([valgrind, "--version"], check=True, capture_output=True, text=True).stdout
    counted_with = f"msgspec {msgspec.__version__}, {version.strip()}"
    here, figures = interpreter(), count(valgrind)
    stored = msgspec.json.decode(BOUNDS_FILE.read_bytes(), type=dict[str, Bounds])
    if renew:
        stored[here] = Bounds(counted_with, dict(figures))
        BOUNDS_FILE.write_bytes(msgspec.json.format(msgspec.json.encode(stored)) + b"\n")
    return check(figures, here, stored, counted_with)


if __name__ == "__main__":
    raise SystemExit(main())
