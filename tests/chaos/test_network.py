# SPDX-License-Identifier: Apache-2.0
"""The network drops or delays all packets under load, without closing connections."""

import itertools
import random
import threading
from collections.abc import Callable, Sequence

import pytest

from tests.chaos.conftest import Size
from tests.chaos.databases import KINDS, database_of
from tests.chaos.queues import HEARTBEAT, IMPATIENT, NOTICES
from tests.chaos.trial import BURST, Trial, put_to_work
from tests.delivery.processes import Options
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ

SEED = 1
BEYOND = 3.0 * HEARTBEAT
"""Seconds after which both sides have given up a connection to the broker."""
GIVES_UP = 20.0
"""Seconds within which it drops the connection to a silent database. Its timeouts are 2 s here, else 30."""


def lose_connections(trial: Trial, proxy: Proxy, seconds: float) -> int:
    """Drop the packets of all current connections for ever; return their number once there are new ones."""
    lost = proxy.black_hole()
    trial.wait_for(lambda: proxy.connections() > lost, "new connections", seconds)
    return lost


@pytest.mark.timeout(600)
def test_a_broker_that_is_never_heard_of_again_is_given_up(
    vhost_url: str,
    rabbitmq: RabbitMQ,
    database_url: str,
    size: Size,
    report: Callable[..., None],
) -> None:
    times = size(1, 10)
    chance = random.Random(SEED)
    with Proxy(rabbitmq.port) as proxy:
        options = IMPATIENT | {"DEFAULT": {"transport_url": proxy.through(vhost_url)}}
        with Trial(vhost_url, database_url, casts=BURST * (times + 1), options=options) as trial:
            for number in range(1, times + 1):
                put_to_work(chance, BURST * number, trial)
                assert trial.unsettled()
                trial.wait_for(lambda: proxy.connections() >= 3, "connections to consume, reply and publish")
                assert lose_connections(trial, proxy, NOTICES) >= 3
                trial.wait_settled(trial.allowed)
            row = trial.finish("broker half open", times)
    report(row)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_database_that_is_never_heard_of_again_is_given_up(
    vhost_url: str,
    request: pytest.FixtureRequest,
    size: Size,
    report: Callable[..., None],
    kind: str,
) -> None:
    database = database_of(request, kind)
    times = size(1, 10)
    chance = random.Random(SEED)
    with Proxy(database.server.port) as proxy:
        options: Options = {"database": {"connection": f"{proxy.through(database.url)}?{database.impatient}"}}
        with Trial(vhost_url, database.url, casts=BURST * (times + 1), options=options) as trial:
            for number in range(1, times + 1):
                proxy.delay(0.002)
                put_to_work(chance, BURST * number, trial)
                assert trial.unsettled()
                lose_connections(trial, proxy, GIVES_UP)
                proxy.delay(0)
                trial.wait_settled(trial.allowed)
            row = trial.finish(f"{database.name} half open", times)
    report(row)


def stand_still(trial: Trial, links: Sequence[Proxy], chance: random.Random, seconds: float) -> None:
    """Stop links one after the other, each for at least so long, and restore them in another order."""
    for link in chance.sample(links, len(links)):
        link.freeze()
        threading.Event().wait(chance.uniform(0, seconds / 2))
    threading.Event().wait(seconds)
    assert trial.unsettled(), "nothing was under way"
    first, *others = chance.sample(links, len(links))
    first.thaw()
    for link in others:
        threading.Event().wait(chance.uniform(0, seconds / 2))
        link.thaw()


@pytest.mark.timeout(900)
def test_what_cannot_be_reached_for_some_time_is_waited_for(
    vhost_url: str,
    rabbitmq: RabbitMQ,
    request: pytest.FixtureRequest,
    size: Size,
    report: Callable[..., None],
) -> None:
    """For less and for more than the heartbeat timeout: some connections survive, others do not."""
    chance = random.Random(SEED)
    database = database_of(request, "postgresql")
    with Proxy(rabbitmq.port) as broker, Proxy(database.server.port) as far:
        ways = ([broker], [far], [broker, far])
        faults = size(
            [([broker], BEYOND), ([far], 1.0), ([broker, far], 2.0)],
            list(itertools.product(ways, (1.0, BEYOND, 30.0))) * 2,
        )
        options = IMPATIENT | {
            "DEFAULT": {"transport_url": broker.through(vhost_url)},
            # Without the broker it settles the events that it has: fewer than a burst.
            "worker": {"prefetch": 64},
            "database": {"connection": f"{far.through(database.url)}?{database.impatient}"},
        }
        with Trial(vhost_url, database.url, casts=BURST * (len(faults) + 1), options=options) as trial:
            for number, (stopped, seconds) in enumerate(faults, 1):
                put_to_work(chance, BURST * number, trial)
                stand_still(trial, stopped, chance, seconds)
            row = trial.finish("broker, database or both out of reach", len(faults))
            assert "cannot be used, trying again" in trial.log, "every connection outlived it"
    report(row)
