# SPDX-License-Identifier: Apache-2.0
"""The broker fails under load and comes back: each confirmed cast is applied once, and work resumes with the
next attempt to connect.

A client repeats a cast whose confirm was lost with the broker; it is applied once, too.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.conftest import Size
from tests.chaos.trial import BURST, Trial, put_to_work
from tests.servers.rabbitmq import Cluster, RabbitMQ
from tests.servers.skips import skip_unless_installed
from tracker_worker.bus.rabbit.connection import RETRY_SECONDS

SEED = 1
FIRST = 100
"""Casts before the faults, so that all queues are declared."""
MOST_FAILURES = 2
"""Attempts to connect that may fail after the broker, or the rest of a cluster, is available.

One was under way, or ends the old connection, another may time out on a busy machine. Attempts are counted,
not seconds: how long a broker takes to hand out its queues again depends on the machine.
"""


@pytest.fixture
def two_trials(
    rabbitmq: RabbitMQ, database_url: str, sqlite_url: str
) -> Iterator[Callable[[int], dict[str, Trial]]]:
    """Makes two loads on one broker: durable classic queues with PostgreSQL, quorum queues with SQLite."""
    with ExitStack() as stack:

        def start(casts: int) -> dict[str, Trial]:
            classic, quorum = rabbitmq.new_vhost(), rabbitmq.new_vhost()
            for vhost in (classic, quorum):
                stack.callback(rabbitmq.delete_vhost, vhost)
            return {
                "classic": stack.enter_context(Trial(rabbitmq.url(classic), database_url, casts)),
                "quorum": stack.enter_context(Trial(rabbitmq.url(quorum), sqlite_url, casts, quorum=True)),
            }

        yield start


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    skip_unless_installed(RabbitMQ)
    with Cluster() as nodes:
        nodes.start()
        yield nodes


def declare_all(trial: Trial) -> None:
    """Declare the queue of notifications, too.

    A quorum queue that is declared a moment before a kill comes back without a leader (RabbitMQ 3.10).
    """
    trial.cast_until(FIRST)
    trial.wait_for(lambda: not trial.unsettled() and not trial.ledger.waiting(), "an empty outbox")


def connections(trial: Trial) -> int:
    """How often its worker has connected."""
    return trial.log.count("Consuming from")


def failures(trial: Trial) -> int:
    """How often its worker has lost its connection or failed to connect."""
    return len(pauses(trial))


def pauses(trial: Trial) -> list[int]:
    """How many seconds its worker said that it would wait, after each of these failures."""
    return [int(seconds) for seconds in re.findall(r"cannot be used, trying again in (\d+) s", trial.log)]


def seconds_until_it_goes_on(trial: Trial, connected: int, since: float) -> float:
    """The seconds from a moment until it had connected again and settled an event."""
    trial.wait_for(lambda: connections(trial) > connected, "another connection")
    before = trial.settled()
    trial.wait_for(lambda: trial.settled() > before or before == trial.allowed, "an event after the fault")
    return time.monotonic() - since


def test_a_broker_that_is_killed_or_restarted_under_load_loses_nothing(
    rabbitmq: RabbitMQ,
    two_trials: Callable[[int], dict[str, Trial]],
    size: Size,
    report: Callable[..., None],
) -> None:
    faults = ("kill -9", "restart") * size(1, 5)
    burst = BURST // 2  # Settled events are redelivered after each kill, before the next new one.
    chance = random.Random(SEED)
    trials = two_trials(burst * (len(faults) + 1))
    for trial in trials.values():
        declare_all(trial)
    rabbitmq.write_down_declarations()
    resumed = dict.fromkeys(trials, 0.0)
    failed = dict.fromkeys(trials, 0)
    at_work = dict.fromkeys(trials, 0)
    for number, fault in enumerate(faults, 1):
        connected = {kind: connections(trial) for kind, trial in trials.items()}
        put_to_work(chance, burst * number, *trials.values())
        rabbitmq.kill_at_once() if fault == "kill -9" else rabbitmq.stop()
        for kind, trial in trials.items():
            at_work[kind] += trial.unsettled() > 0
        rabbitmq.start()
        back = time.monotonic()
        before = {kind: failures(trial) for kind, trial in trials.items()}
        for kind, trial in trials.items():
            resumed[kind] = max(resumed[kind], seconds_until_it_goes_on(trial, connected[kind], back))
            failed[kind] = max(failed[kind], failures(trial) - before[kind])
            trial.look()
    what = "kill -9 and restart of the broker"
    report(*(t.finish(f"{what}, {kind} queues", len(faults), resumed[kind]) for kind, t in trials.items()))
    assert min(at_work.values()) > len(faults) / 2, f"too few faults have met work: {at_work}"
    assert max(failed.values()) <= MOST_FAILURES, failed
    assert all(0 < max(pauses(trial)) <= RETRY_SECONDS for trial in trials.values())


def test_a_node_of_a_cluster_that_is_killed_under_load_loses_nothing(
    cluster: Cluster, database_url: str, size: Size, report: Callable[..., None]
) -> None:
    times = size(1, 3)
    chance = random.Random(SEED)
    vhost = cluster.new_vhost()
    resumed = 0.0
    failed = at_work = 0
    with Trial(cluster.url(vhost), database_url, BURST * (times + 1), quorum=True) as trial:
        declare_all(trial)
        for number in range(1, times + 1):
            trial.wait_for(lambda: whole(cluster, vhost), "all copies of all queues")
            trial.wait_for(
                lambda: node_of_worker(cluster, vhost) is not None, "the worker's connection to be listed"
            )
            of_worker, leader = node_of_worker(cluster, vhost), a_leader(cluster, vhost)
            # First the node that the worker is connected to, which leads its queues; then another leader.
            assert of_worker is not None
            victim = cluster.node(of_worker if number % 2 else leader)
            connected, before = connections(trial), failures(trial)
            put_to_work(chance, BURST * number, trial)
            victim.kill_at_once()
            killed = time.monotonic()
            at_work += trial.unsettled() > 0
            if victim.name == of_worker:
                resumed = max(resumed, seconds_until_it_goes_on(trial, connected, killed))
                failed = max(failed, failures(trial) - before)
            victim.start()
            trial.look()
        row = trial.finish("kill -9 of a node of three, quorum queues", times, resumed)
    report(row)
    assert at_work == times, f"only {at_work} kills have met work"
    assert failed <= MOST_FAILURES


def node_of_worker(cluster: Cluster, vhost: str) -> str | None:
    """The name of the node that the worker is connected to, once the broker lists it."""
    for connection in cluster.api("GET", f"vhosts/{vhost}/connections"):
        if connection.get("client_properties", {}).get("connection_name") == "tracker-worker consumer":
            name: str = connection["node"]
            return name
    return None


def a_leader(cluster: Cluster, vhost: str) -> str:
    """The name of the node that leads most queues among those where the worker is not connected."""
    queues = cluster.api("GET", f"queues/{vhost}")
    leaders: Counter[str] = Counter(queue["leader"] for queue in queues if "leader" in queue)
    of_worker = node_of_worker(cluster, vhost)
    return max(leaders, key=lambda name: (name != of_worker, leaders[name]))


def whole(cluster: Cluster, vhost: str) -> bool:
    """Whether every queue has a running replica on every node."""
    queues = cluster.api("GET", f"queues/{vhost}")
    return all(len(queue.get("online", ())) == len(cluster.nodes) for queue in queues)
