# SPDX-License-Identifier: Apache-2.0
"""The relay on a real database: order, repetitions, the lease. The bus is the test's."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import msgspec
import pytest
import sqlalchemy as sa
from oslo_db.exception import DBConnectionError
from oslo_messaging.exceptions import MessageDeliveryFailure

from tests.builders import NODE, a_flavor, an_instance, command
from tests.functional.lanes import NOW, OTHER_NODE, LaneBench, data_of
from tests.functional.statements import Fault, connection_lost, disk_full, out_of_range, watched
from tests.functional.test_lane_failover import database_of
from tracker_worker.bus.publisher import EncodedNotification, NotificationRefused, Publisher
from tracker_worker.core.stats import Stats
from tracker_worker.db import outbox
from tracker_worker.db.tables import OUTBOX
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.worker.relay import WINDOW_BYTES, NotConfirmed, Relay
from tracker_worker.worker.settings import RelaySettings

T = TypeVar("T")

SECONDS = 20


def boot(uuid: str) -> AnyCommand:
    return command("instance_claim", instance=an_instance(uuid, a_flavor(1)))


def until(holds: Callable[[], object], value: T) -> T:
    """Return a value once a condition holds: other processes' clocks are waited for."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


class Bus:
    """Takes notifications; fails or refuses where it is told to, after having taken some of a window.

    Those of the ids `unfit` it refuses for ever, with all that it is sent together with them.
    """

    def __init__(
        self, fail_after: int | None = None, refuse_after: int | None = None, unfit: Iterable[str] = ()
    ) -> None:
        self.taken: list[dict[str, Any]] = []
        self.unfit = set(unfit)
        self.fail_after = fail_after
        self.refuse_after = refuse_after
        self.some = threading.Event()

    def publish(self, notifications: Sequence[Any]) -> int:
        if any(n.message_id in self.unfit and n.event_type == "compute_node.usage" for n in notifications):
            raise NotificationRefused("unfit")
        for count, notification in enumerate(notifications):
            if self.refuse_after == len(self.taken):
                self.refuse_after = None
                return count
            if self.fail_after == 0:
                self.fail_after = None
                raise MessageDeliveryFailure("the channel closed")
            if self.fail_after:
                self.fail_after -= 1
            self.taken.append(msgspec.json.decode(notification.body))
            self.some.set()
        return len(notifications)

    def keep_alive(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    @property
    def ids(self) -> list[str]:
        return [message["message_id"] for message in self.taken]


def relay(
    bench: LaneBench, bus: Publisher, owner: str = "one", *, stats: Stats | None = None, **settings: Any
) -> Relay:
    bounds, counters = RelaySettings(**settings), stats or Stats()
    return Relay(bench.engine, bus, bounds, owner, lambda: NOW, time.monotonic, lambda: None, counters)


def filled(bench: LaneBench, count: int = 10) -> list[str]:
    bench.track()
    for number in range(count):
        bench.send(boot(f"i-{number}"))
    return [message["message_id"] for message in bench.notifications()]


def publish_all(a_relay: Relay) -> None:
    while a_relay.publish_window():
        pass
    a_relay.remove_published()


def test_the_relay_publishes_in_the_order_of_ids_and_removes(bench: LaneBench) -> None:
    ids, bus = filled(bench), Bus()
    publish_all(relay(bench, bus, window=3))
    assert bus.ids == ids
    assert bench.rows(OUTBOX) == []


def test_window_of_which_half_is_published_is_removed_by_the_transaction_of_the_next_look(
    bench: LaneBench,
) -> None:
    filled(bench, 4)
    one = relay(bench, Bus(), window=8)
    assert one.publish_window()
    with watched(bench.engine) as seen:
        assert not one.publish_window()
    assert [statement.sql.split()[0] for statement in seen] == ["DELETE", "SELECT"]
    assert bench.rows(OUTBOX) == []


def test_removal_is_undone_if_the_look_behind_it_fails(bench: LaneBench) -> None:
    ids, bus = filled(bench, 4), Bus()
    one = relay(bench, bus, window=8)
    assert one.publish_window()
    with Fault(bench.engine, "SELECT outbox", disk_full), pytest.raises(sa.exc.OperationalError):
        one.publish_window()
    assert len(bench.rows(OUTBOX)) == len(ids)
    publish_all(one)
    assert bus.ids == ids + ids


def test_less_than_half_a_window_is_kept_for_a_later_removal(bench: LaneBench) -> None:
    ids = filled(bench, 3)
    one = relay(bench, Bus(), window=3 * len(ids))
    assert one.publish_window()
    assert not one.publish_window()
    assert len(bench.rows(OUTBOX)) == len(ids)


def test_a_relay_publishes_only_what_is_new(bench: LaneBench) -> None:
    ids, bus = filled(bench), Bus()
    one = relay(bench, bus, window=100)
    assert one.publish_window()
    assert not one.publish_window()
    bench.send(boot("i-99"))
    assert one.publish_window()
    assert bus.ids[:-1] == ids
    assert len(bus.ids) == len(ids) + 1


@pytest.mark.parametrize("taken", [0, 1, 5, 11])
def test_what_is_published_again_keeps_its_id_and_its_body(bench: LaneBench, taken: int) -> None:
    """The channel closes in the middle of a window; what was taken may come again, under the same id."""
    ids, bus = filled(bench), Bus(fail_after=taken)
    with pytest.raises(MessageDeliveryFailure):
        publish_all(relay(bench, bus, window=100))
    assert len(bench.rows(OUTBOX)) == len(ids)
    publish_all(relay(bench, bus, window=100))
    assert bus.ids == ids[:taken] + ids
    assert bus.taken[:taken] == bus.taken[taken : 2 * taken]
    assert bench.rows(OUTBOX) == []


def test_a_crash_between_publish_and_remove_repeats_at_most_a_window(bench: LaneBench) -> None:
    ids, bus = filled(bench), Bus()
    one = relay(bench, bus, window=4)
    with Fault(bench.engine, "DELETE FROM outbox", disk_full), pytest.raises(sa.exc.OperationalError):
        publish_all(one)
    publish_all(relay(bench, bus, window=4))
    assert bus.ids == ids[:4] + ids


def test_two_rows_of_one_message_id_are_both_removed(bench: LaneBench) -> None:
    """A commit whose answer was lost is repeated with the same message ids."""
    ids, bus = filled(bench, 3), Bus()
    with bench.engine.begin() as connection:
        outbox.add(connection, outbox.window(connection, (), 1, 10_000))
    one = relay(bench, bus, window=100)
    assert one.publish_window()
    one.remove_published()
    assert bench.rows(OUTBOX) == []
    assert bus.ids == [*ids, ids[0]]


def test_a_removal_that_failed_is_made_good_and_repeats_at_most_a_window(bench: LaneBench) -> None:
    ids, bus = filled(bench), Bus()
    one = relay(bench, bus, window=100)
    one.publish_window()
    with Fault(bench.engine, "DELETE FROM outbox", disk_full), pytest.raises(sa.exc.OperationalError):
        one.remove_published()
    publish_all(one)
    assert bus.ids == ids + ids
    assert bench.rows(OUTBOX) == []


@contextmanager
def failover(engine: sa.Engine) -> Iterator[None]:
    """Commits made inside the block are lost at its end: the database is a standby's from then on."""
    with (
        closing(sqlite3.connect(database_of(engine))) as primary,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        primary.backup(copy)
        yield
        copy.backup(primary)


@pytest.mark.parametrize("statement", ["SELECT outbox", "DELETE FROM outbox", None])
def test_notification_under_a_row_id_reused_after_a_failover_is_published(
    a_bench: Callable[..., LaneBench], statement: str | None
) -> None:
    """None: a pooler has moved the connection to the other server, and the relay sees no error."""
    before, after = a_bench(), a_bench()
    ids, bus = filled(before), Bus()
    one = relay(before, bus, window=100)
    publish_all(one)
    with failover(before.engine):
        before.send(boot("lost-1"))
        before.send(boot("lost-2"))
        assert one.publish_window()
    for number in range(3):
        after.send(boot(f"kept-{number}"))
    kept = [message["message_id"] for message in after.notifications()]
    if statement is not None:
        with Fault(after.engine, statement, connection_lost, times=1), pytest.raises(DBConnectionError):
            publish_all(one)
    publish_all(one)
    assert bus.ids[: len(ids)] == ids
    assert list(dict.fromkeys(bus.ids[len(ids) + 2 :])) == kept
    assert after.rows(OUTBOX) == []


def test_removed_notification_that_a_failover_brings_back_is_published_again_and_removed(
    bench: LaneBench,
) -> None:
    ids, bus = filled(bench), Bus()
    one = relay(bench, bus, window=100)
    with failover(bench.engine):
        publish_all(one)
    publish_all(one)
    assert bus.ids == ids + ids
    assert bench.rows(OUTBOX) == []


def test_a_row_that_commits_late_under_a_lower_id_is_published_all_the_same(bench: LaneBench) -> None:
    """Two workers on PostgreSQL take ids in one order and may commit in the other."""
    bench.track(NODE, OTHER_NODE)
    late, *_ = bench.rows(OUTBOX)
    with bench.engine.begin() as connection:
        connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id == late["id"]))
    bus = Bus()
    one = relay(bench, bus, window=100)
    publish_all(one)
    with bench.engine.begin() as connection:
        connection.execute(sa.insert(OUTBOX), late)
    publish_all(one)
    assert late["message_id"] in bus.ids
    assert len(bus.ids) == len(set(bus.ids)) == 4
    assert bench.rows(OUTBOX) == []


def test_the_relay_thread_outlives_a_bus_that_fails(bench: LaneBench) -> None:
    ids, bus = filled(bench), Bus(fail_after=3)
    one = relay(bench, bus, window=100, retry_max=0.01)
    one.start()
    assert one.drain(SECONDS)
    assert bus.ids == ids[:3] + ids
    assert bench.rows(OUTBOX) == []


def test_the_relay_thread_publishes_when_it_is_called(bench: LaneBench) -> None:
    bus = Bus()
    one = relay(bench, bus, poll_interval=3600.0)
    one.start()
    filled(bench, 1)
    one.notify()
    assert bus.some.wait(SECONDS)
    assert one.drain(SECONDS)


def test_a_relay_that_cannot_drain_in_time_says_so(bench: LaneBench) -> None:
    filled(bench)

    class Deaf(Bus):
        def publish(self, notifications: Sequence[EncodedNotification]) -> int:
            raise OSError("no route")

    one = relay(bench, Deaf())
    one.start()
    assert not one.drain(0.05)
    assert one.loop.join(SECONDS), "its thread goes on, with a connection that the test closes"
    assert not one.drain(SECONDS), "it has ended, and published nothing"


def test_relay_that_has_nothing_to_publish_drains_without_the_database(bench: LaneBench) -> None:
    """Found by an operator: a stop while the database was away told of notifications, and none waited."""
    filled(bench)
    one = relay(bench, Bus())
    publish_all(one)
    with Fault(bench.engine, "", disk_full):
        one.start()
        assert one.drain(0.05)
        assert one.loop.join(SECONDS)


def test_relay_that_was_woken_since_it_looked_does_not_drain_without_the_database(bench: LaneBench) -> None:
    one = relay(bench, Bus())
    publish_all(one)
    filled(bench, 1)
    with Fault(bench.engine, "", disk_full):
        one.start()
        one.notify()
        assert not one.drain(0.05)
        assert one.loop.join(SECONDS)


class LookBetween(threading.Event):
    """Has the relay look at the outbox just before the first caller learns whether it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self.look: Callable[[], object] | None = None

    def is_set(self) -> bool:
        look, self.look = self.look, None
        if look is not None:
            look()
        return super().is_set()


def test_relay_that_looks_again_while_drain_ends_does_not_hide_what_it_found(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that is abandoned in a pause makes a last attempt, which takes note of the commit."""
    one = relay(bench, Bus(refuse_after=0))
    publish_all(one)
    filled(bench, 1)
    committed = LookBetween()
    monkeypatch.setattr(one, "_committed", committed)

    def look() -> None:
        with pytest.raises(NotConfirmed):
            one.publish_window()

    one._abandoned.set()
    one.start()
    one.loop.stop()
    assert one.loop.join(SECONDS)
    committed.look = look
    assert not one.drain(SECONDS)


def test_database_error_about_data_does_not_end_the_relay(bench: LaneBench) -> None:
    """Whatever the database says of a row, the process would only meet that row again."""
    ids, bus = filled(bench), Bus()
    one = relay(bench, bus)
    with Fault(bench.engine, "SELECT outbox", out_of_range, times=2) as fault:
        one.start()
        assert one.drain(SECONDS)
    assert fault.hits == 2
    assert bus.ids == ids


def test_what_a_bus_refuses_is_published_again_from_there_on(bench: LaneBench) -> None:
    ids, bus = filled(bench), Bus(refuse_after=4)
    one = relay(bench, bus, window=100)
    with pytest.raises(NotConfirmed):
        one.publish_window()
    publish_all(one)
    assert bus.ids == ids
    assert bench.rows(OUTBOX) == []


@pytest.mark.parametrize("unfit", [[1], [10], [1, 2, 5, 10]])
def test_row_that_the_bus_refuses_is_replaced_and_the_others_go_on_in_order(
    bench: LaneBench, caplog: pytest.LogCaptureFixture, unfit: list[int]
) -> None:
    ids = filled(bench)
    bus = Bus(unfit=[ids[number] for number in unfit])
    stats = Stats()
    publish_all(relay(bench, bus, window=4, stats=stats))
    assert bus.ids == ids
    replaced = [message for message in bus.taken if message["event_type"] == "compute_node.event.error"]
    assert [message["message_id"] for message in replaced] == [ids[number] for number in unfit]
    assert {data_of(message)["code"] for message in replaced} == {"notification_refused"}
    assert stats.refused_notifications == len(unfit)
    assert caplog.text.count("is sent in its place: unfit") == len(unfit)
    assert bench.rows(OUTBOX) == []


def test_replaced_row_is_not_replaced_again_after_a_crash(bench: LaneBench) -> None:
    ids = filled(bench, 2)
    bus = Bus(unfit=ids[1:2])
    one, another = Stats(), Stats()
    bus.fail_after = 1
    with pytest.raises(MessageDeliveryFailure):
        publish_all(relay(bench, bus, stats=one))
    publish_all(relay(bench, bus, stats=another))
    assert list(dict.fromkeys(bus.ids)) == ids
    assert (one.refused_notifications, another.refused_notifications) == (1, 0)


def test_refused_row_that_a_failover_brings_back_is_replaced_again(bench: LaneBench) -> None:
    ids = filled(bench, 2)
    bus = Bus(unfit=ids[1:2])
    one = relay(bench, bus)
    with failover(bench.engine):
        assert one.publish_window()
    bus.taken.clear()
    with (
        Fault(bench.engine, "DELETE FROM outbox", connection_lost, times=1),
        pytest.raises(DBConnectionError),
    ):
        one.remove_published()
    publish_all(one)
    assert bus.ids == ids
    assert bench.rows(OUTBOX) == []


def test_window_is_bounded_by_bytes(bench: LaneBench, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, bus = filled(bench, 3), Bus()
    with bench.engine.begin() as connection:
        connection.execute(sa.update(OUTBOX).values(body=b"{" + b" " * (WINDOW_BYTES // 2 - 40) + b"}"))
    one = relay(bench, bus)
    counts: list[int] = []

    def publish(notifications: Sequence[Any]) -> int:
        counts.append(len(notifications))
        return len(notifications)

    monkeypatch.setattr(bus, "publish", publish)
    publish_all(one)
    assert counts == [2] * (len(ids) // 2) + [1] * (len(ids) % 2)


def test_one_relay_at_a_time_publishes(bench: LaneBench) -> None:
    ids, bus, others = filled(bench), Bus(), Bus()
    one = relay(bench, bus, window=3)
    assert one.publish_window()
    assert not relay(bench, others, "another").publish_window()
    publish_all(one)
    assert (bus.ids, others.ids) == (ids, [])


def test_a_relay_whose_lease_ran_out_is_replaced_and_repeats_at_most_what_it_had_not_removed(
    bench: LaneBench,
) -> None:
    ids, bus = filled(bench), Bus()
    gone = relay(bench, bus, "gone", window=4, lease_seconds=0.01)
    gone.publish_window()
    another = relay(bench, bus, "another")
    publish_all(until(another.publish_window, another))
    assert bus.ids == ids[:4] + ids
    gone.remove_published()
    assert bench.rows(OUTBOX) == []


def test_a_relay_that_ends_gives_its_turn_to_the_next(bench: LaneBench) -> None:
    filled(bench)
    first, second = Bus(), Bus()
    one = relay(bench, first, "one")
    one.start()
    assert one.drain(SECONDS)
    bench.send(boot("i-99"))
    assert relay(bench, second, "another").publish_window()
    assert first.closed
