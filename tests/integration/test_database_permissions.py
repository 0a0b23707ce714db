# SPDX-License-Identifier: Apache-2.0
"""A user who lacks a right on a table, or on the numbers of its rows, is found before a worker starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.functional.manage import Manage
from tests.servers.mariadb import MariaDB
from tracker_worker.cmd.database import DATABASE_ERRORS
from tracker_worker.db import permissions
from tracker_worker.db.engine import create_engine
from tracker_worker.db.errors import is_write_refused

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
FAILURE = 2
PASSWORD = "limited-secret"


@pytest.fixture
def limited(database_url: str) -> Iterator[tuple[str, sa.Engine]]:
    """PostgreSQL: the URL of a role that may do everything but create, and the owner's engine."""
    owner = create_engine(database_url)
    with owner.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE limited LOGIN PASSWORD '{PASSWORD}'")
        connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO limited")
        connection.exec_driver_sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO limited")
    url = sa.make_url(database_url).set(username="limited", password=PASSWORD)
    yield url.render_as_string(hide_password=False), owner
    with owner.begin() as connection:
        connection.exec_driver_sql("DROP OWNED BY limited")
        connection.exec_driver_sql("DROP ROLE limited")
    owner.dispose()


def said_by(url: str) -> str:
    engine = create_engine(url)
    try:
        with pytest.raises(DATABASE_ERRORS) as caught:
            permissions.try_writing(engine)
    finally:
        engine.dispose()
    assert is_write_refused(caught.value)
    return str(caught.value)


def test_role_with_all_rights_may_write_and_leaves_no_row(limited: tuple[str, sa.Engine]) -> None:
    url, owner = limited
    engine = create_engine(url)
    permissions.try_writing(engine)
    engine.dispose()
    with owner.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM outbox").scalar() == 0


@pytest.mark.parametrize("right", RIGHTS)
def test_missing_right_on_a_table_is_named(limited: tuple[str, sa.Engine], right: str) -> None:
    url, owner = limited
    with owner.begin() as connection:
        connection.exec_driver_sql(f"REVOKE {right} ON receipts FROM limited")
    assert "permission denied for table receipts" in said_by(url)


def test_standby_is_read_only(limited: tuple[str, sa.Engine]) -> None:
    url, owner = limited
    with owner.begin() as connection:
        connection.exec_driver_sql("ALTER ROLE limited SET default_transaction_read_only = on")
    assert "read-only transaction" in said_by(url)


def test_missing_right_on_the_numbers_of_the_outbox_is_a_failure_of_the_check(
    limited: tuple[str, sa.Engine], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, owner = limited
    with owner.begin() as connection:
        connection.exec_driver_sql("REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM limited")
    manage = Manage(tmp_path, capsys)
    manage.configure(f"[database]\nconnection = {url}\n")
    result, details = manage.check()[1]["Database schema"]
    assert details is not None
    assert result == FAILURE
    assert "permission denied for sequence" in details
    assert PASSWORD not in details


def test_missing_right_on_a_table_is_named_by_mariadb_too(mariadb: MariaDB, mariadb_url: str) -> None:
    database = sa.make_url(mariadb_url).database
    operator = create_engine(mariadb.operator_url(mariadb_url))
    with operator.connect() as connection:
        connection.exec_driver_sql(f"CREATE USER limited IDENTIFIED BY '{PASSWORD}'")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{database}`.* TO limited")
        url = sa.make_url(mariadb_url).set(username="limited", password=PASSWORD)
        engine = create_engine(url)
        try:
            permissions.try_writing(engine)
            connection.exec_driver_sql(f"REVOKE DELETE ON `{database}`.* FROM limited")
            engine.dispose()
            assert "DELETE command denied" in said_by(url.render_as_string(hide_password=False))
        finally:
            engine.dispose()
            connection.exec_driver_sql("DROP USER limited")
    operator.dispose()
