# SPDX-License-Identifier: Apache-2.0
"""Replays one trace through rpcapi into a worker of this process."""

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
from tracker_worker.domain.decide import Outcome
from tracker_worker.domain.views import node_view
from tracker_worker.rpcapi import TrackerAPI
from tracker_worker.worker.service import Worker
from tracker_worker.worker.settings import WorkerSettings

NODES_AT_ONCE = 64
TIMEOUT_SECONDS = 120

Json = dict[str, Any]
Reply = tuple[str, str | None]
"""Outcome and reason."""


class Reader:
    """Reads node views from SQL: what is committed before a reply is there after it. One thread's."""

    def __init__(self, engine: sa.Engine) -> None:
        self._unit_of_work = UnitOfWork(engine)

    def views(self, names: set[str]) -> dict[str, Json | None]:
        """Return the views of nodes, None for one that is not tracked."""
        nodes = self._unit_of_work.show(names) if names else {}
        return {n: node_view(node) if node.tracked else None for n, node in nodes.items()}

    def fullest(self, count: int) -> list[Json]:
        """Return the views of the tracked nodes that have the least left of some resource, the fullest
        first.
        """
        views = self.views(set(self._unit_of_work.names())).values()
        return sorted(filter(None, views), key=fullness, reverse=True)[:count]

    def close(self) -> None:
        """Give the connection back."""
        self._unit_of_work.close()


class Replay:
    """One trace on its way: a step runs when its predecessors are done, up to 64 nodes at once."""

    def __init__(self, trace: Trace, api: TrackerAPI, reader: Reader) -> None:
        self._steps = trace.steps
        self._api = api
        self._reader = reader
        self._waits = predecessors(trace.steps)
        self._followers: dict[int, list[int]] = {}
        for index, before in enumerate(self._waits):
            for earlier in before:
                self._followers.setdefault(earlier, []).append(index)
        self._done: queue.SimpleQueue[tuple[int, Future[Reply]]] = queue.SimpleQueue()

    def run(self, stepped: Callable[[int], None]) -> list[Result]:
        """Return the result of every step; `stepped` is called with the number of steps done, on this
        thread.
        """
        results: dict[int, Result] = {}
        first = [index for index, before in enumerate(self._waits) if not before]
        with ThreadPoolExecutor(NODES_AT_ONCE) as pool:
            self._start(pool, first)
            while len(results) < len(self._steps):
                finished = self._finished()
                results |= self._results(finished)
                stepped(len(finished))
                self._start(pool, self._released(finished))
        return [results[index] for index in range(len(self._steps))]

    def _start(self, pool: ThreadPoolExecutor, indexes: Iterable[int]) -> None:
        for index in indexes:
            future = pool.submit(self._call, self._steps[index])
            future.add_done_callback(partial(self._note, index))

    def _note(self, index: int, future: Future[Reply]) -> None:
        self._done.put((index, future))

    def _finished(self) -> dict[int, Reply]:
        """Wait for a step to be done, then take all that are."""
        index, future = self._done.get()
        finished = {index: future.result()}
        while not self._done.empty():
            index, future = self._done.get()
            finished[index] = future.result()
        return finished

    def _results(self, finished: dict[int, Reply]) -> dict[int, Result]:
        """Add the views, read at once for all: no later step of these nodes has started."""
        wanted = {index: set(self._steps[index].expect.nodes) for index in finished}
        views = self._reader.views(set().union(*wanted.values()))
        return {
            index: Result(*reply, {name: views.get(name) for name in wanted[index]})
            for index, reply in finished.items()
        }

    def _released(self, finished: Iterable[int]) -> Iterator[int]:
        """Yield the steps that waited for these and for nothing else."""
        for index in finished:
            for follower in self._followers.pop(index, ()):
                self._waits[follower].discard(index)
                if not self._waits[follower]:
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
    """Return what an exception says: oslo.messaging ends the text of a remote one with a line break."""
    return str(error).rstrip()


@contextmanager
def embedded_worker(
    settings: WorkerSettings,
    engine: sa.Engine,
    rpc: Any,
    notifications: Any,
    failed: Callable[[], None],
) -> Iterator[tuple[TrackerAPI, Reader, Worker]]:
    """Run a worker in this process, and a client of it; their queues are gone afterwards."""
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
    """Have the queues before the first command is sent, and delete them after the last."""
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
    """Delete an exchange and queues."""
    with connect(settings, "replay") as connection, connection.channel() as channel:
        for name in queues:
            channel.queue_delete(name)
        channel.exchange_delete(exchange)
