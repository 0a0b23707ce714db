# SPDX-License-Identifier: Apache-2.0
"""The database servers of the fault tests, with the settings and queries that differ."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from tests.delivery.oracle import engine_of
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.sql_traffic import MariaDBTraffic, PostgreSQLTraffic, Traffic

KINDS = ("postgresql", "mariadb")
_URLS = {"postgresql": "database_url", "mariadb": "mariadb_url"}
_TRAFFIC = {"postgresql": PostgreSQLTraffic, "mariadb": MariaDBTraffic}
_NAMES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}
_IMPATIENT = {
    "postgresql": "keepalives_idle=1&keepalives_interval=1&keepalives_count=2&tcp_user_timeout=2000"
    "&options=-cidle_in_transaction_session_timeout=2000%20-ctcp_user_timeout=2000"
    "%20-ctcp_keepalives_idle=1%20-ctcp_keepalives_interval=1%20-ctcp_keepalives_count=2",
    "mariadb": "read_timeout=2&write_timeout=2&init_command=SET SESSION idle_transaction_timeout=2",
}
_STANDING = {
    "postgresql": """
        SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE relation = 'nodes'::regclass AND mode = 'RowExclusiveLock' AND state = 'idle in transaction'
    """,
    "mariadb": """
        SELECT count(*) FROM information_schema.innodb_trx
        JOIN information_schema.processlist ON id = trx_mysql_thread_id
        WHERE db = database() AND command = 'Sleep' AND trx_rows_modified > 1
    """,
}


@dataclass(frozen=True)
class Database:
    """An empty database of a test's own: its server, its URL and how its clients speak.

    `impatient` is added to a worker's URL: silent peers time out within seconds.
    """

    name: str
    server: PostgreSQL | MariaDB
    url: str
    traffic: Callable[[], Traffic]
    impatient: str
    operator: sa.Engine
    _standing: str

    def a_transaction_stands_still(self) -> bool:
        """Whether a transaction with locked nodes waits for its client. MariaDB's answer is 0.1 s old."""
        with self.operator.connect() as connection:
            return bool(connection.scalar(sa.text(self._standing)))


def database_of(request: pytest.FixtureRequest, kind: str) -> Database:
    """Return a test's database on one of KINDS."""
    server, url = request.getfixturevalue(kind), request.getfixturevalue(_URLS[kind])
    operator = engine_of(server.operator_url(url) if isinstance(server, MariaDB) else url)
    request.addfinalizer(operator.dispose)
    return Database(_NAMES[kind], server, url, _TRAFFIC[kind], _IMPATIENT[kind], operator, _STANDING[kind])
