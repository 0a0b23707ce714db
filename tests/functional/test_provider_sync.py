# SPDX-License-Identifier: Apache-2.0
"""Placement is told of the nodes that have changed: a real database, and Placement's rules in memory."""

import random
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, Future
from datetime import timedelta
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import pytest
import sqlalchemy as sa

from tests.builders import HOST, NODE, NODE_UUID, a_report, command, some_resources
from tests.fake_placement import FailingAt, FakePlacement
from tests.functional.lanes import NOW, LaneBench
from tests.functional.statements import lost_commits
from tracker_worker.core.stats import PlacementStats
from tracker_worker.db import leases, providers
from tracker_worker.db.connection import LazyConnection
from tracker_worker.db.providers import ProviderState
from tracker_worker.db.tables import LEASES, OUTBOX
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.node import Node
from tracker_worker.domain.partitions import partition_of
from tracker_worker.placement.errors import (
    PlacementRefused,
    PlacementUnauthorized,
    PlacementUnavailable,
    WrongEndpoint,
)
from tracker_worker.placement.sync import Sync
from tracker_worker.worker.due_nodes import FEWEST
from tracker_worker.worker.partition_leases import LeaseOwner
from tracker_worker.worker.provider_results import ProviderResults, Publication
from tracker_worker.worker.provider_sync import Observation, ProviderSync
from tracker_worker.worker.provider_task import FIRST_REFRESH_SECONDS, failed_record
from tracker_worker.worker.settings import PlacementSettings

OTHER_UUID = str(uuid5(NAMESPACE_DNS, "another"))
PARTITIONS = 16
SETTINGS = PlacementSettings(refresh_interval=300.0, retry_max=30.0, lease_seconds=10.0)


ADD_BEFORE = """
CREATE TRIGGER added_before BEFORE INSERT ON providers
BEGIN INSERT INTO providers (node) VALUES (NEW.node); END
"""


class AtOnce(Executor):
    """Runs what is submitted before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Late(Executor):
    """Runs what was submitted when it is told to."""

    def __init__(self) -> None:
        self.submitted: list[Callable[[], Future[Any]]] = []
        self.results: list[Future[Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def run() -> Future[Any]:
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)
            return future

        self.submitted.append(run)
        return future

    def run(self) -> None:
        self.results = [run() for run in self.submitted]


class SyncBench:
    """A lane that marks nodes, a Placement, and the syncs of as many processes as are asked for."""

    def __init__(self, engine: sa.Engine, lane: LaneBench) -> None:
        self.engine = engine
        self.lane = lane
        self.placement = FakePlacement()
        self.seconds = 0.0
        self.stats = PlacementStats()
        self.observed: SimpleQueue[Observation] = SimpleQueue()
        self.published = 0
        self.syncs: list[ProviderSync] = []

    def new_sync(
        self,
        owner: str = "one",
        settings: PlacementSettings = SETTINGS,
        executor: Executor | None = None,
        active: Collection[int] = range(PARTITIONS),
    ) -> ProviderSync:
        chance = random.Random(17)

        def committed() -> None:
            self.published = len(self.lane.rows(OUTBOX))

        made = ProviderSync(
            self.engine,
            Sync(self.placement),
            executor or AtOnce(),
            settings,
            LeaseOwner(owner, PARTITIONS, lambda: active),
            Publication(True, "tracker-worker:test", lambda: NOW, lambda: f"id-{chance.random()}", committed),
            lambda: self.seconds,
            lambda: 1.0,
            lambda: None,
            self.observed,
            self.stats,
        )
        self.syncs.append(made)
        return made

    def run(self, sync: ProviderSync) -> list[str]:
        """Begin what is due and write it down; return what Placement was asked."""
        asked = len(self.placement.requests)
        for _ in range(3):
            sync.run_once()
        return self.placement.requests[asked:]

    def passes(self, seconds: int, *syncs: ProviderSync) -> None:
        """Let time pass for the leases in the database too; each process comes to its step once a second."""
        for _ in range(seconds):
            self.seconds += 1.0
            with self.engine.begin() as connection:
                connection.execute(sa.update(LEASES).values(until=LEASES.c.until - 1.0))
            for sync in syncs:
                sync.run_once()

    def make_due(self) -> None:
        """The times of all refreshes and attempts have come; what waits for a change goes on waiting."""
        with self.engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE providers SET due_at = '2026-01-01 00:00:00.000000' WHERE due_at IS NOT NULL")
            )

    def state(self, node: str = NODE) -> ProviderState:
        with self.engine.connect() as connection:
            (found,) = providers.states(connection, [node])
        return found

    def row(self) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(sa.text("SELECT * FROM providers")).one()

    def told(self) -> list[tuple[str, Any]]:
        """The notifications of syncs: event type and code."""
        return [
            (each["event_type"], each["payload"]["nova_object.data"]["code"])
            for each in self.lane.notifications()
            if ".sync." in each["event_type"]
        ]


@pytest.fixture
def bench(engine: sa.Engine, a_bench: Callable[..., LaneBench]) -> Iterator[SyncBench]:
    made = SyncBench(engine, a_bench(mark_providers=True))
    yield made
    for sync in made.syncs:
        sync._database.close()


def report(node: str = NODE, **more: Any) -> AnyCommand:
    uuid = NODE_UUID if node == NODE else str(uuid5(NAMESPACE_DNS, node))
    return a_report(node=node, resources=some_resources(uuid=uuid, **more))


def track(bench: SyncBench, *nodes: str) -> None:
    for node in nodes:
        bench.lane.deliver(report(node))
    bench.lane.run()


def lease(bench: SyncBench, owner: str, partitions: Iterable[int]) -> None:
    with bench.engine.begin() as connection:
        names = [f"placement.p{partition}" for partition in partitions]
        leases.acquire_all(connection, names, owner, SETTINGS.lease_seconds)


def test_a_new_node_is_created_and_then_nothing_is_asked(bench: SyncBench) -> None:
    sync = bench.new_sync()
    assert bench.run(sync) == []
    bench.lane.send(report())
    assert len(bench.run(sync)) == 3
    assert bench.placement.providers[NODE_UUID].inventories["VCPU"].total == 8
    assert bench.run(sync) == []
    state = bench.state()
    assert (state.changed_at, state.attempts, state.error_code) == (None, 0, None)
    assert bench.told() == []


def test_a_change_is_one_request_in_another_process_too(bench: SyncBench) -> None:
    bench.lane.send(report())
    first = bench.new_sync()
    bench.run(first)
    bench.lane.send(report(vcpus=12))
    assert len(bench.run(first)) == 1
    first._leases.release(())
    second = bench.new_sync("another")
    assert bench.run(second) == []
    bench.lane.send(report(vcpus=16))
    assert len(bench.run(second)) == 1
    assert bench.placement.providers[NODE_UUID].inventories["VCPU"].total == 16


def test_a_mark_that_changes_nothing_is_no_request(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    bench.lane.send(report(vcpus=12))
    bench.lane.send(report())
    assert bench.run(sync) == []
    assert bench.state().changed_at is None


def test_marks_that_change_nothing_do_not_put_off_the_refresh(bench: SyncBench) -> None:
    """A driver may send the same traits in another order each minute."""
    sync = bench.new_sync()
    bench.lane.send(report(traits=["HW_CPU_X86_AVX", "HW_CPU_X86_SSE"]))
    bench.run(sync)
    bench.make_due()
    bench.run(sync)
    refreshed_at = bench.state().retry_at
    for traits in (["HW_CPU_X86_SSE", "HW_CPU_X86_AVX"], ["HW_CPU_X86_AVX", "HW_CPU_X86_SSE"]):
        bench.lane.send(report(traits=traits))
        assert bench.run(sync) == []
        assert bench.state().retry_at == refreshed_at
    with bench.engine.begin() as connection:
        connection.execute(sa.text("UPDATE providers SET synced_at = '2026-01-01 00:00:00.000000'"))
    bench.lane.send(report(traits=["HW_CPU_X86_SSE", "HW_CPU_X86_AVX"]))
    assert len(bench.run(sync)) == 1


def test_the_first_refresh_of_a_node_comes_soon(bench: SyncBench) -> None:
    """An event that begins before the node has a row, and ends after its report was read, cannot mark it."""
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    for expected in (FIRST_REFRESH_SECONDS, SETTINGS.refresh_interval):
        state = bench.state()
        assert state.synced_at is not None
        assert state.retry_at == state.synced_at + timedelta(seconds=expected)
        bench.make_due()
        bench.run(sync)


def test_a_clock_that_is_set_back_does_not_put_off_the_refresh(bench: SyncBench) -> None:
    """The times in the database are then as far ahead as the clock was set back."""
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    with bench.engine.begin() as connection:
        connection.execute(sa.text("UPDATE providers SET due_at = '2099-01-01 00:00:00.000000'"))
    assert len(bench.run(sync)) == 1
    assert bench.run(sync) == []


def test_a_refresh_is_one_request_when_its_time_has_come(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    bench.make_due()
    assert len(bench.run(sync)) == 1
    assert bench.run(sync) == []


def test_a_node_that_is_to_be_synced_by_hand_is_compared(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    with bench.placement.others():
        bench.placement.put_inventories(NODE_UUID, 2, {})
    with bench.engine.begin() as connection:
        providers.ask(connection, [NODE])
    bench.run(sync)
    assert bench.placement.providers[NODE_UUID].inventories["VCPU"].total == 8


def test_a_writer_that_changes_a_provider_twice_in_a_row_is_named(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    for expected in (None, NODE):
        with bench.placement.others():
            generation, inventories = bench.placement.inventories(NODE_UUID)
            del inventories["VCPU"]
            bench.placement.put_inventories(NODE_UUID, generation, inventories)
        bench.make_due()
        bench.run(sync)
        assert bench.placement.providers[NODE_UUID].inventories["VCPU"].total == 8
        assert bench.state().foreign_provider == expected
    bench.make_due()
    bench.run(sync)
    assert bench.state().foreign_provider is None


def test_one_process_asks_while_its_lease_lasts(bench: SyncBench) -> None:
    bench.lane.send(report())
    one, another = bench.new_sync("one"), bench.new_sync("another")
    one.run_once()
    asked = len(bench.placement.requests)
    another.run_once()
    assert len(bench.placement.requests) == asked == 3


def test_each_worker_syncs_the_nodes_of_the_partitions_whose_messages_it_gets(bench: SyncBench) -> None:
    nodes = [NODE, *(f"node-{number}" for number in range(20))]
    one, another = bench.new_sync("one", active=range(0, 8)), bench.new_sync("another", active=range(8, 16))
    lease(bench, "one", range(8))
    lease(bench, "another", range(8, 16))
    track(bench, *nodes)
    expected = {node for node in nodes if partition_of(node, PARTITIONS) < 8}
    assert 0 < len(expected) < len(nodes)
    bench.run(one)
    assert {each.name for each in bench.placement.providers.values()} == expected
    bench.run(another)
    assert {each.name for each in bench.placement.providers.values()} == set(nodes)


def test_a_sync_that_takes_longer_than_a_lease_is_written_down_in_an_idle_partition_too(
    bench: SyncBench,
) -> None:
    """A node of many providers on a slow Placement: each attempt, by whatever process, would be lost."""
    slow = Late()
    one = bench.new_sync("one", executor=slow, active=())
    another = bench.new_sync("another", active=())
    track(bench, NODE)
    bench.passes(1, one)
    bench.passes(40, another, one)
    assert bench.placement.requests == []
    slow.run()
    bench.passes(1, one, another)
    assert bench.state().synced_at is not None


def test_no_request_begins_after_the_lease_ran_out_in_a_slow_transaction(
    bench: SyncBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have begun by then."""
    begin = providers.begin

    def slow(*args: Any) -> None:
        begin(*args)
        bench.seconds += SETTINGS.lease_seconds

    sync = bench.new_sync()
    track(bench, NODE)
    with monkeypatch.context() as patch:
        patch.setattr(providers, "begin", slow)
        sync.run_once()
    assert bench.placement.requests == []
    bench.run(sync)
    assert bench.state().synced_at is not None


def test_a_process_that_ends_leaves_no_request_in_flight_to_another(bench: SyncBench) -> None:
    """It may be carried out yet: two writers of a provider fail each other's requests."""
    late = Late()
    one, another = bench.new_sync("one", executor=late), bench.new_sync("another")
    track(bench, NODE)
    one.run_once()
    one._finish()
    bench.passes(5, another)
    assert bench.placement.requests == []
    late.run()
    bench.passes(8, another)
    assert bench.state().synced_at is not None


def test_nodes_of_another_worker_do_not_hold_up_our_own(bench: SyncBench) -> None:
    """They stay due while that worker is stuck, and have waited for longer."""
    theirs = [f"node-{n}" for n in range(200) if partition_of(f"node-{n}", PARTITIONS)]
    track(bench, *theirs)
    lease(bench, "stuck", range(1, PARTITIONS))
    sync = bench.new_sync("one", active=[0])
    bench.run(sync)
    assert len(theirs) > 4 * FEWEST
    ours = next(f"node-{n}" for n in range(200) if not partition_of(f"node-{n}", PARTITIONS))
    track(bench, ours)
    for _ in range(4):
        bench.seconds += SETTINGS.poll_interval
        bench.run(sync)
    assert [each.name for each in bench.placement.providers.values()] == [ours]


def test_rows_that_another_worker_adds_at_the_same_time_are_no_failure(
    bench: SyncBench, caplog: pytest.LogCaptureFixture
) -> None:
    """Each adds the rows of all nodes; the database refuses those that are there already."""
    sync = bench.new_sync()
    sync.run_once()
    track(bench, NODE)
    with bench.engine.begin() as connection:
        connection.execute(sa.text(ADD_BEFORE))
    assert bench.run(sync) == []
    with bench.engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER added_before"))
    assert len(bench.run(sync)) == 3
    assert caplog.records == []


def test_a_removed_node_is_deleted_and_forgotten(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    bench.lane.send(command("remove_node", host=HOST))
    bench.run(sync)
    assert bench.placement.providers == {}
    with bench.engine.connect() as connection:
        assert providers.states(connection) == []
    assert bench.run(sync) == []


def test_a_refusal_is_told_once_and_not_tried_again_before_a_change(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.placement.faults = FailingAt(1, PlacementRefused("403: policy"), carried_out=False)
    assert len(bench.run(sync)) == 1
    assert bench.run(sync) == []
    assert bench.state().error_code == "placement_refused"
    assert bench.told() == [("compute_node.sync.error", "placement_refused")]
    bench.lane.send(report(vcpus=12))
    assert len(bench.run(sync)) == 3
    assert bench.state().error_code is None
    assert bench.told()[1:] == [("compute_node.sync.end", "placement_refused")]


def test_what_was_refused_is_tried_again_by_a_worker_that_starts(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.placement.faults = FailingAt(1, PlacementRefused("403: policy"), carried_out=False)
    bench.run(sync)
    assert bench.state().error_code == "placement_refused"
    sync._leases.release(())
    assert len(bench.run(bench.new_sync("another"))) >= 3
    assert bench.state().error_code is None


def test_a_removed_node_is_deleted_once_its_allocations_are_gone(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    bench.placement.allocate("consumer", {NODE_UUID: {"VCPU": 1}})
    bench.lane.send(command("remove_node", host=HOST))
    bench.run(sync)
    assert bench.state().error_code == "provider_in_use"
    bench.placement.delete_allocations("consumer")
    bench.make_due()
    bench.run(sync)
    assert bench.placement.providers == {}
    with bench.engine.connect() as connection:
        assert providers.states(connection) == []


def test_commit_of_a_notification_wakes_the_relay(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    assert bench.published == 0
    bench.lane.send(report(inventories={"bad": {}}))
    bench.run(sync)
    assert bench.told() == [("compute_node.sync.error", "desired_state_invalid")]
    assert bench.published == len(bench.lane.rows(OUTBOX))


def test_error_whose_commit_nobody_heard_of_is_told_with_the_same_message_id(bench: SyncBench) -> None:
    """Consumers drop the repetition by that id."""
    bench.lane.send(report())
    with bench.engine.begin() as connection:
        providers.add_missing(connection)
        (due,) = providers.due(connection, [NODE])
    database = LazyConnection(bench.engine)
    ids = (f"id-{number}" for number in count())
    results = ProviderResults(
        database.transaction, Publication(True, "test", lambda: NOW, partial(next, ids), lambda: None)
    )
    results.add(Node(NODE), failed_record(due, "desired_state_invalid", "too large"))
    with lost_commits(bench.engine), pytest.raises(sa.exc.OperationalError):
        results.write()
    results.write()
    database.close()
    rows = [row for row in bench.lane.rows(OUTBOX) if row["event_type"] == "compute_node.sync.error"]
    assert [row["message_id"] for row in rows] == ["id-0", "id-0"]


def test_an_error_that_another_one_follows_has_ended(
    bench: SyncBench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tracker_worker.worker.provider_results")
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.placement.faults = FailingAt(1, PlacementRefused("403: policy"), carried_out=False)
    bench.run(sync)
    bench.lane.send(report(inventories={"bad": {}}))
    bench.run(sync)
    bench.lane.send(report())
    bench.run(sync)
    assert bench.told() == [
        ("compute_node.sync.error", "placement_refused"),
        ("compute_node.sync.end", "placement_refused"),
        ("compute_node.sync.error", "desired_state_invalid"),
        ("compute_node.sync.end", "desired_state_invalid"),
    ]
    not_synced, again = f"Node {NODE} is not synced with Placement, ", f"Node {NODE} is synced with Placement"
    assert [each.getMessage().partition(":")[0] for each in caplog.records] == [
        f"{not_synced}placement_refused",
        f"{not_synced}desired_state_invalid",
        f"{again} again",
    ]


class Away:
    """No request gets an answer, or the same one."""

    def __init__(self, error: PlacementUnavailable | None = None) -> None:
        self._error = error or PlacementUnavailable("no route")

    def before(self) -> None:
        raise self._error

    def after(self) -> None:
        raise AssertionError


def test_an_outage_is_asked_about_by_one_node_and_ends_for_all(bench: SyncBench) -> None:
    sync = bench.new_sync()
    nodes = [f"node-{number}" for number in range(40)]
    track(bench, *nodes)
    normal, bench.placement.faults = bench.placement.faults, Away()
    sync.run_once()
    begun = len(bench.placement.requests)
    assert begun == SETTINGS.concurrency * 4
    for _ in range(5):
        bench.run(sync)
    assert len(bench.placement.requests) == begun
    for _ in range(20):  # A minute or more: pauses double up to retry_max.
        bench.seconds += 10
        bench.make_due()
        bench.run(sync)
    assert 3 <= len(bench.placement.requests) - begun <= 12
    bench.placement.faults = normal
    bench.seconds += SETTINGS.retry_max
    for _ in range(6):
        bench.make_due()
        bench.run(sync)
    assert {stored.name for stored in bench.placement.providers.values()} == set(nodes)
    assert {code for kind, code in bench.told() if kind.endswith(".error")} == {"placement_unavailable"}
    kinds = [kind for kind, _ in bench.told()]
    assert kinds.count("compute_node.sync.error") == kinds.count("compute_node.sync.end")


def test_an_outage_is_logged_by_its_code_and_again_when_that_changes(
    bench: SyncBench, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator who takes a wrong password for an outage waits for its end."""
    sync = bench.new_sync()
    track(bench, *(f"node-{number}" for number in range(20)))
    normal = bench.placement.faults
    caplog.set_level("INFO", "tracker_worker.worker")
    failures = (
        PlacementUnavailable("503"),
        PlacementUnauthorized("401"),
        WrongEndpoint("404"),
        PlacementUnavailable("503"),
    )
    for error in failures:
        bench.placement.faults = Away(error)
        for _ in range(3):
            bench.seconds += SETTINGS.retry_max
            bench.make_due()
            bench.run(sync)
    bench.placement.faults = normal
    bench.seconds += SETTINGS.retry_max
    bench.make_due()
    bench.run(sync)
    logged = [(each.levelname, each.getMessage()) for each in caplog.records]
    outages = [each for each in logged if "Placement cannot be used" in each[1]]
    assert [level for level, _ in outages] == ["WARNING", "ERROR", "ERROR", "WARNING"]
    assert [error.code in text for error, (_, text) in zip(failures, outages, strict=True)] == [True] * 4
    assert ("INFO", "Placement answers again") in logged


def test_a_node_that_cannot_be_described_does_not_keep_others_waiting(bench: SyncBench) -> None:
    sync = bench.new_sync()
    track(bench, "node-1", "node-2")
    bench.lane.send(report("node-3", inventories={"bad": {}}))
    bench.run(sync)
    assert {stored.name for stored in bench.placement.providers.values()} == {"node-1", "node-2"}
    assert bench.state("node-3").error_code == "desired_state_invalid"


def test_requests_are_counted_by_outcome(bench: SyncBench) -> None:
    sync = bench.new_sync()
    for observation in (("ok", 0.1), ("conflict", 0.2), ("ok", 0.3)):
        bench.observed.put(observation)
    sync.run_once()
    assert bench.stats.requests == {"ok": 2, "conflict": 1}
    assert sum(bench.stats.seconds.counts) == 3


def reinstalled(vcpus: int = 8) -> AnyCommand:
    return a_report(resources=some_resources(uuid=OTHER_UUID, vcpus=vcpus))


def test_a_reinstalled_node_is_synced_once_the_provider_of_its_former_uuid_may_go(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    bench.placement.allocate("server", {NODE_UUID: {"VCPU": 1}})
    bench.lane.send(command("remove_node", host=HOST))
    bench.run(sync)
    assert bench.state().error_code == "provider_in_use"
    bench.lane.send(reinstalled())
    bench.run(sync)
    assert bench.state().error_code == "duplicate_provider"
    bench.placement.allocate("server", {})
    for _ in range(3):
        bench.make_due()
        bench.run(sync)
    assert {uuid: each.name for uuid, each in bench.placement.providers.items()} == {OTHER_UUID: NODE}
    assert bench.state().error_code is None


def test_a_provider_that_another_node_has_now_is_left_to_it(bench: SyncBench) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    bench.placement.allocate("server", {NODE_UUID: {"VCPU": 1}})
    bench.lane.send(command("remove_node", host=HOST))
    bench.run(sync)
    bench.lane.send(a_report(node="renamed", resources=some_resources(uuid=NODE_UUID)))
    bench.run(sync)
    assert bench.placement.providers[NODE_UUID].inventories["VCPU"].reserved == 0
    bench.make_due()
    bench.run(sync)
    stored = bench.placement.providers[NODE_UUID]
    assert (stored.name, stored.inventories["VCPU"].reserved) == ("renamed", 0)
    with bench.engine.connect() as connection:
        assert [each.node for each in providers.states(connection)] == ["renamed"]
    assert bench.told()[-1] == ("compute_node.sync.end", "provider_in_use")


def test_nodes_that_swap_their_names_get_them_in_placement(bench: SyncBench) -> None:
    sync = bench.new_sync()
    uuids = {NODE: NODE_UUID, "another": OTHER_UUID}
    for node, uuid in uuids.items():
        bench.lane.send(a_report(node=node, resources=some_resources(uuid=uuid)))
    bench.run(sync)
    for uuid in uuids.values():
        bench.placement.allocate(f"server-{uuid}", {uuid: {"VCPU": 1}})
    for node in uuids:
        bench.lane.send(command("remove_node", node=node, host=HOST, force=True))
    bench.run(sync)
    for node, uuid in zip(uuids, reversed(uuids.values()), strict=True):
        bench.lane.send(a_report(node=node, resources=some_resources(uuid=uuid)))
    for _ in range(4):
        bench.run(sync)
        bench.make_due()
    assert {uuid: each.name for uuid, each in bench.placement.providers.items()} == {
        NODE_UUID: "another",
        OTHER_UUID: NODE,
    }
    assert [bench.state(node).error_code for node in uuids] == [None, None]
    assert {each.inventories["VCPU"].reserved for each in bench.placement.providers.values()} == {0}


def test_what_ends_after_the_lease_was_lost_is_not_recorded(bench: SyncBench) -> None:
    bench.lane.send(report())
    late = Late()
    slow, another = bench.new_sync("slow", executor=late), bench.new_sync("another")
    slow.run_once()
    bench.lane.send(report(vcpus=12, traits=["HW_CPU_X86_AVX"]))
    bench.seconds += SETTINGS.lease_seconds
    with bench.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM leases"))
    bench.run(another)
    row = bench.row()
    late.run()
    slow.run_once()
    assert bench.row() == row
    assert late.results


FAILURES = {
    "a missing table": ("ALTER TABLE leases RENAME TO hidden", "ALTER TABLE hidden RENAME TO leases"),
    "a row that is not JSON": ("UPDATE providers SET known = '{'", "UPDATE providers SET known = NULL"),
    "a time that is none": (
        "UPDATE providers SET changed_at = 'yesterday'",
        "UPDATE providers SET changed_at = NULL",
    ),
    "a report that is not JSON": ("UPDATE nodes SET resources = '{'", "UPDATE nodes SET resources = NULL"),
}


@pytest.mark.parametrize(("trouble", "cure"), FAILURES.values(), ids=FAILURES)
def test_the_loop_outlives_a_database_that_fails_and_says_so_once(
    bench: SyncBench, caplog: pytest.LogCaptureFixture, trouble: str, cure: str
) -> None:
    sync = bench.new_sync()
    bench.lane.send(report())
    bench.run(sync)
    bench.make_due()
    with bench.engine.begin() as connection:
        connection.execute(sa.text(trouble))
    bench.seconds += SETTINGS.lease_seconds
    caplog.set_level("INFO", "tracker_worker.worker")
    for _ in range(5):
        sync._step(woken=False)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    with bench.engine.begin() as connection:
        connection.execute(sa.text(cure))
    for _ in range(2):
        sync._step(woken=False)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
