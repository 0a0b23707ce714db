# SPDX-License-Identifier: Apache-2.0
"""What an idle cloud leaves in PostgreSQL: rows and bytes before, after N rounds of audits, and after 4 N.

Each audit updates its node's row, which leaves a dead version of it. Autovacuum runs once in so many seconds
here as a server has minutes: a round, which is a minute of the cloud, takes about a second.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from tests.benchmarks.growth.idle_cloud import IdleCloud, idle_cloud, rows_of
from tests.servers.fixtures import migrated
from tests.servers.postgresql import PostgreSQL
from tracker_worker.db.engine import create_engine

NODES = 2_000
ROUNDS = 6
VARIANTS = {
    "as shipped": "RESET (autovacuum_enabled)",
    "without autovacuum": "SET (autovacuum_enabled = off)",
    "full pages": "SET (fillfactor = 100)",
    "full pages, without autovacuum": "SET (fillfactor = 100, autovacuum_enabled = off)",
}
"""Storage parameters of the table `nodes`."""

_BYTES = sa.text(
    "SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables"
    " WHERE relname <> 'alembic_version'"
)
_UPDATES = sa.text(
    "SELECT n_tup_upd, n_tup_hot_upd, n_dead_tup, autovacuum_count, pg_relation_size(relid)"
    " FROM pg_stat_user_tables WHERE relname = 'nodes'"
)


@dataclass(frozen=True)
class Sample:
    """What a database holds after so many rounds.

    `updates` of rows of `nodes`, those that wrote no index (`hot`), `dead` versions of rows, how often
    autovacuum cleaned up, and the bytes of that table without its indexes.
    """

    rounds: int
    rows: Mapping[str, int]
    bytes: Mapping[str, int]
    updates: int
    hot: int
    dead: int
    vacuums: int
    nodes_bytes: int


@dataclass(frozen=True)
class Soak:
    """The samples of a variant: before, after N rounds and after 4 N."""

    variant: str
    nodes: int
    samples: tuple[Sample, Sample, Sample]

    @property
    def rows_are_equal(self) -> bool:
        """Whether no table has got or lost a row."""
        first, *later = self.samples
        return all(sample.rows == first.rows for sample in later)

    @property
    def growth(self) -> float:
        """The bytes of all tables after 4 N rounds over those after N."""
        _, after, last = self.samples
        return sum(last.bytes.values()) / sum(after.bytes.values())


def soak(size: float, show: Callable[[str], None]) -> list[Soak]:
    """Soak each variant in a database of its own, with `size` times the rounds."""
    rounds = max(1, round(ROUNDS * size))
    found = []
    with PostgreSQL() as server:
        server.start()
        with _engine(server.url("postgres")) as engine, engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.exec_driver_sql("ALTER SYSTEM SET autovacuum_naptime = '1s'")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        for variant, parameters in VARIANTS.items():
            with _engine(migrated(server.new_database())) as engine:
                with engine.begin() as connection:
                    connection.exec_driver_sql(f"ALTER TABLE nodes {parameters}")
                with idle_cloud(engine, NODES) as cloud:
                    found.append(Soak(variant, NODES, _samples(engine, cloud, rounds)))
            show(f"soak, {variant}: {found[-1].growth:.2f} times the bytes")
    return found


def _samples(engine: sa.Engine, cloud: IdleCloud, rounds: int) -> tuple[Sample, Sample, Sample]:
    before = _sample(engine, 0)
    cloud.audit(rounds)
    after = _sample(engine, rounds)
    cloud.audit(3 * rounds)
    return before, after, _sample(engine, 4 * rounds)


def _sample(engine: sa.Engine, rounds: int) -> Sample:
    with engine.connect() as connection:
        updates = connection.execute(_UPDATES).one()
        return Sample(rounds, rows_of(connection), bytes_of(connection), *updates)


def bytes_of(connection: sa.Connection) -> dict[str, int]:
    """The bytes of each table on PostgreSQL, with its indexes."""
    return {name: size for name, size in connection.execute(_BYTES)}


@contextmanager
def _engine(url: str) -> Iterator[sa.Engine]:
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()
