# SPDX-License-Identifier: Apache-2.0
"""Starts the contestants: how each is run, and how many queues it consumes."""

import subprocess
from dataclasses import dataclass

from tests.delivery.processes import Broker, Options, Processes, TrackerWorker
from tracker_worker.domain.partitions import DEFAULT_PARTITIONS

PARTITIONS = {"stock": 1, "naive": 1, "worker": DEFAULT_PARTITIONS, "limit": DEFAULT_PARTITIONS}


@dataclass(frozen=True)
class Running:
    """A contestant that consumes, and its log."""

    process: "subprocess.Popen[bytes]"
    log: str


def start(
    name: str, processes: Processes, broker: Broker, database: str, options: Options | None = None
) -> Running:
    """Start a contestant; return once it consumes. The options are tracker-worker's."""
    if name == "worker":
        worker = TrackerWorker(processes, broker, database, options)
        return Running(worker.start(), worker.log)
    log = f"{name}.log"
    order = {"url": broker.client_url, "exchange": broker.exchange, "database": database}
    return Running(processes.start_consumer(order, f"tests.benchmarks.throughput.{name}", log), log)
