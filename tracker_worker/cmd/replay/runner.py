# SPDX-License-Identifier: Apache-2.0
"""The replay of one trace through rpcapi to an embedded worker."""

import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import sqlalchemy as sa
from oslo_messaging.rpc.dispatcher import NoSuchMethod

from tracker_worker import exceptions
from tracker_worker.bus.rabbit.connection import BrokerSettings, connect
from tracker_worker.bus.rabbit.queues import Topology, declare
from tracker_worker.cmd.replay.report import fullness
from tracker_worker.cmd.replay.trace import Result, Step, Trace, plain_reason, predecessors
from tracker_worker.core.records import PARKED
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.decision import Outcome
from tracker_worker.domain.views import node_view
from tracker_worker.rpcapi import TrackerAPI
from tracker_worker.worker.service import Worker
from tracker_worker.worker.settings import WorkerSettings

MAX_CONCURRENT_NODES = 64
TIMEOUT_SECONDS = 120

Json = dict[str, Any]
Reply = tuple[str, str | None]
"""Outcome and reason."""


class Reader:
    """Reads node views from the database, where a command is committed before its reply. One thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self._unit_of_work = UnitOfWork(engine)

    def views(self, names: set[str]) -> dict[str, Json | None]:
        """Return the views of nodes by name; None for a node that is not tracked."""
        nodes = self._unit_of_work.show(names) if names else {}
        return {n: node_view(node) if node.tracked else None for n, node in nodes.items()}

    def fullest(self, count: int) -> list[Json]:
        """Return the views of the `count` fullest tracked nodes, the fullest first."""
        views = self.views(set(self._unit_of_work.names())).values()
        return sorted(filter(None, views), key=fullness, reverse=True)[:count]

    def close(self) -> None:
        """Close the database connection."""
        self._unit_of_work.close()


class TraceReplay:
    """The replay of one trace. A step is called once its predecessors are done, up to 64 nodes at a time."""

    def __init__(self, trace: Trace, api: TrackerAPI, reader: Reader) -> None:
        self._steps = trace.steps
        self._api = api
        self._reader = reader
        self._predecessors = predecessors(trace.steps)
        self._followers: dict[int, list[int]] = {}
        for index, before in enumerate(self._predecessors):
            for earlier in before:
                self._followers.setdefault(earlier, []).append(index)
        self._done: queue.SimpleQueue[tuple[int, Future[Reply]]] = queue.SimpleQueue()

    def run(self, advance: Callable[[int], None]) -> list[Result]:
        """Replay the trace; return the result of each step.

        Calls `advance` on this thread with the number of steps that were done since the last call.
        """
        results: dict[int, Result] = {}
        first = [index for index, before in enumerate(self._predecessors) if not before]
        with ThreadPoolExecutor(MAX_CONCURRENT_NODES) as pool:
            self._start(pool, first)
            while len(results) < len(self._steps):
                finished = self._wait_for_finished()
                results |= self._results(finished)
                advance(len(finished))
                self._start(pool, self._released(finished))
        return [results[index] for index in range(len(self._steps))]

    def _start(self, pool: ThreadPoolExecutor, indexes: Iterable[int]) -> None:
        for index in indexes:
            future = pool.submit(self._call, self._steps[index])
            future.add_done_callback(partial(self._enqueue, index))

    def _enqueue(self, index: int, future: Future[Reply]) -> None:
        self._done.put((index, future))

    def _wait_for_finished(self) -> dict[int, Reply]:
        """Wait for a reply, then return all replies that were received, by step."""
        index, future = self._done.get()
        finished = {index: future.result()}
        while not self._done.empty():
            index, future = self._done.get()
            finished[index] = future.result()
        return finished

    def _results(self, finished: dict[int, Reply]) -> dict[int, Result]:
        """Return the results of steps, with their views: no later step of these nodes has started."""
        expected = {index: set(self._steps[index].expect.nodes) for index in finished}
        views = self._reader.views(set().union(*expected.values()))
        return {
            index: Result(*reply, {name: views.get(name) for name in expected[index]})
            for index, reply in finished.items()
        }

    def _released(self, finished: Iterable[int]) -> Iterator[int]:
        """Yield the steps whose last predecessors are among these."""
        for index in finished:
            for follower in self._followers.pop(index, ()):
                self._predecessors[follower].discard(index)
                if not self._predecessors[follower]:
                    yield follower

    def _call(self, step: Step) -> Reply:
        args = dict(step.args)
        node = args.pop("node", "")
        try:
            reply = self._api.call({}, step.method, node, **args)
            return reply.get("outcome", Outcome.APPLIED.value), reply.get("reason")
        except exceptions.CommandRefused as error:
            return Outcome.REFUSED.value, plain_reason(_text(error))
        except (exceptions.TrackerWorkerException, NoSuchMethod) as error:
            return PARKED, _text(error)


def _text(error: Exception) -> str:
    """Return the text of an exception, without the line break that oslo.messaging appends to remote ones."""
    return str(error).rstrip()


@contextmanager
def embedded_worker(
    settings: WorkerSettings,
    engine: sa.Engine,
    rpc: Any,
    notifications: Any,
    failed: Callable[[], None],
) -> Iterator[tuple[TrackerAPI, Reader, Worker]]:
    """Run a worker in this process; yield its client, a reader of its database and the worker.

    Its exchange and queues are deleted afterwards.
    """
    with _queues(settings):
        worker = Worker(settings, engine, rpc, notifications, failed)
        api = TrackerAPI(
            rpc, exchange=settings.exchange, partitions=settings.partitions, timeout=TIMEOUT_SECONDS
        )
        reader = Reader(engine)
        worker.start()
        try:
            yield api, reader, worker
        finally:
            reader.close()
            worker.stop()


@contextmanager
def _queues(settings: WorkerSettings) -> Iterator[None]:
    """Declare the exchange and the queues of a worker, and delete them afterwards."""
    if settings.broker is None:
        yield
        return
    topology = Topology(settings.exchange, settings.partitions, settings.broker.quorum)
    with connect(settings.broker, "replay") as connection:
        declare(connection, topology)
    try:
        yield
    finally:
        delete_queues(settings.broker, topology.exchange, [queue.name for queue in topology.queues()])


def delete_queues(settings: BrokerSettings, exchange: str, queues: Iterable[str]) -> None:
    """Delete an exchange and its queues."""
    with connect(settings, "replay") as connection, connection.channel() as channel:
        for name in queues:
            channel.queue_delete(name)
        channel.exchange_delete(exchange)
