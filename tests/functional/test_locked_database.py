# SPDX-License-Identifier: Apache-2.0
"""SQLite while another process writes: readers go on, writers wait for a bounded time."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import command
from tests.functional.lanes import LaneBench
from tests.functional.manage import Manage
from tracker_worker.cmd.database import database_file
from tracker_worker.db.engine import create_engine
from tracker_worker.db.errors import DATABASE_ERRORS

SUCCESS, WARNING = 0, 1


@pytest.fixture
def locked(bench: LaneBench, tmp_path: Path) -> Iterator[None]:
    """Somebody else is in a transaction that writes, on a database with a node."""
    bench.track()
    holder = sqlite3.connect(database_file(tmp_path), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    yield
    holder.close()


def busy_timeout(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        found: int = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    engine.dispose()
    return found


def test_wait_for_the_lock_is_ten_seconds_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'database'}"
    assert busy_timeout(url) == 10_000
    assert busy_timeout(f"{url}?timeout=0.5") == 500


@pytest.mark.usefixtures("locked")
def test_write_ends_with_an_error_that_is_tried_again(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{database_file(tmp_path)}?timeout=0.1")
    with pytest.raises(DATABASE_ERRORS), engine.begin() as connection:
        connection.execute(sa.text("UPDATE nodes SET sequence = sequence + 1"))
    engine.dispose()


@pytest.mark.usefixtures("locked")
def test_commands_read_what_is_committed(
    bench: LaneBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manage = Manage(tmp_path, capsys)
    manage.configure(f"[database]\nconnection = sqlite:///{database_file(tmp_path)}?timeout=0.1\n")
    (node,) = manage.json("node", "list")
    assert node["name"] == command("get_node").node
    checks = manage.check()[1]
    assert checks["Nodes"] == (SUCCESS, None)
    result, details = checks["Database schema"]
    assert details is not None
    assert result == WARNING
    assert "unknown whether the user may write" in details and "database is locked" in details
