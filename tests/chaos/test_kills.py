# SPDX-License-Identifier: Apache-2.0
"""The worker is killed again and again under load: no event is lost, repeated, overtaken or parked.

Many kills hit an event that was in flight at the kill before.
"""

from collections.abc import Callable

import pytest

from tests.chaos.conftest import Size
from tests.chaos.trial import Trial
from tests.delivery.trial import kill_at_work


@pytest.mark.timeout(1800)  # With --chaos; most of the time is for 101 starts.
@pytest.mark.parametrize(("database", "share"), [("PostgreSQL", 10), ("MariaDB", 3), ("SQLite", 3)])
def test_a_worker_that_is_killed_at_work_loses_nothing(
    database: str,
    share: int,
    request: pytest.FixtureRequest,
    vhost_url: str,
    size: Size,
    report: Callable[..., None],
) -> None:
    kills, casts = size(share, 100), size(8_000, 20_000)
    fixture = {"PostgreSQL": "database_url", "MariaDB": "mariadb_url", "SQLite": "sqlite_url"}[database]
    with Trial(vhost_url, request.getfixturevalue(fixture), casts) as trial:
        at_work = kill_at_work(trial, kills)
        row = trial.finish(f"kill -9 of the worker, {database}", kills)
    report(row)
    assert at_work > kills / 2, f"most kills have found an idle worker: {at_work} of {kills}"
    assert trial.again == 0, "the broker was never away"
