# SPDX-License-Identifier: Apache-2.0
"""What the health checks ask of each database: its schema, and its outbox with its age."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders import an_instance, command
from tests.functional.lanes import NOW, LaneBench
from tests.integration.test_database import URLS
from tracker_worker.db import outbox, revisions
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import OUTBOX
from tracker_worker.worker.database_probe import DatabaseProbe


@pytest.fixture(params=URLS)
def engine(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    made = create_engine(request.getfixturevalue(URLS[request.param]))
    yield made
    made.dispose()


@pytest.fixture
def probe(engine: sa.Engine) -> Iterator[DatabaseProbe]:
    made = DatabaseProbe(engine, time.monotonic, lambda: None)
    yield made
    made.close()


def test_empty_outbox_has_no_age(probe: DatabaseProbe) -> None:
    assert probe.state.at is None
    probe.ask()
    state = probe.state
    assert (state.error, state.revision, state.outbox, state.oldest) == (None, revisions.head(), 0, None)
    assert state.at is not None


def test_outbox_is_counted_to_its_limit_and_as_old_as_its_first_row(
    engine: sa.Engine, probe: DatabaseProbe
) -> None:
    bench = LaneBench(engine)
    bench.track()
    bench.now = datetime.now(UTC).replace(tzinfo=None)
    bench.send(command("instance_claim", instance=an_instance()))
    waiting = len(bench.rows(OUTBOX))
    assert waiting > 1
    probe.ask()
    assert (probe.state.outbox, probe.state.oldest) == (waiting, NOW)
    bench.close()


def test_row_that_cannot_be_decoded_has_no_age(engine: sa.Engine) -> None:
    row: dict[str, Any] = {"event_type": "x", "priority": "INFO", "message_id": "m", "body": b"\xff"}
    with engine.begin() as connection:
        connection.execute(sa.insert(OUTBOX).values(row))
    with engine.connect() as connection:
        assert outbox.backlog(connection) == outbox.Backlog(1, None)


def test_database_that_is_away_is_an_error_beside_its_last_answer(
    engine: sa.Engine, probe: DatabaseProbe
) -> None:
    probe.ask()
    answered = probe.state
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE outbox RENAME TO hidden"))
    probe.ask()
    assert probe.state.error
    assert (probe.state.at, probe.state.outbox) == (answered.at, 0)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE hidden RENAME TO outbox"))
    probe.ask()
    assert probe.state.error is None


def test_time_that_is_none_is_an_error_and_ends_no_thread(sqlite_url: str) -> None:
    """Somebody has written it by SQL: SQLite takes any text."""
    engine = create_engine(sqlite_url)
    probe = DatabaseProbe(engine, time.monotonic, lambda: None)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO providers (node, changed_at) VALUES ('n', 'yesterday')"))
    probe.ask()
    assert "yesterday" in str(probe.state.error)
    probe.close()
    engine.dispose()
