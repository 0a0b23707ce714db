# SPDX-License-Identifier: Apache-2.0
"""What only a server has: locks and their order, lost connections, plans, settings of its own."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import options as db_options
from sqlalchemy.exc import OperationalError

from tests.builders import NODE, a_flavor, an_instance, command
from tests.functional.conftest import a_bench, bench  # noqa: F401
from tests.functional.statements import main_clause, watched
from tests.functional.test_statements import executed
from tests.integration.test_database import (  # noqa: F401
    SECONDS,
    a_receipt,
    a_unit_of_work,
    notification,
    track,
    work,
)
from tests.servers.postgresql import PostgreSQL
from tracker_worker.db import bulk, outbox, receipts, store
from tracker_worker.db.engine import create_engine, engine_options
from tracker_worker.db.tables import METADATA, NODES


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of the test's own."""
    made = create_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def operator(database_url: str) -> Iterator[Callable[..., list]]:
    """What somebody does in psql meanwhile: executes a statement and commits; returns its rows."""
    made = create_engine(database_url)

    def execute(sql: str) -> list:
        with made.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            result = connection.execute(sa.text(sql.replace("{database}", made.url.database)))
            return list(result) if result.returns_rows else []

    yield execute
    made.dispose()


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so; fails when it takes too long."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


END_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
END_OTHERS += " AND pid <> pg_backend_pid()"
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def boots(bench, count: int) -> list:  # noqa: F811
    return [
        bench.deliver(
            command("instance_claim", instance=an_instance(f"i-{n}", a_flavor(1, 64, 1))), f"event-{n}"
        )
        for n in range(count)
    ]


def applied_once(bench, deliveries: list) -> bool:  # noqa: F811
    done = [delivery.answer["sequence"] for delivery in deliveries]
    return done == list(range(2, 2 + len(done))) and bench.used()[0] == len(done) and not bench.parked()


# Locks.


def test_rows_are_locked_in_the_order_of_their_names_whatever_the_order_they_come_in(engine, operator):
    names = [f"node-{number}" for number in range(1, 10)]
    track(engine, *names)
    swapped = []
    state = {column: None for column in store._STATE_COLUMNS if column != "sequence"}
    some = dict.fromkeys(state, 0) | {"uuid": None, "disabled": False, "conflicts": [], "sequence": 2}
    given = [{"b_name": name, "b_sequence": 1, **some} for name in reversed(names)]

    def swap() -> None:
        with engine.begin() as connection:
            swapped.append(store._SWAP.execute(connection, given))

    with engine.connect() as holder:
        holder.execute(sa.select(NODES).where(NODES.c.name == "node-5").with_for_update())
        thread = threading.Thread(target=swap)
        thread.start()
        until(lambda: operator(WAITING))
        free = {row.name for row in operator("SELECT name FROM nodes FOR UPDATE SKIP LOCKED")}
    thread.join(SECONDS)
    assert free == {"node-6", "node-7", "node-8", "node-9"}
    assert swapped == [9]


def test_a_swap_that_waited_for_another_writer_fails(engine, operator, a_unit_of_work):  # noqa: F811
    track(engine, NODE)
    failed = []
    mine, others = a_unit_of_work(), a_unit_of_work()
    node = mine.load([NODE])[NODE]
    change = store.NodeChange(node, store.replace(node, sequence=2), set(), set())
    others.load([NODE])

    def write() -> None:
        try:
            mine.commit(work(nodes=[change], receipts=[a_receipt()]))
        except store.StaleNode as error:
            failed.append(error)

    with others._connection.transaction() as connection:
        store.swap(connection, [change])
        thread = threading.Thread(target=write)
        thread.start()
        until(lambda: operator(WAITING))
    thread.join(SECONDS)
    assert len(failed) == 1
    assert operator("SELECT event_id FROM receipts") == []


def test_a_notification_whose_commit_came_late_is_found_below_those_published(engine):
    with engine.connect() as late, engine.connect() as early, engine.connect() as relay:
        outbox.add(late, [notification(1)])
        outbox.add(early, [notification(2)])
        early.commit()
        (seen,) = outbox.window(relay, [], 10)
        relay.commit()
        late.commit()
        (missed,) = outbox.window(relay, [seen.id], 10)
    assert missed.id < seen.id
    assert missed.message_id == "message-1"


def test_a_deadlock_is_tried_again(bench, engine):  # noqa: F811
    bench.track()
    deliveries = boots(bench, 3)
    error = sa.text("DO $$ BEGIN RAISE SQLSTATE '40P01' USING MESSAGE = 'deadlock detected'; END $$")
    raised = []

    def fail(connection, _cursor, sql, _parameters, _context, _many):
        if not raised and sql.startswith("INSERT INTO claims"):
            raised.append(sql)
            connection.execute(error)

    sa.event.listen(engine, "before_cursor_execute", fail)
    bench.run()
    assert raised
    assert applied_once(bench, deliveries)


# Lost connections.


@pytest.mark.parametrize(
    "beginning", ["SELECT", "UPDATE nodes", "INSERT INTO receipts", "INSERT INTO outbox"]
)
def test_a_session_that_is_ended_at_a_statement_costs_no_event(bench, engine, operator, beginning):  # noqa: F811
    bench.track()
    deliveries = boots(bench, 5)
    ended = []

    def end(_connection, _cursor, sql, *_rest):
        if not ended and main_clause(sql).startswith(beginning):
            ended.extend(operator(END_OTHERS))

    sa.event.listen(engine, "before_cursor_execute", end)
    bench.run()
    sa.event.remove(engine, "before_cursor_execute", end)
    assert ended
    assert applied_once(bench, deliveries)


@pytest.mark.parametrize("moment", ["begin", "commit"])
def test_a_session_that_is_ended_between_statements_costs_no_event(bench, engine, operator, moment):  # noqa: F811
    bench.track()
    deliveries = boots(bench, 5)
    times = []

    def end(_connection):
        times.append(moment)
        if len(times) == 2:
            assert operator(END_OTHERS)

    sa.event.listen(engine, moment, end)
    bench.run()
    sa.event.remove(engine, moment, end)
    assert applied_once(bench, deliveries)


def test_a_server_that_is_away_is_waited_for(bench, database_url, operator):  # noqa: F811
    """Nobody may connect for a while: the events wait, and are not to blame."""
    bench.track()
    deliveries = boots(bench, 5)
    name = sa.make_url(database_url).database
    elsewhere = create_engine(str(database_url).rpartition("/")[0] + "/postgres")
    tries = []

    def allow(yes: bool) -> None:
        with elsewhere.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {yes}")
            connection.execute(sa.text(END_OTHERS.replace("current_database()", f"'{name}'")))

    def mend(*_: object) -> None:
        tries.append(1)
        if len(tries) == 5:
            allow(True)

    sa.event.listen(bench.engine, "do_connect", mend)
    allow(False)
    bench.run()
    elsewhere.dispose()
    assert len(tries) == 6, "four in vain, one that reads, one that writes"
    assert applied_once(bench, deliveries)


# Errors that say nothing about the events, and those that do.

TROUBLES = {
    "a standby": (
        "ALTER DATABASE {database} SET default_transaction_read_only = on",
        "ALTER DATABASE {database} RESET default_transaction_read_only",
    ),
    "a missing table": ("ALTER TABLE receipts RENAME TO hidden", "ALTER TABLE hidden RENAME TO receipts"),
    "a missing column": (
        "ALTER TABLE claims RENAME COLUMN os_type TO hidden",
        "ALTER TABLE claims RENAME COLUMN hidden TO os_type",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_an_operator_can_mend_is_waited_for_and_parks_nothing(bench, operator, trouble):  # noqa: F811
    broken, mended = TROUBLES[trouble]
    bench.track()
    deliveries = boots(bench, 5)
    tries = []

    def mend(_connection):
        tries.append(1)
        if len(tries) == 12:
            operator(END_OTHERS)
            operator(mended)

    sa.event.listen(bench.engine, "begin", mend)
    operator(END_OTHERS)
    operator(broken)
    bench.run()
    assert len(tries) >= 12
    assert applied_once(bench, deliveries)


@pytest.mark.parametrize("state", ["22001", "22003", "22P02", "22P05", "23502", "23514", "54000", "P0001"])
def test_an_event_whose_rows_are_refused_is_parked_alone(bench, engine, operator, state):  # noqa: F811
    operator(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE SQLSTATE '{state}' USING MESSAGE = 'refused'; END $$"
    )
    operator(
        "CREATE TRIGGER refuse BEFORE INSERT ON claims FOR EACH ROW WHEN (NEW.instance_uuid = 'i-2')"
        " EXECUTE FUNCTION refuse()"
    )
    bench.track()
    deliveries = boots(bench, 4)
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted", "granted", "EventParked", "granted"]
    assert [event_id for event_id, _ in bench.parked()] == ["event-2"]


def test_a_text_that_is_too_long_for_its_column_is_not_cut(bench, operator):  # noqa: F811
    operator("ALTER TABLE claims ALTER project_id TYPE varchar(9)")
    bench.track()
    instances = [an_instance("i-1", project_id="project-1"), an_instance("i-2", project_id="project-10")]
    deliveries = [bench.deliver(command("instance_claim", instance=one)) for one in instances]
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted", "EventParked"]


# Statements.


def test_every_statement_can_use_an_index(a_bench, engine):  # noqa: F811
    with watched(engine) as seen:
        executed(a_bench)
    statements = {s.sql: s.parameters for s in seen if main_clause(s.sql).split()[0] != "INSERT"}
    assert len(statements) >= 12
    tables = "|".join(METADATA.tables)
    plans = {}
    with engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        for sql, values in statements.items():
            lines = connection.exec_driver_sql(f"EXPLAIN {sql}", values).scalars()
            plans[sql] = [line for line in lines if re.search(rf"Seq Scan on ({tables})\b", line)]
    assert not {sql: lines for sql, lines in plans.items() if lines}


def test_a_plan_is_not_kept_from_when_a_table_was_empty(engine):
    read = sa.text("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'receipts'")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ALTER TABLE receipts SET (autovacuum_enabled = off)")
        for _ in range(20):
            receipts.find(connection, ["event-1"])
        connection.exec_driver_sql(
            "INSERT INTO receipts (event_id, digest, outcome, reply, recorded_at)"
            " SELECT 'event-' || n, repeat('d', 64), 'applied', '{}', now() FROM generate_series(0, 99999) n"
        )
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        before = connection.scalar(read)
        assert len(receipts.find(connection, [f"event-{number}" for number in range(256)])) == 256
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        assert connection.scalar(read) == before


def test_rows_go_in_one_round_trip(bench):  # noqa: F811
    bench.track()
    boots(bench, 100)
    with watched(bench.engine) as seen:
        bench.run()
    assert [statement.many for statement in seen] == [False] * 5


def test_a_list_of_ids_may_be_empty(engine):
    with engine.connect() as connection:
        assert receipts.find(connection, []) == {}
        assert outbox.window(connection, [], 1) == []
        assert connection.execute(bulk.NUMBER_IDS, bulk.as_ids([2**62])).scalars().all() == [2**62]


# Settings.


def test_a_session_has_our_name_unless_the_url_has_another(engine, database_url):
    other = create_engine(f"{database_url}?application_name=mine")
    for made, name in ((engine, "tracker-worker"), (other, "mine")):
        with made.connect() as connection:
            assert connection.exec_driver_sql("SHOW application_name").scalar() == name
    other.dispose()


@pytest.mark.parametrize(
    ("default", "ours"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")]
)
def test_a_commit_waits_for_the_disk_whatever_the_default(database_url, operator, default, ours):
    operator(f"ALTER DATABASE {{database}} SET synchronous_commit = {default}")
    made = create_engine(database_url)
    for _ in range(2):
        with made.connect() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == ours
            connection.rollback()
    made.dispose()


def test_all_options_of_oslo_db_reach_the_engine(database_url):
    conf = cfg.ConfigOpts()
    db_options.set_defaults(conf)
    conf([])
    conf.set_override("max_pool_size", 3, group="database")
    conf.set_override("connection_parameters", "application_name=given", group="database")
    made = create_engine(database_url, **engine_options(conf.database))
    assert made.pool.size() == 3
    with made.connect() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "given"
    made.dispose()


def test_a_server_that_does_not_answer_is_asked_as_often_as_the_options_say(caplog):
    url = "postgresql://tracker:hunter2@127.0.0.1:1/tracker"
    with pytest.raises(OperationalError) as caught:
        create_engine(url, max_retries=3, retry_interval=0.001)
    assert len([r for r in caplog.records if "cannot be used yet" in r.message]) == 2
    assert "hunter2" not in caplog.text + str(caught.value)
    create_engine(url).dispose()


MIGRATE = "import sys; from tracker_worker.db.engine import *; sync_schema(create_engine(sys.argv[1]))"


def test_workers_that_start_together_migrate_once(postgresql: PostgreSQL):
    url = postgresql.new_database()
    processes = [subprocess.Popen([sys.executable, "-c", MIGRATE, url]) for _ in range(2)]
    try:
        assert [process.wait(60) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        postgresql.drop_database(url)
