# SPDX-License-Identifier: Apache-2.0
"""Events that may have killed a worker: counted before they run, then run alone, then parked."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import BYSTANDER, INSTANCE, NODE, a_flavor, an_instance, command
from tests.functional.lanes import OTHER_NODE, PARTITIONS, SECONDS, LaneBench, Recorded, rows
from tests.functional.statements import Fault, connection_lost, death, disk_full, lost_commits, watched
from tests.servers.server import wait_until
from tracker_worker.core import decode
from tracker_worker.core.envelope import Envelope, encode, open_envelope
from tracker_worker.core.quarantine import Attempts
from tracker_worker.db.tables import ATTEMPTS, DEAD_LETTERS
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.settings import LaneSettings

MAX_ATTEMPTS = 3
CALM = 0.2
"""Seconds after which last attempts run, on a clock that stands still until the test moves it."""


def boot(uuid: str = INSTANCE, vcpus: int = 2, node: str = NODE) -> AnyCommand:
    return command("instance_claim", node=node, instance=an_instance(uuid, a_flavor(vcpus)))


def batches(bench: LaneBench, run: Callable[[], object]) -> list[int]:
    """The number of receipts that each transaction wrote while something ran."""
    with watched(bench.engine) as seen:
        run()
    inserts = [s for s in seen if s.sql.startswith("INSERT INTO receipts")]
    return [s.rows for s in inserts]


def test_the_first_delivery_of_an_event_is_not_counted(bench: LaneBench) -> None:
    bench.track()
    with watched(bench.engine) as seen:
        bench.send(boot())
    assert not [s for s in seen if "attempts" in s.sql]


def test_a_redelivered_event_is_counted_and_committed_before_it_runs(bench: LaneBench) -> None:
    bench.track()
    counted: list[list[dict[str, Any]]] = []

    def look() -> Exception:
        counted.append(rows(bench.engine, ATTEMPTS))
        return disk_full()

    delivery = bench.deliver(boot(), "event-a", redelivered=True)
    with Fault(bench.engine, "UPDATE nodes", look, times=1):
        bench.run()
    ((row,),) = counted
    assert (row["event_id"], row["begun"], row["decoded"]) == (decode.attempts_key(delivery), 1, False)
    assert delivery.outcome == "granted"


def test_a_settled_event_leaves_no_count(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot(), "event-a", redelivered=True)
    bench.send(command("get_node"), "event-b", redelivered=True)
    bad = encode("build_failed", {"node": NODE, "event_id": "event-c", "x": 1})
    bench.deliver_body(bad, redelivered=True)
    bench.run()
    assert bench.attempts() == {}
    assert bench.parked() == [("event-c", "unknown_argument")]


def test_the_count_goes_in_the_transaction_that_settles(a_bench: Callable[..., LaneBench]) -> None:
    one = a_bench()
    one.track()
    delivery = one.deliver(boot(), "event-a", redelivered=True)
    with death(one, "INSERT INTO outbox"):
        one.run()
    assert one.attempts() == {decode.attempts_key(delivery): Attempts(1)}
    assert one.used()[0] == 0


def test_a_settlement_that_nobody_heard_of_leaves_no_count(bench: LaneBench) -> None:
    bench.track()
    delivery = bench.deliver(boot(), "event-a", redelivered=True)
    with lost_commits(bench.engine, times=2):
        bench.run()
    assert delivery.outcome == "granted"
    assert bench.attempts() == {}


def test_events_that_are_redelivered_once_run_together(bench: LaneBench) -> None:
    """A broker that was restarted flags every message redelivered."""
    bench.track()
    for number in range(20):
        bench.deliver(boot(f"i-{number}"), f"event-{number}", redelivered=True)
    assert batches(bench, bench.run) == [20]


def test_an_event_that_was_under_way_at_a_death_runs_alone(bench: LaneBench) -> None:
    bench.track()
    deliveries = [bench.deliver(boot(f"i-{n}"), f"event-{n}", redelivered=n == 2) for n in range(5)]
    bench.died(1, deliveries[2])
    assert batches(bench, bench.run) == [2, 1, 2]
    assert [delivery.answer["sequence"] for delivery in deliveries] == [2, 3, 4, 5, 6]


def test_other_partitions_get_on_before_what_may_kill_runs(a_bench: Callable[..., LaneBench]) -> None:
    """One kills every worker: each of them settles what comes for other partitions first."""
    first = a_bench()
    first.track(NODE, OTHER_NODE)
    assert partition_of(NODE, PARTITIONS) != partition_of(OTHER_NODE, PARTITIONS)
    killer = first.deliver(boot("killer"), "event-k", redelivered=True)
    other = first.deliver(boot("i-1", node=OTHER_NODE), "event-1")
    first.died(1, killer)
    with Fault(first.engine, "INSERT INTO claims", abandoning(first), holding="killer"):
        first.run()
    assert other.outcome == "granted"
    assert killer.answers == []


def test_what_one_more_death_would_park_runs_after_everything_else(a_bench: Callable[..., LaneBench]) -> None:
    bench = a_bench()
    bench.track(NODE, OTHER_NODE)
    last = bench.deliver(boot("last"), "event-l", redelivered=True)
    suspect = bench.deliver(boot("suspect", node=OTHER_NODE), "event-s", redelivered=True)
    bench.died(MAX_ATTEMPTS - 1, last)
    bench.died(1, suspect)
    with Fault(bench.engine, "INSERT INTO claims", abandoning(bench), holding="last"):
        bench.run()
    assert (suspect.outcome, last.answers) == ("granted", [])


def settles(delivery: Recorded) -> None:
    wait_until(lambda: bool(delivery.answers), "an answer", SECONDS)


def test_what_one_more_death_would_park_waits_until_the_worker_has_lived_for_a_while(
    a_bench: Callable[..., LaneBench],
) -> None:
    """Kills from outside that follow each other hit the same innocent event again and again."""
    bench = a_bench(min_uptime=CALM)
    bench.track(NODE, OTHER_NODE)
    innocent = bench.deliver(boot("innocent"), redelivered=True)
    later = bench.deliver(boot("later"))
    other = bench.deliver(boot("other", node=OTHER_NODE))
    bench.died(MAX_ATTEMPTS - 1, innocent)
    before = bench.attempts()
    with bench.at_work():
        settles(other)
    assert (innocent.answers, later.answers) == ([], [])
    assert bench.attempts() == before, "a worker that is killed meanwhile has not had it under way"


def test_lane_that_is_abandoned_in_a_step_makes_no_last_attempt(a_bench: Callable[..., LaneBench]) -> None:
    bench = a_bench(min_uptime=CALM)
    bench.track()
    innocent = bench.deliver(boot("innocent"), redelivered=True)
    bench.died(MAX_ATTEMPTS - 1, innocent)
    bench.run()
    bench.lane.abandon()
    bench.lane.step()
    assert not innocent.answers


def test_what_one_more_death_would_park_waits_until_the_database_has_lasted_for_a_while(
    a_bench: Callable[..., LaneBench],
) -> None:
    """A kill while an event waits for the database is charged to the event, which was not running."""
    bench = a_bench(min_uptime=CALM)
    bench.track(NODE, OTHER_NODE)
    bench.seconds = CALM
    with Fault(bench.engine, "UPDATE nodes", connection_lost, times=1):
        bench.send(boot("during", node=OTHER_NODE))
    innocent = bench.deliver(boot("innocent"), redelivered=True)
    other = bench.deliver(boot("other", node=OTHER_NODE))
    bench.died(MAX_ATTEMPTS - 1, innocent)
    before = bench.attempts()
    with bench.at_work():
        settles(other)
        assert (innocent.answers, bench.attempts()) == ([], before)
        bench.seconds = 2 * CALM
        settles(innocent)
    assert innocent.outcome == "granted"


@pytest.mark.parametrize("statement", ["SELECT attempts", "UPDATE nodes"])
def test_last_attempt_waits_although_the_database_fails_only_in_its_own_batch(
    a_bench: Callable[..., LaneBench], statement: str
) -> None:
    """A lane without work does not notice that its database has failed."""
    bench = a_bench(min_uptime=CALM)
    bench.track(NODE, OTHER_NODE)
    bench.seconds = CALM
    innocent = bench.deliver(boot("innocent"), redelivered=True)
    other = bench.deliver(boot("other", node=OTHER_NODE))
    bench.died(MAX_ATTEMPTS - 1, innocent)
    before = bench.attempts()
    with Fault(bench.engine, statement, connection_lost, times=1), bench.at_work():
        settles(other)
        assert (innocent.answers, bench.attempts()) == ([], before)
        bench.seconds = 2 * CALM
        settles(innocent)
    assert innocent.outcome == "granted"


def test_everything_goes_on_in_order_when_the_worker_has_lived_for_a_while(
    a_bench: Callable[..., LaneBench],
) -> None:
    bench = a_bench(min_uptime=CALM, batch_size=2)
    bench.track(NODE, OTHER_NODE)
    deliveries = [bench.deliver(boot(f"i-{n}"), redelivered=n == 1) for n in range(6)]
    other = bench.deliver(boot("other", node=OTHER_NODE))
    bench.died(MAX_ATTEMPTS - 1, deliveries[1])
    with bench.at_work():
        settles(other)
        bench.seconds = CALM
        settles(deliveries[5])
    assert [delivery.answer["sequence"] for delivery in deliveries] == [2, 3, 4, 5, 6, 7]


def test_no_two_lanes_of_a_process_run_last_attempts_at_the_same_moment() -> None:
    """Found by a trial with two lanes: one's killer had the other's innocent parked."""
    settings = LaneSettings(min_uptime=5.0)
    assert [settings.for_lane(number).min_uptime for number in range(3)] == [5.0, 10.0, 15.0]
    assert settings.for_lane(0) == settings


def test_what_rests_is_finished_by_a_worker_that_is_told_to_end(a_bench: Callable[..., LaneBench]) -> None:
    """Found by the simulation: it was left to the next worker."""
    bench = a_bench(min_uptime=CALM)
    bench.track(NODE, OTHER_NODE)
    innocent = bench.deliver(boot(), redelivered=True)
    bench.died(MAX_ATTEMPTS - 1, innocent)
    with bench.at_work() as thread:
        settles(bench.deliver(boot("other", node=OTHER_NODE)))
        bench.lane.close()
        thread.join(SECONDS)
    assert innocent.outcome == "granted"


def test_what_waits_for_its_last_attempt_and_comes_again_is_dropped(
    a_bench: Callable[..., LaneBench],
) -> None:
    """The connection was lost meanwhile: the broker hands all of it out once more."""
    bench = a_bench(min_uptime=CALM)
    bench.track(NODE, OTHER_NODE)
    lost = bench.deliver(boot(), "event-a", redelivered=True)
    other = bench.deliver(boot("other", node=OTHER_NODE))
    bench.died(MAX_ATTEMPTS - 1, lost)
    with bench.at_work():
        settles(other)
        wait_until(lambda: bench.lane.inbox.has_deferred, "its last attempt to wait", SECONDS)
        lost.live = False
        bench.lane.inbox.drop(lost.partition)
        bench.seconds = CALM
        again = bench.deliver(boot(), "event-a", redelivered=True)
        settles(again)
    assert (lost.answers, again.outcome) == ([], "granted")


def test_an_event_that_was_under_way_at_too_many_deaths_is_parked_without_being_run(bench: LaneBench) -> None:
    bench.track()
    deliveries = [bench.deliver(boot(f"i-{n}"), f"event-{n}", redelivered=n == 1) for n in range(3)]
    bench.died(MAX_ATTEMPTS, deliveries[1])
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted", "EventParked", "granted"]
    assert bench.parked() == [("event-1", "worker_died")]
    assert "3 times" in bench.rows(DEAD_LETTERS)[0]["message"]
    assert bench.used()[0] == 4
    assert bench.receipts()["event-1"]["sequence"] == 3
    assert bench.attempts() == {}


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_number_of_deaths_is_configured(a_bench: Callable[..., LaneBench], most: int) -> None:
    bench = a_bench(max_attempts=most)
    bench.track()
    first = bench.deliver(boot(), "event-a", redelivered=True)
    second = bench.deliver(boot(BYSTANDER), "event-b", redelivered=True)
    bench.died(most - 1, first)
    bench.died(most, second)
    bench.run()
    assert (first.outcome, second.outcome) == ("granted", "EventParked")


def test_the_whole_way_of_an_event_that_kills_every_worker(a_bench: Callable[..., LaneBench]) -> None:
    """Delivered, redelivered together, twice alone, parked: its neighbours are applied meanwhile."""
    outcomes = []
    first = a_bench()
    first.track()
    for number in range(6):
        worker = a_bench()
        killer = worker.deliver(boot("killer"), "event-k", redelivered=number > 0)
        neighbour = worker.deliver(boot("neighbour"), "event-n", redelivered=number > 0)
        with Fault(worker.engine, "INSERT INTO claims", abandoning(worker), holding="killer"):
            worker.run()
        outcomes.append([d.outcome if d.answers else None for d in (killer, neighbour)])
    assert outcomes[:5] == [
        [None, None],
        [None, None],
        [None, None],
        [None, None],
        ["EventParked", "granted"],
    ]
    assert outcomes[5] == ["EventParked", "granted"]
    assert first.parked() == [("event-k", "worker_died")]
    assert first.claimed() == {("neighbour", "instance"): 2}


def abandoning(bench: LaneBench) -> Callable[[], Exception]:
    def die() -> Exception:
        bench.lane.abandon()
        return disk_full()

    return die


def test_a_redelivered_duplicate_of_an_applied_event_gets_the_first_reply(bench: LaneBench) -> None:
    bench.track()
    first = bench.send(boot(), "event-a")
    again = bench.send(boot(), "event-a", redelivered=True)
    assert again.answer == first.answer
    assert bench.attempts() == {}


def test_an_applied_event_whose_duplicate_met_too_many_deaths_gets_the_first_reply(bench: LaneBench) -> None:
    """Its acknowledgement was lost; what killed the workers was something else."""
    bench.track()
    first = bench.send(boot(), "event-a")
    again = bench.deliver(boot(), "event-a", redelivered=True)
    bench.died(MAX_ATTEMPTS, again)
    bench.run()
    assert again.answer == first.answer
    assert bench.parked() == []
    assert bench.attempts() == {}


def test_two_redelivered_messages_of_one_event_are_both_answered(bench: LaneBench) -> None:
    """The client repeated itself, then the broker was restarted."""
    bench.track()
    both = [bench.deliver(boot(), "event-a", redelivered=True) for _ in range(2)]
    other = bench.deliver(boot(BYSTANDER), "event-b", redelivered=True)
    bench.run()
    assert both[0].answer == both[1].answer
    assert other.outcome == "granted"
    assert bench.used()[0] == 4
    assert bench.attempts() == {}


def test_two_messages_of_one_event_that_met_too_many_deaths_are_both_answered(bench: LaneBench) -> None:
    bench.track()
    both = [bench.deliver(boot(), "event-a", redelivered=True) for _ in range(2)]
    bench.died(MAX_ATTEMPTS, *both)
    bench.run()
    assert [delivery.outcome for delivery in both] == ["EventParked"] * 2
    assert len(bench.parked()) == 1


def test_a_redelivered_event_with_a_reused_id_leaves_no_count(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot(), "event-a")
    reused = bench.send(boot(BYSTANDER), "event-a", redelivered=True)
    assert reused.outcome == "EventIdReused"
    assert bench.attempts() == {}


def test_counts_are_kept_apart_for_other_events(bench: LaneBench) -> None:
    bench.track(NODE, OTHER_NODE)
    bench.unit_of_work.record_attempts({"another": Attempts(1, decoded=True)})
    bench.send(boot(node=OTHER_NODE), "event-a", redelivered=True)
    assert bench.attempts() == {"another": Attempts(1, decoded=True)}


class Death(BaseException):
    """The worker's end in the middle of a step."""


def kills_while_decoded(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    """From now on a worker dies that decodes a body with this text."""

    def die(body: bytes) -> Envelope:
        if text in body:
            raise Death
        return open_envelope(body)

    monkeypatch.setattr(decode, "open_envelope", die)


def test_an_event_that_kills_while_it_is_decoded_is_parked_Attempts(
    a_bench: Callable[..., LaneBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours are applied; it costs the first death, which nobody counts, and three more."""
    first = a_bench()
    first.track()
    kills_while_decoded(monkeypatch, b"event-k")
    deaths = 0
    for number in range(MAX_ATTEMPTS + 2):
        worker = a_bench()
        around = [worker.deliver(boot(f"i-{n}"), f"event-{n}", redelivered=number > 0) for n in (1, 2)]
        worker.deliver(boot("killer"), "event-k", redelivered=number > 0)
        around.append(worker.deliver(boot("i-3"), "event-3", redelivered=number > 0))
        try:
            worker.run()
        except Death:
            deaths += 1
    assert deaths == MAX_ATTEMPTS + 1
    assert [code for _, code in first.parked()] == ["worker_died"]
    assert [delivery.outcome for delivery in around] == ["granted"] * 3
    assert first.claimed() == {(f"i-{n}", "instance"): 2 for n in (1, 2, 3)}
    assert first.attempts() == {}


def test_an_event_that_was_parked_undecoded_stays_parked_when_its_acknowledgement_is_lost(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it was applied late, behind the later events of its node: its own id has no receipt."""
    bench.track()
    first = bench.deliver(boot(), "event-a", redelivered=True)
    bench.unit_of_work.record_attempts({decode.attempts_key(first): Attempts(MAX_ATTEMPTS)})
    bench.run()
    kills_while_decoded(monkeypatch, b"event-a")
    again = bench.deliver_body(first.body, redelivered=True)
    bench.run()
    assert (first.outcome, again.outcome) == ("EventParked", "EventParked")
    assert len(bench.parked()) == 1
    assert bench.claimed() == {}
    assert bench.attempts() == {}


def test_what_was_decoded_is_not_counted_as_a_death_while_decoding(a_bench: Callable[..., LaneBench]) -> None:
    """An event that kills when it runs is decoded at every attempt, and parked with its names."""
    first = a_bench()
    first.track()
    for number in range(MAX_ATTEMPTS + 2):
        worker = a_bench()
        worker.deliver(boot("killer"), "event-k", redelivered=number > 0)
        with Fault(worker.engine, "INSERT INTO claims", abandoning(worker), holding="killer"):
            worker.run()
    assert first.parked() == [("event-k", "worker_died")]
    assert first.attempts() == {}


def test_a_death_while_decoding_is_no_proof_once_it_was_decoded(bench: LaneBench) -> None:
    """A kill from outside hit it there: it is kept with names and body, and can be replayed."""
    bench.track()
    delivery = bench.deliver(boot(), "event-a", redelivered=True)
    alone_and_decoded = Attempts(MAX_ATTEMPTS - 1, decoded=True)
    bench.unit_of_work.record_attempts({decode.attempts_key(delivery): alone_and_decoded.begin()})
    bench.run()
    assert bench.parked() == [("event-a", "worker_died")]
    assert bench.rows(DEAD_LETTERS)[0]["method"] == "instance_claim"


def test_an_attempt_whose_count_was_reported_lost_is_not_counted_twice(
    a_bench: Callable[..., LaneBench],
) -> None:
    """Found by the simulation: two deaths at such a moment, and an innocent event was parked."""
    bench = a_bench()
    bench.track()
    delivery = bench.deliver(boot(), "event-a", redelivered=True)
    with lost_commits(bench.engine, times=1), death(bench, "INSERT INTO outbox"):
        bench.run()
    assert bench.attempts() == {decode.attempts_key(delivery): Attempts(1)}


def test_a_worker_that_was_given_up_takes_no_count_back(bench: LaneBench) -> None:
    """Its successor has counted on meanwhile."""
    bench.unit_of_work.record_attempts({"key": Attempts(1, decoded=True)})
    bench.unit_of_work.record_attempts({"key": Attempts(1)})
    assert bench.attempts() == {"key": Attempts(1, decoded=True)}
