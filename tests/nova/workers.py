# SPDX-License-Identifier: Apache-2.0
"""The worker of a test of Nova: one in its process on fake:// and SQLite, or a daemon on a real RabbitMQ."""

import json
import os
from pathlib import Path
from typing import Any

import fixtures
import oslo_messaging

from tracker_worker.core.records import PARKED
from tracker_worker.db import dead_letter_queries, dead_letters
from tracker_worker.db.dead_letter_queries import Wanted
from tracker_worker.db.engine import create_engine
from tracker_worker.exceptions import NodeNotFound
from tracker_worker.rpcapi import EXMODS, TrackerAPI
from tracker_worker.testing import TrackerWorkerFixture

SECONDS = 20
MOST_LETTERS = 1000

Json = dict[str, Any]


class InProcessWorker(TrackerWorkerFixture):
    """A worker of the test's own."""

    def connect(self) -> TrackerAPI:
        """Return a client that is a source of its own."""
        return TrackerAPI(self.transport, exchange=self.exchange, partitions=self.partitions, timeout=SECONDS)

    def take_dead_letters(self) -> list[Json]:
        """Return the dead letters, and discard them."""
        found = self.dead_letters
        self.discard_dead_letters()
        return found

    def clean(self, nodes: list[str]) -> None:
        """The next test has another worker."""


class DaemonWorker(fixtures.Fixture):
    """A daemon that serves one process of tests: `directory` has a file for each that none has taken."""

    def __init__(self, conf: Any, directory: Path) -> None:
        super().__init__()
        self._conf = conf
        self._daemon = _daemon_of_this_process(directory)

    def _setUp(self) -> None:
        self._transport = oslo_messaging.get_rpc_transport(
            self._conf, url=self._daemon["transport_url"], allowed_remote_exmods=EXMODS
        )
        self.addCleanup(self._transport.cleanup)
        self._api = self.connect()
        self._engine = create_engine(self._daemon["database"])
        self.addCleanup(self._engine.dispose)

    def connect(self) -> TrackerAPI:
        """Return a client that is a source of its own."""
        where = {name: self._daemon[name] for name in ("exchange", "partitions")}
        return TrackerAPI(self._transport, **where, timeout=SECONDS)

    def drain(self, timeout: float) -> None:
        """Wait for the reply to a question, which the worker answers after all casts before it."""
        try:
            self._api.get_node({}, "no-such-node")
        except NodeNotFound:
            return
        except oslo_messaging.MessagingTimeout:
            raise TimeoutError("the worker has not processed what was cast") from None

    def take_dead_letters(self) -> list[Json]:
        """Return the dead letters, and discard them."""
        with self._engine.begin() as connection:
            letters = dead_letter_queries.newest(connection, Wanted(PARKED), MOST_LETTERS)
            dead_letters.discard(connection, [letter.id for letter in letters])
        names = ("code", "path", "message", "node", "method")
        return [{name: getattr(letter, name) for name in names} for letter in letters]

    def clean(self, nodes: list[str]) -> None:
        """Remove the nodes: the next test has others of the same names."""
        for node in nodes:
            self._api.remove_node({}, node, force=True)


_taken: list[Json] = []


def _daemon_of_this_process(directory: Path) -> Json:
    while not _taken:
        free = next(directory.glob("*.json"))
        taken = free.with_suffix(f".{os.getpid()}")
        try:
            free.rename(taken)
        except FileNotFoundError:  # Another process was faster.
            continue
        _taken.append(json.loads(taken.read_text()))
    return _taken[0]
