# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m tests.benchmarks.latency`."""

import argparse
import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from rich.console import Console

import tests.benchmarks.latency as benchmark
from tests.benchmarks.latency.figures import Measurement, summarise
from tests.benchmarks.latency.phases import PHASES
from tests.benchmarks.latency.run import Cloud, Settings
from tests.benchmarks.latency.table import LEGEND, table_of
from tests.benchmarks.servers import rabbitmq_and_postgresql


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.latency", description=benchmark.__doc__)
    add = parser.add_argument
    add("--phase", nargs="+", choices=PHASES, default=list(PHASES), help="all of them by default")
    add("--rounds", type=int, default=3, help="3 by default")
    add("--calls", type=int, default=150, help="of each kind in a phase of a round, 150 by default")
    add("--seconds", type=float, default=60, help="a phase ends after so many, 60 by default")
    add("--nodes", type=int, default=3000, help="audited nodes, 3000 by default")
    add("--instances", type=int, default=50, help="of each audited node, 50 by default")
    add("--json", type=Path, metavar="FILE", help="write all measurements and the summaries")
    return parser.parse_args(arguments)


def measurements(args: argparse.Namespace) -> list[Measurement]:
    """Run the phases in turn, round by round."""
    settings = Settings(args.nodes, args.instances, args.calls, args.seconds)
    found = []
    with (
        rabbitmq_and_postgresql() as (vhost_url, database_url),
        Cloud(vhost_url, database_url, settings) as cloud,
    ):
        for number in range(1, args.rounds + 1):
            for phase in args.phase:
                found.append(cloud.measure(phase, number))
                print(line(found[-1]), flush=True)
    return found


def line(one: Measurement) -> str:
    """A measurement in a line."""
    medians = ", ".join(
        f"{each.kind} {each.p50 * 1000:.1f} / {each.p99 * 1000:.1f}" for each in summarise([one], [one.phase])
    )
    return (
        f"round {one.round}, {one.phase}: {one.audits:.0f} audits/s, the worker takes {one.busy:.2f} of a "
        f"processor; ms (50 / 99 %): {medians}"
    )


def main() -> None:
    """Run, and show the tables."""
    args = parse()
    found = measurements(args)
    summaries = summarise(found)
    console = Console()
    for name, group in groupby(summaries, lambda each: each.phase):
        console.print(table_of(f"{name}: {PHASES[name].title}", group))
    print(LEGEND)
    if args.json:
        report = {"summaries": summaries, "measurements": found}
        args.json.write_text(json.dumps(report, indent=2, default=asdict) + "\n")


if __name__ == "__main__":
    main()
