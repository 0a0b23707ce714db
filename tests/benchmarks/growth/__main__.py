# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m tests.benchmarks.growth`."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

import tests.benchmarks.growth as benchmark
from tests.benchmarks.growth.capacity import SIZES, capacity_of, costs_of
from tests.benchmarks.growth.events import DATABASE, Bench
from tests.benchmarks.growth.memory import footprint_of, measure_memory
from tests.benchmarks.growth.series import SERIES
from tests.benchmarks.growth.soak import soak
from tests.benchmarks.growth.table import capacity_table, growth_table, memory_table, soak_table
from tests.benchmarks.throughput.servers import Servers

QUICK_SIZE = 0.2
PARTS = (*SERIES, "capacity", "soak")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=benchmark.__doc__)
    add = parser.add_argument
    add("--part", nargs="+", choices=PARTS, default=list(PARTS), help="all of them by default")
    add("--rounds", type=int, default=3, help="3 by default")
    add("--size", type=float, default=1.0, help="factor for the numbers of events, 1 by default")
    add("--quick", action="store_true", help=f"one round of size {QUICK_SIZE}")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    args = parser.parse_args(arguments)
    if args.quick:
        args.rounds, args.size = 1, QUICK_SIZE
    return args


def main() -> int:
    """Measure, and show the tables; 1 if the worker did its work wrong, or an idle cloud left rows."""
    args = parse()
    console = Console()
    report: dict[str, Any] = {}
    right = True
    with Servers([DATABASE]) as servers:
        bench = Bench(servers, args.rounds, args.size, console.print)
        for name in args.part:
            if name in SERIES:
                growth = bench.growth(name)
                right &= not growth.wrong
                console.print(growth_table(growth))
                report[name] = asdict(growth)
            elif name == "capacity":
                report |= _capacity(servers, bench, args.size, console)
            else:
                soaks = soak(args.size, console.print)
                right &= all(each.rows_are_equal for each in soaks)
                console.print(soak_table(soaks))
                report[name] = [asdict(each) for each in soaks]
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    return int(not right)


def _capacity(servers: Servers, bench: Bench, size: float, console: Console) -> dict[str, Any]:
    """Measure memory and costs, and show what clouds need by them; return all of it."""
    restarted = measure_memory(servers, size, console.print)
    footprint = footprint_of(*restarted)
    console.print(memory_table(restarted, footprint))
    costs = costs_of(bench.costs(), restarted[-1].loading_audit)
    capacities = [capacity_of(nodes, costs, footprint) for nodes in SIZES]
    console.print(capacity_table(capacities))
    return {
        "memory": [asdict(each) for each in restarted],
        "footprint": asdict(footprint),
        "costs": asdict(costs),
        "capacity": [asdict(each) for each in capacities],
    }


if __name__ == "__main__":
    sys.exit(main())
