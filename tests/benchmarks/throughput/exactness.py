# SPDX-License-Identifier: Apache-2.0
"""Whether a contestant did its work: every event is counted once, in SQL and in the notifications."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from tests.benchmarks.throughput.messages import Account
from tests.delivery.oracle import QUEUE, connected
from tracker_worker.db.tables import CLAIMS, NODES, OUTBOX, RECEIPTS

Json = dict[str, Any]

_NODES = sa.select(
    NODES.c.name,
    NODES.c.sequence,
    NODES.c.vcpus_used,
    NODES.c.memory_mb_used,
    NODES.c.disk_mb_used,
    NODES.c.sources,
)
_CLAIMED = sa.select(
    CLAIMS.c.node,
    sa.func.count().label("claims"),
    *(sa.func.sum(CLAIMS.c[name]).label(f"{name}_claimed") for name in ("vcpus", "memory_mb", "disk_mb")),
).group_by(CLAIMS.c.node)
_RECEIPTS = sa.select(RECEIPTS.c.node, sa.func.count().label("receipts")).group_by(RECEIPTS.c.node)
_OUTBOX = sa.select(sa.func.count()).select_from(OUTBOX)
WORK = ("sequence", "audited")
"""The figures of an account that say how far its node is."""


def read_accounts(connection: sa.Connection) -> dict[str, Account]:
    """The accounts in SQL, without the notifications."""
    accounts = _read_work(connection)
    for query in (_CLAIMED, _RECEIPTS):
        for node, *_, row in ((row[0], row) for row in connection.execute(query)):
            accounts[node].update({name: int(row._mapping[name]) for name in row._fields[1:]})
    return accounts


def committed(connection: sa.Connection, accounts: Mapping[str, Account]) -> bool:
    """Whether every event is committed. Cheap."""
    found = _read_work(connection)
    return all(
        found.get(node, Account())[name] >= account[name]
        for node, account in accounts.items()
        for name in WORK
    )


def outbox_is_empty(connection: sa.Connection) -> bool:
    """Whether every notification is published, and its row removed, which may be a second later."""
    return not connection.scalar(_OUTBOX)


def take_notifications(url: str) -> list[Json]:
    """Take the notifications from their queue."""
    taken: list[Json] = []
    with connected(url) as connection, connection.channel() as channel:
        count = channel.queue_declare(QUEUE, passive=True).message_count
        channel.basic_consume(
            QUEUE, no_ack=True, callback=lambda message: taken.append(_decoded(message.body))
        )
        while len(taken) < count:
            connection.drain_events(timeout=60)
    return taken


def count_notified(notifications: Iterable[Json]) -> Counter[str]:
    """How many events of each node the usage notifications cover; a repeated notification counts once."""
    counted: Counter[str] = Counter()
    by_id = {notification["message_id"]: notification for notification in notifications}
    for notification in by_id.values():
        if notification["event_type"] == "compute_node.usage":
            data = notification["payload"]["nova_object.data"]
            counted[data["node"]] += data["events"]
    return counted


def differences(expected: Mapping[str, Account], found: Mapping[str, Account]) -> list[str]:
    """The figures that are not as they must be, in words; none for a contestant that did its work."""
    wrong = []
    for node in sorted(expected.keys() | found.keys()):
        must, has = expected.get(node, Account()), found.get(node, Account())
        wrong += [
            f"{node}: {name} is {has[name]}, not {must[name]}"
            for name in sorted(must.keys() | has.keys())
            if has[name] != must[name]
        ]
    return wrong


def _read_work(connection: sa.Connection) -> dict[str, Account]:
    accounts = {}
    for row in connection.execute(_NODES):
        figures = dict(row._mapping)
        sources = figures.pop("sources") or {}
        audited = max((source.get("audited", 0) for source in sources.values()), default=0)
        accounts[figures.pop("name")] = Account(figures | {"audited": audited})
    return accounts


def _decoded(body: str | bytes) -> Json:
    inner: Json = json.loads(json.loads(body)["oslo.message"])
    return inner
