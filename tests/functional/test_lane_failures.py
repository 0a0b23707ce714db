# SPDX-License-Identifier: Apache-2.0
"""Whatever fails on the way to the commit: nothing is half done, nothing is lost, neighbours are applied."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import INSTANCE, NODE, a_flavor, an_instance, command
from tests.functional.lanes import OTHER_NODE, LaneBench, Recorded, data_of
from tests.functional.statements import (
    Fault,
    connection_lost,
    death,
    disk_full,
    lost_commits,
    main_clause,
    out_of_range,
    reject,
    watched,
)
from tests.unwritable_log import unwritable_log
from tracker_worker.core import batch
from tracker_worker.core.delivery import Answer
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import CLAIMS, DEAD_LETTERS, NODES, OUTBOX, RECEIPTS
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.decide import decide
from tracker_worker.domain.decision import Decision
from tracker_worker.domain.node import Node
from tracker_worker.worker import event_log, retries

WRITES = (
    "UPDATE nodes",
    "INSERT INTO receipts",
    "INSERT INTO claims",
    "INSERT INTO outbox",
)
ALL = (NODES, CLAIMS, RECEIPTS, OUTBOX, DEAD_LETTERS)


def boot(uuid: str = INSTANCE, vcpus: int = 2, node: str = NODE, **more: Any) -> AnyCommand:
    return command("instance_claim", node=node, instance=an_instance(uuid, a_flavor(vcpus)), **more)


def boots(bench: LaneBench, count: int, node: str = NODE) -> list[Recorded]:
    return [bench.deliver(boot(f"i-{n}", node=node), f"event-{n}") for n in range(count)]


def state(bench: LaneBench) -> dict[str, list[dict[str, Any]]]:
    return {table.name: bench.rows(table) for table in ALL}


@pytest.mark.parametrize("beginning", WRITES)
@pytest.mark.parametrize("error", [disk_full, connection_lost])
def test_a_statement_that_fails_once_is_retried_and_nothing_is_done_twice(
    bench: LaneBench, beginning: str, error: Callable[[], Exception]
) -> None:
    bench.track()
    deliveries = boots(bench, 3)
    with Fault(bench.engine, beginning, error, times=1) as fault:
        bench.run()
    assert fault.hits == 1
    assert [delivery.answer["sequence"] for delivery in deliveries] == [2, 3, 4]
    assert bench.used()[0] == 6
    assert len(bench.receipts()) == bench.sequence() == 4
    assert bench.parked() == []


@pytest.mark.parametrize("beginning", [*WRITES, "SELECT"])
def test_an_end_in_the_middle_leaves_nothing_half_done_and_nothing_answered(
    a_bench: Callable[..., LaneBench], beginning: str
) -> None:
    one = a_bench()
    one.track()
    before = state(one)
    deliveries = boots(one, 3)
    with death(one, beginning):
        one.run()
    assert [delivery.answers for delivery in deliveries] == [[], [], []]
    assert state(one) == before


@pytest.mark.parametrize("beginning", WRITES)
def test_after_an_end_in_the_middle_the_next_worker_does_all_of_it(
    a_bench: Callable[..., LaneBench], beginning: str
) -> None:
    one, other = a_bench(), a_bench()
    one.track()
    boots(one, 3)
    with death(one, beginning):
        one.run()
    again = [other.deliver(boot(f"i-{n}"), f"event-{n}", redelivered=True) for n in range(3)]
    other.run()
    assert [delivery.answer["sequence"] for delivery in again] == [2, 3, 4]
    assert other.used()[0] == 6


@pytest.mark.parametrize("count", [1, 3])
def test_a_commit_that_nobody_heard_of_is_not_done_again(bench: LaneBench, count: int) -> None:
    bench.track()
    deliveries = boots(bench, count)
    with lost_commits(bench.engine):
        bench.run()
    assert [delivery.answer["sequence"] for delivery in deliveries] == [2, 3, 4][:count]
    assert bench.used()[0] == 2 * count
    assert bench.sequence() == 1 + count
    assert len(bench.receipts()) == 1 + count


def test_a_dead_letter_whose_commit_nobody_heard_of_is_parked_once(bench: LaneBench) -> None:
    bad = bench.deliver_body(encode("build_failed", {"node": NODE, "event_id": "event-a", "x": 1}))
    with lost_commits(bench.engine):
        bench.run()
    assert bad.outcome == "InvalidCommand"
    assert bench.parked() == [("event-a", "unknown_argument")]


def test_after_a_failure_the_nodes_are_read_again(bench: LaneBench) -> None:
    bench.track()
    boots(bench, 1)
    with (
        watched(bench.engine) as seen,
        Fault(bench.engine, "INSERT INTO receipts", disk_full, times=1),
    ):
        bench.run()
    reads = [s for s in seen if main_clause(s.sql).startswith("SELECT claims")]
    assert len(reads) == 1, "cached before the failure, read after it"


def test_a_database_that_is_away_is_waited_for_and_nothing_is_parked(bench: LaneBench) -> None:
    """More failures than an event has tries: the database is away, the events are not to blame."""
    bench.track()
    deliveries = boots(bench, 3)
    with Fault(bench.engine, "", disk_full, times=12):
        bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted"] * 3
    assert bench.parked() == []


@pytest.mark.parametrize("culprit", [0, 1, 6])
@pytest.mark.parametrize("error", [out_of_range, ValueError, MemoryError])
def test_an_event_that_the_database_cannot_store_is_parked_alone(
    bench: LaneBench, culprit: int, error: Callable[[], Exception]
) -> None:
    bench.track(NODE, OTHER_NODE)
    deliveries = boots(bench, 7)
    neighbour = bench.deliver(boot(node=OTHER_NODE))
    with Fault(bench.engine, "INSERT INTO claims", error, holding=f"i-{culprit}"):
        bench.run()
    outcomes = [delivery.outcome for delivery in deliveries]
    assert outcomes.pop(culprit) == "EventParked"
    assert [*outcomes, neighbour.outcome] == ["granted"] * 7
    assert bench.used()[0] == 12
    assert f"i-{culprit}" not in {uuid for uuid, _ in bench.claimed()}
    assert [event_id for event_id, _ in bench.parked()] == [f"event-{culprit}"]
    assert len(bench.claimed()) == 6
    assert len(bench.receipts()) == bench.sequence(NODE) + bench.sequence(OTHER_NODE) == 10


@pytest.mark.parametrize("size", [1, 2, 9])
def test_an_event_that_a_constraint_rejects_is_parked_alone(bench: LaneBench, size: int) -> None:
    bench.track()
    reject(bench.engine, "claims", "NEW.instance_uuid = 'i-0'")
    deliveries = boots(bench, size)
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["EventParked"] + ["granted"] * (size - 1)
    assert bench.used()[0] == 2 * (size - 1)
    assert len(bench.parked()) == 1
    assert bench.send(command("get_node")).answer["vcpus_used"] == 2 * (size - 1)


def test_an_event_that_always_loses_the_connection_is_parked_as_rejected(bench: LaneBench) -> None:
    bench.track()
    deliveries = boots(bench, 4)
    with Fault(bench.engine, "INSERT INTO claims", connection_lost, holding="i-2") as fault:
        bench.run()
    assert [d.outcome for d in deliveries] == ["granted", "granted", "EventParked", "granted"]
    assert bench.parked() == [("event-2", "database_rejects")]
    assert fault.hits >= 3, "max_attempts"
    assert bench.used()[0] == 6


def test_a_batch_that_loses_the_connection_less_often_is_not_split(bench: LaneBench) -> None:
    bench.track()
    deliveries = boots(bench, 4)
    before = bench.commits
    with Fault(bench.engine, "INSERT INTO claims", connection_lost, times=2):
        bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted"] * 4
    assert bench.commits == before + 1


def breaking(monkeypatch: pytest.MonkeyPatch, uuid: str, error: Exception) -> None:
    """The rules fail on one instance; everything else is decided as ever."""

    def broken(node: Node, event: Any, *rest: Any) -> Decision:
        if getattr(event, "instance", None) is not None and event.instance.uuid == uuid:
            raise error
        return decide(node, event, *rest)

    monkeypatch.setattr(batch, "decide", broken)


@pytest.mark.parametrize("error", [KeyError("hunter2"), RecursionError(), AssertionError("hunter2")])
def test_an_event_on_which_the_rules_fail_is_parked_and_changes_nothing(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch, error: KeyError | RecursionError | AssertionError
) -> None:
    bench.track()
    breaking(monkeypatch, "i-1", error)
    deliveries = boots(bench, 3)
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted", "EventParked", "granted"]
    assert bench.parked() == [("event-1", "internal_error")]
    assert bench.used()[0] == 4
    assert bench.sequence() == 4
    assert bench.receipts()["event-1"]["sequence"] == 3


def test_an_internal_error_says_where_and_never_what(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.track()
    breaking(monkeypatch, INSTANCE, KeyError("hunter2"))
    bench.send(boot(), "event-a")
    (letter,) = bench.rows(DEAD_LETTERS)
    assert letter["path"] == "$"
    assert letter["message"].startswith("KeyError in broken (test_lane_failures.py:")
    assert "hunter2" not in json.dumps(letter, default=str) + caplog.text


def test_the_rules_failing_on_every_event_of_a_batch_parks_each(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.track()
    monkeypatch.setattr(batch, "decide", lambda *_: 1 / 0)
    deliveries = boots(bench, 5)
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["EventParked"] * 5
    assert bench.used() == (0, 512, 0)


def test_a_parked_event_is_dead_letter_receipt_and_notification(bench: LaneBench) -> None:
    bench.track()
    boot_args = {"node": NODE, "event_id": "event-a", "instance": {"uuid": INSTANCE, "pw": "hunter2"}}
    bench.deliver_body(encode("instance_claim", boot_args, request_id="req-1"))
    bench.run()
    (letter,) = bench.rows(DEAD_LETTERS)
    assert (letter["code"], letter["path"]) == ("unknown_argument", "$.instance.pw")
    assert (letter["node"], letter["method"]) == (NODE, "instance_claim")
    assert (letter["event_id"], letter["state"]) == ("event-a", "parked")
    assert (letter["sequence"], letter["settled_at"]) == (2, None)
    receipt = bench.receipts()["event-a"]
    assert (receipt["outcome"], receipt["sequence"]) == ("parked", 2)
    assert receipt["reply"]["code"] == letter["code"]
    told = bench.notifications()[-1]
    assert (told["event_type"], told["priority"]) == ("compute_node.event.error", "ERROR")
    data = data_of(told)
    assert (data["code"], data["path"]) == (letter["code"], letter["path"])
    assert data["dead_letter_id"] == letter["id"]
    assert data["cause"] == {
        "method": "instance_claim",
        "event_id": "event-a",
        "request_id": "req-1",
        "instance_uuid": None,
    }


@pytest.mark.parametrize("beginning", ["INSERT INTO dead_letters", "INSERT INTO outbox"])
def test_parking_is_one_transaction(a_bench: Callable[..., LaneBench], beginning: str) -> None:
    one, other = a_bench(), a_bench()
    one.track()
    before = state(one)
    raw = encode("build_failed", {"node": NODE, "event_id": "event-a", "x": 1})
    one.deliver_body(raw)
    with death(one, beginning):
        one.run()
    assert state(one) == before
    assert other.deliver_body(raw, redelivered=True).answers == []
    other.run()
    assert other.parked() == [("event-a", "unknown_argument")]
    assert len(other.notifications()) == len(before["outbox"]) + 1


def test_a_secret_reaches_neither_log_nor_table(bench: LaneBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    bench.track()
    secret = "hunter2"
    instance = {"uuid": INSTANCE, "admin_pass": secret, "flavor": {"extra_specs": {"x": secret}}}
    for raw in (
        encode("instance_claim", {"node": NODE, "event_id": "a", "instance": instance}),
        encode("get_node", {"node": [secret]}, unique_id="b"),
        encode("get_node", {"node": NODE, "x": {"y": secret}}, unique_id="c"),
        encode("get_node", {"node": NODE}, version=secret, unique_id="d"),
        encode("get_node", {"node": NODE}, namespace=secret, unique_id="e"),
        secret.encode(),
    ):
        bench.deliver_body(raw)
    bench.run()
    stored = json.dumps(state(bench), default=lambda v: v.decode() if isinstance(v, bytes) else str(v))
    assert len(bench.parked()) == 6
    assert secret not in stored + caplog.text


@pytest.mark.parametrize("method", ["drop\ntable", "a\x00b", "\x1b[2J", "x" * 1000])
def test_an_unknown_method_is_stored_only_where_it_is_harmless(
    bench: LaneBench, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It becomes a column (PostgreSQL takes no NUL), a log line and a notification."""
    bench.deliver_body(encode(method, {"node": NODE}, unique_id="event-a"))
    bench.run()
    (letter,) = bench.rows(DEAD_LETTERS)
    assert letter["code"] == "unknown_method"
    assert letter["method"] is None or letter["method"].isprintable()
    assert method not in caplog.text


@pytest.mark.parametrize("count", [1, 3])
def test_a_log_that_cannot_be_written_blames_no_event(bench: LaneBench, count: int) -> None:
    """The events are committed and answered by then: they would be answered a second time."""
    bench.track()
    deliveries = boots(bench, count)
    with unwritable_log(event_log.__name__), pytest.raises(OSError, match="journal"):
        bench.run()
    assert [len(delivery.answers) for delivery in deliveries] == [1] * count
    assert bench.parked() == []
    assert bench.used()[0] == 2 * count


@pytest.mark.parametrize("error", [disk_full, connection_lost])
@pytest.mark.parametrize("count", [1, 3])
def test_a_retry_that_cannot_be_logged_blames_no_event(
    bench: LaneBench, count: int, error: Callable[[], Exception]
) -> None:
    bench.track()
    deliveries = boots(bench, count)
    with unwritable_log(retries.__name__), Fault(bench.engine, "UPDATE nodes", error, times=2):
        bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted"] * count
    assert bench.parked() == []


def test_an_answer_that_cannot_be_sent_harms_nobody(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.track()

    def unsettled(answer: Answer) -> None:
        raise OSError("the reply queue is gone")

    first, second = boots(bench, 2)
    monkeypatch.setattr(first, "settle", unsettled)
    bench.run()
    assert second.outcome == "granted"
    assert bench.used()[0] == 4
    assert bench.send(boot("i-0"), "event-0").answer["sequence"] == 2
