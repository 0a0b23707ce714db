# SPDX-License-Identifier: Apache-2.0
"""A call that can change nothing is answered with its error: it is no dead letter, nor a receipt."""

from typing import Any

import pytest

from tests.builders import NODE, an_instance, command
from tests.functional.lanes import OTHER_NODE, PARTITIONS, LaneBench
from tracker_worker.core import batch
from tracker_worker.core.delivery import OtherQueue
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import ATTEMPTS, CLAIMS, DEAD_LETTERS, NODES, OUTBOX, RECEIPTS
from tracker_worker.domain.node import Node
from tracker_worker.domain.partitions import partition_of

QUEUE = "reply_0123456789abcdef0123456789abcdef"
WRONG = (partition_of(NODE, PARTITIONS) + 1) % PARTITIONS


def question(method: str = "get_node", args: dict[str, Any] | None = None, **more: Any) -> bytes:
    args = {"node": NODE} if args is None else args
    return encode(method, args, unique_id="asked", reply_queue=QUEUE, **more)


def kept(bench: LaneBench) -> dict[str, list[dict[str, Any]]]:
    return {t.name: bench.rows(t) for t in (NODES, CLAIMS, RECEIPTS, OUTBOX, DEAD_LETTERS, ATTEMPTS)}


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (question("reboot"), "NoSuchMethod"),
        (question("oslo_rpc_ping_of_tomorrow", {}), "NoSuchMethod"),
        (question(namespace="ns"), "NoSuchMethod"),
        (question("build_failed", namespace="baseapi"), "NoSuchMethod"),
        (question(version="1.1"), "UnsupportedVersion"),
        (question(args={}), "InvalidCommand"),
        (question(args={"node": "two words"}), "InvalidCommand"),
        (question(args={"node": NODE, "more": 1}), "InvalidCommand"),
    ],
)
def test_a_question_that_cannot_be_answered_is_not_parked(bench: LaneBench, raw: bytes, error: str) -> None:
    bench.track()
    before = kept(bench)
    delivery = bench.deliver_body(raw)
    bench.run()
    assert delivery.outcome == error
    assert kept(bench) == before


@pytest.mark.parametrize(
    ("partition", "error"),
    [
        (WRONG, "WrongPartition"),
        (OtherQueue.BARE_TOPIC, "WrongPartition"),
        (OtherQueue.DEAD_LETTERS, "WrongPartition"),
    ],
)
def test_get_node_on_another_queue_is_not_parked(
    bench: LaneBench, partition: int | OtherQueue, error: str
) -> None:
    bench.track()
    before = kept(bench)
    delivery = bench.deliver_body(question(), partition=partition)
    bench.run()
    assert delivery.outcome == error
    assert kept(bench) == before


def test_a_question_that_the_broker_gave_up_is_not_parked(bench: LaneBench) -> None:
    before = kept(bench)
    delivery = bench.deliver_body(question(), partition=OtherQueue.DEAD_LETTERS)
    delivery.dead_lettered = "maxlen in tracker.p1, 1 times"
    bench.run()
    assert delivery.outcome == "TrackerWorkerException"
    assert kept(bench) == before


def test_a_question_whose_answer_fails_is_logged_and_not_parked(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench.track()
    before = kept(bench)

    def failing(_node: Node) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(batch, "node_view", failing)
    asked, boot = bench.deliver_body(question()), bench.deliver(command("build_failed"), "neighbour")
    bench.run()
    assert (asked.outcome, boot.outcome) == ("TrackerWorkerException", "applied")
    assert "internal_error at $: RuntimeError in failing" in str(asked.answer)
    assert f"A question about node {NODE} was not answered: internal_error" in caplog.text
    assert kept(bench)["dead_letters"] == before["dead_letters"] == []


def test_a_question_that_kills_the_worker_is_answered_and_not_parked(bench: LaneBench) -> None:
    bench.track()
    delivery = bench.deliver_body(question(), redelivered=True)
    bench.died(bench.max_attempts, delivery)
    bench.run()
    assert delivery.outcome == "TrackerWorkerException"
    assert "worker_died" in str(delivery.answer)
    assert (bench.parked(), bench.attempts()) == ([], {})


def test_a_question_under_an_id_of_another_command_is_answered(bench: LaneBench) -> None:
    bench.track()
    bench.send(command("instance_claim", instance=an_instance()), "asked")
    delivery = bench.deliver_body(question())
    bench.run()
    assert delivery.answer["vcpus_used"] == 2
    assert bench.parked() == []


def test_a_bad_question_about_a_broken_node_is_answered(bench: LaneBench) -> None:
    bench.track(NODE, OTHER_NODE)
    bench.lane.broken.held.hold([NODE])
    delivery = bench.deliver_body(question("reboot"))
    bench.run()
    assert delivery.outcome == "NoSuchMethod"


def test_a_cast_of_an_unknown_method_is_parked(bench: LaneBench) -> None:
    """It may be an event of a newer client, which must not be lost."""
    bench.deliver_body(encode("reboot", {"node": NODE}, unique_id="cast"))
    bench.run()
    assert bench.parked() == [("cast", "unknown_method")]


def test_a_bad_call_of_a_command_is_parked(bench: LaneBench) -> None:
    bench.deliver_body(encode("build_failed", {"node": NODE, "x": 1}, unique_id="called", reply_queue=QUEUE))
    bench.run()
    assert bench.parked() == [("called", "unknown_argument")]
