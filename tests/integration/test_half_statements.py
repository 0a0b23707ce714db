# SPDX-License-Identifier: Apache-2.0
"""A client that is gone without a word in the middle of a statement, for which PostgreSQL waits."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests.servers.postgresql import PostgreSQL
from tests.servers.proxy import Proxy
from tests.servers.server import wait_until
from tracker_worker.db import sessions
from tracker_worker.db.engine import create_engine

LOCK = "INSERT INTO attempts VALUES ('one', '2026-11-22', 1, false)"
SETTINGS = "SELECT setting::int FROM pg_settings WHERE name LIKE 'tcp\\_%' ORDER BY name"
HALF = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND wait_event = 'ClientRead'
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def test_a_session_looks_whether_its_client_is_gone(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert connection.scalars(sa.text(SETTINGS)).all() == [3, 10, 5, 30_000]


def test_less_patience_in_the_url_is_left_as_it_is(database_url: str) -> None:
    engine = create_engine(f"{database_url}?options=-ctcp_keepalives_idle=2")
    with engine.connect() as connection:
        assert connection.scalars(sa.text(SETTINGS)).all() == [3, 2, 5, 30_000]
    engine.dispose()


@pytest.mark.timeout(60)
def test_locks_are_free_again_when_the_rest_of_a_statement_never_comes(
    postgresql: PostgreSQL, database_url: str, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the server that is work: it is not idle in its transaction."""
    monkeypatch.setattr(
        sessions, "KEEPALIVES", {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}
    )
    monkeypatch.setattr(sessions, "USER_TIMEOUT_MS", 2000)
    with Proxy(postgresql.port) as proxy:
        far = create_engine(proxy.through(database_url))
        gone = far.connect()
        driver: Any = gone.connection.driver_connection
        wire = driver.pgconn
        wire.enter_pipeline_mode()
        wire.send_query_params(b"BEGIN", None)
        wire.send_query_params(LOCK.encode(), None)
        wire.send_flush_request()
        wire.flush()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as operator:
            wait_until(lambda: operator.scalar(sa.text(HALF)), "half a statement")
        proxy.black_hole()
        with engine.begin() as connection:
            connection.execute(sa.text(LOCK))
        gone.invalidate()
        far.dispose()
