# SPDX-License-Identifier: Apache-2.0
"""What the port shows of a worker in trouble, without the secrets of its drivers' texts."""

import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from tests.functional.lanes import NOW
from tests.functional.monitoring import ask, checks
from tests.servers.ports import LOOPBACK
from tracker_worker.bus.state import IngressState
from tracker_worker.core.stats import Stats
from tracker_worker.worker.activity import Progress
from tracker_worker.worker.health import HealthSettings, LaneState, WorkerState
from tracker_worker.worker.monitor import Monitor

SECRET = "planted-secret"


class Stuck:
    """A worker whose lane waits for a database that quotes its URL."""

    stats = Stats().snapshot()

    @property
    def state(self) -> WorkerState:
        progress = Progress(900.0, 900.0, f"pause before retry 3, after no route to x:{SECRET}@db", 1)
        ingress = IngressState(at=0.0, since=0.0, connected=True, partitions=frozenset([0]))
        return WorkerState(0.0, (LaneState("lane-0", progress, 1, None),), ingress)


@pytest.fixture
def stuck(engine: sa.Engine, port: int) -> Iterator[Monitor]:
    monitor = Monitor(
        Stuck(),
        engine,
        HealthSettings(host=LOOPBACK),
        port,
        lambda text: text.replace(SECRET, "***"),
        time.monotonic,
        lambda: NOW,
        lambda: None,
    )
    monitor.start()
    yield monitor
    monitor.stop()


@pytest.mark.usefixtures("stuck")
def test_stuck_worker_answers_503_with_the_reason_and_no_secret(port: int) -> None:
    for path in ("/livez", "/readyz"):
        status, body = ask(port, path)
        assert status == 503
        assert checks(body)["lane-0"]["text"].endswith("pause before retry 3, after no route to x:***@db")
    status, body = ask(port, "/metrics")
    assert (status, "tracker_worker_live 0.0" in body, SECRET in body) == (200, True, False)
