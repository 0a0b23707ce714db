# SPDX-License-Identifier: Apache-2.0
"""A database where somebody else holds what a statement needs: it ends with an error, in bounded time."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.functional.manage import Manage
from tests.integration.operators import OPERATORS, DatabaseServer, Operator
from tests.integration.rabbit import SECONDS, until
from tracker_worker.db import revisions, sessions
from tracker_worker.db.engine import create_engine, sync_schema
from tracker_worker.db.errors import DATABASE_ERRORS

LIMITS = {
    "postgresql": "SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout')",
    "mariadb": "SHOW SESSION VARIABLES WHERE variable_name IN"
    " ('innodb_lock_wait_timeout', 'lock_wait_timeout', 'max_statement_time')",
}
OURS = {
    "postgresql": {"statement_timeout": 30_000, "lock_timeout": 15_000},
    "mariadb": {"innodb_lock_wait_timeout": 15, "lock_wait_timeout": 15, "max_statement_time": 25},
}
# What a server's operator may have set, and what a session then has.
SMALLER = {
    "postgresql": ["ALTER DATABASE {database} SET statement_timeout = 2000"],
    "mariadb": ["SET GLOBAL max_statement_time = 1.5"],
}
LARGER = {
    "postgresql": [
        "ALTER DATABASE {database} SET statement_timeout = 0",
        "ALTER DATABASE {database} SET lock_timeout = '1h'",
    ],
    "mariadb": ["SET GLOBAL max_statement_time = 3600", "SET GLOBAL lock_wait_timeout = 86400"],
}
AGAIN = {
    "postgresql": [],  # The database is the test's own.
    "mariadb": ["SET GLOBAL max_statement_time = 0", "SET GLOBAL lock_wait_timeout = 86400"],
}
SLOW = {
    "postgresql": "SELECT pg_sleep(60)",
    "mariadb": "SELECT COUNT(*) FROM seq_1_to_1000000 a, seq_1_to_1000000 b",
}
LOCK = {"postgresql": "LOCK TABLE nodes", "mariadb": "LOCK TABLES nodes WRITE"}
TABLES = "SELECT name FROM nodes"
BEFORE = "0002"
"""The revision before one that changes the claims."""
WAITED = {
    "postgresql": "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    " AND datname = current_database() AND now() - query_start > interval '1.5 s'",
    "mariadb": "SELECT COUNT(*) FROM information_schema.processlist"
    " WHERE state LIKE 'Waiting for table metadata lock' AND time_ms > 1500",
}
"""How many have waited for a table longer than an impatient session may."""


@pytest.fixture(params=sorted(OPERATORS))
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def server(request: pytest.FixtureRequest, kind: str) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(kind)
    return found


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str:
    found: str = request.getfixturevalue(OPERATORS[kind].fixture)
    return found


@pytest.fixture
def operator(kind: str, server: DatabaseServer, url: str) -> Iterator[Operator]:
    operator = OPERATORS[kind](server, url)
    yield operator
    for sql in AGAIN[kind]:
        operator(sql)
    operator.close()


@pytest.fixture
def locked(kind: str, operator: Operator) -> Iterator[sa.Connection]:
    """A session that has locked the table of the nodes until it is closed."""
    with operator.connect() as connection:
        connection.exec_driver_sql(LOCK[kind])
        yield connection


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every limit is a second."""
    for name in ("LOCK_WAIT_SECONDS", "STATEMENT_SECONDS", "MARIADB_STATEMENT_SECONDS"):
        monkeypatch.setattr(sessions, name, 1)


def limits_of(engine: sa.Engine, kind: str) -> dict[str, float]:
    with engine.connect() as connection:
        return {name: float(value) for name, value in connection.exec_driver_sql(LIMITS[kind])}


def test_sessions_have_limits_where_the_server_has_none_or_larger_ones(
    url: str, kind: str, operator: Operator
) -> None:
    for settings in ([], LARGER[kind]):
        for sql in settings:
            operator(sql)
        made = create_engine(url)
        assert limits_of(made, kind) == OURS[kind]
        made.dispose()


def test_smaller_limit_of_the_server_stays(url: str, kind: str, operator: Operator) -> None:
    for sql in SMALLER[kind]:
        operator(sql)
    made = create_engine(url)
    found = limits_of(made, kind)
    assert found != OURS[kind]
    assert all(0 < value <= OURS[kind][name] for name, value in found.items())
    made.dispose()


def test_limits_survive_a_rollback_and_the_pool(url: str, kind: str) -> None:
    made = create_engine(url)
    for _ in range(2):
        with made.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
            connection.rollback()
        assert limits_of(made, kind) == OURS[kind]
    made.dispose()


@pytest.mark.usefixtures("impatient")
def test_slow_statement_ends_with_an_error_that_is_tried_again(url: str, kind: str) -> None:
    made = create_engine(url)
    with pytest.raises(DATABASE_ERRORS), made.connect() as connection:
        connection.exec_driver_sql(SLOW[kind])
    made.dispose()


@pytest.mark.usefixtures("impatient", "locked")
def test_wait_for_a_locked_table_ends_with_an_error_that_is_tried_again(url: str) -> None:
    made = create_engine(url)
    with pytest.raises(DATABASE_ERRORS), made.connect() as connection:
        connection.exec_driver_sql(TABLES)
    made.dispose()


@pytest.mark.usefixtures("impatient", "locked")
def test_commands_end_with_one_line_while_a_table_is_locked(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manage = Manage(tmp_path, capsys)
    manage.configure(f"[database]\nconnection = {url}\n")
    complaint = manage.complaint("node", "list")
    assert complaint.startswith("[database] connection = ")
    assert " cannot be used: " in complaint
    assert "timeout" in complaint.lower() or "max_statement_time" in complaint
    assert "SELECT" not in complaint


def test_upgrade_check_ends_with_one_line_while_the_schema_is_being_changed(
    url: str,
    kind: str,
    operator: Operator,
    impatient: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manage = Manage(tmp_path, capsys)
    manage.configure(f"[database]\nconnection = {url}\n")
    with operator.connect() as connection:
        connection.exec_driver_sql(LOCK[kind].replace("nodes", "alembic_version"))
        code, checks = manage.check()
    result, details = checks["Database schema"]
    assert details is not None
    assert (code, result) == (2, 2)
    assert "cannot be used" in details and "\n" not in details


def test_migration_waits_for_locks_longer_than_a_session_may(
    server: DatabaseServer, kind: str, impatient: None
) -> None:
    """Somebody reads a table meanwhile, and a statement that changes it waits for him."""
    url = server.new_database()
    made = create_engine(url)
    sync_schema(made, BEFORE)
    operator = OPERATORS[kind](server, url)
    migration = threading.Thread(target=sync_schema, args=(made,))
    with operator.connect() as reader:
        reader.exec_driver_sql("SELECT COUNT(*) FROM claims")
        migration.start()
        until(lambda: operator(WAITED[kind])[0][0], "nobody waits for the table")
    migration.join(SECONDS)
    with made.connect() as connection:
        assert revisions.current(connection) == revisions.head()
    made.dispose()
    operator.close()
    server.drop_database(url)
