# SPDX-License-Identifier: Apache-2.0
"""A trial of tracker-worker: a load, workers that are started and killed, and the verdict as a row."""

import random
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from tests.chaos.report import Row
from tests.delivery import oracle, trial
from tests.delivery.load import PARTITIONS, WHOLE
from tests.delivery.oracle import Verdict, WorkerDatabase
from tests.delivery.processes import Broker, Options, TrackerWorker
from tests.servers.server import wait_until

SECONDS = 60
BURST = 4_000
"""Casts for one fault: enough to last until a trial on a busy machine has caused it."""
MANAGE = "import sys; from tracker_worker.cmd.manage import main; sys.exit(main())"
MANAGE_LOG = "manage.log"
MANAGE_SECONDS = 120
SECRETS = ("rabbit-secret", "postgresql-secret", "mariadb-secret")
"""Prefix of the passwords of the tests' servers."""


class Trial(trial.Trial):
    """A stock client and one worker, on a database with empty tables; leaving the `with` block ends all.

    `options` are the workers', by group, and win over everything: a transport URL through a proxy, say. The
    client and the oracle use the URLs given. `again` is how many casts the client had to repeat, `repeated`
    how many notifications came again.
    """

    patience = 60.0
    name = TrackerWorker.name

    def __init__(
        self,
        broker_url: str,
        database_url: str,
        casts: int,
        *,
        quorum: bool = False,
        options: Options | None = None,
    ) -> None:
        assert casts % WHOLE == 0, f"the load has to be a multiple of {WHOLE}"
        super().__init__(Broker(broker_url, quorum=quorum), database_url, casts)
        self.ledger = WorkerDatabase(self.engine)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._database = database_url
        self._options = options or {}
        self._names: dict[subprocess.Popen[bytes], str] = {}
        self._torn: list[str] = []
        self.again = self.repeated = 0

    @property
    def worker(self) -> "subprocess.Popen[bytes]":
        """The running worker that was started last."""
        return self.workers[-1]

    @property
    def log(self) -> str:
        """The logs of all workers so far."""
        return "".join(self.log_of(worker) for worker in self._names)

    def log_of(self, worker: "subprocess.Popen[bytes]") -> str:
        """The log of one worker so far."""
        return (self.processes.directory / self._names[worker]).read_text(errors="replace")

    def start(self) -> "subprocess.Popen[bytes]":
        return self.start_worker()

    def kill(self) -> None:
        self.kill_worker()

    def start_worker(self, options: Options | None = None) -> "subprocess.Popen[bytes]":
        """Start one more worker, with more options, and return once it consumes."""
        groups = dict(self._options)
        for group, more in (options or {}).items():
            groups[group] = groups.get(group, {}) | more
        name = f"worker-{len(self._names)}"
        worker = TrackerWorker(self.processes, self.broker, self._database, groups, name)
        self.workers.append(worker.start())
        self._names[self.worker] = worker.log
        return self.worker

    def kill_worker(self, worker: "subprocess.Popen[bytes] | None" = None) -> None:
        """SIGKILL a worker, the last one by default, and look for half events."""
        worker = worker or self.worker
        self.processes.kill(worker)
        self.workers.remove(worker)
        self.look()

    def stop_worker(self, worker: "subprocess.Popen[bytes] | None" = None) -> None:
        """SIGTERM a worker, the last one by default; it must end by itself and return 0."""
        worker = worker or self.worker
        self.processes.stop(worker, self._names[worker])
        self.workers.remove(worker)

    def look(self) -> None:
        """Look for half events in SQL as it is now; `finish` counts them."""
        self._torn += self.ledger.torn()

    def settled(self) -> int:
        """How many events have left a receipt. Raises OperationalError while the database is down."""
        return self.ledger.settled()

    def unsettled(self) -> int:
        """How many of the casts that are allowed have left no receipt yet."""
        return self.allowed - self.settled()

    def wait_settled(self, number: int, seconds: float = SECONDS) -> float:
        """Wait until so many events are settled; return the seconds."""
        return self.wait_for(lambda: self.settled() >= number, f"{number} events settled", seconds)

    def wait_for(self, holds: Callable[[], bool], what: str, seconds: float = SECONDS) -> float:
        """Wait until a condition is true; return the seconds. Raises TimeoutError with the end of the log."""
        started = time.monotonic()
        try:
            wait_until(holds, what, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; {self.settled()} are settled; {self.log[-4000:]}") from None
        return time.monotonic() - started

    def finish(self, fault: str, times: int, resumed: float | None = None) -> Row:
        """Cast the rest, wait until all is settled, stop the workers and judge."""
        seconds = self.settle()
        return Row.of(fault, times, self.casts, self.verdict(), seconds, resumed)

    def settle(self) -> float:
        """Cast the rest, wait until all is settled and stop the workers; return the seconds of the work."""
        self.again += self.finish_casting()["again"]
        seconds = self.wait_for_quiet()
        if self.settled() >= self.casts:
            self.wait_for(lambda: self.ledger.waiting() == 0, "an empty outbox")
            self.wait_for(lambda: not self._left(), "empty queues")
        for worker in list(self.workers):
            self.stop_worker(worker)
        for secret in SECRETS:
            assert secret not in self.log, "a password is in a worker's log"
        return seconds

    def verdict(self) -> Verdict:
        """Judge SQL, the notifications, which it takes from their queue, and half events."""
        told = oracle.notifications(self.broker.url)
        self.repeated += oracle.repetitions(told)
        seen = self.ledger.verdict(self.casts, told)
        left = [f"{name} still holds {count} messages" for name, count in self._left().items()]
        return seen.also(half=self._torn, wrong=left)

    def replay(self, letters: Iterable[str], *more: str) -> "subprocess.Popen[bytes]":
        """Start the command that replays dead letters; `more` are its options."""
        file = next(self.processes.directory.glob("*.conf"))
        arguments = ["--config-file", str(file), "dead-letter", "replay", *more, *letters]
        return self.processes.start(None, "-c", MANAGE, *arguments, log=MANAGE_LOG)

    def ended(self, command: "subprocess.Popen[bytes]") -> str:
        """The output of the command, which must return 0."""
        output, _ = command.communicate(timeout=MANAGE_SECONDS)
        assert command.returncode == 0, self.processes.tail(MANAGE_LOG)
        self.processes.kill(command)
        return output.decode()

    def column(self, statement: str) -> list[Any]:
        """The first column of a query."""
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.text(statement)))

    def replayed(self) -> int:
        """How many letters are replayed."""
        count: int = self.column("SELECT count(*) FROM dead_letters WHERE state = 'replayed'")[0]
        return count

    def _left(self) -> dict[str, int]:
        """The number of messages that are not delivered, by queue."""
        exchange = self.broker.exchange
        names = [exchange, f"{exchange}.dead", *(f"{exchange}.p{number}" for number in range(PARTITIONS))]
        with oracle.connected(self.broker.url) as connection:
            channel = connection.channel()
            counts = {name: channel.queue_declare(name, passive=True).message_count for name in names}
        return {name: count for name, count in counts.items() if count}


def put_to_work(chance: random.Random, upto: int, *trials: Trial) -> None:
    """Allow casts and return once a random part of them, at most an eighth, is settled."""
    before = {one: one.settled() for one in trials}
    for one in trials:
        one.cast_until(upto)
    for one, settled in before.items():
        one.wait_settled(settled + chance.randint(1, (upto - settled) // 8))
