# SPDX-License-Identifier: Apache-2.0
"""Poison messages, which crash the worker: each is parked, and no other event is."""

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amqp
import pytest
import sqlalchemy as sa

from tests.chaos.backlog import Backlog
from tests.chaos.conftest import Size
from tests.chaos.queues import ready, ready_by_queue
from tests.chaos.report import Row
from tests.delivery import oracle
from tests.delivery.load import NODES, PARTITIONS
from tests.delivery.processes import TrackerWorker

MOST_DEATHS = 4
PREFETCH = 64
LIFE = 60
"""Seconds within which a worker with poison messages must crash or settle all."""


class PoisonedWorker(TrackerWorker):
    """tracker-worker that raises or crashes at some events; see tests/chaos/poison.py."""

    poison: dict[str, object]

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it; it may crash before it consumes."""
        arguments = ["-m", "tests.chaos.poison", "--config-file", str(self._file)]
        return self._processes.start(self.poison, *arguments, log=self.log)


class PoisonTrial(Backlog):
    """Workers that crash at some events, restarted again and again."""

    def poisoned_worker(self, **by_deed: list[str]) -> PoisonedWorker:
        """A worker with poison messages, given by event id."""
        worker = PoisonedWorker(self.processes, self.broker, self._database, self._options, "poisoned")
        nobody: dict[str, list[str]] = {"raise": [], "kill": [], "kill_decoding": []}
        worker.poison = nobody | by_deed | {"deaths": str(self._deaths)}
        return worker

    def live(self, worker: PoisonedWorker) -> bool:
        """Wait until it crashes or all is settled; return whether it crashed."""
        process = worker.start()
        self.wait_for(lambda: process.poll() is not None or self.settled() == self.casts, "a death", LIFE)
        died = process.poll() is not None
        if died:
            assert process.returncode == -9, self.processes.tail(worker.log)
            self.processes.kill(process)
        else:
            self.processes.stop(process, worker.log)
        return died

    def progress(self) -> tuple[int, int]:
        """A measure of progress: receipts, and attempts that were begun or reached decoding."""
        steps = "SELECT sum(2 * begun + CASE WHEN decoded THEN 1 ELSE 0 END) FROM attempts"
        with self.engine.connect() as connection:
            recorded = connection.scalar(sa.text(steps))
        return self.settled(), int(recorded or 0)

    def deaths(self) -> Counter[str]:
        """How often each event has killed."""
        return Counter(self._deaths.read_text().split() if self._deaths.exists() else [])

    def letters(self) -> dict[str, sa.Row[Any]]:
        """The dead letters by event id."""
        with self.engine.connect() as connection:
            return {row.event_id: row for row in connection.execute(sa.text("SELECT * FROM dead_letters"))}

    @property
    def _deaths(self) -> Path:
        return self.processes.directory / "deaths"


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request: pytest.FixtureRequest) -> str:
    """A database of each kind."""
    made: str = request.getfixturevalue({"postgresql": "database_url", "sqlite": "sqlite_url"}[request.param])
    return made


def test_events_that_always_raise_are_parked_at_once_and_their_neighbours_applied(
    vhost_url: str, url: str, size: Size, report_parked: Callable[[Row, int], None]
) -> None:
    casts = size(1_500, 20_000)
    bad = [f"node-{number % NODES:02}.{1 + number * 7 % 20}" for number in range(0, NODES, 3)]
    with PoisonTrial(vhost_url, url, casts=casts) as trial:
        trial.publish(casts)
        died = trial.live(trial.poisoned_worker(**{"raise": bad}))
        letters = trial.letters()
        trial.start()
        row = trial.finish(f"an event that raises, {trial.engine.dialect.name}", len(bad))
    assert not died
    assert sorted(letters) == sorted(bad)
    for letter in letters.values():
        assert letter.code == "internal_error"
        assert re.match(
            r"Poisoned in poisoned_decide \(poison.py:\d+\) < _decide \(batch.py:\d+\)", letter.message
        )
        assert letter.node == letter.event_id.partition(".")[0]
    report_parked(row, len(bad))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("database", "lanes"), [("database_url", 2), ("sqlite_url", 1)])
def test_events_that_kill_are_parked_after_four_deaths_and_their_neighbours_applied(
    database: str,
    lanes: int,
    request: pytest.FixtureRequest,
    vhost_url: str,
    size: Size,
    report_parked: Callable[[Row, int], None],
) -> None:
    """They are among the first events of their nodes, so that a full prefetch window surrounds them."""
    url = request.getfixturevalue(database)
    killers = size(["node-07.3"], [f"node-{number:02}.{number % 5 + 1}" for number in range(3, NODES, 8)])
    kill_and_park(vhost_url, url, size, report_parked, lanes=lanes, kill=killers)


@pytest.mark.timeout(600)
def test_events_that_kill_while_they_are_decoded_are_parked(
    vhost_url: str, database_url: str, size: Size, report_parked: Callable[[Row, int], None]
) -> None:
    killers = size(["node-11.2"], ["node-11.2", "node-30.7", "node-31.1"])
    kill_and_park(vhost_url, database_url, size, report_parked, kill_decoding=killers)


def kill_and_park(
    vhost_url: str,
    url: str,
    size: Size,
    report_parked: Callable[[Row, int], None],
    *,
    lanes: int = 1,
    **deeds: list[str],
) -> None:
    casts = size(1_500, 20_000)
    killers = [event_id for ids in deeds.values() for event_id in ids]
    idle = 0
    with PoisonTrial(vhost_url, url, casts=casts, options={"worker": {"lanes": lanes}}) as trial:
        trial.publish(casts)
        worker = trial.poisoned_worker(**deeds)
        before = trial.progress()
        while trial.live(worker):
            after = trial.progress()
            idle += after == before
            before = after
            assert sum(trial.deaths().values()) <= MOST_DEATHS * len(killers), trial.deaths()
        deaths, letters = trial.deaths(), trial.letters()
        trial.start()
        fault = f"an event that kills ({', '.join(deeds)}), {trial.engine.dialect.name}, lanes: {lanes}"
        row = trial.finish(fault, sum(deaths.values()))
    assert sorted(deaths) == sorted(killers)
    assert max(deaths.values()) <= MOST_DEATHS, deaths
    assert idle <= len(killers), f"{idle} lives have left nothing behind"
    assert {letter.code for letter in letters.values()} == {"worker_died"}
    if "kill" in deeds:
        assert sorted(letters) == sorted(killers)
    report_parked(row, len(killers))


@pytest.mark.timeout(1200)  # With --chaos; most of the time is for 200 starts.
@pytest.mark.parametrize("quorum", [False, True], ids=["durable", "quorum"])
def test_kills_with_prefetch_full_drop_nobody(
    quorum: bool, vhost_url: str, database_url: str, size: Size, report: Callable[..., None]
) -> None:
    """The database hangs, and a supervisor kills the worker again and again.

    A quorum queue counts a failed delivery for every unacknowledged message, whichever caused the crash.
    """
    kills = size(8 if quorum else 4, 200)
    casts = size(3_500, 10_000)
    kind = "quorum" if quorum else "durable"
    with Backlog(
        vhost_url, database_url, casts=casts, quorum=quorum, options={"worker": {"prefetch": PREFETCH}}
    ) as trial:
        trial.publish(casts)
        with trial.engine.begin() as hanging:
            hanging.execute(sa.text("LOCK TABLE attempts, nodes IN ACCESS EXCLUSIVE MODE"))
            for _ in range(kills):
                trial.start()
                trial.wait_for(lambda: taken(trial) == PREFETCH * PARTITIONS, "prefetch to be full")
                trial.processes.kill(trial.workers.pop())
                # The backend of the killed worker still waits for the lock. It is looked up in a new
                # transaction, because pg_stat_activity stays the same within one.
                with trial.engine.begin() as connection:
                    connection.execute(sa.text(_END_BACKENDS))
        deliveries = delivery_counts(trial)
        trial.start()
        row = trial.finish(f"kill -9 with prefetch full, {kind} queues", kills)
    assert len(deliveries) == PARTITIONS
    assert min(deliveries) >= (kills if quorum else 1), deliveries
    report(row)


_END_BACKENDS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'tracker-worker%'
"""


def taken(trial: Backlog) -> int:
    """The number of messages that a worker has, which has settled none."""
    return trial.casts - ready(trial.broker.url)


def delivery_counts(trial: Backlog) -> list[int]:
    """How often each partition's first message was delivered before; a classic queue knows only whether."""
    counts: dict[str, int] = {}

    def note(message: amqp.Message) -> None:
        again = message.delivery_info["redelivered"]
        headers = message.properties.get("application_headers", {})
        counts.setdefault(message.delivery_info["routing_key"], headers.get("x-delivery-count", int(again)))

    # A quorum queue appends returned messages to those returned before: a partial read would reorder them.
    waiting = {name for name, count in ready_by_queue(trial.broker.url).items() if count}
    with oracle.connected(trial.broker.url) as connection:
        for name in waiting:
            channel = connection.channel()
            channel.basic_qos(0, PREFETCH, False)
            channel.basic_consume(name, callback=note)
        while counts.keys() < waiting:
            connection.drain_events(timeout=LIFE)
    return list(counts.values())
