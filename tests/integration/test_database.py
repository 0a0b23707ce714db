# SPDX-License-Identifier: Apache-2.0
"""All databases keep what they are given, exactly, and refuse the same: one suite for the three of them."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from msgspec.structs import replace
from oslo_db.exception import DBDuplicateEntry, DBError

from tests.builders import NODE, a_flavor, a_report, an_instance, command, some_resources
from tests.functional.conftest import a_bench, bench  # noqa: F401
from tests.functional.lanes import LaneBench, rows
from tests.functional.statements import watched
from tests.servers.mariadb import MariaDB
from tracker_worker.core.quarantine import Attempts
from tracker_worker.core.records import (
    NO_ROW,
    DeadLetter,
    NodeChange,
    OutboxRow,
    Receipt,
    Transaction,
    token_of,
)
from tracker_worker.db import attempts, dead_letter_queries, leases, outbox, receipts, retention, store
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.connection import LazyConnection
from tracker_worker.db.engine import create_engine, sync_schema
from tracker_worker.db.errors import DATABASE_ERRORS, is_data_error
from tracker_worker.db.leases import RELAY
from tracker_worker.db.store import StaleNode
from tracker_worker.db.tables import ATTEMPTS, DEAD_LETTERS, METADATA, NODES, RECEIPTS
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Origin, Resources
from tracker_worker.worker.relay import WINDOW_BYTES

ANY_TEXT = "\0 \x01 \\u0000 \" ' \\ % %(x)s :x \n \t ü 漢 🙂 \u2028 \x7f"
SECONDS = 20


URLS = {"sqlite": "sqlite_url", "postgresql": "database_url", "mariadb": "mariadb_url"}


@pytest.fixture(params=URLS)
def engine(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """An engine on a database of the test's own, of each kind."""
    made = create_engine(request.getfixturevalue(URLS[request.param]))
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection in a transaction, which is not committed."""
    with engine.connect() as made:
        yield made


@pytest.fixture
def a_unit_of_work(engine: sa.Engine) -> Iterator[Callable[[], UnitOfWork]]:
    """Makes the ways to the database of as many workers."""
    made: list[UnitOfWork] = []

    def make() -> UnitOfWork:
        made.append(UnitOfWork(engine))
        return made[-1]

    yield make
    for one in made:
        one.close()


def a_receipt(event_id: str = "event-a", **more: Any) -> Receipt:
    given: dict[str, Any] = {
        "digest": "d" * 64,
        "node": NODE,
        "sequence": 1,
        "method": "build_failed",
        "outcome": "applied",
    }
    return Receipt(event_id, **(given | {"reply": {}} | more))


def notification(number: int, body: bytes = b"{}") -> OutboxRow:
    return OutboxRow(NODE, "compute_node.usage", "INFO", f"message-{number}", body)


def work(**parts: Any) -> Transaction:
    empty: dict[str, Any] = {
        "nodes": [],
        "receipts": [],
        "dead_letters": [],
        "notifications": [],
        "finished_attempts": [],
    }
    return Transaction(**(empty | {"unchanged": {}} | parts))


def track(engine: sa.Engine, *names: str) -> None:
    """Rows of nodes at sequence 1."""
    new = [NodeChange(Node(name), replace(Node(name), sequence=1), set(), set()) for name in names]
    with engine.begin() as connection:
        store.swap(connection, new)


def bump(node: Node) -> NodeChange:
    return NodeChange(node, replace(node, sequence=node.sequence + 1), set(), set())


# What is kept.


RESOURCES = {
    "uuid": "uuid-1",
    "host": "host",
    "hypervisor_type": "hôst",
    "vcpus": 2**31 - 1,
    "memory_mb": 1,
    "local_gb": 1,
    "disk_available_least": -(2**53),
    "vcpus_used": 0.1,
    "memory_mb_used": 2**53,
    "local_gb_used": 1e-300,
    "cpu_allocation_ratio": 0.1,
    "ram_allocation_ratio": 1_000_000.0,
    "cpu_info": ANY_TEXT,
    "stats": {"text": ANY_TEXT, "no": None, "yes": True, "half": 0.5, "huge": 10**40, "low": -(2**63)},
    "inventories": {"VCPU": {"total": 2**53 + 1, "allocation_ratio": 1.1, "max_unit": None}},
}


@pytest.mark.parametrize("more", [False, True], ids=["alone", "in a batch"])
def test_a_node_comes_back_as_it_was(bench: LaneBench, more: bool) -> None:  # noqa: F811
    resources = msgspec.convert(RESOURCES, Resources)
    reports = [bench.deliver(a_report(resources=resources))]
    if more:
        reports.append(bench.deliver(a_report(node="other", resources=replace(resources, uuid="uuid-2"))))
    bench.run()
    assert {report.outcome for report in reports} == {"applied"}
    for node in (NODE, "other")[: 1 + more]:
        instance = an_instance("ü-1", a_flavor(3, 2**31 - 1, 2**31 - 1))
        bench.deliver(command("instance_claim", node=node, instance=instance))
    bench.run()
    kept = bench.lane.nodes.get([NODE])[NODE]
    assert bench.unit_of_work.load([NODE]) == {NODE: kept}
    assert kept.resources == resources
    assert (kept.ratios.cpu, kept.ratios.ram) == (0.1, 1_000_000.0)
    assert bench.send(command("get_node")).answer["stats"]["text"] == ANY_TEXT


@pytest.mark.parametrize("instances", [("i-1",), ("i-1", "i-2", "i-3")], ids=["alone", "in a batch"])
def test_last_origins_of_instances_that_are_touched_again_are_updated_by_one_statement(
    bench: LaneBench,  # noqa: F811
    instances: tuple[str, ...],
) -> None:
    bench.track()
    for number, uuid in enumerate(("i-1", "i-2", "i-3")):
        origin = Origin("client", number + 1)
        bench.deliver(command("instance_claim", instance=an_instance(uuid), origin=origin))
    bench.run()
    for number, uuid in enumerate(instances):
        origin = Origin("other", number + 1)
        bench.deliver(command("update_usage", instance=an_instance(uuid, vm_state="active"), origin=origin))
    with watched(bench.engine) as seen:
        bench.run()
    assert len([statement for statement in seen if "touched" in statement.sql]) == 1
    kept = bench.lane.nodes.get([NODE])[NODE]
    assert [kept.last_origins[uuid].source for uuid in instances] == ["other"] * len(instances)
    assert bench.unit_of_work.load([NODE]) == {NODE: kept}


def test_a_receipt_comes_back_as_it_was(connection: sa.Connection) -> None:
    given = [
        a_receipt(
            "event-a", reply={"text": ANY_TEXT, "half": 0.1, "huge": 2**70, "none": None, "list": [[]]}
        ),
        a_receipt("ü" * 64, instance_uuid="i-1"),
        a_receipt("event'c\"", node=None, sequence=None, method=None),
        a_receipt("event-d", sequence=2**63 - 1, node="漢" * 255),
    ]
    receipts.add(connection, given)
    alone = replace(given[0], event_id="event-alone")
    receipts.add(connection, [alone])
    added = {receipt.event_id: receipt for receipt in (*given, alone)}
    assert receipts.find(connection, [*added, "none"]) == added


def test_a_notification_comes_back_byte_for_byte_and_in_order(connection: sa.Connection) -> None:
    bodies = [bytes(range(256)), b"", *(b"%d" % number for number in range(5000))]
    outbox.add(connection, [notification(number, body) for number, body in enumerate(bodies)])
    found = outbox.window(connection, [], 10_000, WINDOW_BYTES)
    assert [row.body for row in found] == bodies
    assert [replace(row, id=0) for row in found[:1]] == [notification(0, bodies[0])]
    ids = [row.id for row in found]
    assert ids == sorted(set(ids))


def test_a_window_leaves_out_what_it_is_told_to_and_begins_with_the_lowest(connection: sa.Connection) -> None:
    outbox.add(connection, [notification(number) for number in range(10)])
    rows = outbox.window(connection, [], 10, WINDOW_BYTES)
    but = [row.message_id for row in (*rows[:2], *rows[3:5])]
    assert outbox.window(connection, but, 3, WINDOW_BYTES) == [rows[2], *rows[5:7]]
    outbox.remove(connection, {row.id: row.message_id for row in rows[:9]} | {2**40: "message-lost"})
    assert outbox.window(connection, [], 10, WINDOW_BYTES) == rows[9:]


def test_window_is_bounded_by_bytes_and_its_first_notification_has_any_size(
    connection: sa.Connection,
) -> None:
    sizes = (30, 40, 31, 100, 1, 99, 1)
    outbox.add(connection, [notification(number, b"x" * size) for number, size in enumerate(sizes)])
    windows: list[list[int]] = []
    published: list[str] = []
    while rows := outbox.window(connection, published, 3, 100):
        windows.append([len(row.body) for row in rows])
        published += [row.message_id for row in rows]
    assert windows == [[30, 40], [31], [100], [1, 99], [1]]
    assert [len(row.body) for row in outbox.window(connection, [], 3, 10)] == [30]


def test_replaced_notification_keeps_its_id_and_its_message_id(connection: sa.Connection) -> None:
    outbox.add(connection, [notification(number) for number in range(3)])
    first, second, third = outbox.window(connection, [], 3, WINDOW_BYTES)
    changed = replace(second, event_type="compute_node.event.error", priority="ERROR", body=b"\0\xff")
    outbox.replace(connection, changed)
    outbox.replace(connection, replace(changed, id=third.id))
    assert outbox.window(connection, [], 3, WINDOW_BYTES) == [first, changed, third]


def test_notification_of_another_message_id_is_not_removed(connection: sa.Connection) -> None:
    """After a failover the row's id may be another notification's."""
    outbox.add(connection, [notification(number) for number in range(2)])
    rows = outbox.window(connection, [], 2, WINDOW_BYTES)
    outbox.remove(connection, {rows[0].id: "message-lost", rows[1].id: rows[1].message_id})
    assert outbox.window(connection, [], 2, WINDOW_BYTES) == rows[:1]


def test_a_dead_letter_comes_back_as_it_was(
    engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]
) -> None:
    body = msgspec.json.encode({"text": ANY_TEXT}).decode()
    letter = DeadLetter(
        id="l-1", event_id="event-a", code="out_of_range", path="$.x", message="m\nn", node="ü", method=None,
        body=body, sequence=7, position=3,
    )  # fmt: skip
    batch = [replace(letter, id=id_, event_id=id_) for id_ in ("l-2", "l-3")]
    a_unit_of_work().commit(work(dead_letters=[letter]))
    a_unit_of_work().commit(work(dead_letters=batch))
    with engine.connect() as connection:
        found = dead_letter_queries.find(connection, ["l-1", "l-2", "l-3"])
    for given in (letter, *batch):
        kept = found[given.id]
        fields = {name: getattr(kept, name) for name in DeadLetter.__struct_fields__}
        assert fields == msgspec.structs.asdict(given)
        assert kept.settled_at is None


def test_rows_are_dated_by_the_clock_of_the_database(
    engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]
) -> None:
    """Not by a worker's: whose clock is wrong would have its receipts purged too early, or others'."""
    letter = DeadLetter(
        id="l-1", event_id="event-a", code="c", path="$", message="m", node=NODE, method=None, body="{}",
        sequence=None,
    )  # fmt: skip
    unit_of_work = a_unit_of_work()
    with engine.begin() as connection:
        before = connection.scalar(sa.select(UtcNow()))
    unit_of_work.commit(work(receipts=[a_receipt(), a_receipt("event-b")], dead_letters=[letter]))
    unit_of_work.commit(work(receipts=[a_receipt("event-c")]))
    unit_of_work.record_attempts({"event-a": Attempts(1)})
    with engine.begin() as connection:
        after = connection.scalar(sa.select(UtcNow()))
    columns = ((RECEIPTS, "recorded_at"), (DEAD_LETTERS, "recorded_at"), (ATTEMPTS, "counted_at"))
    dated = [row[name] for table, name in columns for row in rows(engine, table)]
    assert len(dated) == 5
    assert all(before <= moment <= after for moment in dated)


def test_a_letter_that_does_not_know_its_nodes_sequence_gets_it(
    engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]
) -> None:
    track(engine, NODE)
    letters = [
        DeadLetter(
            id=f"l-{number}", event_id="e", code="c", path="$", message="m", node=node, method=None,
            body="{}", sequence=sequence,
        )
        for number, (node, sequence) in enumerate([(NODE, None), ("none", None), (NODE, 5), (None, None)])
    ]  # fmt: skip
    a_unit_of_work().commit(work(receipts=[a_receipt()], dead_letters=letters))
    assert [row["sequence"] for row in rows(engine, DEAD_LETTERS)] == [1, 0, 5, None]


def test_attempts_are_counted_and_forgotten(connection: sa.Connection) -> None:
    one, two = Attempts(1), Attempts(2, decoded=True)
    attempts.record(connection, {"a": one, "b": one})
    attempts.record(connection, {"b": two, "c": one})
    attempts.record(connection, {"b": one})
    assert attempts.find(connection, ["a", "b", "c", "d"]) == {"a": one, "b": two, "c": one}
    attempts.forget(connection, ["a", "b"])
    assert attempts.find(connection, ["a", "b", "c"]) == {"c": one}


@pytest.mark.parametrize(
    ("before", "left"),
    [(Attempts(1), {"a": Attempts(1), "b": Attempts(3)}), (Attempts(0), {"b": Attempts(3)})],
)
def test_attempt_that_is_taken_back_is_not_counted_unless_another_began_since(
    connection: sa.Connection, before: Attempts, left: dict[str, Attempts]
) -> None:
    attempts.record(connection, {"a": Attempts(2), "b": Attempts(3)})
    attempts.take_back(connection, ["a", "b", "absent"], Attempts(2), before)
    assert attempts.find(connection, ["a", "b", "absent"]) == left


def test_texts_compare_byte_for_byte_and_may_be_as_long_as_their_columns(connection: sa.Connection) -> None:
    ids = ["a", "A", "ä", "a ", " a", "ａ", "\u0061\u0308", "🙂" * 64, "🙂" * 63]
    receipts.add(connection, [a_receipt(one, node=one, digest=f"digest of {len(one)}") for one in ids])
    assert receipts.find(connection, ids).keys() == set(ids)
    for one in ids:
        assert receipts.find(connection, [one]).keys() == {one}
    retention.remove_receipts(connection, ["a", "🙂" * 64, "x" * 1000])
    assert receipts.find(connection, ids).keys() == set(ids) - {"a", "🙂" * 64}


def test_json_is_kept_however_deep_and_large(connection: sa.Connection) -> None:
    deep: object = "the bottom"
    for _ in range(100):
        deep = [deep]
    reply = {"deep": deep, "large": ANY_TEXT * 10_000}
    receipts.add(connection, [a_receipt(reply=reply)])
    assert receipts.find(connection, ["event-a"])["event-a"].reply == reply


def test_an_id_that_no_column_could_hold_is_nobodys(connection: sa.Connection) -> None:
    receipts.add(connection, [a_receipt("e" * 64)])
    assert receipts.find(connection, ["e" * 65, "e" * 100_000]) == {}


def test_a_list_of_ids_may_be_empty_and_numbers_large(connection: sa.Connection) -> None:
    assert receipts.find(connection, []) == {}
    assert outbox.window(connection, [], 1, WINDOW_BYTES) == []
    outbox.remove(connection, {2**62: "message"})


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_that_no_column_can_hold_is_refused(connection: sa.Connection, number: int) -> None:
    with pytest.raises((DBError, OverflowError)) as caught:
        receipts.add(connection, [a_receipt(sequence=number)])
    assert is_data_error(caught.value)


# Who may write.


def test_a_swap_finds_one_stale_node_among_many_and_changes_none(
    engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]
) -> None:
    names = [f"node-{number}" for number in range(300)]
    track(engine, *names)
    one, other = a_unit_of_work(), a_unit_of_work()
    nodes = one.load(names)
    other.commit(work(nodes=[bump(nodes["node-150"])]))
    with pytest.raises(StaleNode):
        one.commit(work(nodes=[bump(node) for node in nodes.values()], receipts=[a_receipt()]))
    assert sum(row["sequence"] for row in rows(engine, NODES)) == 301
    assert rows(engine, RECEIPTS) == []
    one.commit(work(nodes=[bump(node) for node in one.load(names).values()]))
    assert sum(row["sequence"] for row in rows(engine, NODES)) == 601


def test_a_reader_is_told_when_another_has_written(
    engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]
) -> None:
    track(engine, NODE)
    one, other = a_unit_of_work(), a_unit_of_work()
    nodes = one.load([NODE])
    seen = {NODE: token_of(nodes[NODE]), "unknown": NO_ROW}
    one.commit(work(unchanged=seen))
    other.commit(work(nodes=[bump(nodes[NODE])]))
    with pytest.raises(StaleNode):
        one.commit(work(unchanged=seen))


def test_an_event_has_one_receipt(engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]) -> None:
    unit_of_work = a_unit_of_work()
    unit_of_work.commit(work(receipts=[a_receipt()]))
    with pytest.raises(DBDuplicateEntry):
        unit_of_work.commit(work(receipts=[a_receipt("event-b"), a_receipt()]))
    assert [row["event_id"] for row in rows(engine, RECEIPTS)] == ["event-a"]


def test_two_writers_of_the_same_nodes_never_deadlock(
    engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]
) -> None:
    """Each takes fifty of the nodes, in an order of its own: they wait for one another, and one is stale."""
    names = [f"node-{number}" for number in range(80)]
    track(engine, *names)
    errors: list[Exception] = []
    commits = []

    def write(mine: list[str]) -> None:
        unit_of_work = a_unit_of_work()
        done = 0
        while done < 25:
            nodes = unit_of_work.load(mine)
            try:
                unit_of_work.commit(work(nodes=[bump(nodes[name]) for name in mine]))
                done += 1
            except StaleNode:
                pass
            except Exception as error:
                errors.append(error)
                break
        commits.append(done)
        unit_of_work.close()

    threads = [threading.Thread(target=write, args=(part,)) for part in (names[:50], names[:29:-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert errors == []
    assert sum(row["sequence"] for row in rows(engine, NODES)) == 80 + 50 * sum(commits)


# Leases.


def test_the_lease_belongs_to_one_until_it_is_given_back(engine: sa.Engine) -> None:
    one, other = LazyConnection(engine), LazyConnection(engine)

    def ask(who: LazyConnection, owner: str, seconds: float = 60) -> bool:
        with who.transaction() as connection:
            return leases.acquire(connection, RELAY, owner, seconds)

    assert [ask(one, "one"), ask(other, "other"), ask(one, "one"), ask(other, "other")] == [1, 0, 1, 0]
    with other.transaction() as connection:
        leases.release(connection, RELAY, "other")
    assert not ask(other, "other")
    with one.transaction() as connection:
        leases.release(connection, RELAY, "one")
    assert ask(other, "other")
    assert not ask(one, "one")
    one.close()
    other.close()


def test_a_lease_runs_out(connection: sa.Connection) -> None:
    assert leases.acquire(connection, RELAY, "one", -0.001)
    assert leases.acquire(connection, RELAY, "other", 60)
    assert not leases.acquire(connection, RELAY, "one", 60)


def test_leases_of_two_names_do_not_know_each_other(connection: sa.Connection) -> None:
    assert leases.acquire(connection, RELAY, "one", 60)
    assert leases.acquire(connection, "other", "two", 60)
    leases.release(connection, "other", "two")
    assert not leases.acquire(connection, RELAY, "two", 60)


def test_leases_are_acquired_and_released_together(connection: sa.Connection) -> None:
    def acquired(names: str, owner: str, seconds: float = 60) -> set[str]:
        return leases.acquire_all(connection, names.split(), owner, seconds)

    assert acquired("p0 p1", "one") == {"p0", "p1"}
    assert acquired("p2", "one", -0.001) == {"p2"}
    assert acquired("p1 p2 p3", "two") == {"p2", "p3"}
    assert acquired("p0 p1 p2", "one") == {"p0", "p1"}
    leases.release_all(connection, ["p0", "p2"], "one")
    assert acquired("p0 p1 p2", "two") == {"p0", "p2"}


def test_a_lease_that_has_run_out_stays_free_for_those_who_ask_without_delay(
    connection: sa.Connection,
) -> None:
    def acquired(names: str, owner: str, free: float) -> set[str]:
        return leases.acquire_all(connection, names.split(), owner, -1, free)

    assert acquired("p0", "one", 60) == {"p0"}
    assert acquired("p0 p1", "two", 60) == {"p1"}
    assert acquired("p0", "one", 60) == {"p0"}
    assert acquired("p0 p1", "three", 0.5) == {"p0", "p1"}
    assert acquired("p0", "two", 60) == set()
    assert acquired("p0", "two", 0) == {"p0"}


def test_a_lease_is_as_long_as_was_asked_by_the_clock_of_the_database(connection: sa.Connection) -> None:
    before = datetime.now().timestamp()
    assert leases.acquire(connection, RELAY, "one", 100)
    until = connection.scalar(sa.text("SELECT until FROM leases"))
    assert before + 99.9 <= until <= datetime.now().timestamp() + 100.1


# The schema, the statements.


def test_the_migrations_make_what_the_code_expects(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
    sync_schema(engine)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.sqlite"
    url: str = request.getfixturevalue(request.param).new_database()
    return url


def test_rows_from_before_revision_0004_get_their_times_and_places(empty_url: str) -> None:
    """A letter without a receipt that has a sequence does not know its place: its replay asks for --force."""
    made = create_engine(empty_url)
    sync_schema(made, "0003")
    at = "2026-01-02 03:04:05.123456"
    with made.begin() as connection:
        for event_id, sequence in (("e-1", "5"), ("e-2", "NULL")):
            connection.exec_driver_sql(
                "INSERT INTO receipts (event_id, digest, node, sequence, outcome, reply, recorded_at)"
                f" VALUES ('{event_id}', '', 'n', {sequence}, 'parked', '{{}}', '{at}')"
            )
        for event_id, state in (("e-1", "parked"), ("e-2", "replayed"), ("e-3", "discarded")):
            connection.exec_driver_sql(
                "INSERT INTO dead_letters (id, event_id, code, path, message, body, state, recorded_at)"
                f" VALUES ('{event_id}', '{event_id}', '', '', '', '', '{state}', '{at}')"
            )
        connection.exec_driver_sql("INSERT INTO attempts (event_id, count) VALUES ('e-4', 3)")
    sync_schema(made)
    with made.connect() as connection:
        now = connection.scalar(sa.select(UtcNow()))
    letters = {row["id"]: (row["sequence"], row["settled_at"]) for row in rows(made, DEAD_LETTERS)}
    settled_at = datetime.fromisoformat(at)
    assert letters == {"e-1": (5, None), "e-2": (None, settled_at), "e-3": (None, settled_at)}
    (row,) = rows(made, ATTEMPTS)
    assert (row["begun"], row["decoded"]) == (1, True)
    assert now is not None
    assert now - timedelta(minutes=1) < row["counted_at"] <= now
    made.dispose()


def test_a_batch_costs_few_statements(bench: LaneBench) -> None:  # noqa: F811
    nodes = [f"node-{number}" for number in range(40)]
    bench.track(*nodes)
    for number, node in enumerate(nodes):
        bench.deliver(command("instance_claim", node=node, instance=an_instance(f"i-{number}")))
    with watched(bench.engine) as seen:
        bench.run()
    assert len(seen) == 5, "known, swap, receipts, claims, outbox"


# What fails.


def test_a_connection_that_was_closed_is_no_events_fault(
    engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]
) -> None:
    """oslo.db's listeners make a PendingRollbackError of it on SQLite."""
    unit_of_work = a_unit_of_work()
    unit_of_work.ping()
    reads = unit_of_work._alone._connection
    assert reads and reads.connection.dbapi_connection
    reads.connection.dbapi_connection.close()
    with pytest.raises(DATABASE_ERRORS):
        unit_of_work.ping()
    unit_of_work.ping()


LIMIT = 400_000


@pytest.fixture
def small(engine: sa.Engine) -> Iterator[Callable[[], None]]:
    """Has the database take no statement, or row, much longer than LIMIT; what is connected stays."""
    undo = []

    def limit() -> None:
        undo.append(limited(engine, LIMIT))

    yield limit
    for one in undo:
        one()


def limited(engine: sa.Engine, most: int) -> Callable[[], None]:
    """Limit a database; return what undoes it. Nobody has a gigabyte for PostgreSQL's own limit."""
    if engine.dialect.name == "mysql":
        operator = create_engine(engine.url.set(username=MariaDB.operator))
        change = "SET GLOBAL max_allowed_packet = {}"

        def set_packet(length: int) -> None:
            with operator.connect() as connection:
                connection.exec_driver_sql(change.format(length))
            operator.dispose()

        set_packet(most // 1024 * 1024)
        return lambda: set_packet(16 * 1024 * 1024)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" IF (SELECT sum(octet_length(resources::text)) FROM new_rows) > {most} THEN"
                " RAISE SQLSTATE '54000' USING MESSAGE = 'too large'; END IF; RETURN NULL; END $$"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse AFTER INSERT ON nodes REFERENCING NEW TABLE AS new_rows"
                " FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
            )
        return lambda: None

    def make_small(connection: sqlite3.Connection, _record: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)

    sa.event.listen(engine, "connect", make_small)
    return lambda: sa.event.remove(engine, "connect", make_small)


def test_rows_too_large_together_are_written_apart_and_one_alone_is_parked(
    engine: sa.Engine,
    small: Callable[[], None],
    a_bench: Callable[..., LaneBench],  # noqa: F811
) -> None:
    """Tried again for ever, as after a lost connection, they would keep everything behind them waiting."""
    small()
    engine.dispose()
    bench = a_bench()  # noqa: F811
    quoted = '"' * 250 + "x" * 500  # What the driver writes in front of some characters counts too.
    thousands = {"node-1": 150, "node-2": 150, "node-3": 800, "node-4": 150, "node-5": 1}
    reports = []
    for node, count in thousands.items():
        stats = {f"stat-{number}": quoted for number in range(count)}
        resources = some_resources(uuid=f"uuid-of-{node}", host="host", stats=stats)
        reports.append(bench.deliver(a_report(node=node, resources=resources), f"event-of-{node}"))
    bench.run()
    outcomes = {node: report.outcome for node, report in zip(thousands, reports, strict=True)}
    assert outcomes == dict.fromkeys(thousands, "applied") | {"node-3": "EventParked"}
    assert [event_id for event_id, _ in bench.parked()] == ["event-of-node-3"]
    assert bench.send(command("build_failed", node="node-4")).outcome == "applied"


def test_an_error_tells_nothing_of_what_was_written(
    engine: sa.Engine, a_unit_of_work: Callable[[], UnitOfWork]
) -> None:
    secret = "hunter2"
    with pytest.raises(DBError) as caught:
        a_unit_of_work().commit(work(receipts=[a_receipt(outcome=None, reply={"x": secret})]))
    assert is_data_error(caught.value)
    assert "SQL parameters hidden" in str(caught.value)


def test_a_report_of_a_node_is_replaced(bench: LaneBench) -> None:  # noqa: F811
    bench.track()
    resources = some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}", vcpus=9)
    bench.send(a_report(resources=resources))
    assert bench.unit_of_work.load([NODE])[NODE].resources == resources
