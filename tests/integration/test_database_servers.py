# SPDX-License-Identifier: Apache-2.0
"""What only servers have: locks and their order, lost connections, plans, time-outs. One suite for all."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from oslo_config import cfg
from oslo_db import options as db_options

from tests.builders import NODE, a_flavor, an_instance, command
from tests.functional.conftest import a_bench, bench  # noqa: F401
from tests.functional.lanes import LaneBench, Recorded
from tests.functional.statements import main_clause, watched
from tests.functional.test_statements import executed
from tests.integration.operators import OPERATORS, DatabaseServer, Operator
from tests.integration.test_database import (  # noqa: F401
    SECONDS,
    a_receipt,
    a_unit_of_work,
    bump,
    notification,
    track,
    work,
)
from tracker_worker.core.records import NodeChange
from tracker_worker.db import outbox, providers, receipts, sessions, store
from tracker_worker.db.engine import create_engine, engine_options
from tracker_worker.db.errors import DATABASE_ERRORS
from tracker_worker.db.store import NodesBroken
from tracker_worker.db.tables import CLAIMS, NODES, PROVIDERS
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.worker.due_nodes import FEWEST
from tracker_worker.worker.relay import WINDOW_BYTES


@pytest.fixture(params=OPERATORS, scope="module")
def kind(request: pytest.FixtureRequest) -> str:
    """Each of the servers in turn."""
    found: str = request.param
    return found


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> DatabaseServer:
    """The server itself."""
    found: DatabaseServer = request.getfixturevalue(kind)
    return found


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database of the test's own."""
    found: str = request.getfixturevalue(OPERATORS[kind].fixture)
    return found


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """An engine on it."""
    made = create_engine(url)
    yield made
    made.dispose()


@pytest.fixture
def operator(kind: str, server: DatabaseServer, url: str) -> Iterator[Operator]:
    """Somebody at the server's prompt."""
    operator = OPERATORS[kind](server, url)
    yield operator
    operator.close()


def boots(bench: LaneBench, count: int) -> list[Recorded]:  # noqa: F811
    return [
        bench.deliver(
            command("instance_claim", instance=an_instance(f"i-{n}", a_flavor(1, 64, 1))), f"event-{n}"
        )
        for n in range(count)
    ]


def applied_once(bench: LaneBench, deliveries: list[Recorded]) -> bool:  # noqa: F811
    done = [delivery.answer["sequence"] for delivery in deliveries]
    return done == list(range(2, 2 + len(done))) and bench.used()[0] == len(done) and not bench.parked()


# Locks.


def test_a_wait_that_begins_after_the_first_look_is_seen(engine: sa.Engine, operator: Operator) -> None:
    """MariaDB repeats to whoever asks all the time what it said of its transactions at first."""
    track(engine, NODE)
    lock = sa.select(NODES).where(NODES.c.name == NODE).with_for_update()

    def wait() -> None:
        with engine.connect() as other:
            other.execute(lock)

    with engine.connect() as holder:
        holder.execute(lock)
        assert not operator.somebody_waits()
        thread = threading.Thread(target=wait)
        thread.start()
        operator.wait_until_somebody_waits()
    thread.join(SECONDS)


def test_rows_are_locked_in_the_order_of_their_names_whatever_the_order_they_come_in(
    engine: sa.Engine, operator: Operator
) -> None:
    names = [f"node-{number}" for number in range(1, 10)]
    track(engine, *names)
    swapped = []
    state = {column: None for column in store._STATE_COLUMNS if column != "sequence"}
    some: dict[str, Any] = dict.fromkeys(state, 0) | {
        "uuid": None,
        "disabled": False,
        "conflicts": [],
        "sequence": 2,
    }
    some |= {"commit_id": "c-2", "sources": None}
    before = {"b_sequence": 1, "b_commit_id": ""}
    given = [{"b_name": name, **before, **some} for name in reversed(names)]

    def swap() -> None:
        with engine.begin() as connection:
            swapped.append(store._SWAP.execute(connection, given))

    with engine.connect() as holder:
        holder.execute(sa.select(NODES).where(NODES.c.name == "node-5").with_for_update())
        thread = threading.Thread(target=swap)
        thread.start()
        operator.wait_until_somebody_waits()
        free = {row.name for row in operator("SELECT name FROM nodes FOR UPDATE SKIP LOCKED")}
    thread.join(SECONDS)
    assert free == {"node-6", "node-7", "node-8", "node-9"}
    assert swapped == [9]


def test_a_swap_locks_no_row_that_is_not_its_own(engine: sa.Engine, operator: Operator) -> None:
    """Whoever reads the whole of a table that is small waits for its strangers, and they for it."""
    track(engine, "node-1", "node-2", "node-3")
    with engine.connect() as one, engine.connect() as other:
        for connection, name in ((one, "node-1"), (other, "node-3")):
            (node,) = store.load(connection, [name]).values()
            change = NodeChange(node, replace(node, sequence=2), set(), set())
            store.swap(connection, [change])
        assert [row.name for row in operator("SELECT name FROM nodes FOR UPDATE SKIP LOCKED")] == ["node-2"]


@pytest.mark.parametrize("more", [[], ["node-2"]], ids=["alone", "in a batch"])
def test_a_swap_that_waited_for_another_writer_fails(
    engine: sa.Engine,
    operator: Operator,
    a_unit_of_work: Callable[[], UnitOfWork],  # noqa: F811
    more: list[str],
) -> None:
    track(engine, NODE, *more)
    failed = []
    mine, others = a_unit_of_work(), a_unit_of_work()
    changes = [bump(node) for node in mine.load([NODE, *more]).values()]
    others.load([NODE])

    def write() -> None:
        try:
            mine.commit(work(nodes=changes, receipts=[a_receipt()], notifications=[notification(1)]))
        except store.StaleNode as error:
            failed.append(error)

    with others._connection.transaction() as connection:
        store.swap(connection, changes[:1])
        thread = threading.Thread(target=write)
        thread.start()
        operator.wait_until_somebody_waits()
    thread.join(SECONDS)
    assert len(failed) == 1
    assert operator("SELECT event_id FROM receipts") == []
    assert operator("SELECT id FROM outbox") == []


@pytest.mark.parametrize("more", [[], ["node-2"]], ids=["alone", "in a batch"])
def test_ids_of_the_outbox_are_drawn_while_the_node_is_locked(
    engine: sa.Engine,
    operator: Operator,
    a_unit_of_work: Callable[[], UnitOfWork],  # noqa: F811
    more: list[str],
) -> None:
    """Whoever has the node first has the lower id."""
    track(engine, NODE, *more)
    unit_of_work = a_unit_of_work()
    changes = [bump(node) for node in unit_of_work.load([NODE, *more]).values()]
    late = work(nodes=changes, receipts=[a_receipt()], notifications=[notification(2)])
    with engine.connect() as first:
        first.execute(sa.select(NODES).where(NODES.c.name == NODE).with_for_update())
        thread = threading.Thread(target=unit_of_work.commit, args=(late,))
        thread.start()
        operator.wait_until_somebody_waits()
        outbox.add(first, [notification(1)])
        first.commit()
    thread.join(SECONDS)
    found = operator("SELECT message_id FROM outbox ORDER BY id")
    assert [row.message_id for row in found] == ["message-1", "message-2"]


def test_a_notification_whose_commit_came_late_is_found_below_those_published(engine: sa.Engine) -> None:
    with engine.connect() as late, engine.connect() as early, engine.connect() as relay:
        outbox.add(late, [notification(1)])
        outbox.add(early, [notification(2)])
        early.commit()
        (seen,) = outbox.window(relay, [], 10, WINDOW_BYTES)
        relay.commit()
        late.commit()
        (missed,) = outbox.window(relay, [seen.message_id], 10, WINDOW_BYTES)
    assert missed.id < seen.id
    assert missed.message_id == "message-1"


@pytest.mark.parametrize("reason", ["deadlock", "changed_meanwhile"])
def test_a_transaction_that_the_server_gave_up_is_tried_again(
    bench: LaneBench,  # noqa: F811
    engine: sa.Engine,
    operator: Operator,
    reason: str,
) -> None:
    bench.track()
    deliveries = boots(bench, 3)
    raised: list[str] = []

    def fail(connection: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        if not raised and sql.startswith("INSERT INTO claims"):
            raised.append(sql)
            connection.execute(sa.text(getattr(operator, reason)))

    sa.event.listen(engine, "before_cursor_execute", fail)
    bench.run()
    assert raised
    assert applied_once(bench, deliveries)


def test_a_session_that_stands_still_in_its_transaction_loses_it_and_its_locks(
    a_bench: Callable[..., LaneBench],  # noqa: F811
    url: str,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its worker is stopped, or its machine: the stand-in goes on, and the worker when it comes back."""
    assert [int(row[0]) for row in operator(operator.idle_setting)] == [10]
    monkeypatch.setattr(sessions, "IDLE_IN_TRANSACTION_SECONDS", 1)
    bench = a_bench()  # noqa: F811
    bench.engine.dispose()
    bench.track()
    deliveries = boots(bench, 3)
    overtaken: list[int] = []

    def stand_still(_connection: Any) -> None:
        if not overtaken:
            overtaken.append(1)
            stand_in = create_engine(url)
            with stand_in.connect() as connection:
                # Waits for the row that the transaction has locked.
                connection.execute(sa.select(NODES).with_for_update())
                overtaken.append(2)
            stand_in.dispose()

    sa.event.listen(bench.engine, "before_cursor_execute", _at("INSERT INTO receipts", stand_still))
    bench.run()
    assert overtaken == [1, 2]
    assert applied_once(bench, deliveries)


def _at(beginning: str, do: Any) -> Any:
    def look(connection: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        if sql.startswith(beginning):
            do(connection)

    return look


# Lost connections.


@pytest.mark.parametrize(
    "beginning", ["SELECT", "UPDATE nodes", "INSERT INTO receipts", "INSERT INTO outbox"]
)
def test_a_session_that_is_ended_at_a_statement_costs_no_event(
    bench: LaneBench,  # noqa: F811
    engine: sa.Engine,
    operator: Operator,
    beginning: str,
) -> None:
    bench.track()
    deliveries = boots(bench, 5)
    ended: list[int] = []

    def end(_connection: Any, _cursor: Any, sql: str, *_rest: Any) -> None:
        if not ended and main_clause(sql).startswith(beginning):
            ended.append(operator.end_sessions())

    sa.event.listen(engine, "before_cursor_execute", end)
    bench.run()
    sa.event.remove(engine, "before_cursor_execute", end)
    assert ended
    assert ended[0]
    assert applied_once(bench, deliveries)


@pytest.mark.parametrize("moment", ["begin", "commit"])
def test_a_session_that_is_ended_between_statements_costs_no_event(
    bench: LaneBench,  # noqa: F811
    engine: sa.Engine,
    operator: Operator,
    moment: str,
) -> None:
    bench.track()
    deliveries = boots(bench, 5)
    times = []

    def end(_connection: Any) -> None:
        times.append(moment)
        if len(times) == 2:
            assert operator.end_sessions()

    sa.event.listen(engine, moment, end)
    bench.run()
    sa.event.remove(engine, moment, end)
    assert applied_once(bench, deliveries)


def test_sessions_that_were_ended_meanwhile_cost_one_more_try(
    bench: LaneBench,  # noqa: F811
    operator: Operator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A lane has two of them: that the second one is dead too costs no pause of its own."""
    bench.track()
    boots(bench, 2)
    bench.run()
    operator.end_sessions()
    deliveries = [bench.deliver(command("build_failed")) for _ in range(2)]
    bench.run()
    assert [delivery.answer["sequence"] for delivery in deliveries] == [4, 5]
    assert caplog.text.count("is tried again") == 1


def test_a_server_that_is_away_is_waited_for(bench: LaneBench, operator: Operator) -> None:  # noqa: F811
    """Nobody may connect for a while: the events wait, and are not to blame."""
    bench.track()
    deliveries = boots(bench, 5)
    tries = []

    def mend(*_: object) -> None:
        tries.append(1)
        if len(tries) == 5:
            operator.allow(True)

    sa.event.listen(bench.engine, "do_connect", mend)
    operator.allow(False)
    try:
        bench.run()
    finally:
        operator.allow(True)
    assert len(tries) == 6, "four in vain, one that reads, one that writes"
    assert applied_once(bench, deliveries)


# Errors that say nothing about the events, and those that do.


@pytest.mark.parametrize(
    ("kind", "trouble"),
    [(kind, trouble) for kind, operator in OPERATORS.items() for trouble in operator.troubles],
    indirect=["kind"],
)
def test_what_an_operator_can_mend_is_waited_for_and_parks_nothing(
    bench: LaneBench,  # noqa: F811
    operator: Operator,
    trouble: str,
) -> None:
    broken, mended = operator.troubles[trouble]
    bench.track()
    deliveries = boots(bench, 5)
    tries = []

    def mend(_connection: Any) -> None:
        tries.append(1)
        if len(tries) == 12:
            operator.end_sessions()
            operator(mended)

    sa.event.listen(bench.engine, "begin", mend)
    operator.end_sessions()
    operator(broken)
    try:
        bench.run()
    finally:
        if len(tries) < 12:
            operator(mended)
    assert len(tries) >= 12
    assert applied_once(bench, deliveries)


@pytest.mark.parametrize(
    ("kind", "state"),
    [(kind, state) for kind, operator in OPERATORS.items() for state in operator.refusals],
    indirect=["kind"],
)
def test_an_event_whose_rows_are_refused_is_parked_alone(
    bench: LaneBench,  # noqa: F811
    operator: Operator,
    state: str,
) -> None:
    operator.refuse(state)
    bench.track()
    deliveries = boots(bench, 4)
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted", "granted", "EventParked", "granted"]
    assert [event_id for event_id, _ in bench.parked()] == ["event-2"]


def test_a_text_that_is_too_long_for_its_column_is_not_cut(bench: LaneBench, operator: Operator) -> None:  # noqa: F811
    operator.shorten()
    bench.track()
    instances = [an_instance("i-1", project_id="project-1"), an_instance("i-2", project_id="project-10")]
    deliveries = [bench.deliver(command("instance_claim", instance=one)) for one in instances]
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted", "EventParked"]


# Statements.


def test_every_statement_can_use_an_index(
    a_bench: Callable[..., LaneBench],  # noqa: F811
    engine: sa.Engine,
    operator: Operator,
) -> None:
    with watched(engine) as seen:
        executed(a_bench)
    statements = {s.sql: s.parameters for s in seen if main_clause(s.sql).split()[0] != "INSERT"}
    assert len(statements) >= 12
    with engine.connect() as connection:
        plans = {sql: operator.scans(connection, sql, values) for sql, values in statements.items()}
        assert operator.scans(connection, "SELECT * FROM claims WHERE vcpus = 1", {})
    assert not {sql: lines for sql, lines in plans.items() if lines}


def test_rows_go_in_one_round_trip(bench: LaneBench) -> None:  # noqa: F811
    bench.track()
    boots(bench, 50)
    with watched(bench.engine) as seen:
        bench.run()
    assert [statement.many for statement in seen] == [False] * 5


def test_a_receipt_is_looked_up_in_a_table_that_was_empty_a_moment_ago(
    engine: sa.Engine, operator: Operator
) -> None:
    """Whatever the server believes of its size."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(20):
            receipts.find(connection, ["event-1"])
        operator.fill_unnoticed(100_000)
        before = operator.rows_read(connection, "receipts")
        assert len(receipts.find(connection, [f"event-{number}" for number in range(256)])) == 256
        assert operator.rows_read(connection, "receipts") - before < 2_000


def test_a_node_is_loaded_without_reading_the_claims_of_others(engine: sa.Engine, operator: Operator) -> None:
    held = {"node": "n-0", "instance_uuid": "i-0", "role": "current", "project_id": "p", "vm_state": "active"}
    amounts = ("vcpus", "memory_mb", "disk_mb", "root_gb", "ephemeral_gb", "swap_mb")
    rows = [
        held | {"node": f"n-{n % 400}", "instance_uuid": f"i-{n}", "volume_backed": False, "assigned": False}
        for n in range(20_000)
    ]
    with engine.begin() as connection:
        connection.execute(CLAIMS.insert().values(dict.fromkeys(amounts, 1)), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        before = operator.rows_read(connection, "claims")
        with pytest.raises(NodesBroken):  # Their rows were not made.
            store.load(connection, ["n-7"])
        assert operator.rows_read(connection, "claims") - before < 500


# Settings.


def test_a_server_that_is_gone_without_a_word_is_noticed_unless_the_url_says_otherwise(
    url: str, operator: Operator
) -> None:
    assert operator.patience.items() <= create_engine(url).url.query.items()
    name, value = next(iter(operator.patience.items()))
    assert value != "7"
    other = create_engine(f"{url}?{name}=7")
    with other.connect() as connection:
        assert operator.connect_timeout(connection.connection.dbapi_connection) == 7
    other.dispose()


def test_all_options_of_oslo_db_reach_the_engine(url: str, operator: Operator) -> None:
    conf = cfg.ConfigOpts()
    db_options.set_defaults(conf)
    conf([])
    conf.set_override("max_pool_size", 3, group="database")
    conf.set_override("connection_parameters", "connect_timeout=8", group="database")
    made = create_engine(url, **engine_options(conf.database))
    assert isinstance(made.pool, sa.QueuePool)
    assert made.pool.size() == 3
    with made.connect() as connection:
        assert operator.connect_timeout(connection.connection.dbapi_connection) == 8
    made.dispose()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mariadb"])
def test_a_server_that_does_not_answer_is_asked_as_often_as_the_options_say(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{scheme}://tracker:hunter2@127.0.0.1:1/tracker"
    with pytest.raises(DATABASE_ERRORS) as caught:
        create_engine(url, max_retries=3, retry_interval=0.001)
    assert len([r for r in caplog.records if "cannot be used yet" in r.message]) == 2
    assert "hunter2" not in caplog.text + str(caught.value)
    create_engine(url).dispose()


MIGRATE = "import sys; from tracker_worker.db.engine import *; sync_schema(create_engine(sys.argv[1]))"


def test_workers_that_start_together_migrate_once(server: DatabaseServer) -> None:
    url = server.new_database()
    processes = [subprocess.Popen([sys.executable, "-c", MIGRATE, url]) for _ in range(2)]
    try:
        assert [process.wait(60) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        server.drop_database(url)


def test_window_of_a_large_outbox_reads_its_own_rows(engine: sa.Engine, operator: Operator) -> None:
    """Whatever the server believes of the table's size, and however many rows were published before."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for first in range(0, 10_000, 1000):
            numbers = range(first, first + 1000)
            outbox.add(connection, [notification(number, os.urandom(1000)) for number in numbers])
        published = [row.message_id for row in outbox.window(connection, [], 200, WINDOW_BYTES)]
        before = operator.rows_read(connection, "outbox")
        assert len(outbox.window(connection, published, 200, 50_000)) == 50
        assert operator.rows_read(connection, "outbox") - before < 5_000


def test_nodes_that_are_not_due_are_not_read(engine: sa.Engine, operator: Operator) -> None:
    rows = [{"node": f"n-{number}", "due_at": datetime(2126, 1, 1)} for number in range(5_000)]
    rows.append({"node": "due", "due_at": datetime(2026, 1, 1)})
    with engine.begin() as connection:
        connection.execute(PROVIDERS.insert(), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        before = operator.rows_read(connection, "providers")
        assert providers.due_nodes(connection, FEWEST) == ["due"]
        assert [each.node for each in providers.due(connection, ["due", "n-1"])] == ["due"]
        assert operator.rows_read(connection, "providers") - before < 500
