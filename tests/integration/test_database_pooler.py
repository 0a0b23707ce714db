# SPDX-License-Identifier: Apache-2.0
"""A worker and its commands behind PgBouncer: nothing relies on what a session keeps between transactions."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from tests.builders import command
from tests.functional.conftest import a_bench  # noqa: F401
from tests.functional.lanes import LaneBench
from tests.functional.manage import Manage
from tests.integration.daemon import Daemon
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgresql import PostgreSQL
from tests.servers.server import wait_until
from tests.servers.skips import skip_unless_installed
from tracker_worker.db.engine import create_engine
from tracker_worker.db.errors import DATABASE_ERRORS, is_connection_lost, is_data_error
from tracker_worker.db.sessions import PooledSessions


@pytest.fixture
def engine(pooled_url: str) -> Iterator[sa.Engine]:
    """An engine behind the pooler."""
    made = create_engine(pooled_url)
    yield made
    made.dispose()


@pytest.fixture
def a_manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Manage]:
    """Makes what runs the commands on a URL."""

    def make(url: str) -> Manage:
        manage = Manage(tmp_path, capsys)
        manage.configure(f"[database]\nconnection = {url}\n")
        return manage

    return make


@pytest.fixture
def pooler(request: pytest.FixtureRequest, postgresql: PostgreSQL) -> Iterator[PgBouncer]:
    """A pooler of the test's own, with the mode that is its parameter."""
    skip_unless_installed(PgBouncer)
    with PgBouncer(postgresql, request.param) as pooler:
        pooler.start()
        yield pooler


# What is refused, and the words.


def test_pooled_sessions_without_limits_are_refused_until_what_the_error_says_is_done(
    pgbouncer: PgBouncer, database_url: str
) -> None:
    pooled = create_engine(pgbouncer.through(database_url))
    with pytest.raises(PooledSessions) as caught, pooled.connect():
        pass
    statements = re.findall(r"ALTER ROLE [^;]*;", str(caught.value))
    found = [re.search(r"SET (\w+)", statement) for statement in statements]
    assert [each and each[1] for each in found] == [
        "idle_in_transaction_session_timeout",
        "lock_timeout",
        "statement_timeout",
    ]
    with psycopg.connect(database_url, autocommit=True) as server:
        for statement in statements:
            server.execute(statement)
    with pytest.raises(PooledSessions), pooled.connect():
        pass  # The pooler has a session from before.
    pgbouncer.execute("RECONNECT")
    with pooled.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "30s"
    pooled.dispose()


def test_limits_that_another_client_has_set_in_a_pooled_session_do_not_count(
    pgbouncer: PgBouncer, database_url: str
) -> None:
    with psycopg.connect(pgbouncer.through(database_url), autocommit=True) as other:
        for name in ("idle_in_transaction_session_timeout", "lock_timeout", "statement_timeout"):
            other.execute(f"SET {name} = '5s'")
    with pytest.raises(PooledSessions), create_engine(pgbouncer.through(database_url)).connect():
        pass


def test_pooled_commits_that_do_not_wait_for_the_disk_are_refused(
    postgresql: PostgreSQL, pooled_url: str, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(f"ALTER DATABASE {database_url.rpartition('/')[2]} SET synchronous_commit = off")
    refusal = r"execute ALTER ROLE tracker IN DATABASE \w+ SET synchronous_commit = 'on'; on the server"
    with pytest.raises(PooledSessions, match=refusal), create_engine(pooled_url).connect():
        pass


def test_nothing_is_set_in_a_session_that_others_get_next(engine: sa.Engine) -> None:
    """What a direct session is given would be another's."""
    with engine.connect() as connection:
        changed = connection.exec_driver_sql(
            "SELECT name FROM pg_settings WHERE source = 'session' AND name LIKE 'tcp%%'"
        )
        assert changed.all() == []


def test_worker_behind_a_pooler_without_limits_ends_at_once_and_says_what_to_execute(
    vhost_url: str, pgbouncer: PgBouncer, database_url: str
) -> None:
    """It does not wait for what only the operator can do."""
    with Daemon(vhost_url, pgbouncer.through(database_url)) as daemon:
        assert daemon.wait() == 1
        (line,) = daemon.wait_for_line("Not started: ")
    assert re.search(r"execute ALTER ROLE tracker IN DATABASE \w+ SET .*then RECONNECT", line)


@pytest.mark.parametrize("pooler", ["statement"], indirect=True)
def test_statement_pooling_is_refused_in_the_poolers_own_words(
    pooler: PgBouncer, database_url: str, a_manage: Callable[[str], Manage]
) -> None:
    refusal = a_manage(pooler.through(database_url)).complaint("node", "list")
    assert "transaction blocks not allowed in statement pooling mode" in refusal


def test_settings_in_the_url_are_refused_in_the_poolers_own_words(
    pooled_url: str, a_manage: Callable[[str], Manage]
) -> None:
    refusal = a_manage(f"{pooled_url}?options=-clock_timeout%3D5s").complaint("node", "list")
    assert "unsupported startup parameter: options" in refusal


# What works.


@pytest.mark.parametrize("pooler", ["transaction", "session"], indirect=True)
def test_schema_is_made_and_checked_through_a_pooler(
    postgresql: PostgreSQL, pooler: PgBouncer, a_manage: Callable[[str], Manage]
) -> None:
    url = postgresql.new_database()
    postgresql.limit_sessions(url)
    manage = a_manage(pooler.through(url))
    try:
        assert manage.run("db", "sync") == 0, manage.err
        _, checks = manage.check()
        assert checks["Database schema"][0] == 0, checks
        assert manage.json("node", "list") == []
    finally:
        postgresql.drop_database(url)


def test_upgrade_check_names_what_a_pooled_session_lacks(
    pgbouncer: PgBouncer, database_url: str, a_manage: Callable[[str], Manage]
) -> None:
    manage = a_manage(pgbouncer.through(database_url))
    code, checks = manage.check()
    assert code == 2
    assert "ALTER ROLE tracker" in str(checks["Database schema"][1])
    assert "ALTER ROLE tracker" in manage.complaint("db", "sync")


def test_no_statement_is_prepared(engine: sa.Engine, a_bench: Callable[..., LaneBench]) -> None:  # noqa: F811
    """In whichever session: the pooler has had few, and they end with none."""
    bench = a_bench()
    bench.track()
    for number in range(12):
        bench.send(command("build_failed"), f"event-{number}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT name FROM pg_prepared_statements").all() == []


def test_prepare_threshold_of_the_url_is_no_error(database_url: str) -> None:
    made = create_engine(f"{database_url}?prepare_threshold=0")
    with made.connect() as connection:
        assert connection.exec_driver_sql("SELECT name FROM pg_prepared_statements").all() == []
    made.dispose()


@pytest.mark.parametrize(("sent", "is_lost"), [(signal.SIGKILL, True), (signal.SIGTERM, False)])
def test_server_that_dies_of_a_statement_is_a_lost_connection_behind_a_pooler_too(
    engine: sa.Engine, postgresql: PostgreSQL, sent: signal.Signals, is_lost: bool
) -> None:
    """The pooler says so in its own words; a session that somebody has ended comes with the server's."""
    with pytest.raises(DATABASE_ERRORS) as caught, engine.begin() as connection:
        os.kill(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one(), sent)
        connection.exec_driver_sql("SELECT pg_sleep(10)")
    wait_until(postgresql._answers, "the server to have recovered")
    assert is_connection_lost(caught.value) is is_lost
    assert not is_data_error(caught.value)
