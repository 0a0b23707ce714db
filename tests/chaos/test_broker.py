# SPDX-License-Identifier: Apache-2.0
"""The broker goes away under load and comes back: what it confirmed is applied once, and soon again.

A cast whose confirm was lost with the broker is cast again by its client, and applied once all the same.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.trial import Trial
from tests.servers.rabbitmq import Cluster, RabbitMQ
from tests.servers.skips import skip_unless_installed

FIRST = 100
"""Casts before the faults, so that all queues are declared."""
RESUMED = 10.0
"""Seconds within which consuming goes on once the broker, or what is left of a cluster, can be had."""


@pytest.fixture
def two_trials(rabbitmq, database_url, sqlite_url) -> Iterator[Callable[[int], dict[str, Trial]]]:
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


def put_to_work(upto: int, *trials: Trial) -> None:
    """Allow casts and return when a part of them is settled."""
    parts = [(before := trial.settled()) + (upto - before) // 10 for trial in trials]
    for trial in trials:
        trial.cast_until(upto)
    for trial, part in zip(trials, parts, strict=True):
        trial.wait_settled(part)


def declare_all(trial: Trial) -> None:
    """Have the queue of notifications declared too.

    A quorum queue that is declared a moment before a kill comes back without a leader (RabbitMQ 3.10).
    """
    put_to_work(FIRST, trial)
    trial.wait_for(lambda: trial.settled() == FIRST and not trial.ledger.waiting(), "an empty outbox")


def connections(trial: Trial) -> int:
    """How often its worker has connected."""
    return trial.log.count("Consuming from")


def seconds_until_it_goes_on(trial: Trial, connected: int, since: float) -> float:
    """How long after a moment it had connected once more and settled something."""
    trial.wait_for(lambda: connections(trial) > connected, "another connection")
    before = trial.settled()
    trial.wait_for(lambda: trial.settled() > before or before == trial.allowed, "an event after the fault")
    return time.monotonic() - since


def test_a_broker_that_is_killed_or_restarted_under_load_loses_nothing(rabbitmq, two_trials, size, report):
    faults = ("kill -9", "restart") * size(1, 5)
    casts = size(4_500, 20_000)
    trials = two_trials(casts)
    for trial in trials.values():
        declare_all(trial)
    rabbitmq.write_down_declarations()
    resumed = dict.fromkeys(trials, 0.0)
    at_work = dict.fromkeys(trials, 0)
    for number, fault in enumerate(faults, 1):
        connected = {kind: connections(trial) for kind, trial in trials.items()}
        put_to_work(FIRST + (casts - FIRST) * number // (len(faults) + 1), *trials.values())
        rabbitmq.kill_at_once() if fault == "kill -9" else rabbitmq.stop()
        for kind, trial in trials.items():
            at_work[kind] += trial.settled() < trial.allowed
        rabbitmq.start()
        back = time.monotonic()
        for kind, trial in trials.items():
            resumed[kind] = max(resumed[kind], seconds_until_it_goes_on(trial, connected[kind], back))
            trial.look()
    what = "kill -9 and restart of the broker"
    report(*(t.finish(f"{what}, {kind} queues", len(faults), resumed[kind]) for kind, t in trials.items()))
    assert min(at_work.values()) > len(faults) / 2, f"too few faults have met work: {at_work}"
    assert max(resumed.values()) <= RESUMED


def test_a_node_of_a_cluster_that_is_killed_under_load_loses_nothing(cluster, database_url, size, report):
    times, casts = size((1, 1_500), (3, 15_000))
    vhost = cluster.new_vhost()
    resumed = 0.0
    at_work = 0
    with Trial(cluster.url(vhost), database_url, casts, quorum=True) as trial:
        declare_all(trial)
        for number in range(1, times + 1):
            trial.wait_for(lambda: whole(cluster, vhost), "all copies of all queues")
            trial.wait_for(lambda: node_of_worker(cluster, vhost), "the worker's connection to be listed")
            of_worker, leader = node_of_worker(cluster, vhost), a_leader(cluster, vhost)
            # First the node that the worker is connected to, which leads its queues; then a leader elsewhere.
            victim = cluster.node(of_worker if number % 2 else leader)
            connected = connections(trial)
            put_to_work(FIRST + (casts - FIRST) * number // (times + 1), trial)
            victim.kill_at_once()
            killed = time.monotonic()
            at_work += trial.settled() < trial.allowed
            if victim.name == of_worker:
                resumed = max(resumed, seconds_until_it_goes_on(trial, connected, killed))
            victim.start()
            trial.look()
        row = trial.finish("kill -9 of a node of three, quorum queues", times, resumed)
    report(row)
    assert at_work == times, f"only {at_work} kills have met work"
    assert resumed <= RESUMED


def node_of_worker(cluster: Cluster, vhost: str) -> str | None:
    """The name of the node that the worker takes its commands from, once the broker lists it."""
    for connection in cluster.api("GET", f"vhosts/{vhost}/connections"):
        if connection["client_properties"].get("connection_name") == "tracker-worker consumer":
            return connection["node"]
    return None


def a_leader(cluster: Cluster, vhost: str) -> str:
    """The name of the node that leads most queues among those where the worker is not connected."""
    leaders = Counter(queue["leader"] for queue in cluster.api("GET", f"queues/{vhost}"))
    of_worker = node_of_worker(cluster, vhost)
    return max(leaders, key=lambda name: (name != of_worker, leaders[name]))


def whole(cluster: Cluster, vhost: str) -> bool:
    """Whether every queue has a copy on every node, and all of them run."""
    queues = cluster.api("GET", f"queues/{vhost}")
    return all(len(queue.get("online", ())) == len(cluster.nodes) for queue in queues)
