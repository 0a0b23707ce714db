# SPDX-License-Identifier: Apache-2.0
"""The faults again behind a pooler, which gives each transaction of a worker another session."""

import itertools
import random
from collections.abc import Callable

import pytest

from tests.chaos.conftest import Size
from tests.chaos.trial import Trial, put_to_work
from tests.delivery.processes import Options
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgresql import PostgreSQL
from tests.servers.server import Server

SEED = 1


def kill_worker(trial: Trial) -> None:
    trial.kill_worker()
    trial.start()


def kill(server: Server) -> Callable[[Trial], None]:
    """Kill a server and start it again."""

    def fault(_trial: Trial) -> None:
        server.kill()
        server.start()

    return fault


@pytest.mark.timeout(1800)  # With --chaos.
@pytest.mark.parametrize("lanes", [1, 4])
def test_a_worker_behind_a_pooler_loses_nothing_whatever_is_killed(
    vhost_url: str,
    database_url: str,
    pooled_url: str,
    postgresql: PostgreSQL,
    pgbouncer: PgBouncer,
    lanes: int,
    size: Size,
    report: Callable[..., None],
) -> None:
    """Worker, pooler and server are killed in turn. The oracle connects without the pooler."""
    times, casts = size(3, 99), size(5_000, 50_000)
    options: Options = {"database": {"connection": pooled_url}, "worker": {"lanes": lanes}}
    faults = itertools.cycle([kill_worker, kill(pgbouncer), kill(postgresql)])
    chance = random.Random(SEED)
    at_work = 0
    with Trial(vhost_url, database_url, casts, options=options) as trial:
        for number, fault in zip(range(1, times + 1), faults, strict=False):
            put_to_work(chance, casts // (times + 1) * number, trial)
            at_work += trial.unsettled() > 0
            fault(trial)
        row = trial.finish(f"kill -9 of worker, PgBouncer, PostgreSQL in turn, lanes: {lanes}", times)
        assert trial.log.count("is tried again") >= at_work / 3
        assert "prepared statement" not in trial.log, "a statement of another session, or missed in this one"
    report(row)
    assert at_work > times / 2
