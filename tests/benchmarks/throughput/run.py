# SPDX-License-Identifier: Apache-2.0
"""Runs one contestant in one scenario, and measures it.

Its nodes, and what they hold, are rows that tracker-worker has written. It first handles one message of each
node, so that its caches, its connections and its statements are ready. Then it is stopped (SIGSTOP) while the
queues are filled, and continued. The time ends with the last commit and the last confirmed notification.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import psutil
import sqlalchemy as sa
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from tests.benchmarks.throughput import contestants, exactness
from tests.benchmarks.throughput.contestants import Running
from tests.benchmarks.throughput.figures import Measurement, Run
from tests.benchmarks.throughput.messages import REPLY_QUEUE, Account, Message, expected
from tests.benchmarks.throughput.payloads import EXCHANGE
from tests.benchmarks.throughput.scenarios import Plan
from tests.benchmarks.throughput.servers import Servers
from tests.benchmarks.throughput.usage import Usage, usage_of
from tests.chaos.backlog import Publisher
from tests.delivery.oracle import QUEUE, connected, engine_of
from tests.delivery.processes import Broker, Processes
from tests.servers.server import wait_until
from tracker_worker.bus.rabbit.queues import Topology
from tracker_worker.domain.partitions import partition_of, server_of

SECONDS = 120


class Workspace:
    """A virtual host and a database in which one contestant works."""

    def __init__(self, broker: Broker, database: str, partitions: int) -> None:
        self._broker = broker
        self._partitions = partitions
        self._calls = 0
        self._engine = engine_of(database)
        with self._engine.connect() as connection:
            self._due = exactness.read_accounts(connection)

    def close(self) -> None:
        """Disconnect from the database."""
        self._engine.dispose()

    def publish(self, messages: Sequence[Message], pace: int | None = None) -> None:
        """Send messages, `pace` of them a second; return once the broker has all."""
        self._due = expected(self._due, messages)
        self._calls += sum(message.called for message in messages)
        with connected(self._broker.url) as connection:
            publisher = Publisher(connection, self._broker.exchange)
            began = time.monotonic()
            for number, message in enumerate(messages):
                if pace:
                    time.sleep(max(0.0, began + number / pace - time.monotonic()))
                publisher.send(server_of(partition_of(message.node, self._partitions)), message.body)
            publisher.wait()

    def wait(self, running: Running, processes: Processes) -> float:
        """Wait until everything that was sent is done; return when the last of it was, as `monotonic` says.

        Raises AssertionError with the end of the log.
        """
        ended = running.process.poll
        with connected(self._broker.url) as bus, self._engine.connect() as connection:
            end = _End(bus, connection, self._due)
            try:
                wait_until(lambda: ended() is not None or end.has_come(), "everything is done", SECONDS)
            except TimeoutError as error:
                raise AssertionError(f"{error}:\n{processes.tail(running.log)}") from None
        assert ended() is None, f"it ended:\n{processes.tail(running.log)}"
        return end.at

    def wrong(self) -> list[str]:
        """What is not as it must be, now that the contestant has ended."""
        with self._engine.connect() as connection:
            found = exactness.read_accounts(connection)
        for node, events in exactness.count_notified(exactness.take_notifications(self._broker.url)).items():
            found[node]["notified"] = events
        with connected(self._broker.url) as bus:
            left = {queue: _depth(bus, queue) for queue in self._queues()}
            replies = _depth(bus, REPLY_QUEUE)
        return [
            *exactness.differences(self._due, found),
            *(f"{queue} still has {count} messages" for queue, count in left.items() if count),
            *([f"{self._calls} calls have {replies} replies"] if replies != self._calls else []),
        ]

    def _queues(self) -> list[str]:
        topology = Topology(self._broker.exchange, self._partitions, quorum=False)
        return [topology.partition(number) for number in range(self._partitions)]


class _End:
    """The end of what was sent: all is committed, and no more notification arrives in their queue.

    An outbox keeps what is confirmed until its rows are removed, so that the last arrival counts, and not
    the empty table.
    """

    def __init__(self, bus: Connection, database: sa.Connection, due: Mapping[str, Account]) -> None:
        self._bus = bus
        self._database = database
        self._due = due
        self._committed = False
        self._arrived = -1
        self.at = 0.0
        """When the last event was committed or the last notification arrived, whichever came later."""

    def has_come(self) -> bool:
        """Look; tell whether nothing more can come."""
        with self._database.begin():
            self._committed = self._committed or exactness.committed(self._database, self._due)
            if not self._committed:
                return False
            # In this order: what left the outbox has arrived.
            is_empty = exactness.outbox_is_empty(self._database)
        arrived = _depth(self._bus, QUEUE)
        if arrived != self._arrived:
            self._arrived, self.at = arrived, time.monotonic()
        return is_empty


def fill(servers: Servers, kind: str, first: Sequence[Message]) -> str:
    """Return the URL of a database in which tracker-worker has applied the first messages of a scenario."""
    url = servers.new_database(kind)
    with (
        servers.vhost() as vhost,
        Processes() as processes,
        open_workspace(vhost, url, "worker") as workspace,
    ):
        running = contestants.start("worker", processes, Broker(vhost), url)
        workspace.publish(first)
        workspace.wait(running, processes)
        processes.stop(running.process, running.log)
    return url


def measure(servers: Servers, template: str, run: Run, plan: Plan) -> Measurement:
    """Measure a run of a plan on a copy of a database that was filled for its scenario."""
    warm = max(plan.scenario.nodes, plan.warm)
    messages = [plan.scenario.message(number) for number in range(warm + run.events)]
    with (
        servers.vhost() as vhost,
        servers.copy(run.database, template) as url,
        Processes() as processes,
        open_workspace(vhost, url, run.contestant) as workspace,
    ):
        running = contestants.start(run.contestant, processes, Broker(vhost), url, plan.options)
        workspace.publish(messages[:warm])
        workspace.wait(running, processes)
        pid = running.process.pid
        before, began = _feed(workspace, pid, messages[warm:], plan.pace)
        seconds = workspace.wait(running, processes) - began
        after = usage_of(pid)
        processes.stop(running.process, running.log)
        wrong = workspace.wrong()
    cpu_seconds = after.cpu_seconds - before.cpu_seconds
    return Measurement(
        **asdict(run), seconds=seconds, cpu_seconds=cpu_seconds, peak_bytes=after.peak_bytes, wrong=wrong
    )


@contextmanager
def open_workspace(vhost: str, database: str, contestant: str) -> Iterator[Workspace]:
    """Yield a contestant's workspace, in which no notification is lost."""
    _declare_queues(vhost)
    workspace = Workspace(Broker(vhost), database, contestants.PARTITIONS[contestant])
    try:
        yield workspace
    finally:
        workspace.close()


def _feed(
    workspace: Workspace, pid: int, messages: Sequence[Message], pace: int | None
) -> tuple[Usage, float]:
    """Send the messages; return what the process had used, and the time, when it could begin."""
    if pace:
        before, began = usage_of(pid), time.monotonic()
        workspace.publish(messages, pace)
        return before, began
    process = psutil.Process(pid)
    process.suspend()
    workspace.publish(messages)
    before, began = usage_of(pid), time.monotonic()
    process.resume()
    return before, began


def _declare_queues(vhost: str) -> None:
    """Declare what receives notifications and replies, for no message may be lost before the check.

    The notifications' is as oslo.messaging's notifier declares it.
    """
    exchange = Exchange(EXCHANGE, type="topic", durable=True)
    with connected(vhost) as connection:
        for queue in (Queue(QUEUE, exchange, routing_key=QUEUE), Queue(REPLY_QUEUE)):
            queue(connection.default_channel).declare()


def _depth(connection: Connection, queue: str) -> int:
    with connection.channel() as channel:
        return int(channel.queue_declare(queue, passive=True).message_count)
