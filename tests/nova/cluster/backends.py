# SPDX-License-Identifier: Apache-2.0
"""The broker, the database and the two workers of a cluster; all of them can be killed."""

import subprocess
from contextlib import ExitStack
from typing import Self

from tests.delivery.processes import Broker, Options, Processes, TrackerWorker
from tests.nova.cluster.faults import Fault
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.db.engine import create_engine, sync_schema

PARTITIONS = 16
HALVES = ("0-7", "8-15")
STANDBY_DELAY = 6.0
"""Seconds within which a worker that starts gets its own half of the partitions."""


class Backends:
    """Two workers that are each other's standby, on a RabbitMQ and a PostgreSQL; `with` ends all of them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.rabbitmq = stack.enter_context(RabbitMQ())
            self.rabbitmq.start()
            self.broker = Broker(self.rabbitmq.url(self.rabbitmq.new_vhost()))
            self.postgresql = stack.enter_context(PostgreSQL())
            self.postgresql.start()
            self.database = self.postgresql.new_database()
            engine = create_engine(self.database)
            sync_schema(engine)
            engine.dispose()
            self.processes = stack.enter_context(Processes())
            for half in HALVES:
                self._start_worker(half)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def faults(self) -> list[Fault]:
        """Return what can be killed, in turn."""
        first, second = HALVES
        return [
            self._fault("a worker", first),
            Fault("the broker", self.rabbitmq.kill, self.rabbitmq.start),
            Fault("the database", self.postgresql.kill, self.postgresql.start),
            self._fault("a worker", second),
            self._fault("both workers", *HALVES),
        ]

    def _fault(self, name: str, *halves: str) -> Fault:
        def kill() -> None:
            for half in halves:
                self.processes.kill(self._running.pop(half))

        def start() -> None:
            for half in halves:
                self._start_worker(half)

        return Fault(name, kill, start)

    def _start_worker(self, half: str) -> None:
        options: Options = {
            "bus": {"exchange": self.broker.exchange, "partitions": PARTITIONS},
            "worker": {"partitions": half, "standby_delay": STANDBY_DELAY},
        }
        name = f"worker-{half}"
        worker = TrackerWorker(self.processes, self.broker, self.database, options, name)
        self._running[half] = worker.start()
