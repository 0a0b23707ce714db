# SPDX-License-Identifier: Apache-2.0
"""What became of the casts, judged by SQL and notifications alone.

Written from the promises; it knows tables and payloads, and imports nothing of the worker.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import kombu
import sqlalchemy as sa

from tests.delivery.load import Json, State, events_of, node_names, state_after

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
_CLAIMS = "SELECT node, instance_uuid, role, vcpus, memory_mb, disk_mb FROM claims"
_LETTERS = "SELECT event_id, code FROM dead_letters"


@dataclass(frozen=True)
class Verdict:
    """What became of the casts.

    `applied` counts events, `twice` repetitions, `inversions` events that came after a later one of their
    node. `wrong` says in words what else is not as it must be.
    """

    applied: int
    lost: int
    twice: int
    inversions: int
    parked: int = 0
    wrong: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether every cast was applied once and in order, and nothing else is wrong."""
        return not (self.lost or self.twice or self.inversions or self.parked or self.wrong)


def judge(casts: int, ids: Iterable[str]) -> Verdict:
    """Judge the event ids that were applied, in the order in which they were."""
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
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
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


class Ledger:
    """A worker's database, read with plain SQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def settled(self) -> int:
        """How many events have left a receipt."""
        return self._rows("SELECT count(*) FROM receipts")[0][0]

    def waiting(self) -> int:
        """How many notifications nobody has confirmed yet."""
        return self._rows("SELECT count(*) FROM outbox")[0][0]

    def verdict(self, casts: int) -> Verdict:
        """Judge receipts first, then whether rows are what these receipts add up to."""
        letters = dict(map(tuple, self._rows(_LETTERS)))
        receipts = [row for row in self._rows(_RECEIPTS) if row.event_id not in letters]
        seen = judge(casts, [row.event_id for row in receipts])
        lost, twice, wrong = seen.lost - len(letters), seen.twice, []
        rows = {row.name: row for row in self._rows(_NODES)}
        claims = self._claims()
        for node in node_names():
            mine = [row for row in receipts if row.node == node]
            must = state_after(node, [int(row.event_id.rpartition(".")[2]) for row in mine])
            surplus = rows[node].failed_builds - must.failed_builds
            twice += max(surplus, 0)
            lost += max(-surplus, 0)
            wrong += _differences(node, rows[node], claims.get(node, {}), must)
            if not letters and [row.sequence for row in mine] != list(range(1, rows[node].sequence + 1)):
                wrong.append(f"{node}: its receipts' sequences are not 1 to {rows[node].sequence}")
        attempts = self._rows("SELECT count(*) FROM attempts")[0][0]
        wrong += [f"{attempts} attempts are left"] if attempts else []
        wrong += [f"{event_id} is parked: {code}" for event_id, code in letters.items()]
        return Verdict(seen.applied, lost, twice, seen.inversions, len(letters), tuple(wrong))

    def usage(self) -> dict[str, tuple[int, ...]]:
        """What each node's last notification must say: sequence, vcpus, memory MB, disk GB."""
        return {
            row.name: (row.sequence, row.vcpus_used, row.memory_mb_used, row.disk_mb_used // 1024)
            for row in self._rows(_NODES)
        }

    def _claims(self) -> dict[str, dict[str, tuple[int, int, int]]]:
        claims: dict[str, dict[str, tuple[int, int, int]]] = {}
        for row in self._rows(_CLAIMS):
            assert row.role == "instance", row
            claims.setdefault(row.node, {})[row.instance_uuid] = (row.vcpus, row.memory_mb, row.disk_mb)
        return claims

    def _rows(self, statement: str) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(sa.text(statement)))


def _differences(node: str, row: Any, claims: Mapping[str, object], must: State) -> list[str]:
    used = (row.vcpus_used, row.memory_mb_used, row.disk_mb_used)
    pairs = {
        "failed builds": (row.failed_builds, must.failed_builds),
        "usage": (used, must.used),
        "claims": (claims, must.claims),
    }
    return [
        f"{node}: {what} {found}, not {right}" for what, (found, right) in pairs.items() if found != right
    ]


def notifications(url: str, queue: str = QUEUE) -> list[Json]:
    """Take all notifications from a queue, in its order."""
    taken = []
    with kombu.Connection(url.replace("rabbit://", "amqp://")) as connection:
        channel = connection.channel()
        while message := channel.basic_get(queue, no_ack=True):
            taken.append(json.loads(json.loads(message.body)["oslo.message"]))
    return taken


def untold(told: Iterable[Json], usage: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is wrong with notifications of usage, after repetitions are dropped by their message_id.

    Each must be newer than the one before it and join on to it; the last must say what SQL says.
    """
    first = {notice["message_id"]: notice for notice in told}
    last: dict[str, tuple[int, ...]] = {}
    wrong = []
    for notice in first.values():
        if notice["event_type"] != "compute_node.usage":
            continue
        data = notice["payload"]["nova_object.data"]
        node, sequence, since = data["node"], data["sequence"], data["since"]
        before = last.get(node, (0,))[0]
        if since != before:
            wrong.append(f"{node}: notification {sequence} follows {since}, the one before it is {before}")
        last[node] = (sequence, data["vcpus_used"], data["memory_mb_used"], data["local_gb_used"])
    wrong += [
        f"{node}: the last notification says {last.get(node)}, SQL {figures}"
        for node, figures in usage.items()
        if last.get(node) != figures
    ]
    return wrong


def repetitions(told: Iterable[Json]) -> int:
    """How many notifications came more than once."""
    return sum(count - 1 for count in Counter(notice["message_id"] for notice in told).values())
