# SPDX-License-Identifier: Apache-2.0
"""Errors that are the server's trouble: waited for with a new connection each time, and nothing is parked."""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_db.exception import DBError
from psycopg import errors as pg

from tests.builders import INSTANCE, NODE, a_flavor, an_instance, command
from tests.functional.lanes import OTHER_NODE, LaneBench, Recorded
from tests.functional.statements import Fault, watched
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.worker.purge import Purge
from tracker_worker.worker.settings import Retention


def boot(uuid: str = INSTANCE, node: str = NODE) -> AnyCommand:
    return command("instance_claim", node=node, instance=an_instance(uuid, a_flavor(1)))


def boots(bench: LaneBench, count: int) -> list[Recorded]:
    return [bench.deliver(boot(f"i-{n}"), f"event-{n}") for n in range(count)]


def malformed() -> Exception:
    return sqlite3.DatabaseError("database disk image is malformed")


def bad_page() -> Exception:
    return pg.DataCorrupted("invalid page in block 7")


def internal() -> Exception:
    return pg.InternalError_("could not open relation")


def statement_of_another_session() -> Exception:
    return pg.InvalidSqlStatementName('prepared statement "_pg3_0" does not exist')


def timed_out() -> Exception:
    error: Exception = DBError(pg.QueryCanceled("canceling statement due to statement timeout"))
    return error


TROUBLES = [malformed, bad_page, internal, statement_of_another_session]


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("beginning", ["SELECT", "UPDATE nodes", "INSERT INTO claims", "INSERT INTO outbox"])
def test_server_error_is_waited_for_and_parks_nothing(
    bench: LaneBench, trouble: Callable[[], Exception], beginning: str
) -> None:
    bench.track()
    deliveries = boots(bench, 3)
    with Fault(bench.engine, beginning, trouble, times=12) as fault:
        bench.run()
    assert fault.hits == 12
    assert [delivery.outcome for delivery in deliveries] == ["granted"] * 3
    assert bench.parked() == []


@pytest.mark.parametrize("trouble", TROUBLES)
def test_server_error_while_attempts_are_looked_up_ends_no_lane(
    bench: LaneBench, trouble: Callable[[], Exception]
) -> None:
    bench.track()
    with Fault(bench.engine, "SELECT attempts", trouble, times=5) as fault:
        delivery = bench.send(boot(), redelivered=True)
    assert (fault.hits, delivery.outcome) == (5, "granted")


def test_data_error_outside_a_batch_blames_no_event(bench: LaneBench) -> None:
    """A look-up writes nothing: whatever the database says of it is the database's."""
    bench.track()
    with Fault(bench.engine, "SELECT attempts", lambda: sqlite3.DataError("?"), times=5):
        assert bench.send(boot(), redelivered=True).outcome == "granted"


def session_of(bench: LaneBench) -> object:
    connection = bench.unit_of_work._connection._connection
    assert connection is not None
    return connection.connection.dbapi_connection


def test_server_error_costs_the_connection(bench: LaneBench) -> None:
    bench.track()
    before = session_of(bench)
    with Fault(bench.engine, "UPDATE nodes", malformed, times=1):
        bench.send(boot())
    assert session_of(bench) is not before


def test_purge_survives_any_error_of_the_database(bench: LaneBench, caplog: pytest.LogCaptureFixture) -> None:
    bench.track()
    purge = Purge(bench.engine, Retention(), lambda: pytest.fail("the process would end"))
    with Fault(bench.engine, "SELECT", malformed):
        purge._step(False)
    assert "malformed" in caplog.text


def test_purge_survives_a_time_that_is_none(bench: LaneBench, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody has written it by SQL: SQLite takes any text."""
    bench.track()
    with bench.engine.begin() as connection:
        connection.execute(sa.text("UPDATE receipts SET recorded_at = 'yesterday'"))
    Purge(bench.engine, Retention(), lambda: pytest.fail("the process would end"))._step(False)
    assert "Old rows stay until the next purge" in caplog.text


class SlowStatement(Fault):
    """Statements time out that write more than so many rows."""

    def __init__(self, engine: sa.Engine, beginning: str, most: int) -> None:
        super().__init__(engine, beginning, timed_out)
        self._most = most

    def _execute(self, cursor: Any, sql: str, parameters: Any, context: Any) -> None:
        if isinstance(parameters, list) and len(parameters) > self._most:
            super()._execute(cursor, sql, parameters, context)


def test_batch_that_always_times_out_is_halved_and_nobody_is_blamed(bench: LaneBench) -> None:
    bench.track()
    deliveries = boots(bench, 8)
    with SlowStatement(bench.engine, "INSERT INTO claims", most=1) as slow:
        bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted"] * 8
    assert bench.parked() == []
    assert slow.hits == 7 * bench.max_attempts, "a few equal time-outs before each halving"


def test_event_that_times_out_alone_is_waited_for(bench: LaneBench) -> None:
    bench.track()
    delivery = bench.deliver(boot())
    with Fault(bench.engine, "INSERT INTO claims", timed_out, times=20):
        bench.run()
    assert (delivery.outcome, bench.parked()) == ("granted", [])


def test_cached_nodes_are_bounded_and_the_least_recently_used_goes(a_bench: Callable[..., LaneBench]) -> None:
    bench = a_bench(cached_nodes=2)
    bench.track(NODE, OTHER_NODE, "node-3")
    bench.send(command("build_failed", node=OTHER_NODE))
    bench.send(command("build_failed", node="node-3"))
    cached = [name for name in (NODE, OTHER_NODE, "node-3") if bench.lane.nodes.cached(name)]
    assert cached == [OTHER_NODE, "node-3"]
    with watched(bench.engine) as seen:
        bench.send(command("build_failed", node=OTHER_NODE))
    assert not [s for s in seen if s.sql.startswith("SELECT nodes")]
