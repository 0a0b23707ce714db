# SPDX-License-Identifier: Apache-2.0
"""What a lane takes at once, in which order, and how it ends."""

import json
import threading
import time
from collections.abc import Callable

import pytest

from tests.builders import NODE, a_flavor, an_instance, command
from tests.functional.lanes import PARTITIONS, LaneBench, Recorded, names_of_partition, rows
from tests.functional.statements import Fault, disk_full
from tracker_worker.core.delivery import BodyDigest, OtherQueue
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import DEAD_LETTERS
from tracker_worker.worker.dispatcher import Dispatcher

SECONDS = 20


def boots(bench: LaneBench, count: int, node: str = NODE) -> list[Recorded]:
    return [
        bench.deliver(command("instance_claim", node=node, instance=an_instance(f"i-{n}", a_flavor(1))))
        for n in range(count)
    ]


def settled(deliveries: list[Recorded]) -> list[int]:
    return [len(delivery.answers) for delivery in deliveries]


def padded(node: str, size: int) -> bytes:
    """A body of exactly so many bytes; what it is padded with is no part of the command."""
    raw = encode("build_failed", {"node": node})
    assert len(raw) <= size
    return raw.ljust(size)


def node_of(partition: int) -> str:
    return next(names_of_partition(partition))


@pytest.mark.parametrize(("size", "steps"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_a_batch_has_at_most_batch_size_events(
    a_bench: Callable[..., LaneBench], size: int, steps: list[int]
) -> None:
    bench = a_bench(batch_size=size)
    bench.track()
    deliveries = boots(bench, 7)
    done: list[int] = []
    while bench.lane.step():
        done.append(sum(settled(deliveries)) - sum(done))
    assert done == steps
    assert [delivery.answer["sequence"] for delivery in deliveries] == list(range(2, 9))


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [
        ([400, 400, 400], [2, 1]),
        ([500, 500], [2]),
        ([600, 600], [1, 1]),
        ([300, 800, 300], [1, 1, 1]),
        ([200, 5000, 200], [1, 1, 1]),
        ([5000, 200], [1, 1]),
    ],
)
def test_a_batch_has_at_most_batch_bytes_or_one_larger_message(
    a_bench: Callable[..., LaneBench], sizes: list[int], steps: list[int]
) -> None:
    bench = a_bench(batch_bytes=1000)
    deliveries = [bench.deliver_body(padded(NODE, size)) for size in sizes]
    done: list[int] = []
    while bench.lane.step():
        done.append(sum(settled(deliveries)) - sum(done))
    assert done == steps


def test_body_too_large_is_parked_once_by_its_digest(bench: LaneBench) -> None:
    digest = BodyDigest(9_000_000, "d" * 64)
    for redelivered in (False, True):
        delivery = bench.deliver_body(digest, partition=0, redelivered=redelivered)
        bench.run()
        assert delivery.outcome == "InvalidCommand"
    (letter,) = rows(bench.engine, DEAD_LETTERS)
    assert (letter["code"], letter["event_id"]) == ("message_too_large", digest.sha256)
    kept = {"type": "bytes", "length": digest.length, "sha256": digest.sha256}
    assert json.loads(letter["body"]) == kept


def test_nothing_is_waited_for(bench: LaneBench) -> None:
    assert bench.lane.step() is False
    boots(bench, 1)
    assert bench.lane.step() is True
    assert bench.lane.step() is False


def test_partitions_are_taken_in_turn(a_bench: Callable[..., LaneBench]) -> None:
    """A partition with a backlog does not keep the others waiting."""
    bench = a_bench(batch_size=4)
    nodes = [node_of(partition) for partition in range(PARTITIONS)]
    backlog = [boots(bench, 10 if partition == 0 else 1, nodes[partition]) for partition in range(4)]
    bench.lane.step()
    assert [sum(settled(deliveries)) for deliveries in backlog] == [1, 1, 1, 1]


def test_no_partition_is_always_last(a_bench: Callable[..., LaneBench]) -> None:
    """With less room in a batch than there are partitions each is served as often as the others."""
    bench = a_bench(batch_size=1)
    backlog = [boots(bench, 5, node_of(partition)) for partition in range(PARTITIONS)]
    for _ in range(2 * PARTITIONS):
        bench.lane.step()
    assert [sum(settled(deliveries)) for deliveries in backlog] == [2] * PARTITIONS


def test_a_partition_is_taken_in_its_own_order(a_bench: Callable[..., LaneBench]) -> None:
    bench = a_bench(batch_size=5)
    nodes = [node_of(partition) for partition in range(PARTITIONS)]
    bench.track(*nodes)
    backlog = [boots(bench, 9, node) for node in nodes]
    bench.run()
    for deliveries in backlog:
        assert [delivery.answer["sequence"] for delivery in deliveries] == list(range(2, 11))


def test_deliveries_are_answered_in_their_order(bench: LaneBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.track()
    order: list[int] = []
    deliveries = boots(bench, 10)
    for number, delivery in enumerate(deliveries):
        monkeypatch.setattr(delivery, "settle", lambda _answer, number=number: order.append(number))
    bench.run()
    assert order == list(range(10))


def test_a_full_partition_holds_its_sender_back_and_no_other(a_bench: Callable[..., LaneBench]) -> None:
    bench = a_bench(prefetch=2)
    first, second = node_of(0), node_of(1)
    boots(bench, 2, first)
    third: list[Recorded] = []
    sender = threading.Thread(target=lambda: third.extend(boots(bench, 1, first)), daemon=True)
    sender.start()
    boots(bench, 2, second)
    assert not third
    bench.lane.step()
    sender.join(SECONDS)
    assert not sender.is_alive()
    bench.run()
    assert settled(third) == [1]


def test_close_finishes_what_waits(bench: LaneBench) -> None:
    deliveries = boots(bench, 5)
    bench.lane.close()
    bench.lane.run()
    assert settled(deliveries) == [1] * 5


def running(bench: LaneBench) -> threading.Thread:
    thread = threading.Thread(target=bench.lane.run, daemon=True)
    thread.start()
    return thread


def test_abandon_leaves_what_is_not_committed_unanswered(a_bench: Callable[..., LaneBench]) -> None:
    bench = a_bench()
    bench.track()
    trying = threading.Event()

    def away() -> Exception:
        trying.set()
        return disk_full()

    deliveries = boots(bench, 3)
    with Fault(bench.engine, "INSERT INTO claims", away):
        thread = running(bench)
        assert trying.wait(SECONDS)
        bench.lane.abandon()
        thread.join(SECONDS)
    assert not thread.is_alive()
    assert settled(deliveries) == [0, 0, 0]
    assert bench.claimed() == {}
    assert bench.sequence() == 1


def test_abandon_does_not_wait_for_the_next_try(a_bench: Callable[..., LaneBench]) -> None:
    bench = a_bench(retry_initial=3600.0, retry_max=3600.0)
    trying = threading.Event()

    def away() -> Exception:
        trying.set()
        return disk_full()

    (delivery,) = boots(bench, 1)
    with Fault(bench.engine, "", away):
        thread = running(bench)
        assert trying.wait(SECONDS)
        bench.lane.abandon()
        thread.join(SECONDS)
    assert not thread.is_alive()
    assert delivery.answers == []


def test_a_dispatcher_drains_what_was_submitted(bench: LaneBench) -> None:
    failed = threading.Event()
    dispatcher = Dispatcher([bench.lane], time.monotonic, failed.set)
    dispatcher.start()
    deliveries = boots(bench, 20)
    assert dispatcher.drain(SECONDS)
    assert settled(deliveries) == [1] * 20
    assert not failed.is_set()


def test_a_dispatcher_that_cannot_drain_in_time_abandons_and_says_so(bench: LaneBench) -> None:
    dispatcher = Dispatcher([bench.lane], time.monotonic, lambda: None)
    deliveries = boots(bench, 2)
    with Fault(bench.engine, "", disk_full):
        dispatcher.start()
        assert not dispatcher.drain(0.05)
        assert dispatcher.drain(SECONDS), "the lane's thread goes on, with a connection that the test closes"
    assert settled(deliveries) == [0, 0]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_that_ends_by_an_unknown_error_is_told(bench: LaneBench) -> None:
    failed = threading.Event()
    dispatcher = Dispatcher([bench.lane], time.monotonic, failed.set)
    with Fault(bench.engine, "", ValueError):
        dispatcher.start()
        (delivery,) = boots(bench, 1)
        assert failed.wait(SECONDS)
        dispatcher.drain(SECONDS)
    assert delivery.answers == []


def test_what_waits_for_a_queue_that_was_lost_is_dropped(bench: LaneBench) -> None:
    lost, kept = node_of(0), node_of(1)
    bench.track(lost, kept)
    dropped, others = boots(bench, 3, lost), boots(bench, 3, kept)
    bench.lane.inbox.drop(0)
    bench.run()
    assert (settled(dropped), settled(others)) == ([0] * 3, [1] * 3)
    assert bench.used(lost)[0] == 0


def test_what_the_broker_will_hand_out_again_is_not_begun(a_bench: Callable[..., LaneBench]) -> None:
    """The fourth was held back because the third made the batch too large."""
    body = padded(NODE, 600)
    bench = a_bench(batch_bytes=1024)
    first, second, third = (bench.deliver_body(body) for _ in range(3))
    second.live = False
    bench.lane.step()
    third.live = False
    bench.run()
    assert settled([first, second, third]) == [1, 0, 0]


@pytest.mark.parametrize(
    ("place", "why", "code"),
    [
        (OtherQueue.BARE_TOPIC, None, "wrong_partition"),
        (OtherQueue.DEAD_LETTERS, "maxlen in queue tracker.p0", "dead_lettered"),
    ],
)
def test_what_came_by_another_way_than_its_nodes_queue_is_parked(
    a_bench: Callable[..., LaneBench], place: OtherQueue, why: str | None, code: str
) -> None:
    bench = a_bench()
    bench.track()
    delivery = bench.deliver_body(encode("build_failed", {"node": NODE, "event_id": "e"}), partition=place)
    delivery.dead_lettered = why
    bench.run()
    assert bench.parked() == [("e", code)]
    assert (why or "") in bench.rows(DEAD_LETTERS)[0]["message"]
    assert bench.sequence() == 1, "another worker's node"


def test_what_was_applied_before_the_broker_gave_it_up_is_not_parked(bench: LaneBench) -> None:
    bench.track()
    body = encode("build_failed", {"node": NODE, "event_id": "e"})
    bench.deliver_body(body)
    bench.run()
    delivery = bench.deliver_body(body, partition=OtherQueue.DEAD_LETTERS)
    delivery.dead_lettered = "delivery_limit in queue tracker.p0"
    bench.run()
    assert (delivery.outcome, bench.parked()) == ("applied", [])
