# SPDX-License-Identifier: Apache-2.0
"""A batch costs a constant number of SQL statements, of constant text, and each of them uses an index."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders import a_flavor, a_migration, a_report, an_instance, command, some_resources
from tests.functional.lanes import NOW, PARTITIONS, LaneBench
from tests.functional.statements import watched
from tracker_worker.bus.publisher import EncodedNotification
from tracker_worker.core.quarantine import Attempts
from tracker_worker.core.stats import Stats
from tracker_worker.db import outbox, receipts, retention, store
from tracker_worker.db.tables import METADATA
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Instance, Limits, Origin
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.relay import Relay
from tracker_worker.worker.settings import RelaySettings

MOST = 16
SECONDS = 20
AGAIN = 5
"""More, where anything is redelivered: its receipts and attempts are looked up, and it is counted."""
MOST_EVER = MOST + AGAIN
Sizes = tuple[int, int, int]
OF_ONE_KIND: Sizes = (2, 10, 40)
"""How many nodes the batches are about. A command that comes alone, and a single row on PostgreSQL, have
other statements."""
OF_ALL_KINDS: Sizes = (2, 10, 200)
NODES = [f"node-{number}" for number in range(sum(OF_ALL_KINDS))]


def a_boot(number: int, node: str, **more: object) -> AnyCommand:
    instance = an_instance(f"new-{number}", a_flavor(1, 64, 1))
    return command("instance_claim", node=node, instance=instance, **more)


def a_move(number: int, node: str) -> AnyCommand:
    migration = a_migration(f"m-{number}", f"i-{number}", source_node=node, dest_node=node)
    instance, flavor = an_instance(f"i-{number}"), a_flavor(2, 64, 1)
    return command("resize_claim", node=node, instance=instance, flavor=flavor, migration=migration)


def a_report_of(node: str, instances: list[Instance] | None = None, vcpus: int = 8) -> AnyCommand:
    resources = some_resources(uuid=f"uuid-{node}", host=f"host-{node}", vcpus=vcpus)
    return a_report(instances, node=node, resources=resources)


def an_audit(number: int, node: str) -> AnyCommand:
    return a_report_of(node, [an_instance(f"audited-{number}", a_flavor(1, 1, 1))])


def an_end(number: int, node: str) -> AnyCommand:
    return command("abort_instance_claim", node=node, instance_uuid=f"i-{number}")


KINDS: dict[str, Callable[[int, str], AnyCommand]] = {
    "a new node": lambda number, node: a_report_of(f"new-{node}"),
    "a report": lambda number, node: a_report_of(node, vcpus=9),
    "an unchanged report": lambda number, node: a_report_of(node),
    "a conflicting report": lambda number, node: a_report(
        node=node, resources=some_resources(uuid="of-nobody")
    ),
    "a claim": a_boot,
    "a claim with an origin": lambda number, node: a_boot(number, node, origin=Origin("c", 1)),
    "a refused claim": lambda number, node: a_boot(number, node, limits=Limits(vcpu=0)),
    "a move": a_move,
    "an end": an_end,
    "an ignored event": lambda number, node: an_end(-1, node),
    "an audit": an_audit,
    "a read": lambda number, node: command("get_node", node=node),
    "a removal": lambda number, node: command("remove_node", node=node, force=True),
    "a parked event": lambda number, node: command("build_failed", node=node),
}


def prepared(a_bench: Callable[..., LaneBench], sizes: Sizes = OF_ALL_KINDS) -> LaneBench:
    """A lane that knows the nodes of its batches, each with a claim and an instance that was touched."""
    bench = a_bench(batch_size=100_000, prefetch=10_000, batch_bytes=2**26)
    for number, node in enumerate(NODES[: sum(sizes)]):
        bench.deliver(a_report_of(node))
        instance = an_instance(f"i-{number}", a_flavor(1, 64, 1))
        origin = Origin("client", number)
        bench.deliver(command("instance_claim", node=node, instance=instance, origin=origin))
    bench.run()
    return bench


def numbers(sizes: Sizes = OF_ALL_KINDS) -> Iterator[range]:
    """Which nodes each batch is about: other ones each time."""
    first = 0
    for size in sizes:
        yield range(first, first + size)
        first += size


def deliver(bench: LaneBench, kind: str, number: int, **how: Any) -> None:
    event_id = f"{kind} {number}"
    if kind == "a parked event":
        wrong = (partition_of(NODES[number], PARTITIONS) + 1) % PARTITIONS
        how = {**how, "partition": wrong}
    bench.deliver(KINDS[kind](number, NODES[number]), event_id, **how)


def cost(bench: LaneBench) -> list[str]:
    """The statements of the batch that waits."""
    with watched(bench.engine) as seen:
        assert bench.lane.step()
    assert not bench.lane.step(), "it was one batch"
    return [statement.sql for statement in seen]


@pytest.mark.parametrize("redelivered", [False, True], ids=["", "redelivered"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_one_kind_costs_the_same_for_any_number_of_events(
    a_bench: Callable[..., LaneBench], kind: str, redelivered: bool
) -> None:
    bench = prepared(a_bench, OF_ONE_KIND)
    costs = []
    for batch in numbers(OF_ONE_KIND):
        for number in batch:
            deliver(bench, kind, number, redelivered=redelivered)
        costs.append(cost(bench))
    assert costs[0] == costs[1] == costs[2]
    assert len(costs[0]) <= MOST + AGAIN * redelivered


def test_a_batch_of_duplicates_costs_the_same_for_any_number_of_events(
    a_bench: Callable[..., LaneBench],
) -> None:
    bench = prepared(a_bench, OF_ONE_KIND)
    costs = []
    for batch in numbers(OF_ONE_KIND):
        for again in range(2):
            for number in batch:
                deliver(bench, "a claim", number, redelivered=bool(again))
            if not again:
                bench.run()
        costs.append(cost(bench))
    assert costs[0] == costs[1] == costs[2]
    assert len(costs[0]) <= MOST
    assert not [sql for sql in costs[0] if sql.startswith(("INSERT INTO receipts", "UPDATE nodes"))]


def everything(bench: LaneBench, other: LaneBench, batch: range, **how: Any) -> list[str]:
    """What `bench` pays for events of every kind, and for event ids that were used with another lane."""
    for number in batch:
        other.deliver(command("build_failed", node=NODES[number]), f"reused {number}")
    other.run()
    for number in batch:
        for kind in (kind for kind in KINDS if kind != "a removal"):
            deliver(bench, kind, number, **how)
        bench.deliver(command("remove_node", node=f"new-{NODES[number]}", force=True), **how)
        bench.deliver(an_end(number, NODES[number]), f"reused {number}", **how)
    return cost(bench)


def test_a_batch_of_everything_costs_the_same_for_any_number_of_events(
    a_bench: Callable[..., LaneBench],
) -> None:
    bench = prepared(a_bench)
    costs = [everything(bench, bench, batch) for batch in numbers()]
    assert costs[0] == costs[1] == costs[2]
    assert len(costs[0]) <= MOST, "\n".join(costs[0])


def a_cold_lane(a_bench: Callable[..., LaneBench]) -> LaneBench:
    return a_bench(batch_size=100_000, prefetch=10_000, batch_bytes=2**26)


def test_the_dearest_batch_costs_the_same_for_any_number_of_events(a_bench: Callable[..., LaneBench]) -> None:
    """What a lane pays that knows no node yet, when every event is redelivered."""
    other = prepared(a_bench)
    costs = [everything(a_cold_lane(a_bench), other, batch, redelivered=True) for batch in numbers()]
    assert costs[0] == costs[1] == costs[2]
    assert len(costs[0]) <= MOST_EVER, "\n".join(costs[0])


def test_a_transaction_begins_with_the_nodes_in_name_order_and_ends_with_the_outbox(
    a_bench: Callable[..., LaneBench],
) -> None:
    """A stale writer waits there and fails whole; outbox ids follow the commits; nobody can deadlock."""
    bench = prepared(a_bench, OF_ONE_KIND)
    for number in reversed(range(30)):
        deliver(bench, "a claim", number)
    with watched(bench.engine) as seen:
        bench.run()
    writes = [s for s in seen if not s.sql.startswith("SELECT")]
    kinds = [" ".join(statement.sql.split()[:3]).removesuffix(" SET") for statement in writes]
    assert (kinds[0], kinds[1], kinds[-1]) == (
        "UPDATE nodes",
        "INSERT INTO receipts",
        "INSERT INTO outbox",
    )
    swapped = [next(value for value in row if value in NODES) for row in writes[0].parameters]
    assert swapped == sorted(NODES[:30])


def test_without_notifications_a_batch_costs_no_more(a_bench: Callable[..., LaneBench]) -> None:
    bench = prepared(a_bench, OF_ONE_KIND)
    quiet = a_bench(notify=False)
    deliver(bench, "a claim", 0)
    deliver(quiet, "a claim", 1)
    assert "INSERT INTO outbox" in " ".join(cost(bench))
    assert "outbox" not in " ".join(cost(quiet))


class _Nowhere:
    def publish(self, notifications: Sequence[EncodedNotification]) -> int:
        """Take them all."""
        return len(notifications)

    def keep_alive(self) -> None:
        """There is nothing to keep alive."""

    def close(self) -> None:
        """There is nothing to close."""


def executed(a_bench: Callable[..., LaneBench]) -> dict[str, Any]:
    """Every statement that lanes and relay execute, with parameters of one execution."""
    bench = prepared(a_bench)
    with watched(bench.engine) as seen:
        for batch in numbers():
            everything(a_cold_lane(a_bench), bench, batch, redelivered=True)
        lone = [bench.send(a_boot(len(NODES) + number, NODES[0])) for number in range(2)]
        assert [delivery.outcome for delivery in lone] == ["granted", "granted"]
        bench.unit_of_work.record_attempts({"twice": Attempts(1)})
        bench.unit_of_work.show(NODES)
        settings = RelaySettings(window=50)
        relay = Relay(
            bench.engine, _Nowhere(), settings, "relay", lambda: NOW, time.monotonic, lambda: None, Stats()
        )
        relay.start()
        assert relay.drain(SECONDS)
    return {s.sql: s.parameters[0] if s.many else s.parameters for s in seen}


def written_down(module: ModuleType) -> dict[str, sa.Select[Any] | sa.Update | sa.Delete]:
    """The statements that a module keeps as constants."""
    statements = {
        name: getattr(statement, "among", getattr(statement, "query", statement))
        for name, statement in vars(module).items()
    }
    return {
        f"{module.__name__}.{name}": statement
        for name, statement in statements.items()
        if isinstance(statement, sa.Select | sa.Update | sa.Delete)
    }


def scans(connection: sa.Connection, sql: str, parameters: Any) -> list[str]:
    """The lines of a plan that read a whole table of ours."""
    tables = "|".join(METADATA.tables)
    plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
    lines = [row[-1] for row in plan]
    if "ORDER BY outbox.id" in sql and "LIMIT" in sql:
        lines.remove("SCAN outbox")  # In the order of the primary key, and no further than the limit.
    return [line for line in lines if re.match(rf"SCAN (?:TABLE )?(?:{tables})\b(?!.*INDEX)", line)]


def test_every_statement_that_is_executed_uses_an_index(
    a_bench: Callable[..., LaneBench], engine: sa.Engine
) -> None:
    statements = {
        sql: parameters
        for sql, parameters in executed(a_bench).items()
        if sql.startswith(("SELECT", "UPDATE", "DELETE"))
    }
    assert len(statements) >= 12
    with engine.connect() as connection:
        found = {sql: scans(connection, sql, values) for sql, values in statements.items()}
    assert not {sql: lines for sql, lines in found.items() if lines}


@pytest.mark.parametrize("module", [store, receipts, retention, outbox], ids=lambda module: module.__name__)
def test_every_statement_that_is_written_down_uses_an_index(engine: sa.Engine, module: ModuleType) -> None:
    statements = written_down(module)
    assert statements
    with engine.connect() as connection:
        for name, statement in statements.items():
            compiled = statement.compile(dialect=engine.dialect)
            values = tuple(1 for _ in compiled.positiontup or ())
            assert not scans(connection, str(compiled), values), name


def test_a_scan_is_found(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert scans(connection, "SELECT * FROM claims WHERE vcpus = ?", (1,))
        assert not scans(connection, "SELECT * FROM claims WHERE node = ?", ("n",))
