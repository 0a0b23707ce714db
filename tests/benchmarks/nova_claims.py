# SPDX-License-Identifier: Apache-2.0
"""What each size of the adapter costs the claim of a build in Nova: on RabbitMQ and PostgreSQL.

The goal of a tap is 3 % of a claim in Nova alone. Run it on a machine that does nothing else.
"""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.servers import rabbitmq_and_postgresql
from tests.delivery.processes import Broker, Processes, TrackerWorker
from tests.nova import environment

ALONE = "Nova alone"


def claim_times(vhost_url: str, database_url: str, claims: int, native: bool) -> dict[str, list[float]]:
    """Return the seconds of the claims of each size, made in turn by one process."""
    nova = environment.made()
    broker = Broker(vhost_url)
    with Processes() as processes:
        TrackerWorker(processes, broker, database_url).start()
        results = Path(processes.directory) / "claims.json"
        settings = {
            "url": broker.client_url,
            "exchange": broker.exchange,
            "claims": claims,
            "results": str(results),
        }
        variables = {
            "NOVA_CLAIMS": json.dumps(settings),
            "PYTHONPATH": str(environment.ROOT),
            "OS_NOVA_DISABLE_EVENTLET_PATCHING": str(native).lower(),
        }
        subprocess.run(
            [nova.python, "-W", "ignore", "-m", "tests.nova.inside.claim_times"],
            cwd=nova.source,
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds: dict[str, list[float]] = json.loads(results.read_text())
        return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--claims", type=int, default=500, help="claims of each size, 500 by default")
    parser.add_argument("--native", action="store_true", help="native threads in place of eventlet")
    args = parser.parse_args()
    with rabbitmq_and_postgresql() as (vhost_url, database_url):
        found = claim_times(vhost_url, database_url, args.claims, args.native)
    table = Table("size", "median", "99 %", "median to Nova alone", title="A build's claim in Nova, in ms")
    alone = statistics.median(found[ALONE])
    for size, seconds in found.items():
        median, last = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
        table.add_row(size, f"{median * 1000:.1f}", f"{last * 1000:.1f}", f"{median / alone:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
