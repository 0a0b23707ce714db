# SPDX-License-Identifier: Apache-2.0
"""Replays one trace through rpcapi into an embedded worker: fake:// and a fresh SQLite database."""

import itertools
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from collections.abc import Iterator
from msgspec.structs import replace
from oslo_messaging.rpc.dispatcher import NoSuchMethod

from tracker_worker import exceptions
from tracker_worker.cmd.embedded import database_file, embedded_engine
from tracker_worker.cmd.trace import Result, Step, Trace, plain_reason, predecessors
from tracker_worker.db.engine import create_engine
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.views import node_view
from tracker_worker.rpcapi import TrackerAPI
from tracker_worker.worker.service import Worker, WorkerSettings

NODES_AT_ONCE = 64
PARTITIONS = 4
TIMEOUT_SECONDS = 120

_numbers = itertools.count(1)


class Reader:
    """Reads node views from SQL: what is committed before a reply is there after it. One connection a thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._local = threading.local()

    def view(self, name: str) -> dict[str, Any] | None:
        """Return a node's view, None when it is not tracked."""
        if not hasattr(self._local, "unit_of_work"):
            self._local.unit_of_work = UnitOfWork(self._engine)
        node = self._local.unit_of_work.load([name])[name]
        return node_view(node) if node.tracked else None


class Replay:
    """One trace on its way: a step runs when its predecessors are done, up to 64 nodes at once."""

    def __init__(self, trace: Trace, api: TrackerAPI, reader: Reader) -> None:
        self._trace = trace
        self._api = api
        self._reader = reader

    def run(self, stepped: Callable[[], None]) -> list[Result]:
        """Return the result of every step; `stepped` is called after each, on the caller's thread."""
        waits = predecessors(self._trace.steps)
        followers: dict[int, list[int]] = {}
        for index, before in enumerate(waits):
            for earlier in before:
                followers.setdefault(earlier, []).append(index)
        results: dict[int, Result] = {}
        done: queue.SimpleQueue[tuple[int, Future[Result]]] = queue.SimpleQueue()
        with ThreadPoolExecutor(NODES_AT_ONCE) as pool:

            def start(index: int) -> None:
                future = pool.submit(self._step, self._trace.steps[index])
                future.add_done_callback(lambda finished: done.put((index, finished)))

            for index, before in enumerate(waits):
                if not before:
                    start(index)
            while len(results) < len(waits):
                index, finished = done.get()
                results[index] = finished.result()
                stepped()
                for follower in followers.get(index, ()):
                    waits[follower].discard(index)
                    if not waits[follower]:
                        start(follower)
        return [results[index] for index in range(len(waits))]

    def _step(self, step: Step) -> Result:
        args = dict(step.args)
        node = args.pop("node", "")
        outcome, reason = "applied", None
        try:
            reply = self._api.call({}, step.method, node, **args)
            outcome, reason = reply.get("outcome", "applied"), reply.get("reason")
        except exceptions.CommandRefused as error:
            outcome, reason = "refused", str(error)
        except (exceptions.TrackerWorkerException, NoSuchMethod) as error:
            outcome, reason = "parked", str(error)
        views = {name: self._reader.view(name) for name in step.expect.nodes}
        return Result(outcome, None if reason is None else plain_reason(reason), views)


def empty_database(directory: Path) -> Path:
    """Return the file of a new database with the schema, to be copied: alembic can only run once at a time."""
    embedded_engine(directory).dispose()
    return database_file(directory)


@contextmanager
def embedded_worker(
    settings: WorkerSettings,
    empty: Path,
    rpc: Any,
    notifications: Any,
    failed: Callable[[], None],
) -> Iterator[tuple[TrackerAPI, Reader, Worker]]:
    """Run a worker of its own exchange on a copy of the `empty` database that is gone afterwards."""
    exchange = f"replay-{next(_numbers)}"
    settings = replace(settings, exchange=exchange, partitions=PARTITIONS)
    with tempfile.TemporaryDirectory(prefix="tracker-worker-") as directory:
        copy = shutil.copyfile(empty, database_file(Path(directory)))
        engine = create_engine(f"sqlite:///{copy}")
        worker = Worker(settings, engine, rpc, notifications, failed)
        api = TrackerAPI(rpc, exchange=exchange, partitions=PARTITIONS, timeout=TIMEOUT_SECONDS)
        worker.start()
        try:
            yield api, Reader(engine), worker
        finally:
            worker.stop()
            engine.dispose()
