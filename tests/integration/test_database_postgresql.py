# SPDX-License-Identifier: Apache-2.0
"""What PostgreSQL alone has: its commits' levels, its sessions' names."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy.engine.interfaces import CacheStats
from sqlalchemy.exc import TimeoutError as PoolTimeout

from tests.benchmarks.growth.idle_cloud import idle_cloud, rows_of
from tests.benchmarks.growth.soak import bytes_of
from tests.builders import NODE, a_flavor, a_report, an_instance, command
from tests.functional.conftest import a_bench, bench  # noqa: F401
from tests.functional.lanes import LaneBench
from tests.functional.statements import watched
from tests.functional.test_lane_repeated_audits import transactions
from tests.integration.operators import OnPostgreSQL
from tests.integration.test_database import ANY_TEXT, a_receipt, bump, notification, track, work
from tests.servers.postgresql import PostgreSQL
from tests.topologies import a_card, a_guest, a_host, a_request, host_resources
from tracker_worker.core.quarantine import Attempts
from tracker_worker.db import outbox
from tracker_worker.db.clock import UtcNow
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import CLAIMS, NODES, OUTBOX, RECEIPTS, TOUCHED
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Origin
from tracker_worker.worker.configuration import CONNECTIONS_OF_A_LANE
from tracker_worker.worker.relay import WINDOW_BYTES


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of the test's own."""
    made = create_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture
def operator(postgresql: PostgreSQL, database_url: str) -> Iterator[OnPostgreSQL]:
    """Somebody in psql."""
    operator = OnPostgreSQL(postgresql, database_url)
    yield operator
    operator.close()


def test_a_session_has_our_name_unless_the_url_has_another(engine: sa.Engine, database_url: str) -> None:
    other = create_engine(f"{database_url}?application_name=mine")
    for made, name in ((engine, "tracker-worker"), (other, "mine")):
        with made.connect() as connection:
            assert connection.exec_driver_sql("SHOW application_name").scalar() == name
    other.dispose()


@pytest.mark.parametrize(
    ("default", "ours"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")]
)
def test_a_commit_waits_for_the_disk_whatever_the_default(
    database_url: str, operator: OnPostgreSQL, default: str, ours: str
) -> None:
    operator(f"ALTER DATABASE {{database}} SET synchronous_commit = {default}")
    made = create_engine(database_url)
    for _ in range(2):
        with made.connect() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == ours
            connection.rollback()
    made.dispose()


def test_lanes_work_where_the_default_is_serializable(
    a_bench: Callable[..., LaneBench],  # noqa: F811
    operator: OnPostgreSQL,
) -> None:
    operator("ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
    operator.end_sessions()
    one, other = a_bench(), a_bench()
    one.track()
    for number in range(4):
        (one, other)[number % 2].send(command("build_failed"))
    with one.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "serializable"
    assert one.sequence(NODE) == 5


OWN = {
    "id", "name", "node", "uuid", "event_id", "message_id", "commit_id", "digest", "body", "recorded_at",
    "resources", "sources",
}  # fmt: skip
"""Columns in which the same claims of two nodes differ."""


def last_rows(lane: LaneBench, table: sa.Table) -> dict[str, dict[str, Any]]:
    """Each node's last row of a table, without the columns that are its own."""
    order = "id" if table is OUTBOX else "sequence"
    rows = sorted(lane.rows(table), key=lambda row: row.get(order, 0))
    name = "name" if table is NODES else "node"
    return {row[name]: {column: row[column] for column in row.keys() - OWN} for row in rows}


def a_claim_again(node: str) -> list[AnyCommand]:
    """A claim of cpus, pages and a device, its abort, and the claim again: its instance is touched now."""
    instance = an_instance(
        "i-1",
        a_flavor(2, 64),
        numa_topology=a_guest(pagesize=2048, memory=64),
        pci_requests=[a_request(request_id="port-1", dev_type="type-VF")],
        os_type="línux",
    )
    return [
        command("instance_claim", node=node, instance=instance, origin=Origin("nova-1", 1)),
        command("abort_instance_claim", node=node, instance_uuid="i-1", origin=Origin("nova-1", 2)),
        command("instance_claim", node=node, instance=instance, origin=Origin("nova-2", 3)),
    ]


@pytest.fixture
def hosts(bench: LaneBench) -> tuple[str, ...]:  # noqa: F811
    """Three nodes with cells and devices."""
    names = ("node-1", "node-2", "node-3")
    for name in names:
        resources = host_resources(a_host(pages={4: 1_000_000, 2048: 100}), a_card(numa_node=0))
        bench.send(a_report(node=name, resources=replace(resources, uuid=f"uuid-of-{name}")))
    return names


def test_lone_claim_is_one_statement(bench: LaneBench, hosts: tuple[str, ...]) -> None:  # noqa: F811
    claim, abort, again = a_claim_again(hosts[0])
    with watched(bench.engine) as seen, transactions(bench.engine) as levels:
        assert bench.send(claim).outcome == "granted"
    assert [statement.sql.count("INSERT INTO") for statement in seen] == [4]
    assert levels == ["AUTOCOMMIT"]
    bench.send(abort)
    with watched(bench.engine) as seen:
        assert bench.send(again).outcome == "granted"
    assert len(seen) == 1


def test_lone_command_that_is_sent_twice_inserts_nothing_behind_its_receipt(
    bench: LaneBench,  # noqa: F811
    operator: OnPostgreSQL,
) -> None:
    """A refused claim, say, is not tried again."""
    bench.track()
    drawn = "SELECT last_value FROM pg_sequences"
    first = bench.send(command("build_failed"), "event-a")
    before = operator(drawn)
    assert bench.send(command("build_failed"), "event-a").outcome == first.outcome
    assert operator(drawn) == before


def test_what_a_single_statement_inserts_comes_back_as_it_was(engine: sa.Engine) -> None:
    track(engine, NODE)
    unit_of_work = UnitOfWork(engine)
    change = bump(unit_of_work.load([NODE])[NODE])
    receipt = a_receipt(reply={"text": ANY_TEXT, "none": None, "huge": 2**70}, instance_uuid="ü")
    told = notification(1, bytes(range(256)))
    with watched(engine) as seen:
        unit_of_work.commit(work(nodes=[change], receipts=[receipt], notifications=[told]))
    assert len(seen) == 1
    assert unit_of_work.load([NODE]) == {NODE: change.after}
    assert unit_of_work.find_receipts([receipt.event_id]) == {receipt.event_id: receipt}
    unit_of_work.close()
    with engine.connect() as connection:
        (row,) = outbox.window(connection, [], 10, WINDOW_BYTES)
        recorded_at, now = connection.execute(sa.select(RECEIPTS.c.recorded_at, UtcNow())).one()
        assert timedelta() < now - recorded_at < timedelta(minutes=1)
    assert replace(row, id=0) == told


def test_single_statement_is_compiled_once(bench: LaneBench, hosts: tuple[str, ...]) -> None:  # noqa: F811
    found = []
    sa.event.listen(
        bench.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, _sql, _values, context, _many: found.append(context.cache_hit),
    )
    for node in hosts:
        bench.send(a_claim_again(node)[0])
    assert found[-2:] == [CacheStats.CACHE_HIT] * 2


@pytest.mark.parametrize("commands", [1, 3], ids=["claim", "again"])
def test_lone_claim_writes_the_rows_that_one_in_a_batch_writes(
    bench: LaneBench,  # noqa: F811
    hosts: tuple[str, ...],
    commands: int,
) -> None:
    alone, *together = hosts
    for sent in a_claim_again(alone)[:commands]:
        bench.send(sent)
    for index in range(commands):
        for node in together:
            bench.deliver(a_claim_again(node)[index])
        bench.run()
    for table in (NODES, CLAIMS, TOUCHED, RECEIPTS, OUTBOX):
        rows = last_rows(bench, table)
        assert rows[alone] == rows[together[0]] == rows[together[1]]
        assert rows[alone], "no column compared"


def test_lane_keeps_two_connections_and_works_with_no_fewer(database_url: str) -> None:
    """What `settings_from` counts on."""
    for size, enough in ((CONNECTIONS_OF_A_LANE, True), (CONNECTIONS_OF_A_LANE - 1, False)):
        made = create_engine(database_url, max_pool_size=size, max_overflow=0, pool_timeout=0.01)
        unit_of_work = UnitOfWork(made)
        unit_of_work.record_attempts({"event": Attempts(1)})
        with nullcontext() if enough else pytest.raises(PoolTimeout):
            assert unit_of_work.attempts(["event"]) == {"event": Attempts(1)}
            assert isinstance(made.pool, sa.QueuePool)
            assert made.pool.checkedout() == size
        unit_of_work.close()
        made.dispose()


def test_audits_without_changes_leave_rows_and_bytes_as_they_were(engine: sa.Engine) -> None:
    """Each version of a row finds room on its page, and dead ones go without VACUUM."""
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE nodes SET (autovacuum_enabled = off)")
    seen = []
    with idle_cloud(engine, nodes=100) as cloud:
        for rounds in (0, 3, 9):
            cloud.audit(rounds)
            with engine.connect() as connection:
                seen.append((rows_of(connection), bytes_of(connection)))
    assert seen[0] == seen[1] == seen[2]
