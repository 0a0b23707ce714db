# SPDX-License-Identifier: Apache-2.0
"""What PostgreSQL alone has: its commits' levels, its sessions' names."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tests.benchmarks.growth.idle_cloud import idle_cloud, rows_of
from tests.benchmarks.growth.soak import bytes_of
from tests.builders import NODE, command
from tests.functional.conftest import a_bench, bench  # noqa: F401
from tests.functional.lanes import LaneBench
from tests.integration.operators import OnPostgreSQL
from tests.servers.postgresql import PostgreSQL
from tracker_worker.core.quarantine import Attempts
from tracker_worker.db.engine import create_engine
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.worker.configuration import CONNECTIONS_OF_A_LANE


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of the test's own."""
    made = create_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def operator(postgresql: PostgreSQL, database_url: str) -> Iterator[OnPostgreSQL]:
    """Somebody in psql."""
    operator = OnPostgreSQL(postgresql, database_url)
    yield operator
    operator.close()


def test_a_session_has_our_name_unless_the_url_has_another(engine: sa.Engine, database_url: str) -> None:
    other = create_engine(f"{database_url}?application_name=mine")
    for made, name in ((engine, "tracker-worker"), (other, "mine")):
        with made.connect() as connection:
            assert connection.exec_driver_sql("SHOW application_name").scalar() == name
    other.dispose()


@pytest.mark.parametrize(
    ("default", "ours"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")]
)
def test_a_commit_waits_for_the_disk_whatever_the_default(
    database_url: str, operator: OnPostgreSQL, default: str, ours: str
) -> None:
    operator(f"ALTER DATABASE {{database}} SET synchronous_commit = {default}")
    made = create_engine(database_url)
    for _ in range(2):
        with made.connect() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == ours
            connection.rollback()
    made.dispose()


def test_lanes_work_where_the_default_is_serializable(
    a_bench: Callable[..., LaneBench],  # noqa: F811
    operator: OnPostgreSQL,
) -> None:
    operator("ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
    operator.end_sessions()
    one, other = a_bench(), a_bench()
    one.track()
    for number in range(4):
        (one, other)[number % 2].send(command("build_failed"))
    with one.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "serializable"
    assert one.sequence(NODE) == 5


def test_lane_keeps_two_connections_and_works_with_no_fewer(database_url: str) -> None:
    """What `settings_from` counts on."""
    for size, enough in ((CONNECTIONS_OF_A_LANE, True), (CONNECTIONS_OF_A_LANE - 1, False)):
        made = create_engine(database_url, max_pool_size=size, max_overflow=0, pool_timeout=0.01)
        unit_of_work = UnitOfWork(made)
        unit_of_work.record_attempts({"event": Attempts(1)})
        with nullcontext() if enough else pytest.raises(PoolTimeout):
            assert unit_of_work.attempts(["event"]) == {"event": Attempts(1)}
            assert isinstance(made.pool, sa.QueuePool)
            assert made.pool.checkedout() == size
        unit_of_work.close()
        made.dispose()


def test_audits_without_changes_leave_rows_and_bytes_as_they_were(engine: sa.Engine) -> None:
    """Each version of a row finds room on its page, and dead ones go without VACUUM."""
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE nodes SET (autovacuum_enabled = off)")
    seen = []
    with idle_cloud(engine, nodes=100) as cloud:
        for rounds in (0, 3, 9):
            cloud.audit(rounds)
            with engine.connect() as connection:
                seen.append((rows_of(connection), bytes_of(connection)))
    assert seen[0] == seen[1] == seen[2]
