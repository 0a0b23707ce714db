# SPDX-License-Identifier: Apache-2.0
"""Exactly once: duplicates, reused ids, wrong partitions, reads in order, sequences, stale writers."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    NODE,
    OTHER_MOVE,
    a_flavor,
    a_migration,
    a_report,
    an_instance,
    command,
    some_resources,
)
from tests.functional.lanes import OTHER_NODE, PARTITIONS, LaneBench, data_of, names_of_partition
from tests.functional.statements import watched
from tracker_worker import exceptions
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import CLAIMS, DEAD_LETTERS, NODES, OUTBOX, RECEIPTS, TOUCHED
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Limits, Origin
from tracker_worker.domain.partitions import partition_of

STATE = (NODES, CLAIMS, TOUCHED, RECEIPTS, OUTBOX, DEAD_LETTERS)


def boot(uuid: str = INSTANCE, vcpus: int = 2, node: str = NODE, **more: Any) -> AnyCommand:
    return command("instance_claim", node=node, instance=an_instance(uuid, a_flavor(vcpus)), **more)


def state(bench: LaneBench) -> dict[str, list[dict[str, Any]]]:
    return {table.name: bench.rows(table) for table in STATE}


def test_a_duplicate_gets_the_first_reply_and_changes_nothing(bench: LaneBench) -> None:
    bench.track()
    first = bench.send(boot(), "event-a")
    bench.send(command("build_failed"))
    before = state(bench)
    again = bench.send(boot(), "event-a")
    assert again.answer == first.answer
    assert again.answer["sequence"] == 2
    assert state(bench) == before


def test_a_duplicate_in_the_same_batch_gets_the_first_reply_and_changes_nothing(bench: LaneBench) -> None:
    bench.track()
    first, between, again = (
        bench.deliver(boot(), "event-a"),
        bench.deliver(command("build_failed")),
        bench.deliver(boot(), "event-a"),
    )
    bench.run()
    assert first.answer == again.answer
    assert between.outcome == "applied"
    assert bench.sequence() == 3
    assert bench.claimed() == {(INSTANCE, "instance"): 2}
    assert bench.used() == (2, 2048 + 512, 20 * 1024)


def test_a_duplicate_call_raises_the_first_refusal_again(bench: LaneBench) -> None:
    bench.track()
    first = bench.send(boot(limits=Limits(vcpu=1)), "event-a")
    again = bench.send(boot(limits=Limits(vcpu=1)), "event-a")
    assert first.outcome == again.outcome == "ComputeResourcesUnavailable"
    assert str(first.answer) == str(again.answer)
    assert bench.sequence() == 2


def test_a_duplicate_for_another_worker_gets_the_first_reply(a_bench: Callable[..., LaneBench]) -> None:
    one, other = a_bench(), a_bench()
    one.track()
    first = one.send(boot(), "event-a")
    assert other.send(boot(), "event-a").answer == first.answer
    assert other.sequence() == 2


def test_a_client_that_stamps_a_repetition_anew_repeats_all_the_same(bench: LaneBench) -> None:
    bench.track()
    first = bench.send(boot(origin=Origin("client", 1)), "event-a")
    again = bench.send(boot(origin=Origin("client", 2)), "event-a")
    assert first.answer == again.answer
    assert bench.sequence() == 2


def test_messages_without_any_id_are_the_same_event_when_their_content_is(bench: LaneBench) -> None:
    bench.track()
    body = encode("build_failed", {"node": NODE})
    deliveries = [bench.deliver_body(body) for _ in range(3)]
    bench.run()
    assert {delivery.answer["sequence"] for delivery in deliveries} == {2}
    assert bench.sequence() == 2


@pytest.mark.parametrize("together", [True, False])
def test_an_id_of_another_command_is_parked_as_reused(bench: LaneBench, together: bool) -> None:
    bench.track()
    bench.deliver(boot(), "event-a")
    if not together:
        bench.run()
    other = bench.send(boot(BYSTANDER), "event-a")
    assert other.outcome == "EventIdReused"
    assert bench.claimed() == {(INSTANCE, "instance"): 2}
    assert [code for _, code in bench.parked()] == ["event_id_reused"]
    assert bench.rows(DEAD_LETTERS)[0]["path"] == "$.event_id"
    assert bench.receipts()["event-a"]["outcome"] == "granted"


def test_an_invalid_command_that_the_client_sends_again_is_parked_once(bench: LaneBench) -> None:
    """oslo.messaging gives each copy a unique id of its own."""
    args = {"node": NODE, "event_id": "event-a", "unknown": 1}
    copies = [
        bench.deliver_body(encode("build_failed", args, unique_id=each, reply_queue="replies"))
        for each in ("first", "second")
    ]
    bench.run()
    assert [copy.outcome for copy in copies] == ["InvalidCommand"] * 2
    assert bench.parked() == [("event-a", "unknown_argument")]


@pytest.mark.parametrize(
    "difference", [{"unknown": 2}, {"version": "1.99"}, {"method": "startup"}, {"namespace": ""}]
)
def test_another_invalid_command_of_the_same_id_is_parked_as_reused(
    bench: LaneBench, difference: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"method": "build_failed", "version": "1.0", "unknown": 1}
    for each in (given, given | difference):
        args = {"node": NODE, "event_id": "event-a", "unknown": each["unknown"]}
        bench.deliver_body(encode(each["method"], args, each["version"], namespace=each.get("namespace")))
    bench.run()
    assert {code for _, code in bench.parked()} == {"unknown_argument", "event_id_reused"}


@pytest.mark.parametrize("redelivered", [True, False])
def test_a_reused_id_that_comes_again_parks_nothing_again(bench: LaneBench, redelivered: bool) -> None:
    bench.track()
    bench.send(boot(), "event-a")
    first = bench.send(boot(BYSTANDER), "event-a")
    before = state(bench)
    again = bench.send(boot(BYSTANDER), "event-a", redelivered=redelivered)
    assert str(again.answer) == str(first.answer)
    assert again.outcome == "EventIdReused"
    assert state(bench) == before


def test_a_reused_id_twice_in_one_batch_parks_once(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot(), "event-a")
    both = [bench.deliver(boot(BYSTANDER), "event-a") for _ in range(2)]
    bench.run()
    assert [delivery.outcome for delivery in both] == ["EventIdReused"] * 2
    assert len(bench.parked()) == 1


def test_an_event_on_another_partition_is_parked_and_touches_no_node(bench: LaneBench) -> None:
    bench.track()
    before = bench.rows(NODES)
    elsewhere = (partition_of(NODE, PARTITIONS) + 1) % PARTITIONS
    wrong = bench.send(boot(), "event-a", partition=elsewhere)
    assert wrong.outcome == "WrongPartition"
    assert bench.parked() == [("event-a", "wrong_partition")]
    assert bench.receipts()["event-a"]["sequence"] is None
    assert bench.rows(NODES) == before
    assert bench.claimed() == {}


def test_get_node_sees_the_earlier_events_of_its_batch_and_not_the_later(bench: LaneBench) -> None:
    bench.track()
    bench.deliver(boot(vcpus=2))
    view = bench.deliver(command("get_node"))
    bench.deliver(boot(BYSTANDER, vcpus=3))
    bench.run()
    assert view.answer["vcpus_used"] == 2
    assert [claim["instance_uuid"] for claim in view.answer["claims"]] == [INSTANCE]
    assert view.answer["sequence"] == 2
    assert bench.used()[0] == 5


def test_get_node_leaves_no_receipt_and_no_trace(bench: LaneBench) -> None:
    bench.track()
    before = state(bench)
    first = bench.send(command("get_node"), "event-a")
    bench.send(command("build_failed"))
    again = bench.send(command("get_node"), "event-a")
    assert "event-a" not in bench.receipts()
    assert before["nodes"][0]["sequence"] == first.answer["sequence"] == 1
    assert again.answer["sequence"] == 2, "a repeated read is a new read"


def test_get_node_of_a_node_that_is_not_tracked_is_not_found(bench: LaneBench) -> None:
    delivery = bench.send(command("get_node", node="nowhere"))
    assert isinstance(delivery.answer, exceptions.NodeNotFound)
    assert bench.rows(NODES) == bench.rows(RECEIPTS) == []


def test_a_node_that_another_worker_creates_is_seen_at_once(a_bench: Callable[..., LaneBench]) -> None:
    one, other = a_bench(), a_bench()
    assert one.send(command("get_node")).outcome == "NodeNotFound"
    other.track()
    assert one.send(command("get_node")).answer["vcpus"] == 8


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (boot(), "granted"),
        (command("build_failed"), "applied"),
        (command("build_succeeded"), "ignored"),
        (command("abort_instance_claim", instance_uuid=BYSTANDER), "ignored"),
        (boot(limits=Limits(vcpu=1)), "ComputeResourcesUnavailable"),
        (a_report(resources=some_resources(uuid="another")), "NodeConflict"),
    ],
)
def test_every_event_with_a_receipt_moves_the_sequence_by_one(
    bench: LaneBench, event: AnyCommand, outcome: str
) -> None:
    bench.track()
    assert bench.send(event, "event-a").outcome == outcome
    assert bench.sequence() == 2
    assert bench.receipts()["event-a"]["sequence"] == 2


def test_a_parked_event_moves_the_sequence_of_its_node_too(bench: LaneBench) -> None:
    bench.track()
    bench.deliver_body(encode("build_failed", {"node": NODE, "event_id": "event-a", "x": 1}))
    bench.run()
    assert bench.receipts()["event-a"]["sequence"] == bench.sequence() == 2


def test_a_parked_event_does_not_make_its_node_known(bench: LaneBench) -> None:
    bench.deliver_body(encode("build_failed", {"node": NODE, "event_id": "event-a", "x": 1}))
    bench.run()
    assert bench.receipts()["event-a"]["sequence"] is None
    assert bench.rows(NODES) == []


def test_the_history_of_a_node_is_its_receipts_without_a_gap(bench: LaneBench) -> None:
    bench.track()
    for number in range(5):
        bench.deliver(boot(f"i-{number}"), f"event-{number}")
        bench.deliver(command("build_succeeded"))
        bench.deliver(boot(f"i-{number}"), f"event-{number}")
    bench.run()
    sequences = [row["sequence"] for row in bench.receipts().values()]
    assert sorted(sequences) == list(range(1, bench.sequence() + 1)) == list(range(1, 12))


def test_a_removed_node_keeps_its_sequence(bench: LaneBench) -> None:
    bench.track()
    bench.send(command("remove_node"))
    bench.track()
    assert bench.sequence() == 3
    assert bench.send(command("get_node")).answer["sequence"] == 3


def test_a_stale_writer_reloads_and_nothing_is_lost(a_bench: Callable[..., LaneBench]) -> None:
    one, other = a_bench(), a_bench()
    one.track()
    assert other.send(boot(BYSTANDER, vcpus=3)).outcome == "granted"
    assert one.send(boot(INSTANCE, vcpus=2)).answer["sequence"] == 3
    assert other.send(command("build_failed")).answer["sequence"] == 4
    assert one.used() == (5, 2 * 2048 + 512, 2 * 20 * 1024)
    assert one.claimed() == {(INSTANCE, "instance"): 2, (BYSTANDER, "instance"): 3}


def test_a_stale_writer_decides_anew(a_bench: Callable[..., LaneBench]) -> None:
    """What it would have granted from its cache is refused once it knows the other's claim."""
    one, other = a_bench(), a_bench()
    one.track()
    other.send(boot(BYSTANDER, vcpus=3))
    refused = one.send(boot(INSTANCE, vcpus=2, limits=Limits(vcpu=4)))
    assert refused.outcome == "ComputeResourcesUnavailable"
    assert "Free vcpu 1.00 VCPU < requested 2 VCPU" in str(refused.answer)
    assert one.used()[0] == 3


def test_a_stale_batch_of_several_nodes_is_applied_whole(a_bench: Callable[..., LaneBench]) -> None:
    one, other = a_bench(), a_bench()
    one.track(NODE, OTHER_NODE)
    other.send(boot(BYSTANDER, node=OTHER_NODE))
    deliveries = [one.deliver(boot(node=node)) for node in (NODE, OTHER_NODE)]
    one.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted"] * 2
    assert one.used(NODE)[0] == 2
    assert one.used(OTHER_NODE)[0] == 4
    usage = [data_of(n) for n in one.notifications() if n["event_type"] == "compute_node.usage"]
    told = {node: [d["sequence"] for d in usage if d["node"] == node] for node in (NODE, OTHER_NODE)}
    assert told == {NODE: [1, 2], OTHER_NODE: [1, 2, 3]}


def test_a_stale_reader_answers_what_is_true_now(a_bench: Callable[..., LaneBench]) -> None:
    one, other = a_bench(), a_bench()
    one.track()
    other.send(boot())
    assert one.send(command("get_node")).answer["vcpus_used"] == 2


def test_a_stale_writer_learns_that_its_node_is_gone(a_bench: Callable[..., LaneBench]) -> None:
    one, other = a_bench(), a_bench()
    one.track()
    other.send(command("remove_node"))
    assert one.send(command("get_node")).outcome == "NodeNotFound"
    assert one.send(boot()).outcome == "ComputeResourcesUnavailable"


def test_a_tracked_node_is_read_from_the_database_only_once(bench: LaneBench) -> None:
    bench.track()
    with watched(bench.engine) as seen:
        bench.send(command("build_failed"))
    assert not [s for s in seen if s.sql.startswith("SELECT") and "FROM claims" in s.sql]


def test_a_uuid_goes_from_a_removed_node_to_another_in_one_batch(bench: LaneBench) -> None:
    """In the order of names the new owner is written before the old one has let go."""
    later = next(name for name in names_of_partition(partition_of(NODE, PARTITIONS)) if name > NODE)
    report = some_resources(uuid="the-uuid")
    bench.send(a_report(node=later, resources=report))
    bench.track(NODE)
    bench.send(command("remove_node"))
    removed = bench.deliver(command("remove_node", node=later))
    taken = bench.deliver(a_report(node=NODE, resources=report))
    bench.run()
    assert [removed.outcome, taken.outcome] == ["applied", "applied"]
    assert {r["name"]: r["uuid"] for r in bench.rows(NODES)} == {NODE: "the-uuid", later: None}


def test_a_change_of_a_move_counts_both_sides_until_it_ends(bench: LaneBench) -> None:
    """Boot, resize on the same node, confirm, delete: the sums after each step, through SQL."""
    bench.track()
    small, large = a_flavor(2, 2048, 20), a_flavor(4, 4096, 40)
    resized = an_instance(flavor=large, vm_state="resized")
    bench.send(command("instance_claim", instance=an_instance(flavor=small)))
    assert bench.used() == (2, 2560, 20 * 1024)
    bench.send(
        command(
            "resize_claim",
            instance=an_instance(flavor=small),
            flavor=large,
            migration=a_migration(OTHER_MOVE, source_node=NODE),
        )
    )
    assert bench.used() == (6, 6656, 60 * 1024)
    bench.send(command("finish_move", instance=resized, migration_uuid=OTHER_MOVE))
    assert bench.used() == (6, 6656, 60 * 1024)
    ended = {"instance_uuid": INSTANCE, "migration_uuid": OTHER_MOVE}
    bench.send(command("drop_move_claim_at_source", **ended))
    assert bench.used() == (4, 4608, 40 * 1024)
    bench.send(command("update_usage", instance=an_instance(flavor=large, vm_state="deleted")))
    assert bench.used() == (0, 512, 0)
