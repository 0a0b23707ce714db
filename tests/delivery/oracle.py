# SPDX-License-Identifier: Apache-2.0
"""Exactly-once delivery: which casts were applied, lost, repeated or overtaken, by SQL and notifications.

The ledger model says what the applied events add up to. Nothing of the worker is imported: the oracle knows
tables and payloads.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from kombu.connection import Connection

from tests.delivery import load
from tests.delivery.load import Json, events_of, node_names
from tests.ledger_model import DEFAULT_RESERVE, Amounts, Key, Ledger, total

APPLIED = sa.Table(
    "stock_applied",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.String(64), nullable=False),
)
"""What the stock server has done, in the order in which it did it."""

QUEUE = "versioned_notifications.info"

_RECEIPTS = "SELECT event_id, node, sequence FROM receipts ORDER BY node, sequence, event_id"
_NODES = "SELECT name, sequence, failed_builds, vcpus_used, memory_mb_used, disk_mb_used FROM nodes"
_CLAIMS = (
    "SELECT node, instance_uuid, role, vcpus, memory_mb, disk_mb, migration_uuid, vm_state, task_state"
    " FROM claims"
)
_LETTERS = "SELECT event_id, code FROM dead_letters"
_APPLIED_OF_NODES = """
    SELECT node, count(*) AS events,
        sum(CASE WHEN method = 'build_failed' AND outcome <> 'parked' THEN 1 ELSE 0 END) AS failed_builds
    FROM receipts WHERE sequence IS NOT NULL GROUP BY node
"""
_CLAIMED_OF_NODES = """
    SELECT node, sum(vcpus) AS vcpus, sum(memory_mb) AS memory_mb, sum(disk_mb) AS disk_mb
    FROM claims GROUP BY node
"""


@dataclass(frozen=True)
class Verdict:
    """The result of a load.

    `applied` counts events, `twice` repetitions, `inversions` events that were applied after a later one of
    their node, `half` facts in SQL that differ from what the receipts add up to, `missing` gaps and errors in
    the notifications. `wrong` has the last two in words, and all other faults.
    """

    applied: int
    lost: int
    twice: int
    inversions: int
    half: int = 0
    missing: int = 0
    parked: int = 0
    wrong: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether every cast was applied once and in order, and nothing else is wrong."""
        found = (self.lost, self.twice, self.inversions, self.half, self.missing, self.parked)
        return not (any(found) or self.wrong)

    def also(self, half: Iterable[str] = (), wrong: Iterable[str] = ()) -> "Verdict":
        """The verdict with half events that were seen during the run, and other faults."""
        torn = tuple(half)
        return replace(self, half=self.half + len(torn), wrong=(*self.wrong, *torn, *wrong))


def judge(casts: int | Mapping[str, int], ids: Iterable[str]) -> Verdict:
    """Judge event ids in the order in which they were applied."""
    orders: dict[str, list[int]] = {node: [] for node in node_names()}
    for event_id in ids:
        node, _, number = event_id.rpartition(".")
        orders[node].append(int(number))
    lost = twice = inversions = applied = 0
    for node, order in orders.items():
        first = list(dict.fromkeys(order))
        applied += len(first)
        lost += len(set(range(events_of(node, casts))) - set(first))
        twice += len(order) - len(first)
        inversions += sum(later < earlier for earlier, later in zip(first, first[1:], strict=False))
    return Verdict(applied, lost, twice, inversions)


def engine_of(url: str, **pool: Any) -> sa.Engine:
    """An engine as SQLAlchemy makes it, without the worker's settings."""
    parsed = sa.make_url(url)
    drivers = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
    parsed = parsed.set(drivername=drivers.get(parsed.drivername, parsed.drivername))
    patience = {"timeout": 60} if parsed.get_backend_name() == "sqlite" else {}
    return sa.create_engine(parsed, connect_args=patience, **pool)


class Applied:
    """What the stock server has kept."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        APPLIED.create(engine)

    def settled(self) -> int:
        """How many events it has kept."""
        with self._engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(APPLIED)) or 0

    def verdict(self, casts: int) -> Verdict:
        """Judge them."""
        with self._engine.connect() as connection:
            return judge(casts, connection.scalars(sa.select(APPLIED.c.event_id).order_by(APPLIED.c.id)))


class WorkerDatabase:
    """A worker's database, read with plain SQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def settled(self) -> int:
        """How many events have left a receipt."""
        return self._count("receipts")

    def waiting(self) -> int:
        """How many notifications wait in the outbox."""
        return self._count("outbox")

    def torn(self) -> list[str]:
        """The half events that one snapshot shows while the worker runs. Cheap.

        A node's sequence and failed builds must be those of its receipts, its usage the sum of its claims.
        """
        with self._snapshot() as connection:
            nodes, applied, claimed = (
                {row[0]: row for row in connection.execute(sa.text(statement))}
                for statement in (_NODES, _APPLIED_OF_NODES, _CLAIMED_OF_NODES)
            )
        wrong = [f"{node}: receipts, but no node" for node in applied.keys() - nodes.keys()]
        for node, row in nodes.items():
            seen, sums = applied.get(node), claimed.get(node)
            figures = (row.sequence, row.failed_builds, *row[3:])
            events = (seen.events, int(seen.failed_builds)) if seen else (0, 0)
            claimed_of_node = Amounts(*map(int, sums[1:])) if sums else Amounts()
            must = (*events, *total([DEFAULT_RESERVE, claimed_of_node]))
            wrong += [f"{node}: {figures} at work, not {must}"] if figures != must else []
        return wrong

    def verdict(self, casts: int | Mapping[str, int], told: Iterable[Json]) -> Verdict:
        """Judge the receipts, then whether rows and notifications are what the receipts add up to."""
        letters = dict(map(tuple, self._rows(_LETTERS)))
        receipts = [row for row in self._rows(_RECEIPTS) if row.event_id not in letters]
        seen = judge(casts, [row.event_id for row in receipts])
        lost, twice, half = max(seen.lost - len(letters), 0), seen.twice, []
        rows = {row.name: row for row in self._rows(_NODES)}
        claims = self._claims()
        was: dict[tuple[str, int], tuple[int, ...]] = {}
        for node in node_names():
            mine = [row for row in receipts if row.node == node]
            if node not in rows:
                half += [f"{node}: {len(mine)} receipts, but no node"] if mine else []
                continue
            must = Ledger()
            for row in mine:
                must = load.applied(must, node, int(row.event_id.rpartition(".")[2]))
                was[node, row.sequence] = (*must.used.shown, must.failed_builds)
            surplus = rows[node].failed_builds - must.failed_builds
            twice += max(surplus, 0)
            lost += max(-surplus, 0)
            half += _differences(node, rows[node], claims.get(node, {}), must)
            if not letters and [row.sequence for row in mine] != list(range(1, rows[node].sequence + 1)):
                half.append(f"{node}: its receipts' sequences are not 1 to {rows[node].sequence}")
        attempts = self._count("attempts")
        half += [f"{attempts} attempts are left"] if attempts else []
        missing = unsynced(told, self._last(), was)
        parked = [f"{event_id} is parked: {code}" for event_id, code in letters.items()]
        wrong = (*half, *missing, *parked)
        return Verdict(
            seen.applied, lost, twice, seen.inversions, len(half), len(missing), len(letters), wrong
        )

    def _last(self) -> dict[str, tuple[int, ...]]:
        """What each node's last notification must say: sequence, vcpus, memory MB, disk GB, failed builds."""
        return {
            row.name: (
                row.sequence,
                *Amounts(row.vcpus_used, row.memory_mb_used, row.disk_mb_used).shown,
                row.failed_builds,
            )
            for row in self._rows(_NODES)
        }

    def _claims(self) -> dict[str, dict[Key, tuple[object, ...]]]:
        claims: dict[str, dict[Key, tuple[object, ...]]] = {}
        for node, uuid, role, *held in self._rows(_CLAIMS):
            claims.setdefault(node, {})[uuid, role] = tuple(held)
        return claims

    @contextmanager
    def _snapshot(self) -> Iterator[sa.Connection]:
        """A transaction in which all reads see the same snapshot."""
        with self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")  # The driver begins no transaction for reads.
            else:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    def _count(self, table: str) -> int:
        count: int = self._rows(f"SELECT count(*) FROM {table}")[0][0]
        return count

    def _rows(self, statement: str) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(sa.text(statement)))


def _differences(node: str, row: Any, claims: Mapping[Key, object], must: Ledger) -> list[str]:
    used = (row.vcpus_used, row.memory_mb_used, row.disk_mb_used)
    pairs = {
        "failed builds": (row.failed_builds, must.failed_builds),
        "usage": (used, must.used),
        "claims": (claims, must.rows),
    }
    return [
        f"{node}: {what} {found}, not {right}" for what, (found, right) in pairs.items() if found != right
    ]


def connected(url: str) -> Connection:
    """A connection to a transport URL, which may name several hosts."""
    hosts, _, vhost = url.removeprefix("rabbit://").partition("/")
    return Connection([f"amqp://{host}/{vhost}" for host in hosts.split(",")])


def notifications(url: str, queue: str = QUEUE) -> list[Json]:
    """Take all notifications from a queue, in its order."""
    taken = []
    with connected(url) as connection:
        channel = connection.channel()
        while message := channel.basic_get(queue, no_ack=True):
            taken.append(json.loads(json.loads(message.body)["oslo.message"]))
    return taken


def unsynced(
    told: Iterable[Json],
    last: Mapping[str, tuple[int, ...]],
    was: Mapping[tuple[str, int], tuple[int, ...]],
) -> list[str]:
    """The faults of usage notifications, after repetitions are dropped by their message_id.

    Each must follow the one before it without a gap and show the node as it was at its sequence; the last
    must show what SQL shows.
    """
    first = {notice["message_id"]: notice for notice in told}
    seen: dict[str, tuple[int, ...]] = {}
    wrong = []
    for notice in first.values():
        if notice["event_type"] != "compute_node.usage":
            continue
        data = notice["payload"]["nova_object.data"]
        node, sequence, since = data["node"], data["sequence"], data["since"]
        before = seen.get(node, (0,))[0]
        if since != before:
            wrong.append(f"{node}: notification {sequence} follows {since}, the one before it is {before}")
        figures = tuple(data[name] for name in ("vcpus_used", "memory_mb_used", "local_gb_used"))
        figures += (data["stats"]["failed_builds"],)
        if was.get((node, sequence), figures) != figures:
            wrong.append(f"{node}: notification {sequence} says {figures}, not {was[node, sequence]}")
        seen[node] = (sequence, *figures)
    wrong += [
        f"{node}: the last notification says {seen.get(node)}, SQL {figures}"
        for node, figures in last.items()
        if seen.get(node) != figures
    ]
    return wrong


def repetitions(told: Iterable[Json]) -> int:
    """How many notifications came more than once."""
    return sum(count - 1 for count in Counter(notice["message_id"] for notice in told).values())
