# SPDX-License-Identifier: Apache-2.0
"""A cloud in which nothing happens but audits, on a lane in this process with a clock of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import sqlalchemy as sa

from tests.builders import a_report, an_instance, some_resources
from tests.functional.lanes import LaneBench
from tracker_worker.db.tables import METADATA
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Origin

MINUTE = timedelta(minutes=1)
BATCH = 256


class IdleCloud:
    """Nodes with an instance each, which are audited once a minute, and nothing changes.

    As libvirt does it, each audit reports another `memory_mb_used`.
    """

    def __init__(self, engine: sa.Engine, nodes: int) -> None:
        self._bench = LaneBench(engine)
        self._names = [f"compute-{number:05}" for number in range(nodes)]
        self._minutes = count()

    def audit(self, rounds: int) -> None:
        """Audit every node so many times, a minute of the lane's clock apart."""
        for _ in range(rounds):
            minute = next(self._minutes)
            self._bench.now += MINUTE
            for start in range(0, len(self._names), BATCH):
                for name in self._names[start : start + BATCH]:
                    self._bench.deliver(_audit(name, minute), f"{name} at {minute}")
                self._bench.run()

    def close(self) -> None:
        """Return the lane's connections."""
        self._bench.close()


@contextmanager
def idle_cloud(engine: sa.Engine, nodes: int) -> Iterator[IdleCloud]:
    """A cloud that has been audited so often that its next audits repeat the last ones."""
    cloud = IdleCloud(engine, nodes)
    try:
        cloud.audit(2)
        yield cloud
    finally:
        cloud.close()


def rows_of(connection: sa.Connection) -> dict[str, int]:
    """How many rows each table has."""
    count_rows = sa.select(sa.func.count())
    return {
        name: connection.scalar(count_rows.select_from(table)) or 0 for name, table in METADATA.tables.items()
    }


def _audit(node: str, minute: int) -> AnyCommand:
    resources = some_resources(
        uuid=f"uuid-of-{node}", host=f"host-of-{node}", memory_mb_used=2048 + minute % 100
    )
    return a_report(
        [an_instance(f"on-{node}")],
        [],
        resources=resources,
        node=node,
        origin=Origin(f"client-of-{node}", minute + 1),
        as_of=minute,
    )
