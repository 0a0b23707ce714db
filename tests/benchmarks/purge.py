# SPDX-License-Identifier: Apache-2.0
"""Time the purge of old rows: `python -m tests.benchmarks.purge [--rows N] [sqlite] [postgresql] [mariadb]`.

How long it takes where there is nothing to purge must not depend on the number of receipts. Servers are
started for it and ended; their caches are small (tests/servers), their data in the directory for temporary
files: some GB at the 5 million receipts of the default.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tracker_worker.db.engine import create_engine, sync_schema
from tracker_worker.db.tables import NODES
from tracker_worker.worker.purge import Purge
from tracker_worker.worker.settings import Retention

BUSY, IDLE, UNKNOWN = 1000, 8000, 1000
"""How many names of each kind; the unknown ones are those of no node."""
PER_IDLE = 10
NEVER = Retention(receipt_days=3650, removed_node_days=3650, dead_letter_days=3650)
INDEX = "ix_receipts_node_sequence_recorded_at"
INSERT = {
    "sqlite": """
INSERT INTO receipts (event_id, digest, node, sequence, method, outcome, reply, recorded_at)
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {last})
SELECT lower(hex(randomblob(16))), '{digest}', printf('{prefix}-%05d', n % {nodes}), {sequence},
       'build_failed', 'applied', '{reply}',
       strftime('%Y-%m-%d %H:%M:%f', julianday('now') - CASE WHEN n < {old} THEN 30 ELSE 1 END) || '000'
FROM numbers
""",
    "postgresql": """
INSERT INTO receipts (event_id, digest, node, sequence, method, outcome, reply, recorded_at)
SELECT md5('{prefix}' || n), '{digest}', '{prefix}-' || lpad((n % {nodes})::text, 5, '0'), {sequence},
       'build_failed', 'applied', '{reply}',
       timezone('utc', now()) - make_interval(days => CASE WHEN n < {old} THEN 30 ELSE 1 END)
FROM generate_series(0, {last}) AS numbers (n)
""",
    "mysql": """
INSERT INTO receipts (event_id, digest, node, sequence, method, outcome, reply, recorded_at)
SELECT md5(concat('{prefix}', seq)), '{digest}', concat('{prefix}-', lpad(seq % {nodes}, 5, '0')), {sequence},
       'build_failed', 'applied', '{reply}',
       UTC_TIMESTAMP(6) - INTERVAL (CASE WHEN seq < {old} THEN 30 ELSE 1 END) DAY
FROM seq_0_to_{last}
ORDER BY 1
""",
}
"""A tenth of the receipts is 30 days old. They are stored in the order of time, in MariaDB in that of their
key: its tables have no other."""
SEQUENCE = {"sqlite": "n / {nodes} + 1", "postgresql": "n / {nodes} + 1", "mysql": "seq DIV {nodes} + 1"}


def insert_receipts(
    connection: sa.Connection, prefix: str, nodes: int, each: int, *, sequenced: bool = True
) -> None:
    """Insert `each` receipts of so many nodes, whose names begin with `prefix`."""
    dialect = connection.dialect.name
    sql = INSERT[dialect].format(
        prefix=prefix,
        nodes=nodes,
        last=nodes * each - 1,
        old=nodes * each // 10,
        sequence=SEQUENCE[dialect].format(nodes=nodes) if sequenced else "NULL",
        digest="0123456789abcdef" * 4,
        reply='{"outcome": "applied", "sequence": 123456}',
    )
    connection.exec_driver_sql(sql if dialect == "sqlite" else sql.replace("%", "%%"))


def load(engine: sa.Engine, rows: int) -> None:
    """Fill the tables; the index by which the purge goes is made afterwards."""
    dialect = engine.dialect.name
    with engine.begin() as connection:
        if dialect == "sqlite":
            connection.exec_driver_sql("PRAGMA cache_size = -2000000")
        connection.exec_driver_sql(f"DROP INDEX {INDEX}{' ON receipts' if dialect == 'mysql' else ''}")
        insert_receipts(connection, "busy", BUSY, rows // BUSY)
        insert_receipts(connection, "idle", IDLE, PER_IDLE)
        insert_receipts(connection, "unknown", UNKNOWN, 1, sequenced=False)
        connection.exec_driver_sql(f"CREATE INDEX {INDEX} ON receipts (node, sequence, recorded_at)")
        required = (column.name for column in NODES.columns if not column.nullable)
        row: dict[str, object] = dict.fromkeys(required, 0)
        row |= {"conflicts": [], "disabled": False, "resources": None}
        for prefix, nodes, sequence in (("busy", BUSY, rows // BUSY), ("idle", IDLE, PER_IDLE)):
            names = [f"{prefix}-{number:05}" for number in range(nodes)]
            named = [{**row, "name": name, "uuid": name, "sequence": sequence} for name in names]
            connection.execute(sa.insert(NODES), named)


@contextmanager
def databases(kind: str) -> Iterator[Callable[[], str]]:
    """Yield what makes a database and returns its URL; all of them are gone afterwards."""
    if kind == "sqlite":
        directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
        numbers = iter(range(100))
        try:
            yield lambda: f"sqlite:///{directory}/{next(numbers)}.sqlite"
        finally:
            shutil.rmtree(directory)
        return
    kinds: dict[str, type[PostgreSQL | MariaDB]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}
    with kinds[kind]() as server:
        server.start()
        yield server.new_database


def timed(engine: sa.Engine, settings: Retention) -> tuple[float, int]:
    """Return how many seconds a purge takes, and how many receipts it deletes."""
    started = time.monotonic()
    purged = Purge(engine, settings, lambda: None).run_once()
    return time.monotonic() - started, purged.receipts


def benchmark(kind: str, rows: int) -> list[str]:
    """Return a row of the table: times with nothing to purge at a fifth and at all of the rows, and with."""
    idle: list[float] = []
    with databases(kind) as new_url:
        for size in (rows // 5, rows):
            url = new_url()
            patience = "read_timeout=3600" if kind == "mariadb" else ""
            loader = create_engine(url, connection_parameters=patience)
            sync_schema(loader)
            load(loader, size)
            loader.dispose()
            engine = create_engine(url)  # With the time-outs that are shipped.
            idle.append(min(timed(engine, NEVER)[0] for _ in range(4)))
            if size == rows:
                took, deleted = timed(engine, Retention())
            engine.dispose()
    small, large = idle
    times = [f"{small:.2f}", f"{large:.2f}", f"{large / small:.2f}"]
    return [kind, *times, f"{deleted:,}", f"{took:.1f}", f"{deleted / took:,.0f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="receipts, 5 million by default")
    parser.add_argument("kinds", nargs="*", default=["sqlite", "postgresql", "mariadb"])
    args = parser.parse_args()
    table = Table("database", title=f"Purge with {BUSY + IDLE + UNKNOWN:,} names")
    small, large = f"{args.rows // 5:,}", f"{args.rows:,}"
    for title in (f"idle s, {small}", f"idle s, {large}", "ratio", "deleted", "in s", "rows/s"):
        table.add_column(title, justify="right")
    for kind in args.kinds:
        table.add_row(*benchmark(kind, args.rows))
    Console().print(table)


if __name__ == "__main__":
    main()
