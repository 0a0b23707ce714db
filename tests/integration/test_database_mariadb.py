# SPDX-License-Identifier: Apache-2.0
"""What MariaDB alone has: modes, character sets, changes of tables that are no transaction."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.functional.statements import Fault
from tests.integration.operators import OnMariaDB
from tests.servers.mariadb import MariaDB
from tracker_worker.db.engine import create_engine, sync_schema
from tracker_worker.db.errors import DATABASE_ERRORS, is_connection_lost, is_data_error
from tracker_worker.db.tables import METADATA
from tracker_worker.db.unit_of_work import UnitOfWork

SETTINGS = "SELECT @@tx_isolation, @@time_zone, @@innodb_lock_wait_timeout, @@character_set_client"


@pytest.fixture
def engine(mariadb_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of the test's own."""
    made = create_engine(mariadb_url)
    yield made
    made.dispose()


@pytest.fixture
def operator(mariadb: MariaDB, mariadb_url: str) -> Iterator[OnMariaDB]:
    """Somebody at the server's prompt."""
    operator = OnMariaDB(mariadb, mariadb_url)
    yield operator
    operator.close()


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda url: url,
        lambda url: url.replace("mysql:", "mariadb:"),
        lambda url: url.replace("mysql:", "mysql+pymysql:") + "?charset=utf8",
        lambda url: url.replace("mysql:", "mariadb+pymysql:") + "?charset=latin1&read_timeout=9",
    ],
    ids=["mysql", "mariadb", "charset", "more"],
)
def test_sessions_are_alike_whatever_the_url_says(mariadb_url: str, rewrite: Callable[[str], str]) -> None:
    made = create_engine(rewrite(mariadb_url))
    assert made.dialect.name == "mysql"
    for _ in range(2):
        with made.connect() as connection:
            assert connection.exec_driver_sql(SETTINGS).one() == ("READ-COMMITTED", "+00:00", 15, "utf8mb4")
        # Whoever reads without a transaction gives the session back as it was.
        with made.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SELECT 1")
    made.dispose()


@pytest.mark.parametrize("given", [None, "", "TRADITIONAL", "ANSI", "NO_BACKSLASH_ESCAPES"])
def test_a_mode_that_cuts_texts_is_not_taken(mariadb_url: str, given: str | None) -> None:
    made = create_engine(mariadb_url, mysql_sql_mode=given)
    with made.connect() as connection:
        modes = connection.exec_driver_sql("SELECT @@sql_mode").scalar_one().split(",")
    assert {"STRICT_TRANS_TABLES", "STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES"} <= set(modes)
    assert not given or given == "TRADITIONAL" or given in modes
    made.dispose()


def test_every_text_compares_byte_for_byte_and_every_table_has_transactions(engine: sa.Engine) -> None:
    columns = (
        "SELECT table_name, column_name, collation_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND collation_name IS NOT NULL AND table_name <> 'alembic_version'"
    )
    tables = "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = DATABASE()"
    with engine.connect() as connection:
        found = connection.exec_driver_sql(columns).all()
        assert len(found) > 30
        assert [row for row in found if row[2] != "utf8mb4_nopad_bin"] == []
        assert connection.exec_driver_sql(tables).scalars().all() == ["InnoDB"]


@pytest.mark.parametrize(
    "beginning",
    [
        "\nCREATE TABLE IF NOT EXISTS claims",
        "CREATE INDEX",
        "\nCREATE TABLE IF NOT EXISTS dead",
        "ALTER",
        "\nCREATE TABLE IF NOT EXISTS relay",
        "\nDROP INDEX",
        "UPDATE dead_letters",
        "UPDATE attempts",
        "ALTER TABLE attempts CHANGE",
        "ALTER TABLE attempts ADD COLUMN IF NOT EXISTS decoded",
        "UPDATE attempts SET begun",
        "ALTER TABLE attempts DROP",
        "\nCREATE TABLE IF NOT EXISTS leases",
        "\nDROP TABLE IF EXISTS relay",
    ],
)
def test_a_migration_that_died_half_way_is_begun_again(
    mariadb: MariaDB, beginning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change of a table is committed by itself."""
    url = mariadb.new_database()
    made = create_engine(url)

    def broken_engine(*args: Any, **options: Any) -> sa.Engine:
        engine = create_engine(*args, **options)
        fault.append(Fault(engine, beginning, lambda: RuntimeError("dies")).__enter__())
        return engine

    fault: list[Fault] = []
    with monkeypatch.context() as patch, pytest.raises(Exception, match="dies"):
        patch.setattr("tracker_worker.db.engine.create_engine", broken_engine)
        sync_schema(made)
    assert fault[0].hits == 1
    sync_schema(made)
    with made.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    made.dispose()
    mariadb.drop_database(url)


def test_commits_that_do_not_wait_for_the_disk_are_complained_of(
    mariadb_url: str, operator: OnMariaDB, caplog: pytest.LogCaptureFixture
) -> None:
    made = create_engine(mariadb_url)
    made.connect().close()
    assert "do not wait for the disk" not in caplog.text
    made.dispose()
    operator("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    try:
        made = create_engine(mariadb_url)
        made.connect().close()
        made.dispose()
    finally:
        operator("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assert caplog.text.count("do not wait for the disk") == 1


@pytest.mark.parametrize("number", [1020, 1040, 1047, 1053, 1114, 1205, 1290, 1317, 1927, 1969, 2006, 3024])
def test_an_error_of_the_server_is_no_events_fault_and_no_lost_connection_where_it_is_none(
    engine: sa.Engine, number: int
) -> None:
    """A member of a cluster that is cut off (1047) answers: nothing is to blame that was written."""
    signal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'value 2006 (2013)'"
    with pytest.raises(DATABASE_ERRORS) as caught, engine.connect() as connection:
        connection.exec_driver_sql(signal)
    assert not is_data_error(caught.value)
    assert is_connection_lost(caught.value) is (number == 2006)
    unit_of_work = UnitOfWork(engine)
    unit_of_work.ping()
    unit_of_work.close()
