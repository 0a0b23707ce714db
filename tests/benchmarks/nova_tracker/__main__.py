# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m tests.benchmarks.nova_tracker`."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path

from rich.console import Console

import tests.benchmarks.nova_tracker as benchmark
from tests.benchmarks.nova_tracker import nova
from tests.benchmarks.nova_tracker.works import WORKS
from tests.benchmarks.throughput.figures import Measurement, Run, summarise
from tests.benchmarks.throughput.report import line, report
from tests.benchmarks.throughput.run import fill, measure
from tests.benchmarks.throughput.servers import DATABASES, Servers
from tests.benchmarks.throughput.table import LEGEND, table_of
from tests.nova import environment

QUICK_SIZE = 0.3
TITLES = {name: plan.title for work in WORKS.values() for name, plan in work.plans.items()}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.nova_tracker", description=benchmark.__doc__
    )
    add = parser.add_argument
    add("--work", nargs="+", choices=WORKS, default=list(WORKS), help="all of it by default")
    add("--database", choices=DATABASES, default="postgresql", help="of both; postgresql by default")
    add("--rounds", type=int, default=3, help="3 by default")
    add("--size", type=float, default=1.0, help="factor for the numbers of events, 1 by default")
    add("--quick", action="store_true", help=f"one round of size {QUICK_SIZE}")
    add("--json", type=Path, metavar="FILE", help="write all measurements and the summaries")
    args = parser.parse_args(arguments)
    if args.quick:
        args.rounds, args.size = 1, QUICK_SIZE
    return args


def measurements(args: argparse.Namespace) -> Iterator[Measurement]:
    """Run everything, round by round."""
    made = environment.made()
    with Servers([args.database]) as servers:
        templates = {name: fill(servers, args.database, WORKS[name].scenario.first) for name in args.work}
        for turn, name in product(range(1, args.rounds + 1), args.work):
            work = WORKS[name]
            run = Run(name, args.database, "nova", turn, _counted(work.events, args.size))
            theirs = nova.measure(made, servers.empty_database(args.database), run, work.scenario)
            for scenario, plan in work.plans.items():
                events = _counted(plan.counts["worker"], args.size)
                yield from (replace(each, scenario=scenario) for each in theirs)
                ours = Run(scenario, args.database, "worker", turn, events)
                yield measure(servers, templates[name], ours, plan)


def _counted(events: int, size: float) -> int:
    return max(1, round(events * size))


def main() -> int:
    """Run, and show the tables; 1 if a contestant did its work wrong."""
    args = parse()
    found = []
    for measurement in measurements(args):
        found.append(measurement)
        print(line(measurement), flush=True)
    summaries = summarise(found)
    console = Console()
    for name, group in groupby(summaries, lambda each: each.scenario):
        console.print(table_of(f"{TITLES[name]}; {args.database}", group))
    print(LEGEND)
    if args.json:
        args.json.write_text(json.dumps(report(found, summaries), indent=2) + "\n")
    return int(any(each.wrong for each in summaries))


if __name__ == "__main__":
    sys.exit(main())
