# SPDX-License-Identifier: Apache-2.0
"""The worker is killed again and again in the middle of its work: nothing is lost, doubled or overtaken.

Two kills within a second may hit the same innocent event while it runs alone, and a third death parks it, as
one that kills: a dead letter, with its reason, which a replay applies.
"""

import pytest
import sqlalchemy as sa

from tests.chaos.trial import Trial
from tests.delivery.trial import kill_at_work

PARKED_SHARE = 10
"""One of so many kills may park an innocent event."""


@pytest.mark.timeout(1800)  # With --chaos; most of it are 101 starts.
@pytest.mark.parametrize(
    ("database", "share"),
    [("PostgreSQL", (10, 3_000)), ("MariaDB", (3, 1_000)), ("SQLite", (3, 1_000))],
)
def test_a_worker_that_is_killed_at_work_loses_nothing(
    database, share, request, vhost_url, size, report_parked
):
    kills, casts = size(share, (100, 20_000))
    fixture = {"PostgreSQL": "database_url", "MariaDB": "mariadb_url", "SQLite": "sqlite_url"}[database]
    with Trial(vhost_url, request.getfixturevalue(fixture), casts) as trial:
        at_work = kill_at_work(trial, kills)
        row = trial.finish(f"kill -9 of the worker, {database}", kills)
        letters = parked(trial)
        replay(trial, [letter.id for letter in letters if letter.method])
    assert {letter.code for letter in letters} <= {"worker_died"}
    assert len(letters) <= kills // PARKED_SHARE
    report_parked(row, len(letters))
    assert at_work > kills / 2, f"most kills have found an idle worker: {at_work} of {kills}"
    assert trial.again == 0, "the broker was never away"


def parked(trial: Trial) -> list[sa.Row]:
    """The dead letters."""
    with trial.engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT id, code, method FROM dead_letters")))


def replay(trial: Trial, letters: list[str]) -> None:
    """Have dead letters applied that their commands came along with."""
    if not letters:
        return
    trial.start()
    trial.ended(trial.replay(letters, "--force"))
    trial.wait_for(lambda: trial.replayed() == len(letters), "the letters to be replayed")
    trial.stop_worker()
    replays = trial.column("SELECT event_id FROM receipts WHERE event_id LIKE '%-%-%-%-%.1'")
    assert sorted(replays) == sorted(f"{letter}.1" for letter in letters)
