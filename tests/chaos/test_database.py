# SPDX-License-Identifier: Apache-2.0
"""The database fails under load, or its answer to a commit is lost."""

import operator
import random
import threading
from collections.abc import Callable
from functools import partial

import pytest

from tests.chaos.conftest import Size
from tests.chaos.databases import KINDS, database_of
from tests.chaos.queues import held
from tests.chaos.trial import BURST, Trial, put_to_work
from tests.delivery.processes import Options
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.server import Server
from tests.servers.sql_traffic import Commit

SEED = 1
TRIED_AGAIN = "Transaction is tried again"
MOST_RETRIES = 3
"""Attempts of a batch that may fail after the database is back: the one under way, one on another lost
connection, and one that meets the end of the recovery. Attempts are counted, not seconds, which depend on the
machine."""

Way = Callable[[Server], None]


def take_away(
    server: Server, end: Way, rabbitmq: RabbitMQ, trial: Trial, seconds: float
) -> tuple[float, int]:
    """Stop the database for a while and start it; return what passed from then to the next settled event.

    That is the seconds, and how many attempts of a batch have failed.

    No event is acknowledged during the outage.
    """
    end(server)
    before = held(rabbitmq, trial.broker.url)
    assert before, "nothing was under way"
    threading.Event().wait(seconds)
    assert held(rabbitmq, trial.broker.url) >= before, "acknowledged without a commit"
    server.start()
    settled, failed = trial.settled(), trial.log.count(TRIED_AGAIN)
    waited = trial.wait_for(lambda: trial.settled() > min(settled, trial.allowed - 1), "work goes on")
    return waited, trial.log.count(TRIED_AGAIN) - failed


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kind", "way", "share", "words"),
    [
        ("postgresql", operator.methodcaller("stop"), 2, "restarted with -m immediate"),
        ("postgresql", operator.methodcaller("kill"), 1, "killed"),
        ("mariadb", operator.methodcaller("kill"), 1, "killed"),
    ],
    ids=["postgresql-stopped", "postgresql-killed", "mariadb-killed"],
)
def test_a_database_that_goes_away_at_work_costs_nothing(
    vhost_url: str,
    rabbitmq: RabbitMQ,
    request: pytest.FixtureRequest,
    size: Size,
    report: Callable[..., None],
    kind: str,
    way: operator.methodcaller,
    share: int,
    words: str,
) -> None:
    database = database_of(request, kind)
    times = size(share, 5)
    chance = random.Random(SEED)
    resumed, retries = [], []
    with Trial(vhost_url, database.url, casts=BURST * (times + 1)) as trial:
        for number in range(1, times + 1):
            put_to_work(chance, BURST * number, trial)
            # After a long outage the back-off is at its maximum.
            away = size(0.0, chance.uniform(0.0, 15.0))
            waited, failed = take_away(database.server, way, rabbitmq, trial, away)
            resumed.append(waited)
            retries.append(failed)
        row = trial.finish(f"{database.name} {words}", times, max(resumed))
        assert trial.log.count(TRIED_AGAIN) >= times
    report(row)
    assert max(retries) <= MOST_RETRIES, retries


def by_a_lane(commit: Commit) -> bool:
    """Whether that was the commit of a batch."""
    return commit.wrote("INSERT")


def by_the_relay(commit: Commit) -> bool:
    """Whether published notifications were removed, mostly where the next were read, or the lease renewed."""
    return commit.verbs - {"SELECT"} in ({"DELETE"}, {"UPDATE"})


def has_cut(proxy: Proxy, times: int) -> bool:
    """Whether a proxy has broken so many connections."""
    return proxy.cuts == times


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_whose_answer_is_lost_counts_once(
    vhost_url: str,
    request: pytest.FixtureRequest,
    size: Size,
    report: Callable[..., None],
    kind: str,
) -> None:
    """A lane's and the relay's in turn."""
    database = database_of(request, kind)
    times, burst = size(6, 40), 1_000
    at_work = 0
    with Proxy(database.server.port, database.traffic) as proxy:
        # A small window, so that the relay removes rows during the load.
        options: Options = {
            "database": {"connection": proxy.through(database.url)},
            "notifications": {"window": 10},
        }
        with Trial(vhost_url, database.url, casts=burst * (times + 1), options=options) as trial:
            # It is made by an INSERT, too, and would be cut in a lane's place.
            trial.wait_for(lambda: bool(trial.column("SELECT name FROM leases")), "the relay's lease")
            for number in range(1, times + 1):
                trial.cast_until(burst * number)
                proxy.cut_after_commit(by_a_lane if number % 2 else by_the_relay)
                trial.wait_for(partial(has_cut, proxy, number), "a cut")
                at_work += trial.unsettled() > 0
            row = trial.finish(f"{database.name}: cut after COMMIT", times)
            assert trial.log.count(TRIED_AGAIN) >= times / 2
            assert trial.log.count("Notifications wait") >= times / 2
    report(row)
    assert at_work > times / 2
