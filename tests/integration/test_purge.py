# SPDX-License-Identifier: Apache-2.0
"""What a purge costs a server is in proportion to what it deletes, not to what is there."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from tests.benchmarks.purge import NEVER, insert_receipts
from tests.functional.statements import watched
from tests.functional.test_purge import a_node, now, stored  # noqa: F401
from tracker_worker.db.engine import create_engine
from tracker_worker.db.retention import NAMES_AT_ONCE
from tracker_worker.db.tables import RECEIPTS
from tracker_worker.worker.purge import Purge, Purged
from tracker_worker.worker.settings import Retention

NODES = NAMES_AT_ONCE + 10


@pytest.fixture(params=["database_url", "mariadb_url"], ids=["postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """An engine with one connection, so that what its session has read is what the purge has."""
    made = create_engine(request.getfixturevalue(request.param), max_pool_size=1, max_overflow=0)
    yield made
    made.dispose()


def fill(engine: sa.Engine, each: int) -> None:
    """Let each node have so many receipts, and the server know nothing of how many."""
    with engine.begin() as connection:
        insert_receipts(connection, f"upto{each}", NODES, each)


def rows_read(connection: sa.Connection) -> int:
    """How many entries of indexes and tables the session has read (MariaDB)."""
    found = connection.execute(sa.text("SHOW SESSION STATUS LIKE 'Handler_read%'"))
    return sum(int(value) for _, value in found)


def blocks_read(connection: sa.Connection, sql: str, parameters: Any) -> int:
    """How many blocks a statement reads, from the cache or not (PostgreSQL)."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}"
    plan = connection.exec_driver_sql(explain, parameters).scalar_one()[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def cost(engine: sa.Engine, settings: Retention, purged: Purged) -> int:
    """What a purge reads, which is expected to delete so much."""
    purge = Purge(engine, settings, lambda: None)
    if engine.dialect.name == "mysql":
        with engine.connect() as connection:
            before = rows_read(connection)
        assert purge.run_once() == purged
        with engine.connect() as connection:
            return rows_read(connection) - before
    with watched(engine) as seen:
        assert purge.run_once() == purged
    with engine.connect() as connection:
        return sum(blocks_read(connection, s.sql, s.parameters) for s in seen if "DELETE" not in s.sql)


def test_a_purge_without_work_costs_the_same_for_any_number_of_receipts(engine: sa.Engine) -> None:
    costs = []
    for each in (60, 240):
        with engine.begin() as connection:
            connection.execute(sa.delete(RECEIPTS))
        fill(engine, each)
        costs.append(cost(engine, NEVER, Purged()))
    for fewer, more in pairwise(costs):
        assert more <= 1.5 * fewer, costs
    assert costs[-1] <= 120 * NODES, costs


def test_a_purge_costs_in_proportion_to_what_it_deletes(
    engine: sa.Engine,
    a_node: Callable[..., None],  # noqa: F811
) -> None:
    for number in range(5):
        a_node(f"node-{number}", [*[30] * 1000, *[1] * 2000])
    idle = cost(engine, NEVER, Purged())
    assert idle <= 800, "of young nodes only the ends are looked at"
    # Read once where a walk looks for its end, once where it removes, and once more where they are deleted.
    for newest_receipts, count in ((2500, 5 * 500), (0, 5 * 500)):
        settings = Retention(newest_receipts=newest_receipts)
        assert cost(engine, settings, Purged(receipts=count)) <= idle + 8 * count
        assert cost(engine, settings, Purged()) <= 2 * idle


def test_the_oldest_of_many_without_a_sequence_are_found_without_reading_them_all(engine: sa.Engine) -> None:
    """PostgreSQL would sort them, each time, where it does not see that they are in order."""
    with engine.begin() as connection:
        insert_receipts(connection, "misplaced", 1, 20_000, sequenced=False)
    assert cost(engine, NEVER, Purged()) <= 400
    assert cost(engine, Retention(), Purged(receipts=2_000)) <= 400 + 8 * 2_000
