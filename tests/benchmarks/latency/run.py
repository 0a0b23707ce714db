# SPDX-License-Identifier: Apache-2.0
"""Runs the phases against one worker: the process `storm` sends the audits, `caller` measures."""

import subprocess
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import sqlalchemy as sa

from tests.benchmarks.latency.figures import Measurement
from tests.benchmarks.latency.phases import PHASES
from tests.benchmarks.throughput.usage import usage_of
from tests.delivery.oracle import engine_of
from tests.delivery.processes import Broker, Processes, TrackerWorker
from tests.servers.server import wait_until
from tracker_worker.db.tables import NODES

SECONDS = 600
"""Longest wait for the nodes to be filled, and for the audits of a phase to end."""
NUMBERS = 1_000_000
"""Numbers of a node's audits in one phase: more than it can have."""


@dataclass(frozen=True)
class Settings:
    """`nodes` are audited, with so many `instances` each. A phase ends after `calls` or `seconds`."""

    nodes: int
    instances: int
    calls: int
    seconds: float


class Cloud:
    """A worker, a stock server, and nodes that the worker knows; leaving the `with` block ends all."""

    def __init__(self, vhost_url: str, database_url: str, settings: Settings) -> None:
        self._processes = Processes()
        self._broker = Broker(vhost_url)
        self._database = database_url
        self._settings = settings
        self._number = 1

    def __enter__(self) -> Self:
        try:
            self._worker = TrackerWorker(self._processes, self._broker, self._database).start()
            order = {"url": self._broker.client_url}
            self._processes.start_consumer(order, "tests.benchmarks.latency.echo", "echo.log")
            self._fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.__exit__()

    def measure(self, phase: str, number: int) -> Measurement:
        """Measure a phase in the round of this number."""
        audits = PHASES[phase].audits
        storm = self._storm(audits) if audits else None
        before, began = usage_of(self._worker.pid), time.monotonic()
        seconds = self._call()
        after, wall = usage_of(self._worker.pid), time.monotonic() - began
        rate = self._end(storm) if storm else 0.0
        busy = (after.cpu_seconds - before.cpu_seconds) / wall
        return Measurement(phase, number, audits=rate, busy=busy, seconds=seconds)

    def _call(self) -> dict[str, list[float]]:
        order = {
            "url": self._broker.client_url,
            "exchange": self._broker.exchange,
            "database": self._database,
            "calls": self._settings.calls,
            "seconds": self._settings.seconds,
        }
        caller = self._processes.start(order, "-m", "tests.benchmarks.latency.caller", log="caller.log")
        found: dict[str, list[float]] = self._processes.result(caller, "caller.log", SECONDS)
        return found

    def _storm(self, what: str) -> "subprocess.Popen[bytes]":
        """Start sending audits: returns once it begins."""
        order: dict[str, Any] = {
            "what": what,
            "url": self._broker.url,
            "exchange": self._broker.exchange,
            "nodes": self._settings.nodes,
            "instances": self._settings.instances,
            "number": self._number,
        }
        self._number += NUMBERS
        return self._processes.start_consumer(order, "tests.benchmarks.latency.storm", "storm.log")

    def _end(self, storm: "subprocess.Popen[bytes]") -> float:
        """Have the audits end; return how many were sent a second."""
        self._processes.tell(storm, "stop")
        told = self._processes.result(storm, "storm.log", SECONDS)
        return float(told["sent"] / told["seconds"])

    def _fill(self) -> None:
        """Audit each node twice: the first audit adds its instances, the second is compared with them in full
        and is remembered, so that the next ones repeat it.
        """
        for _ in range(2):
            sequence = 2 * self._number
            self._end(self._storm("fill"))
            wait_until(partial(self._are_audited, sequence), "the nodes are audited", SECONDS)

    def _are_audited(self, sequence: int) -> bool:
        """Tell whether each node has had an audit of a higher sequence."""
        engine = engine_of(self._database)
        with engine.connect() as connection:
            nodes = [sources or {} for sources in connection.scalars(sa.select(NODES.c.sources))]
        engine.dispose()
        done = [any(source["audited"] > sequence for source in sources.values()) for sources in nodes]
        return sum(done) == self._settings.nodes
