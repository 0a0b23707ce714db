# SPDX-License-Identifier: Apache-2.0
"""The memory of a whole worker while its database stands still and large audits wait in every partition."""

import re
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from kombu.connection import Connection

from tests.builders import a_report, an_instance, args_of, some_resources
from tests.integration.daemon import PARTITIONS, Daemon
from tests.integration.rabbit import connected, depth, publish, until
from tracker_worker.core.envelope import encode
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import DEAD_LETTERS, RECEIPTS
from tracker_worker.domain.partitions import partition_of

MEBIBYTE = 1024 * 1024
AUDITS = 20
"""For each partition; each has some MEBIBYTE."""
BUDGET = 16
MARGIN = 40
"""What else a worker needs, in MiB: the audit that its lane has decoded, py-amqp's copies of a body, what the
allocator does not give back. Measured: 20."""


def audits() -> dict[int, list[bytes]]:
    """Audits of one node of each partition."""
    few = len(audit("node", 100))
    instances = 100 * MEBIBYTE // few
    nodes: dict[int, str] = {}
    for number in range(100):
        nodes.setdefault(partition_of(f"node-{number}", PARTITIONS), f"node-{number}")
    assert len(nodes) == PARTITIONS
    return {p: numbered(audit(node, instances)) for p, node in nodes.items()}


def audit(node: str, count: int) -> bytes:
    instances = [an_instance(str(uuid.UUID(int=n))) for n in range(count)]
    args = args_of(a_report(instances, resources=some_resources(uuid=f"uuid of {node}")))
    return encode("update_available_resource", args | {"node": node, "event_id": f"{node}.NUMBER"})


def numbered(body: bytes) -> list[bytes]:
    return [body.replace(b"NUMBER", b"%d" % number) for number in range(AUDITS)]


def resident(worker: Daemon, field: str) -> int:
    """A worker's resident memory in MiB: VmRSS is now, VmHWM the most so far."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(rf"{field}:\s*(\d+) kB", status)
    assert found
    return int(found[1]) // 1024


def taken(connection: Connection, partition: int) -> int:
    """How many audits of a partition the broker has sent the worker."""
    return AUDITS - depth(connection, f"tracker.p{partition}")


def rows(url: str, table: sa.Table) -> Any:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.scalar(sa.select(sa.func.count()).select_from(table))
    engine.dispose()
    return found


@pytest.mark.parametrize("budget", [BUDGET, 4096])
def test_worker_holds_its_budget_of_audits_while_its_database_is_locked(
    vhost_url: str, sqlite_url: str, budget: int
) -> None:
    """And without a budget it holds all of them: else this would show nothing."""
    bodies = audits()
    locker = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    with (
        Daemon(vhost_url, sqlite_url, worker={"memory_budget": budget}) as worker,
        connected(vhost_url) as connection,
    ):
        worker.wait_until_it_consumes()
        locker.execute("BEGIN EXCLUSIVE")
        before = resident(worker, "VmRSS")
        for partition, each in bodies.items():
            publish(connection, each, partition)
        if budget == BUDGET:
            worker.wait_for_line("for [worker] memory_budget")
            # What was sent before the others filled the budget may stay unacknowledged, unread: it is not
            # in memory, and goes back once there is room to ask for it again.
            until(lambda: all(taken(connection, partition) for partition in range(PARTITIONS)))
            locker.close()
            until(lambda: rows(sqlite_url, RECEIPTS) >= PARTITIONS)
            assert resident(worker, "VmHWM") - before <= BUDGET + MARGIN
        else:
            until(lambda: resident(worker, "VmHWM") - before > BUDGET + MARGIN)
        worker.process.kill()
        worker.wait()
    locker.close()
    assert rows(sqlite_url, DEAD_LETTERS) == 0
