# SPDX-License-Identifier: Apache-2.0
"""A real lane on a real database, stepped by the test's own thread."""

import itertools
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from tests.builders import NODE, SETTINGS, a_report, args_of, method_of, some_resources
from tracker_worker.bus.reply_errors import raised_in_caller
from tracker_worker.core.batch import BatchContext
from tracker_worker.core.decode import attempts_key
from tracker_worker.core.delivery import Answer, BodyDigest, OtherQueue
from tracker_worker.core.envelope import encode
from tracker_worker.core.quarantine import Attempts
from tracker_worker.core.stats import Stats
from tracker_worker.db.tables import ATTEMPTS, CLAIMS, DEAD_LETTERS, NODES, OUTBOX, RECEIPTS
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.partitions import partition_of
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.worker.lane import Lane
from tracker_worker.worker.settings import LaneSettings

PARTITIONS = 4
NOW = datetime(2026, 11, 22, 12)
OTHER_NODE = "node-2"
SECONDS = 20
QUICK = {"retry_initial": 0.001, "retry_max": 0.002, "min_uptime": 0.0}

_ids = itertools.count(1)


class Recorded:
    """A delivery that keeps what it was answered; `answer` fails unless it was settled exactly once."""

    live = True
    received_at = 0.0
    dead_lettered: str | None = None

    def __init__(
        self,
        body: bytes | BodyDigest,
        partition: int,
        redelivered: bool = False,
        compression: str | None = None,
    ) -> None:
        self.body = body
        self.compression = compression
        self.partition = partition
        self.redelivered = redelivered
        self.answers: list[Answer] = []

    def settle(self, answer: Answer) -> None:
        self.answers.append(answer)

    @property
    def answer(self) -> Any:
        """A reply, a text or an exception: which of them the test knows."""
        assert len(self.answers) == 1, f"settled {len(self.answers)} times"
        return self.answers[0]

    @property
    def outcome(self) -> str:
        """The reply's outcome, or the name of the exception."""
        answer = self.answer
        if isinstance(answer, Exception):
            return type(raised_in_caller(answer)).__name__
        assert isinstance(answer, dict)
        outcome: str = answer["outcome"]
        return outcome


class LaneBench:
    """One lane: what is delivered waits until `run`. The clocks stand still unless the test moves them."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        tracker: TrackerSettings = SETTINGS,
        notify: bool = True,
        mark_providers: bool = False,
        **bounds: Any,
    ) -> None:
        self.engine = engine
        self.now = NOW
        self.seconds = 0.0
        self.commits = 0
        self.stats = Stats()
        self.unit_of_work = UnitOfWork(engine)
        self.context = BatchContext(
            tracker=tracker,
            partitions=PARTITIONS,
            publisher_id="tracker-worker:test",
            notify=notify,
            clock=lambda: self.now,
            new_id=lambda: str(uuid.uuid4()),
            mark_providers=mark_providers,
        )
        settings = LaneSettings(**(QUICK | bounds))
        self.max_attempts = settings.max_attempts
        self.lane = Lane(
            "lane-0",
            [OtherQueue.BARE_TOPIC, OtherQueue.DEAD_LETTERS, *range(PARTITIONS)],
            self.unit_of_work,
            self.context,
            settings,
            lambda: self.seconds,
            self._committed,
            self.stats.new_lane(),
        )

    def deliver(self, command: AnyCommand, event_id: str | None = None, **how: Any) -> Recorded:
        """Queue a command under an event id, its own or a new one."""
        own = event_id or command.event_id or f"id-{next(_ids)}"
        args = args_of(msgspec.structs.replace(command, event_id=own))
        return self.deliver_body(encode(method_of(command), args), command.node, **how)

    def deliver_body(
        self,
        body: bytes | BodyDigest,
        node: str = NODE,
        *,
        partition: int | None = None,
        redelivered: bool = False,
        compression: str | None = None,
    ) -> Recorded:
        """Queue bytes on the partition of a node, or on another one."""
        if partition is None:
            partition = partition_of(node, PARTITIONS)
        delivery = Recorded(body, partition, redelivered, compression)
        self.lane.inbox.put(delivery)
        return delivery

    def run(self) -> None:
        """Settle all that waits."""
        while self.lane.step():
            pass

    @contextmanager
    def at_work(self) -> Iterator[threading.Thread]:
        """The lane works in a thread of its own, which is abandoned and ends with the block."""
        thread = threading.Thread(target=self.lane.run, daemon=True)
        thread.start()
        try:
            yield thread
        finally:
            self.lane.abandon()
            thread.join(SECONDS)
        assert not thread.is_alive()

    def send(self, command: AnyCommand, event_id: str | None = None, **how: Any) -> Recorded:
        """Deliver and run."""
        delivery = self.deliver(command, event_id, **how)
        self.run()
        return delivery

    def track(self, *nodes: str) -> None:
        """Report nodes of 8 vcpus, 16 GB of memory and 100 GB of disk, each with a uuid of its own."""
        for node in nodes or (NODE,):
            resources = some_resources(uuid=f"uuid-of-{node}", host=f"host-of-{node}")
            self.deliver(a_report(node=node, resources=resources))
        self.run()

    def date(self, moment: datetime, *event_ids: str) -> None:
        """Let receipts and dead letters of these events be written at a time by the database's clock."""
        with self.engine.begin() as connection:
            for table in (RECEIPTS, DEAD_LETTERS):
                dated = sa.update(table).where(table.c.event_id.in_(event_ids))
                connection.execute(dated.values(recorded_at=moment))

    def close(self) -> None:
        self.unit_of_work.close()

    def _committed(self) -> None:
        self.commits += 1

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        """The rows of a table, read on a connection of their own."""
        return rows(self.engine, table)

    def sequence(self, node: str = NODE) -> int:
        sequence: int = next(r["sequence"] for r in self.rows(NODES) if r["name"] == node)
        return sequence

    def used(self, node: str = NODE) -> tuple[int, int, int]:
        """Vcpus, memory and disk in MB as the node's row has them."""
        (row,) = (r for r in self.rows(NODES) if r["name"] == node)
        return row["vcpus_used"], row["memory_mb_used"], row["disk_mb_used"]

    def claimed(self, node: str = NODE) -> dict[tuple[str, str], int]:
        """The vcpus of each claim by instance and role."""
        return {(r["instance_uuid"], r["role"]): r["vcpus"] for r in self.rows(CLAIMS) if r["node"] == node}

    def receipts(self) -> dict[str, dict[str, Any]]:
        return {row["event_id"]: row for row in self.rows(RECEIPTS)}

    def parked(self) -> list[tuple[str, str]]:
        """Event id and code of each dead letter."""
        return [(row["event_id"], row["code"]) for row in self.rows(DEAD_LETTERS)]

    def attempts(self) -> dict[str, Attempts]:
        """What is kept of the attempts of each event."""
        return {row["event_id"]: Attempts(row["begun"], row["decoded"]) for row in self.rows(ATTEMPTS)}

    def died(self, times: int, *deliveries: Recorded) -> None:
        """So often a worker has counted these deliveries, which wait, and then died while it ran them."""
        attempts = Attempts(times, decoded=times > 1 or times >= self.max_attempts)
        self.unit_of_work.record_attempts({attempts_key(delivery): attempts for delivery in deliveries})

    def notifications(self) -> list[dict[str, Any]]:
        """The messages that wait in the outbox, in order."""
        return [msgspec.json.decode(row["body"]) for row in self.rows(OUTBOX)]


def rows(engine: sa.Engine, table: sa.Table) -> list[dict[str, Any]]:
    """The rows of a table in the order of its primary key."""
    with engine.connect() as connection:
        found = connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
        return [dict(row) for row in found]


def data_of(notification: dict[str, Any]) -> dict[str, Any]:
    """The payload's data, with the cause unwrapped."""
    data: dict[str, Any] = notification["payload"]["nova_object.data"]
    return data | {"cause": data["cause"]["nova_object.data"]}


def names_of_partition(partition: int) -> Iterator[str]:
    """Names of nodes that belong to a partition, without end."""
    names = (f"node-{number}" for number in itertools.count(1))
    return (name for name in names if partition_of(name, PARTITIONS) == partition)
