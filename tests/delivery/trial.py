# SPDX-License-Identifier: Apache-2.0
"""A trial: a stock client casts, a server is killed again and again, the oracle judges the result."""

import random
import subprocess
import time
from abc import ABC, abstractmethod
from typing import Any, Self

from tests.delivery import oracle
from tests.delivery.oracle import Applied, Verdict
from tests.delivery.processes import Broker, Processes, StockServer

LATEST = 3.0
"""Seconds after which a server is killed even if it has not settled its part."""
AHEAD = 512
"""Casts beyond a burst: two batches, so that even a fast server has work when it is killed."""
JITTER = 0.03
"""Maximum delay of the kill after its part, so that it hits any point of a batch."""
CLIENT_LOG = "client.log"
SECONDS = 240


class Trial(ABC):
    """One load for a server, and how much of it is settled; `with` starts both and ends them.

    The client casts what `cast_until` allows, and nothing before. `started` is when the first was allowed.
    """

    patience: float
    """Seconds without a new event after which the load counts as done."""

    def __init__(self, broker: Broker, database: str, casts: int, server: str | None = None) -> None:
        self.broker = broker
        self.casts = casts
        self.processes = Processes()
        self.engine = oracle.engine_of(database, pool_pre_ping=True)
        self.allowed = 0
        self._server = server
        self._started = 0.0

    def __enter__(self) -> Self:
        try:
            order = {
                "do": "cast",
                "url": self.broker.client_url,
                "exchange": self.broker.exchange,
                "casts": self.casts,
                "server": self._server,
            }
            self._client = self.processes.start(order, "-m", "tests.delivery.stock_client", log=CLIENT_LOG)
            self.start()  # It declares the queues; the client waits until it may cast.
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.__exit__()
        self.engine.dispose()

    @abstractmethod
    def start(self) -> "subprocess.Popen[bytes]":
        """Start a server and return once it consumes."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the server that was started last."""

    @abstractmethod
    def settled(self) -> int:
        """How many events have a row in the database. Raises OperationalError while it is down."""

    def cast_until(self, number: int) -> None:
        """Allow the client the casts before this number."""
        assert self._client.poll() is None, self.processes.tail(CLIENT_LOG)
        self._started = self._started or time.monotonic()
        self.allowed = number
        self.processes.tell(self._client, number)

    def finish_casting(self) -> dict[str, Any]:
        """Allow all casts and wait until they are confirmed; return the client's result."""
        self.cast_until(self.casts)
        said: dict[str, Any] = self.processes.result(self._client, CLIENT_LOG, SECONDS)
        return said

    def wait_for_quiet(self) -> float:
        """Wait until all is settled, or no event was for some seconds; return the seconds of the work."""
        settled, since = self.settled(), time.monotonic()
        while settled < self.casts and time.monotonic() - since < self.patience:
            time.sleep(0.05)
            if (now := self.settled()) != settled:
                settled, since = now, time.monotonic()
        return since - self._started


class StockTrial(Trial):
    """The load for a stock oslo.messaging RPC server, which records each event in the database."""

    patience = 5.0

    def __init__(self, broker: Broker, database: str, casts: int, threads: int) -> None:
        super().__init__(broker, database, casts, StockServer.server)
        self._stock = StockServer(self.processes, broker, database, threads)
        self._applied = Applied(self.engine)
        self.name = self._stock.name

    def start(self) -> "subprocess.Popen[bytes]":
        self._running = self._stock.start()
        return self._running

    def kill(self) -> None:
        self.processes.kill(self._running)

    def settled(self) -> int:
        return self._applied.settled()

    def verdict(self) -> Verdict:
        """Judge what it has recorded."""
        return self._applied.verdict(self.casts)


def kill_at_work(trial: Trial, kills: int, seed: int = 1) -> int:
    """Kill the server so many times under load, each time after a random part of a burst.

    Kills by time alone would mostly hit an idle server. Leaves the server running. Returns how many kills
    happened while casts that may have been sent were not settled.
    """
    chance = random.Random(seed)
    burst = trial.casts // (kills + 1)
    at_work = 0
    for kill in range(1, kills + 1):
        before = trial.settled()
        trial.cast_until(min(burst * kill + AHEAD, trial.casts))
        if kill > 1:
            trial.start()
        latest = time.monotonic() + LATEST
        part = before + chance.randint(1, burst // 2)
        while trial.settled() < part and time.monotonic() < latest:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, JITTER))
        trial.kill()
        at_work += trial.settled() < trial.allowed
    trial.cast_until(trial.casts)
    trial.start()
    return at_work
