# SPDX-License-Identifier: Apache-2.0
"""A worker that syncs nodes with a Placement, and the nodes' reports."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import oslo_messaging
import sqlalchemy as sa
from oslo_config import cfg

from tests.benchmarks.latency.audits import audited_nodes, server
from tests.benchmarks.placement.audits import change, one_of_each_partition
from tests.chaos.backlog import Publisher
from tests.delivery.oracle import connected, engine_of
from tests.delivery.processes import Broker, Processes, TrackerWorker
from tests.servers.placement import Placement
from tests.servers.server import wait_until
from tracker_worker.db.tables import PROVIDERS
from tracker_worker.rpcapi import TrackerAPI

SECONDS = 600
"""Longest wait for nodes to be synced, and for the end of a phase."""
POLL_SECONDS = 0.05
REFRESH_SECONDS = 86400
"""No refresh comes by itself: the benchmark counts those that it asks for."""
_UNSYNCED = sa.select(sa.func.count()).where(PROVIDERS.c.changed_at.is_not(None))
_SYNCED = sa.select(sa.func.count()).where(
    PROVIDERS.c.changed_at.is_(None), PROVIDERS.c.synced_at.is_not(None), PROVIDERS.c.due_at > sa.func.now()
)


@dataclass(frozen=True)
class Settings:
    """So many nodes; `some` of them change or are refreshed at a time. `audits` is in seconds.

    An outage lasts so many seconds after the nodes have changed. A phase of claims ends after `calls` or
    `seconds`.
    """

    nodes: int
    some: int
    audits: float
    outage: float
    rounds: int
    calls: int
    seconds: float


class Cloud:
    """The servers, and what is known of the nodes. `with` a `worker`, a report changes Placement."""

    def __init__(self, vhost_url: str, database_url: str, placement: Placement, settings: Settings) -> None:
        self.broker = Broker(vhost_url)
        self.database = database_url
        self.placement = placement
        self.settings = settings
        self.processes = Processes()
        self.nodes = audited_nodes(settings.nodes)
        self.known = 0
        """How many nodes were reported."""
        self._engine = engine_of(database_url)
        cfg.CONF([])
        self._transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=self.broker.client_url)
        self._api = TrackerAPI(self._transport, exchange=self.broker.exchange)

    def __enter__(self) -> "Cloud":
        return self

    def __exit__(self, *_: object) -> None:
        self.processes.__exit__()
        self._engine.dispose()
        self._transport.cleanup()

    @contextlib.contextmanager
    def worker(self, placement_url: str) -> Iterator[int]:
        """Run a worker as shipped that reaches Placement there; yield its pid."""
        options: dict[str, Any] = {
            "enabled": True,
            "auth_type": "admin_token",
            "token": Placement.admin,
            "endpoint": placement_url,
            "refresh_interval": REFRESH_SECONDS,
        }
        worker = TrackerWorker(self.processes, self.broker, self.database, {"placement": options})
        process = worker.start()
        yield process.pid
        self.processes.stop(process, worker.log)

    def report(self, audits: Iterable[tuple[str, bytes]], seconds: float = 0.0) -> int:
        """Send audits of nodes, evenly spread over so many seconds; return their number once the worker has
        committed all of them.
        """
        sent = list(audits)
        began = time.monotonic()
        with connected(self.broker.url) as connection:
            publisher = Publisher(connection, self.broker.exchange)
            for number, (node, body) in enumerate(sent):
                time.sleep(max(0.0, began + seconds * number / len(sent) - time.monotonic()))
                publisher.send(server(node), body)
            publisher.wait()
        # A queue is first in, first out: the answer comes after what was sent before.
        for node in one_of_each_partition(node for node, _ in sent):
            self._api.get_node({}, node)
        return len(sent)

    def fill(self) -> None:
        """Have all nodes synced."""
        self.known = self.report((node, change(node, 0)) for node in self.nodes)
        self.wait_until_synced()

    def wait_until_synced(self) -> None:
        """Return once Placement has all that was reported."""
        wait_until(self._is_synced, "the nodes are synced", SECONDS)

    def unsynced(self) -> int:
        """The number of nodes with changes that Placement does not have."""
        with self._engine.connect() as connection:
            return connection.scalar(_UNSYNCED) or 0

    def make_due(self, nodes: Iterable[str]) -> None:
        """Have nodes refreshed now, as the time would."""
        due = sa.update(PROVIDERS).where(PROVIDERS.c.node.in_(list(nodes))).values(due_at=sa.func.now())
        with self._engine.begin() as connection:
            connection.execute(due)

    def recovered(self, nodes: int) -> tuple[float, float]:
        """Return the seconds from now until the first of so many unsynced nodes is synced, and all are."""
        began = time.monotonic()
        wait_until(lambda: self.synced() > self.known - nodes, "a node is synced", SECONDS)
        first = time.monotonic() - began
        self.wait_until_synced()
        return first, time.monotonic() - began

    def synced(self) -> int:
        """The number of nodes that Placement knows as they are."""
        with self._engine.connect() as connection:
            return connection.scalar(_SYNCED) or 0

    def _is_synced(self) -> bool:
        return self.unsynced() == 0 and self.synced() >= self.known
