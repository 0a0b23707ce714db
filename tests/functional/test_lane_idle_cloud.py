# SPDX-License-Identifier: Apache-2.0
"""An idle cloud writes nothing that stays: audits that find nothing to change leave no rows."""

import sqlalchemy as sa

from tests.benchmarks.growth.idle_cloud import idle_cloud, rows_of
from tracker_worker.db.tables import NODES


def pages_of(connection: sa.Connection) -> int:
    pages: int = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    return pages


def test_audits_without_changes_leave_rows_and_pages_as_they_were(engine: sa.Engine) -> None:
    seen = []
    with idle_cloud(engine, nodes=5) as cloud:
        for rounds in (0, 10, 40):
            cloud.audit(rounds)
            with engine.connect() as connection:
                seen.append((rows_of(connection), pages_of(connection)))
    rows, _ = seen[0]
    assert (rows["nodes"], rows["claims"], rows["receipts"]) == (5, 5, 5)
    assert seen[0] == seen[1] == seen[2]


def test_audits_without_changes_are_seen(engine: sa.Engine) -> None:
    with idle_cloud(engine, nodes=2) as cloud:
        cloud.audit(10)
    with engine.connect() as connection:
        sources = connection.scalars(sa.select(NODES.c.sources)).all()
    assert [source["audited"] for each in sources for source in each.values()] == [12, 12]
