# SPDX-License-Identifier: Apache-2.0
"""Contestant `limit`: a loop on py-amqp, the rows in batches, the confirms in windows, no rules.

A batch is published while the next one is read and committed; its rows leave the outbox with the one after
that. Where nothing waits, they leave at once.
"""

import json
import select
import signal
import sys
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

import amqp

from tests.benchmarks.throughput.limit_batch import Batch
from tests.benchmarks.throughput.limit_rows import Row, Statements, load_nodes
from tests.benchmarks.throughput.payloads import EXCHANGE, TOPIC, UsagePayload
from tests.delivery.oracle import connected, engine_of
from tracker_worker.bus.rabbit.queues import Topology, declare
from tracker_worker.core.envelope import seal

BATCH = PREFETCH = 256
PARTITIONS = 16


def connect(url: str) -> amqp.Connection:
    """A connection of py-amqp's to a transport URL."""
    connection: amqp.Connection = connected(url).connection
    return connection


class Commands:
    """The queues of all partitions, on one channel."""

    def __init__(self, url: str, exchange: str) -> None:
        self._connection = connect(url)
        topology = Topology(exchange, PARTITIONS, quorum=False)
        declare(self._connection, topology)
        self._channel = self._connection.channel()
        self._channel.auto_decode = False
        self._channel.basic_qos(0, PREFETCH, False)
        self._taken: list[Any] = []
        for number in range(PARTITIONS):
            self._channel.basic_consume(topology.partition(number), callback=self._taken.append)

    def take(self, seconds: float) -> list[bytes]:
        """Return what waits, at most a batch; wait so long for the first."""
        self._taken.clear()
        while len(self._taken) < BATCH and self._readable(0 if self._taken else seconds):
            self._connection.drain_events()
        return [message.body for message in self._taken]

    def acknowledge(self) -> None:
        """Acknowledge what was taken last."""
        self._channel.basic_ack(self._taken[-1].delivery_tag, multiple=True)

    def _readable(self, seconds: float) -> bool:
        return bool(select.select([self._connection.sock], [], [], seconds)[0])


class Publisher:
    """Publishes notifications; `settle` waits for their confirms."""

    def __init__(self, url: str) -> None:
        self._connection = connect(url)
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._acknowledged)
        self._sent = self._confirmed = 0
        self._early: set[int] = set()

    def publish(self, notifications: Sequence[Row]) -> None:
        """Send the bodies."""
        for row in notifications:
            message = amqp.Message(
                seal(row["body"].decode()),
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
            )
            self._channel.basic_publish(message, EXCHANGE, f"{TOPIC}.info", mandatory=True)
            self._sent += 1

    def settle(self) -> None:
        """Wait until all is confirmed."""
        while self._confirmed + len(self._early) < self._sent:
            self._connection.drain_events(timeout=60)

    def _acknowledged(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._confirmed = max(self._confirmed, tag)
            self._early = {each for each in self._early if each > tag}
        else:
            self._early.add(tag)


class Limit:
    """The loop."""

    def __init__(self, url: str, exchange: str, database: str) -> None:
        engine = engine_of(database)
        self._nodes = load_nodes(engine)
        self._statements = Statements(engine)
        self._payloads = UsagePayload()
        self._publisher = Publisher(url)
        self._commands = Commands(url, exchange)
        self._published: list[Row] = []
        self._ids = count(1)

    def turn(self, seconds: float) -> bool:
        """Handle a batch; False if none came within so many seconds."""
        bodies = self._commands.take(seconds)
        if not bodies:
            return False
        batch = Batch(self._nodes, self._payloads, self._ids)
        for body in bodies:
            batch.apply(body)
        rows = batch.rows()
        sent = rows.get("notifications", [])
        self._publisher.settle()
        self._statements.commit(rows | {"published": self._published})
        self._commands.acknowledge()
        self._publisher.publish(sent)
        self._published = [{"b_id": row["id"], "b_message_id": row["message_id"]} for row in sent]
        return True

    def settle(self) -> None:
        """Wait for the confirms, and empty the outbox."""
        self._publisher.settle()
        if self._published:
            self._statements.commit({"published": self._published})
            self._published = []


def main() -> None:
    """Consume until SIGTERM: {"url", "exchange", "database"}."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    order = json.loads(sys.stdin.readline())
    limit = Limit(order["url"].partition("?")[0], order["exchange"], order["database"])
    print("consuming", flush=True)
    while not stopping.is_set():
        if not limit.turn(0):
            limit.settle()
            limit.turn(0.2)


if __name__ == "__main__":
    main()
