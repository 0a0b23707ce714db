# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m tests.benchmarks.throughput`."""

import argparse
import json
import sys
from importlib import import_module
from itertools import groupby
from pathlib import Path

from rich.console import Console

import tests.benchmarks.throughput as benchmark
from tests.benchmarks.throughput.figures import Measurement, Run, summarise
from tests.benchmarks.throughput.report import line, report
from tests.benchmarks.throughput.run import fill, measure
from tests.benchmarks.throughput.scenarios import CONTESTANTS, PLANS
from tests.benchmarks.throughput.servers import DATABASES, Servers
from tests.benchmarks.throughput.table import LEGEND, table_of

QUICK_SIZE = 0.2


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.throughput", description=benchmark.__doc__
    )
    add = parser.add_argument
    add("--scenario", nargs="+", choices=PLANS, default=list(PLANS), help="all of them by default")
    add("--contestant", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), help="all by default")
    add("--database", nargs="+", choices=DATABASES, default=["postgresql"], help="postgresql by default")
    add("--rounds", type=int, default=3, help="3 by default")
    add("--size", type=float, default=1.0, help="factor for the numbers of messages, 1 by default")
    add("--quick", action="store_true", help=f"one round of size {QUICK_SIZE}")
    add("--json", type=Path, metavar="FILE", help="write all measurements and the summaries")
    add("--png", type=Path, metavar="FILE", help="draw them; needs matplotlib (the extra `bench`)")
    args = parser.parse_args(arguments)
    if args.quick:
        args.rounds, args.size = 1, QUICK_SIZE
    return args


def measurements(args: argparse.Namespace) -> list[Measurement]:
    """Run everything, round by round."""
    found = []
    with Servers(args.database) as servers:
        templates = {
            (kind, name): fill(servers, kind, PLANS[name].scenario.first)
            for kind in args.database
            for name in args.scenario
        }
        for run in runs(args):
            found.append(measure(servers, templates[run.database, run.scenario], run, PLANS[run.scenario]))
            print(line(found[-1]), flush=True)
    return found


def runs(args: argparse.Namespace) -> list[Run]:
    """What is run, in this order: the contestants take turns in each scenario, in each round."""
    return [
        Run(scenario, database, contestant, number, max(1, round(counts[contestant] * args.size)))
        for number in range(1, args.rounds + 1)
        for scenario in args.scenario
        for database in args.database
        for contestant in args.contestant
        if contestant in (counts := PLANS[scenario].counts)
    ]


def main() -> int:
    """Run, and show the tables; 1 if a contestant did its work wrong."""
    args = parse()
    # Before the work, for it may be missing.
    draw = import_module("tests.benchmarks.throughput.chart").draw if args.png else None
    found = measurements(args)
    summaries = summarise(found)
    console = Console()
    for (name, kind), group in groupby(summaries, lambda each: (each.scenario, each.database)):
        console.print(table_of(f"{PLANS[name].title}; {kind}", group))
    print(LEGEND)
    if args.json:
        args.json.write_text(json.dumps(report(found, summaries), indent=2) + "\n")
    if draw:
        draw(summaries, args.png)
    return int(any(each.wrong for each in summaries))


if __name__ == "__main__":
    sys.exit(main())
