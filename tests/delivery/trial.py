# SPDX-License-Identifier: Apache-2.0
"""One trial: a stock client casts, the server is killed again and again, the oracle judges what is left."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa

from tests.delivery import oracle
from tests.delivery.oracle import Applied, Ledger, Verdict
from tests.delivery.processes import Broker, Processes, StockServer, TrackerWorker
from tests.servers.server import wait_until

LATEST = 1.2
"""Seconds from when a server consumes to its end, if it does not settle its part before."""
JITTER = 0.03
"""Most seconds between its part and its end, so that it dies at any point of a batch."""
QUIET = 5.0
"""Seconds without anything new after which nothing more is expected."""
CLIENT_LOG = "client.log"
SEED = 1
SECONDS = 120


@dataclass(frozen=True)
class Row:
    """A server's trial. `at_work`: the kills while something that may have been sent was not applied."""

    server: str
    casts: int
    kills: int
    at_work: int
    verdict: Verdict
    seconds: float
    repeated_notifications: int = 0


def try_tracker_worker(broker: Broker, database: str, casts: int, kills: int) -> Row:
    """Kill tracker-worker on a database that has the schema and nothing else."""
    with Processes() as processes, _engine(database) as engine:
        ledger = Ledger(engine)
        worker = TrackerWorker(processes, broker, database)
        trial = _Trial(processes, worker, broker, casts, ledger.settled)
        trial.run(kills, random.Random(SEED))
        seconds = trial.wait_for_quiet()
        if ledger.settled() == casts:
            wait_until(lambda: ledger.waiting() == 0, "an empty outbox", SECONDS)
        verdict = ledger.verdict(casts)
        told = oracle.notifications(broker.url)
        verdict = replace(verdict, wrong=(*verdict.wrong, *oracle.untold(told, ledger.usage())))
    return Row(worker.name, casts, kills, trial.at_work, verdict, seconds, oracle.repetitions(told))


def try_stock_server(broker: Broker, database: str, threads: int, casts: int, kills: int) -> Row:
    """Kill a stock RPC server in the same way; it keeps what it does in the database."""
    with Processes() as processes, _engine(database) as engine:
        applied = Applied(engine)
        server = StockServer(processes, broker, database, threads)
        trial = _Trial(processes, server, broker, casts, applied.settled)
        trial.run(kills, random.Random(SEED))
        seconds = trial.wait_for_quiet()
        return Row(server.name, casts, kills, trial.at_work, applied.verdict(casts), seconds)


@contextmanager
def _engine(database: str) -> Iterator[sa.Engine]:
    engine = oracle.engine_of(database)
    try:
        yield engine
    finally:
        engine.dispose()


class _Trial:
    """The casts come in bursts, one while each server starts; it dies after a part of it, chosen by chance.

    Kills by the clock alone would mostly find it idle.
    """

    def __init__(
        self,
        processes: Processes,
        server: TrackerWorker | StockServer,
        broker: Broker,
        casts: int,
        settled: Callable[[], int],
    ) -> None:
        self._processes = processes
        self._server = server
        self._casts = casts
        self._settled = settled
        self._order = {
            "do": "cast",
            "url": broker.url,
            "exchange": broker.exchange,
            "casts": casts,
            "server": server.server if isinstance(server, StockServer) else None,
        }
        self._started = 0.0
        self.at_work = 0

    def run(self, kills: int, chance: random.Random) -> None:
        """Start, cast, kill and start again; leaves the server running and everything cast."""
        client = self._processes.start(self._order, "-m", "tests.delivery.stock_client", log=CLIENT_LOG)
        self._started = time.monotonic()
        running = self._server.start()  # It declares the queues.
        burst = self._casts // (kills + 1)
        for kill in range(1, kills + 1):
            sent = burst * kill
            before = self._settled()
            self._processes.tell(client, sent)
            if kill > 1:
                running = self._server.start()
            self._wait_for_progress(before + chance.randint(1, burst // 2))
            time.sleep(chance.uniform(0, JITTER))
            self._processes.kill(running)
            self.at_work += self._settled() < sent
            assert client.poll() is None, self._processes.tail(CLIENT_LOG)
        self._processes.tell(client, self._casts)
        self._server.start()
        self._processes.result(client, CLIENT_LOG, SECONDS)

    def _wait_for_progress(self, settled: int) -> None:
        latest = time.monotonic() + LATEST
        while self._settled() < settled and time.monotonic() < latest:
            time.sleep(0.01)

    def wait_for_quiet(self) -> float:
        """Wait until all is settled, or nothing more has been for some seconds; the seconds of the work."""
        settled, since = self._settled(), time.monotonic()
        while settled < self._casts and time.monotonic() - since < QUIET:
            time.sleep(0.05)
            if (now := self._settled()) != settled:
                settled, since = now, time.monotonic()
        return since - self._started
