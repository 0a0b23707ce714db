# SPDX-License-Identifier: Apache-2.0
"""How long a compute manager waits for its claim where nothing else is going on: on RabbitMQ and PostgreSQL.

The goal is a median of 10 ms. Run it on a machine that does nothing else.
"""

import argparse
import statistics

from rich.console import Console
from rich.table import Table

from tests.benchmarks.servers import rabbitmq_and_postgresql
from tests.delivery.processes import Broker, Processes, TrackerWorker


def latencies(vhost_url: str, database_url: str, calls: int, rounds: int) -> list[list[float]]:
    """Return for each round how many milliseconds the calls took: median, 90th and 99th percentile."""
    broker = Broker(vhost_url)
    order = {"do": "call", "url": broker.client_url, "exchange": broker.exchange, "calls": calls}
    found = []
    with Processes() as processes:
        TrackerWorker(processes, broker, database_url).start()
        for _ in range(rounds):
            client = processes.start(order, "-m", "tests.delivery.stock_client", log="client.log")
            seconds = processes.result(client, "client.log")["seconds"]
            found.append([statistics.quantiles(seconds, n=100)[n - 1] * 1000 for n in (50, 90, 99)])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100, help="calls a round, 100 by default")
    parser.add_argument("--rounds", type=int, default=3, help="3 by default")
    args = parser.parse_args()
    with rabbitmq_and_postgresql() as (vhost_url, database_url):
        found = latencies(vhost_url, database_url, args.calls, args.rounds)
    table = Table("round", "median", "90 %", "99 %", title="A claim, from the call to its answer, in ms")
    for number, values in enumerate(found, 1):
        table.add_row(str(number), *(f"{value:.1f}" for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
