# SPDX-License-Identifier: Apache-2.0
"""The command line: `python -m tests.benchmarks.placement`."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

import tests.benchmarks.placement as benchmark
from tests.benchmarks.latency.__main__ import line
from tests.benchmarks.latency.figures import summarise
from tests.benchmarks.placement.claims import measure_claims, measure_recovery
from tests.benchmarks.placement.cloud import Cloud, Settings
from tests.benchmarks.placement.figures import PHASES, Phase
from tests.benchmarks.placement.requests import count_requests
from tests.benchmarks.placement.table import claims_table, recovery_table, requests_table
from tests.servers.placement import Placement
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.db.engine import create_engine, sync_schema

PARTS = ("requests", "recovery", "claims")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.placement", description=benchmark.__doc__
    )
    add = parser.add_argument
    add("--part", nargs="+", choices=PARTS, default=list(PARTS), help="all of them by default")
    add("--nodes", type=int, default=1000, help="1000 by default")
    add("--some", type=int, default=100, help="nodes that change or are refreshed at a time, 100 by default")
    add("--audits", type=float, default=30, help="seconds of audits that change nothing, 30 by default")
    add("--outage", type=float, default=40, help="seconds, 40 by default: the worker's pauses are longest")
    add("--rounds", type=int, default=3, help="of the claims, 3 by default")
    add("--calls", type=int, default=150, help="of each kind in a phase of a round, 150 by default")
    add("--seconds", type=float, default=60, help="a phase ends after so many, 60 by default")
    add("--json", type=Path, metavar="FILE", help="write all measurements and the summaries")
    return parser.parse_args(arguments)


@contextmanager
def servers(settings: Settings) -> Iterator[Cloud]:
    """Run the servers; the ledger and Placement have a database each of one PostgreSQL."""
    if Placement.program() is None:
        raise SystemExit("openstack-placement cannot be installed from PyPI")
    with RabbitMQ() as rabbitmq, PostgreSQL() as postgresql:
        rabbitmq.start()
        postgresql.start()
        database_url = postgresql.new_database()
        engine = create_engine(database_url)
        sync_schema(engine)
        engine.dispose()
        with Placement(postgresql.new_database()) as placement:
            placement.start()
            with Cloud(rabbitmq.url(rabbitmq.new_vhost()), database_url, placement, settings) as cloud:
                yield cloud


def main() -> None:
    """Measure, and show the tables."""
    args = parse()
    console = Console()
    report: dict[str, Any] = {}
    settings = Settings(**{each.name: getattr(args, each.name) for each in fields(Settings)})
    with servers(settings) as cloud:
        if "requests" in args.part:
            requests = list(count_requests(cloud))
            console.print(requests_table(requests))
            report["requests"] = [asdict(each) | {"each": each.each} for each in requests]
        with cloud.worker(cloud.placement.url) as worker:
            cloud.fill()
            if "recovery" in args.part:
                recoveries = list(measure_recovery(cloud))
                console.print(recovery_table(recoveries))
                report["recovery"] = [asdict(each) for each in recoveries]
            if "claims" in args.part:
                report |= _claims(measure_claims(cloud, worker), console)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2, default=asdict) + "\n")


def _claims(phases: Iterator[Phase], console: Console) -> dict[str, Any]:
    found = []
    for each in phases:
        found.append(each)
        console.print(f"{line(each.claims)}; {each.unsynced} unsynced nodes", soft_wrap=True)
    summaries = summarise([each.claims for each in found], tuple(PHASES))
    unsynced = {name: median(each.unsynced for each in found if each.claims.phase == name) for name in PHASES}
    console.print(claims_table(summaries, unsynced))
    return {"claims": summaries, "phases": found}


if __name__ == "__main__":
    main()
