# SPDX-License-Identifier: Apache-2.0
"""What needs a person, by the states of database and broker."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tracker_worker.bus.rabbit.inspection import ConsumingWorker, consuming_workers
from tracker_worker.cmd.manage.broker_state import BrokerState, QueueState
from tracker_worker.cmd.manage.status import LedgerState, Limits, problems_of
from tracker_worker.db.dead_letter_queries import LetterGroup
from tracker_worker.db.queries import NodeSummary
from tracker_worker.domain.partitions import partition_of

NOW = datetime(2026, 11, 29, 12)
LIMITS = Limits(waiting=timedelta(minutes=5), quiet=None)


def a_node(**fields: Any) -> NodeSummary:
    node = NodeSummary(
        "node-1", "host-1", "uuid-1", 8, 0, 16384, 512, 100, 0, 0, False, [], False, [], NOW, 0.03
    )
    return replace(node, **fields)


def a_ledger(**fields: Any) -> LedgerState:
    return replace(LedgerState(NOW, NOW, 0, None, None, [], [a_node()]), **fields)


def a_queue(**fields: Any) -> QueueState:
    return replace(QueueState("tracker.p0", 0, 0, 1, "host:1"), **fields)


def a_broker(**fields: Any) -> BrokerState:
    worker = ConsumingWorker("host:1", "1.0", NOW, ["tracker.p0"], [])
    return replace(BrokerState([a_queue()], [], [], [worker], None), **fields)


def minutes_ago(minutes: int) -> datetime:
    return NOW - timedelta(minutes=minutes)


def test_nothing_that_waits_needs_no_person() -> None:
    assert problems_of(a_ledger(), a_broker(), LIMITS) == []
    assert problems_of(None, None, LIMITS) == []


@pytest.mark.parametrize(("minutes", "found"), [(4, False), (6, True)])
def test_notification_that_waits_longer_than_the_limit_needs_a_person(minutes: int, found: bool) -> None:
    ledger = a_ledger(outbox=3, oldest_notification=minutes_ago(minutes), publisher="host:1:id")
    problems = problems_of(ledger, a_broker(), LIMITS)
    assert bool(problems) is found
    assert not found or problems[0].startswith("3 notifications wait, the oldest since 2026-11-29T11:54:00Z")


@pytest.mark.parametrize(
    ("queue", "last_event", "found"),
    [
        ({}, minutes_ago(180), False),
        ({"ready": 1}, minutes_ago(4), False),
        ({"ready": 1}, minutes_ago(6), True),
        ({"ready": 1}, None, True),
        ({"unacknowledged": 256, "acknowledged_per_second": 0.0}, minutes_ago(180), True),
        ({"ready": 1, "unacknowledged": None}, minutes_ago(180), True),
        ({"ready": 1, "acknowledged_per_second": 80.0}, minutes_ago(180), False),
        ({"ready": 50_000, "acknowledged_per_second": 80.0, "oldest": minutes_ago(180)}, NOW, False),
        ({"ready": 50_000, "acknowledged_per_second": 0.0, "oldest": minutes_ago(180)}, NOW, True),
        ({"ready": 1, "oldest": minutes_ago(4)}, minutes_ago(180), False),
    ],
)
def test_commands_that_wait_while_none_is_acknowledged_need_a_person(
    queue: dict[str, Any], last_event: datetime | None, found: bool
) -> None:
    ledger = a_ledger(nodes=[a_node(last_event=last_event)], last_commit=last_event)
    problems = problems_of(ledger, a_broker(queues=[a_queue(**queue)]), LIMITS)
    assert any("commands wait on tracker.p0" in problem for problem in problems) is found


def test_partition_without_a_commit_is_stuck_beside_one_that_commits() -> None:
    queues = [
        a_queue(),
        a_queue(queue="tracker.p1", unacknowledged=256, active="host:2"),
        a_queue(queue="tracker.p2", ready=1, consumers=0),
    ]
    names = [next(n for n in map(str, range(99)) if partition_of(n, len(queues)) == p) for p in range(2)]
    events = NOW, minutes_ago(180)
    nodes = [a_node(name=name, last_event=event) for name, event in zip(names, events, strict=True)]
    idle, stuck = problems_of(a_ledger(nodes=nodes), a_broker(queues=queues), LIMITS)
    assert idle == "no worker consumes tracker.p2: start one, or see the log of one that runs"
    assert stuck == "commands wait on tracker.p1, and none is acknowledged: see the log of host:2"


@pytest.mark.parametrize(
    ("ledger", "broker", "words"),
    [
        ({"nodes": [a_node(broken=True)]}, {}, "broken nodes are held: node-1"),
        ({"nodes": [a_node(conflicts=["uuid-2"])]}, {}, "reports of nodes conflict: node-1"),
        ({"nodes": [a_node(reserve_too_large=["x"])]}, {}, "the reserve exceeds the size of nodes: node-1"),
        ({"unsynced": ["node-1"]}, {}, "nodes are not in sync with Placement: node-1"),
        ({"untold": {"node-1": minutes_ago(6)}}, {}, "nodes are not in sync with Placement: node-1"),
        ({"parked": [LetterGroup("parked", "invalid", None, 2, 1, NOW, NOW)]}, {}, "2 events are parked"),
        ({}, {"queues": [a_queue(consumers=0)]}, "no worker consumes tracker.p0"),
        ({}, {"queues": [a_queue(ready=None, consumers=None)]}, "queues are missing: tracker.p0"),
        ({}, {"unknown": "http://x does not answer"}, "the workers are unknown: http://x does not answer"),
        ({}, {"alarm": "RabbitMQ at x has an alarm"}, "RabbitMQ at x has an alarm"),
        ({}, {"growing": [a_queue(queue="info", ready=7)]}, "the queue info has 7 notifications"),
    ],
)
def test_fault_of_database_or_broker_needs_a_person(
    ledger: dict[str, Any], broker: dict[str, Any], words: str
) -> None:
    (problem,) = problems_of(a_ledger(**ledger), a_broker(**broker), LIMITS)
    assert words in problem


def test_change_that_placement_will_soon_be_told_of_needs_no_person() -> None:
    assert problems_of(a_ledger(untold={"node-1": minutes_ago(4)}), a_broker(), LIMITS) == []


def test_what_stops_work_comes_before_what_fails_what_is_late_and_what_is_unknown() -> None:
    nodes = [
        a_node(broken=True),
        a_node(name="node-2", conflicts=["uuid-2"]),
        a_node(name="node-3", reserve_too_large=["x"]),
        a_node(name="node-4", last_event=minutes_ago(120)),
    ]
    ledger = a_ledger(
        nodes=nodes,
        outbox=3,
        oldest_notification=minutes_ago(6),
        parked=[LetterGroup("parked", "invalid", None, 2, 1, NOW, NOW)],
    )
    queues = [
        a_queue(queue="tracker.p0", ready=None, consumers=None),
        a_queue(queue="tracker.p1", consumers=0),
        a_queue(queue="tracker.p2", ready=1, oldest=minutes_ago(6)),
    ]
    broker = a_broker(queues=queues, growing=[a_queue(queue="info", ready=7)], unknown="no answer")
    problems = problems_of(ledger, broker, replace(LIMITS, quiet=timedelta(hours=1)), ["no database"])
    assert [" ".join(problem.split()[:3]) for problem in problems] == [
        "no database",
        "queues are missing:",
        "no worker consumes",
        "commands wait on",
        "the events of",
        "2 events are",
        "reports of nodes",
        "the reserve exceeds",
        "the queue info",
        "3 notifications wait,",
        "the workers are",
        "nodes without an",
    ]


def test_more_names_than_ten_are_counted() -> None:
    nodes = [a_node(name=f"node-{number}", broken=True) for number in range(12)]
    (problem,) = problems_of(a_ledger(nodes=nodes), a_broker(), LIMITS)
    assert "node-9 and 2 more" in problem


def test_quiet_node_needs_a_person_only_if_asked_for() -> None:
    ledger = a_ledger(nodes=[a_node(last_event=minutes_ago(61)), a_node(name="node-2")])
    assert problems_of(ledger, a_broker(), LIMITS) == []
    (problem,) = problems_of(ledger, a_broker(), replace(LIMITS, quiet=timedelta(hours=1)))
    assert problem == "nodes without an event for 1:00:00: node-1; check their hosts"


def test_node_in_maintenance_needs_no_person_and_hides_no_other() -> None:
    """Found by a newcomer: one node that was known to be broken failed each check by a cron job."""
    known = a_node(broken=True, conflicts=["uuid-2"], reserve_too_large=["x"], last_event=minutes_ago(120))
    limits = replace(LIMITS, quiet=timedelta(hours=1), except_nodes=frozenset(["node-1", "unknown"]))
    assert (
        len(problems_of(a_ledger(nodes=[known]), a_broker(), replace(limits, except_nodes=frozenset()))) == 4
    )
    assert problems_of(a_ledger(nodes=[known]), a_broker(), limits) == []
    both = a_ledger(nodes=[known, a_node(name="node-2", broken=True)])
    assert problems_of(both, a_broker(), limits) == [
        "the events of broken nodes are held: node-2; see 'node rebuild'"
    ]


def test_held_events_of_a_node_in_maintenance_are_commands_that_wait() -> None:
    """They cannot be told from those of another node."""
    ledger = a_ledger(nodes=[a_node(broken=True, last_event=minutes_ago(6))], last_commit=minutes_ago(6))
    limits = replace(LIMITS, except_nodes=frozenset(["node-1"]))
    (problem,) = problems_of(ledger, a_broker(queues=[a_queue(unacknowledged=1)]), limits)
    assert problem.startswith("commands wait on tracker.p0")


def test_consumers_of_workers_are_told_from_those_of_others() -> None:
    def consumer(tag: str, queue: str, connection: str, *, active: bool) -> dict[str, Any]:
        channel = {"connection_name": connection}
        return {"consumer_tag": tag, "queue": {"name": queue}, "active": active, "channel_details": channel}

    ours = {"connection_name": "tracker-worker consumer", "product": "tracker-worker", "product_version": "1"}
    connections: list[dict[str, Any]] = [
        {"name": "a", "client_properties": ours, "connected_at": 1_000},
        {"name": "b", "client_properties": {"product": "py-amqp", "product_version": "5"}},
    ]
    consumers = [
        consumer("host:1.tracker.p0", "tracker.p0", "a", active=True),
        consumer("host:1.tracker.p1", "tracker.p1", "a", active=False),
        consumer("host:2.tracker.p1", "tracker.p1", "b", active=True),
    ]
    assert consuming_workers(consumers, connections) == [
        ConsumingWorker("host:1", "1", datetime(1970, 1, 1, 0, 0, 1), ["tracker.p0"], ["tracker.p1"])
    ]
