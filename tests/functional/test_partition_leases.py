# SPDX-License-Identifier: Apache-2.0
"""Who gets a partition's messages holds its lease; that of an idle one runs out, and is free for a while."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import pytest
import sqlalchemy as sa
from oslo_db.exception import DBConnectionError, DBDeadlock

from tracker_worker.db.connection import LazyConnection
from tracker_worker.db.tables import LEASES
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.partition_leases import LeaseOwner, PartitionLeases

SECONDS = 16.0
PARTITIONS = 2
NODES = [next(f"n{n}" for n in range(9) if partition_of(f"n{n}", PARTITIONS) == p) for p in range(PARTITIONS)]


class Member:
    """One of the workers that share a database: which partitions' messages it gets, and its leases."""

    def __init__(self, name: str, engine: sa.Engine, clock: Callable[[], float]) -> None:
        self.active: set[int] = set()
        self.in_flight: set[str] = set()
        self.database = LazyConnection(engine)
        self.asked = 0
        owner = LeaseOwner(name, PARTITIONS, lambda: self.active)
        self.leases = PartitionLeases(owner, SECONDS, self._transaction, clock)

    def _transaction(self) -> AbstractContextManager[sa.Connection]:
        self.asked += 1
        return self.database.transaction()

    def step(self) -> None:
        self.leases.renew(self.in_flight)

    @property
    def held(self) -> list[int]:
        """The partitions that it syncs."""
        return [partition for partition, node in enumerate(NODES) if self.leases.holds(node)]


class Time:
    """Workers on one database, whose clock goes with theirs."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.seconds = 1000.0
        self.members: list[Member] = []

    def worker(self, name: str, *active: int) -> Member:
        made = Member(name, self.engine, lambda: self.seconds)
        made.active.update(active)
        self.members.append(made)
        made.step()
        return made

    def passes(self, seconds: float, *members: Member) -> None:
        """Let time pass for the database too; each worker comes to its step once a second."""
        for _ in range(int(seconds)):
            self.seconds += 1.0
            with self.engine.begin() as connection:
                connection.execute(sa.update(LEASES).values(until=LEASES.c.until - 1.0))
            for member in members:
                member.step()


@pytest.fixture
def time(engine: sa.Engine) -> Iterator[Time]:
    made = Time(engine)
    yield made
    for member in made.members:
        member.database.close()


def test_a_worker_without_messages_begins_at_once_where_nobody_else_does(time: Time) -> None:
    assert time.worker("one").held == [0, 1]


def test_the_lease_of_an_active_partition_is_renewed_before_it_runs_out(time: Time) -> None:
    one = time.worker("one", 0, 1)
    another = time.worker("another")
    for _ in range(5):
        time.passes(SECONDS, one, another)
        assert (one.held, another.held) == ([0, 1], [])
        assert all(one.leases.may_begin(node) for node in NODES)


def test_a_lease_is_asked_for_no_more_often_than_it_has_to_be(time: Time) -> None:
    one = time.worker("one", 0, 1)
    another = time.worker("another", 0)
    time.passes(SECONDS * 4, one, another)
    idle = 1 + 4 * 4
    assert (one.asked, another.asked) == (1 + 4 * 2, 1 + 4 * 8 + idle)


def test_the_worker_that_gets_the_messages_takes_over_from_one_that_does_not(time: Time) -> None:
    first = time.worker("first", 0)
    second = time.worker("second", 1)
    assert (first.held, second.held) == ([0, 1], [])
    time.passes(SECONDS * 1.25, first, second)
    assert (first.held, second.held) == ([0], [1])
    time.passes(SECONDS * 5, first, second)
    assert (first.held, second.held) == ([0], [1])


def test_the_worker_whose_messages_go_elsewhere_loses_the_lease_without_an_overlap(time: Time) -> None:
    first, second = time.worker("first", 0, 1), time.worker("second")
    time.passes(SECONDS, first, second)
    first.active.remove(1)
    second.active.add(1)
    for _ in range(int(SECONDS * 1.25)):
        time.passes(1, first, second)
        assert not set(first.held) & set(second.held)
    assert (first.held, second.held) == ([0], [1])


def test_a_partition_whose_worker_is_killed_is_taken_over_by_an_idle_one(time: Time) -> None:
    time.worker("killed", 0, 1)
    left = time.worker("left")
    time.passes(SECONDS * 1.5, left)
    assert left.held == [0, 1]


def test_an_idle_partition_is_synced_most_of_the_time(time: Time) -> None:
    one, another = time.worker("one"), time.worker("another")
    held = begun = 0
    for _ in range(200):
        time.passes(1, one, another)
        assert not (one.held and another.held)
        held += bool(one.held or another.held)
        begun += any(each.leases.may_begin(NODES[0]) for each in (one, another))
    assert held >= 150
    assert begun >= 110


def test_the_lease_of_an_idle_partition_is_kept_while_requests_are_in_flight(time: Time) -> None:
    """They may take longer than a lease. Their end would come too late, each time, and beside another's."""
    idle, active = time.worker("idle"), time.worker("active", 0)
    idle.in_flight.add(NODES[0])
    for _ in range(int(SECONDS) * 4):
        time.passes(1, idle, active)
        assert (0 in idle.held, 0 in active.held) == (True, False)
    assert not idle.leases.may_begin(NODES[0])
    idle.in_flight.clear()
    for _ in range(int(SECONDS * 1.25)):
        time.passes(1, idle, active)
        assert not (0 in idle.held and 0 in active.held)
    assert 0 in active.held


def test_a_worker_begins_nodes_again_once_it_gets_the_messages(time: Time) -> None:
    one = time.worker("one")
    one.in_flight.add(NODES[0])
    time.passes(SECONDS, one)
    assert (one.leases.holds(NODES[0]), one.leases.may_begin(NODES[0])) == (True, False)
    one.active.add(0)
    time.passes(1, one)
    assert one.leases.may_begin(NODES[0])


def test_a_worker_that_ends_keeps_the_leases_of_requests_in_flight_until_they_run_out(time: Time) -> None:
    one, another = time.worker("one", 0, 1), time.worker("another", 0, 1)
    one.in_flight.add(NODES[0])
    one.leases.release(one.in_flight)
    time.passes(SECONDS / 2, another)
    assert another.held == [1]
    time.passes(SECONDS, another)
    assert another.held == [0, 1]


def test_many_workers_that_stand_by_hold_up_the_owner_no_longer_than_one(time: Time) -> None:
    """One of them or another asks at any moment, but takes no lease that has only just run out."""
    idle = []
    for number in range(int(SECONDS / 2)):
        idle.append(time.worker(f"idle-{number}"))
        time.passes(1, *idle)
    time.passes(1, *idle)  # The owner does not ask in the second in which the lease runs out.
    holder = next(each for each in idle if each.held)
    owner = time.worker("owner", 0, 1)
    time.passes(SECONDS * 1.25, *idle, owner)
    assert (owner.held, holder.held) == ([0, 1], [])


def test_a_worker_that_ends_gives_its_leases_to_the_next(time: Time) -> None:
    one, another = time.worker("one", 0, 1), time.worker("another")
    one.leases.release(one.in_flight)
    assert (one.held, one.leases.any_held) == ([], False)
    time.passes(SECONDS / 2, another)
    assert another.held == [0, 1]


def test_a_lease_that_was_not_committed_is_not_held(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    one = time.worker("one", 0, 1)
    time.passes(SECONDS / 2 - 1, one)

    @contextmanager
    def lost() -> Iterator[sa.Connection]:
        with one.database.transaction() as connection:
            yield connection
            raise DBConnectionError

    monkeypatch.setattr(one.leases, "_transaction", lost)
    for _ in range(int(SECONDS / 2) + 1):
        with suppress(DBConnectionError):
            time.passes(1, one)
    assert one.held == []


def test_two_workers_that_lock_the_same_leases_in_different_orders_are_no_failure(
    time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL locks rows in the order in which it finds them: one of the two is rolled back."""
    one = time.worker("one", 0, 1)
    time.passes(SECONDS - 1, one)

    @contextmanager
    def deadlocked() -> Iterator[sa.Connection]:
        with one.database.transaction() as connection:
            yield connection
            raise DBDeadlock

    with monkeypatch.context() as patch:
        patch.setattr(one.leases, "_transaction", deadlocked)
        time.passes(2, one)
    assert one.held == [0, 1]
    time.passes(SECONDS, one)
    assert one.held == [0, 1]


def test_two_workers_that_make_the_same_leases_at_once_are_no_failure(time: Time) -> None:
    trigger = "CREATE TRIGGER twice BEFORE INSERT ON leases"
    twice = f"{trigger} BEGIN INSERT INTO leases VALUES (NEW.name, 'another', 0); END"
    with time.engine.begin() as connection:
        connection.execute(sa.text(twice))
    one = time.worker("one", 0, 1)
    assert one.held == []
    with time.engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER twice"))
    one.step()
    assert one.held == [0, 1]
