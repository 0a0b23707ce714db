# SPDX-License-Identifier: Apache-2.0
"""Servers that have trouble of their own, and rows that somebody has changed: nothing is parked for it."""

import signal

import pytest
import sqlalchemy as sa

from tests.builders import NODE, a_flavor, an_instance, command
from tests.functional.conftest import a_bench, bench  # noqa: F401
from tests.functional.lanes import LaneBench
from tests.integration.daemon import PARTITIONS, Daemon
from tests.integration.operators import OPERATORS, Operator
from tests.integration.rabbit import connected, depth, publish
from tests.integration.test_database import SECONDS, URLS, a_unit_of_work  # noqa: F401
from tests.integration.test_database_servers import (  # noqa: F401
    applied_once,
    boots,
    engine,
    kind,
    operator,
    server,
    url,
)
from tests.servers.server import wait_until
from tracker_worker.core.batch import Batch, Snapshot
from tracker_worker.core.envelope import encode
from tracker_worker.core.records import Transaction
from tracker_worker.db import queries
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import CLAIMS, NODES
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.watchdog import STALL_SECONDS, Watchdog

TRIES = 6


@pytest.mark.parametrize(
    ("kind", "state"),
    [(name, state) for name, each in OPERATORS.items() for state in each.own_errors],
    indirect=["kind"],
)
def test_error_of_the_server_itself_is_waited_for_and_parks_nothing(
    bench: LaneBench,  # noqa: F811
    operator: Operator,  # noqa: F811
    state: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator.refuse(state)
    bench.track()
    deliveries = boots(bench, 4)
    commit, tries = bench.unit_of_work.commit, []

    def mended_in_the_end(work: Transaction) -> None:
        tries.append(work)
        if len(tries) == TRIES:
            operator.refuse_no_more()
        commit(work)

    monkeypatch.setattr(bench.unit_of_work, "commit", mended_in_the_end)
    bench.run()
    assert len(tries) == TRIES
    assert applied_once(bench, deliveries)


def test_lane_that_waits_for_a_lock_is_named_with_what_it_waits_for(
    bench: LaneBench,  # noqa: F811
    engine: sa.Engine,  # noqa: F811
    operator: Operator,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench.track()
    watchdog = Watchdog([bench.lane.activity], lambda: None, lambda: None)
    with engine.connect() as holder, bench.at_work():
        with holder.begin():
            holder.execute(sa.select(NODES).where(NODES.c.name == NODE).with_for_update())
            (delivery,) = boots(bench, 1)
            operator.wait_until_somebody_waits()
            bench.seconds += STALL_SECONDS
            watchdog.check()
        wait_until(lambda: bool(delivery.answers), "the lock is free again", SECONDS)
    (line,) = [r.getMessage() for r in caplog.records if "no progress" in r.getMessage()]
    assert line == "lane-0 has made no progress for 10 s: a batch of 1, at: committing node-1"


def test_stop_during_an_outage_says_so_at_once_and_what_is_redelivered(
    vhost_url: str,
    url: str,  # noqa: F811
    operator: Operator,  # noqa: F811
) -> None:
    body = encode("build_failed", {"node": NODE, "event_id": "event-a"})
    with Daemon(vhost_url, url, worker={"graceful_shutdown_timeout": 1}) as daemon:
        daemon.wait_until_it_consumes()
        operator.allow(False)
        try:
            with connected(vhost_url) as client:
                publish(client, [body], partition=partition_of(NODE, PARTITIONS))
                daemon.wait_for_line("Transaction is tried again")
                daemon.process.send_signal(signal.SIGTERM)
                daemon.wait_for_line("Stopping: what was received is processed for at most 1 s")
                assert daemon.wait() == 1
                daemon.wait_for_line("the broker redelivers what was not acknowledged")
                assert depth(client, f"tracker.p{partition_of(NODE, PARTITIONS)}") == 1
        finally:
            operator.allow(True)


@pytest.fixture(params=URLS)
def any_url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(URLS[request.param])
    return found


def test_deleted_claim_is_noticed_listed_and_rebuilt_on_every_database(any_url: str) -> None:
    made = create_engine(any_url)
    one, other = LaneBench(made), LaneBench(made)
    try:
        one.track()
        one.send(command("instance_claim", instance=an_instance("i-0", a_flavor(2))))
        with made.begin() as connection:
            connection.execute(sa.delete(CLAIMS))
        held = one.send(command("abort_instance_claim", instance_uuid="i-0"))
        also_held = other.send(command("instance_claim", instance=an_instance("i-1", a_flavor(1))))
        assert (held.answers, also_held.answers, one.parked()) == ([], [], [])
        with made.connect() as connection:
            assert [node.broken for node in queries.nodes(connection)] == [True]
        node = other.unit_of_work.load([NODE])[NODE]
        batch = Batch(Snapshot({}, {NODE: node}, {}), other.context)
        batch.rebuild(NODE, "rebuild-1")
        other.unit_of_work.commit(batch.transaction())
        for each in (one, other):
            each.seconds += 60
            each.run()
        assert (held.outcome, also_held.outcome, one.used()[0]) == ("ignored", "granted", 1)
        with made.connect() as connection:
            assert [node.broken for node in queries.nodes(connection)] == [False]
    finally:
        one.close()
        other.close()
        made.dispose()
