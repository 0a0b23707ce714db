# SPDX-License-Identifier: Apache-2.0
"""Two workers that are each other's standby: one is killed or stopped for a while, the other takes over."""

import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial

import psutil
import pytest
import sqlalchemy as sa

from tests.chaos.conftest import Size
from tests.chaos.trial import BURST, Trial
from tests.delivery.load import PARTITIONS, Json, node_names, server_of
from tests.delivery.processes import Options
from tests.servers.rabbitmq import RabbitMQ

CONSUMES = "Consuming from"
STANDBY_DELAY = 6.0
"""Seconds within which the second worker gets its own half of the partitions."""
HEARTBEAT = 4
"""Seconds, within a half, after which the broker drops the connection of a silent worker."""
MOST_SECONDS = 5.0


class StandbyTrial(Trial):
    """Two workers, each of which prefers one half of the partitions."""

    def __init__(self, rabbitmq: RabbitMQ, vhost_url: str, database_url: str, casts: int) -> None:
        options: Options = {
            "worker": {"partitions": "0-7", "standby_delay": STANDBY_DELAY},
            "oslo_messaging_rabbit": {"heartbeat_timeout_threshold": HEARTBEAT, "heartbeat_rate": 2},
        }
        super().__init__(vhost_url, database_url, casts, options=options)
        self._vhost = vhost_url.rpartition("/")[2]
        self._api = rabbitmq.api

    def start_other(self) -> "subprocess.Popen[bytes]":
        """Start the second worker, and wait until each stands by for the other one."""
        worker = self.start_worker({"worker": {"partitions": "8-15"}})
        self.wait_for(self.both_consume, "two consumers of each partition")
        return worker

    def both_consume(self) -> bool:
        """Whether each partition has a consumer of each worker."""
        counts = Counter(consumer["queue"]["name"] for consumer in self._consumers())
        return all(counts[f"tracker.p{number}"] == 2 for number in range(PARTITIONS))

    def partitions_of(self, worker: "subprocess.Popen[bytes]") -> list[str]:
        """The partitions in which a worker is the active consumer."""
        mine = [x for x in self._consumers() if f":{worker.pid}." in x["consumer_tag"] and x["active"]]
        names = {x["queue"]["name"].removeprefix("tracker.") for x in mine}
        return [f"p{number}" for number in range(PARTITIONS) if f"p{number}" in names]

    def settled_of(self, partitions: list[str]) -> int:
        """How many events of these partitions' nodes are settled."""
        nodes = [node for node in node_names() if server_of(node) in partitions]
        query = sa.text("SELECT count(*) FROM receipts WHERE node IN :nodes")
        query = query.bindparams(sa.bindparam("nodes", nodes, expanding=True))
        with self.engine.connect() as connection:
            return connection.scalar(query) or 0

    def above(self, settled: int, partitions: list[str]) -> bool:
        """Whether more than so many events of these partitions are settled."""
        return self.settled_of(partitions) > settled

    def has_all(self, worker: "subprocess.Popen[bytes]") -> bool:
        """Whether a worker has every partition."""
        return len(self.partitions_of(worker)) == PARTITIONS

    def has_said(self, worker: "subprocess.Popen[bytes]", text: str, times: int) -> bool:
        """Whether a worker has logged a text so often."""
        return self.log_of(worker).count(text) >= times

    def _consumers(self) -> list[Json]:
        consumers: list[Json] = self._api("GET", f"consumers/{self._vhost}")
        return consumers


@pytest.mark.timeout(600)
def test_a_stand_in_goes_on_where_a_killed_worker_was(
    rabbitmq: RabbitMQ,
    vhost_url: str,
    database_url: str,
    size: Size,
    report: Callable[..., None],
) -> None:
    kills = size(1, 20)
    with StandbyTrial(rabbitmq, vhost_url, database_url, casts=BURST * (kills + 1)) as trial:
        trial.start_other()
        seconds = []
        for kill in range(1, kills + 1):
            victim = trial.workers[0]
            theirs = trial.partitions_of(victim)
            assert theirs, "the worker to be killed has no partition"
            before = trial.settled_of(theirs)
            trial.cast_until(BURST * kill)
            trial.wait_for(partial(trial.above, before, theirs), "its first event")
            trial.kill_worker(victim)
            assert trial.unsettled()
            before = trial.settled_of(theirs)
            seconds.append(trial.wait_for(partial(trial.above, before, theirs), "the next event"))
            if kill < kills:
                trial.start_other()
        row = trial.finish("kill -9 of one of two workers", kills, resumed=max(seconds))
    report(row)
    assert max(seconds) < MOST_SECONDS, seconds


@pytest.mark.timeout(600)
def test_a_worker_that_wakes_after_it_was_taken_over_changes_nothing(
    rabbitmq: RabbitMQ,
    vhost_url: str,
    database_url: str,
    size: Size,
    report: Callable[..., None],
) -> None:
    """The other worker settles what was in flight when it was stopped; it returns as the standby."""
    pauses = size(1, 10)
    with StandbyTrial(rabbitmq, vhost_url, database_url, casts=BURST * (pauses + 1)) as trial:
        trial.start_other()
        seconds = []
        for pause in range(1, pauses + 1):
            sleeper, other = trial.workers
            theirs = trial.partitions_of(sleeper)
            assert theirs, "the worker to be stopped has no partition"
            before = trial.settled_of(theirs)
            trial.cast_until(BURST * pause)
            trial.wait_for(partial(trial.above, before, theirs), "its first event")
            psutil.Process(sleeper.pid).suspend()
            assert trial.unsettled()
            trial.wait_for(partial(trial.has_all, other), "the stand-in to have all partitions")
            before = trial.settled_of(theirs)
            trial.cast_until(trial.allowed + BURST // 2)
            seconds.append(trial.wait_for(partial(trial.above, before, theirs), "the next event"))
            again = trial.log_of(sleeper).count(CONSUMES) + 1
            psutil.Process(sleeper.pid).resume()
            trial.wait_for(partial(trial.has_said, sleeper, CONSUMES, again), "it to notice")
            trial.wait_for(trial.both_consume, "it to stand by")
            trial.workers.reverse()
        row = trial.finish("a worker stopped until it was replaced, and woken", pauses, resumed=max(seconds))
    report(row)
    assert max(seconds) < MOST_SECONDS, seconds
