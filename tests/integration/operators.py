# SPDX-License-Identifier: Apache-2.0
"""What somebody does at a database server's own prompt meanwhile, in the words of each of them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from tests.integration.rabbit import until
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import METADATA

DatabaseServer = PostgreSQL | MariaDB


class Operator(ABC):
    """Executes statements and commits them, on a database of `url`; nothing keeps it from writing."""

    fixture: str
    """The fixture with the URL of a test's own database."""
    deadlock: str
    """A statement that fails as the victim of a deadlock would."""
    changed_meanwhile: str
    """A statement that fails as one would that cannot be serialized."""
    refusals: tuple[str, ...]
    """How a trigger may say that a row can never be written."""
    own_errors: tuple[str, ...]
    """Errors of a server that has trouble of its own, whatever is written."""
    troubles: Mapping[str, tuple[str, str]]
    """What an operator can break and mend."""
    undo_refuse: str
    """What undoes `refuse`."""
    idle_setting: str
    """What tells after how many seconds a session loses the transaction in which it does nothing."""
    patience: Mapping[str, str]
    """What the URL says of time-outs when it says nothing itself."""
    first = "SELECT 1"
    """What has to be executed before it can write."""

    def __init__(self, server: DatabaseServer, url: str) -> None:
        self.server = server
        self.database = sa.make_url(url).database or ""
        self._engine = create_engine(self._own(url))

    def __call__(self, sql: str) -> list[Any]:
        """Execute a statement; return its rows."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(self.first)
            result = connection.execute(sa.text(sql.replace("{database}", self.database)))
            return list(result) if result.returns_rows else []

    def connect(self) -> sa.Connection:
        """A session for a transaction of its own; the caller closes it."""
        return self._engine.connect()

    def close(self) -> None:
        self._engine.dispose()

    def wait_until_somebody_waits(self) -> None:
        """Return once a session of the database waits for a lock."""
        until(self.somebody_waits, "nobody waits for a lock")

    @abstractmethod
    def somebody_waits(self) -> bool:
        """Whether a session of the database waits for a lock."""

    @abstractmethod
    def end_sessions(self) -> int:
        """End all other sessions of the database; return how many."""

    @abstractmethod
    def allow(self, yes: bool) -> None:
        """Let the worker's user connect, or not; what is connected is ended."""

    @abstractmethod
    def refuse(self, state: str) -> None:
        """Refuse claims of the instance i-2 in one of the ways `refusals`."""

    def refuse_no_more(self) -> None:
        """Undo `refuse`."""
        self(self.undo_refuse)

    @abstractmethod
    def shorten(self) -> None:
        """Let a claim's project id be 9 characters long."""

    @abstractmethod
    def scans(self, connection: sa.Connection, sql: str, values: Any) -> list[str]:
        """The lines of a statement's plan that read a whole table of ours."""

    @abstractmethod
    def fill_unnoticed(self, count: int) -> None:
        """Write receipts of as many events, event-0 and so on, and let the server's statistics not know."""

    @abstractmethod
    def rows_read(self, connection: sa.Connection, table: str) -> int:
        """How many rows have been read so far: by the session, or of a table."""

    @abstractmethod
    def connect_timeout(self, connection: Any) -> int:
        """After how many seconds the driver's connection would have given up."""

    def _own(self, url: str) -> str:
        return url


class OnPostgreSQL(Operator):
    """In psql."""

    fixture = "database_url"
    first = "SET default_transaction_read_only = off"
    deadlock = "DO $$ BEGIN RAISE SQLSTATE '40P01' USING MESSAGE = 'deadlock detected'; END $$"
    changed_meanwhile = "DO $$ BEGIN RAISE SQLSTATE '40001' USING MESSAGE = 'could not serialize'; END $$"
    refusals = ("22001", "22003", "22P02", "22P05", "23502", "23514", "44000", "54000", "P0001")
    own_errors = ("XX000", "XX001", "26000", "0A000", "58030", "72000")
    undo_refuse = "DROP TRIGGER refuse ON claims"
    troubles = {
        "a standby": (
            "ALTER DATABASE {database} SET default_transaction_read_only = on",
            "ALTER DATABASE {database} RESET default_transaction_read_only",
        ),
        "a missing table": ("ALTER TABLE receipts RENAME TO hidden", "ALTER TABLE hidden RENAME TO receipts"),
        "a missing column": (
            "ALTER TABLE claims RENAME COLUMN os_type TO hidden",
            "ALTER TABLE claims RENAME COLUMN hidden TO os_type",
        ),
    }
    idle_setting = (
        "SELECT EXTRACT(EPOCH FROM current_setting('idle_in_transaction_session_timeout')::interval)"
    )
    patience = {
        "connect_timeout": "10",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": "30000",
    }

    def end_sessions(self) -> int:
        return len(self(self._end("current_database()")))

    def allow(self, yes: bool) -> None:
        assert isinstance(self.server, PostgreSQL)
        elsewhere = type(self)(self.server, self.server.url("postgres"))
        elsewhere(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS {yes}")
        elsewhere(self._end(f"'{self.database}'"))
        elsewhere.close()

    def refuse(self, state: str) -> None:
        self(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE SQLSTATE '{state}' USING MESSAGE = 'refused'; END $$"
        )
        self(
            "CREATE TRIGGER refuse BEFORE INSERT ON claims FOR EACH ROW WHEN (NEW.instance_uuid = 'i-2')"
            " EXECUTE FUNCTION refuse()"
        )

    def shorten(self) -> None:
        self("ALTER TABLE claims ALTER project_id TYPE varchar(9)")

    def scans(self, connection: sa.Connection, sql: str, values: Any) -> list[str]:
        connection.exec_driver_sql("SET enable_seqscan = off")
        tables = "|".join(METADATA.tables)
        lines = connection.exec_driver_sql(f"EXPLAIN {sql}", values).scalars()
        return [line for line in lines if re.search(rf"Seq Scan on ({tables})\b", line)]

    def fill_unnoticed(self, count: int) -> None:
        self("ALTER TABLE receipts SET (autovacuum_enabled = off)")
        self(
            "INSERT INTO receipts (event_id, digest, outcome, reply, recorded_at)"
            " SELECT 'event-' || n, repeat('d', 64), 'applied', '{}', now()"
            f" FROM generate_series(0, {count - 1}) n"
        )

    def rows_read(self, connection: sa.Connection, table: str) -> int:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
        read = f"SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = '{table}'"
        return int(connection.exec_driver_sql(read).scalar_one())

    def connect_timeout(self, connection: Any) -> int:
        return int(connection.info.get_parameters()["connect_timeout"])

    def somebody_waits(self) -> bool:
        waiting = "datname = current_database() AND wait_event_type = 'Lock'"
        return bool(self(f"SELECT 1 FROM pg_stat_activity WHERE {waiting}"))

    @staticmethod
    def _end(database: str) -> str:
        others = f"datname = {database} AND pid <> pg_backend_pid()"
        return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"


class OnMariaDB(Operator):
    """In mariadb, under a name of its own."""

    fixture = "mariadb_url"
    deadlock = (
        "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213,"
        " MESSAGE_TEXT = 'Deadlock found when trying to get lock; try restarting transaction'"
    )
    changed_meanwhile = (
        "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1020,"
        " MESSAGE_TEXT = 'Record has changed since last read in table ''nodes'''"
    )
    refusals = ("1048", "1264", "1366", "1406", "1644", "1690", "4025", "4174")
    undo_refuse = "DROP TRIGGER refuse"
    own_errors = ("1030", "1034", "1194", "1290", "1815")
    troubles = {
        **OnPostgreSQL.troubles,
        "a standby": ("SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF"),
        "a missing right": (
            "REVOKE INSERT ON `test\\_%`.* FROM tracker",
            "GRANT INSERT ON `test\\_%`.* TO tracker",
        ),
    }
    idle_setting = "SELECT @@idle_transaction_timeout"
    patience = {"connect_timeout": "10", "read_timeout": "30", "write_timeout": "30", "charset": "utf8mb4"}

    def end_sessions(self) -> int:
        return self._end(f"db = '{self.database}' AND user = '{MariaDB.username}'")

    def allow(self, yes: bool) -> None:
        self(f"ALTER USER {MariaDB.username} ACCOUNT {'UNLOCK' if yes else 'LOCK'}")
        self._end(f"user = '{MariaDB.username}'")

    def refuse(self, state: str) -> None:
        signal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {state}, MESSAGE_TEXT = 'refused'"
        self(
            "CREATE TRIGGER refuse BEFORE INSERT ON claims FOR EACH ROW"
            f" IF NEW.instance_uuid = 'i-2' THEN {signal}; END IF"
        )

    def shorten(self) -> None:
        self("ALTER TABLE claims MODIFY project_id varchar(9) NOT NULL")

    def scans(self, connection: sa.Connection, sql: str, values: Any) -> list[str]:
        plan = connection.exec_driver_sql(f"EXPLAIN {sql}", values).mappings()
        return [str(dict(row)) for row in plan if row["type"] == "ALL" and row["table"] in METADATA.tables]

    def fill_unnoticed(self, count: int) -> None:
        self("ALTER TABLE receipts STATS_AUTO_RECALC = 0")
        self(
            "INSERT INTO receipts (event_id, digest, outcome, reply, recorded_at)"
            " SELECT CONCAT('event-', seq), repeat('d', 64), 'applied', '{}', now()"
            f" FROM seq_0_to_{count - 1}"
        )

    def rows_read(self, connection: sa.Connection, table: str) -> int:
        status = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read_%%'")
        return sum(int(count) for _, count in status)

    def connect_timeout(self, connection: Any) -> int:
        return int(connection.connect_timeout)

    def _own(self, url: str) -> str:
        assert isinstance(self.server, MariaDB)
        return self.server.operator_url(url)

    def somebody_waits(self) -> bool:
        # Of the whole server, which is the test's alone. The table of transactions is no use: it is renewed
        # only for who has not looked at it for 0.1 s.
        ((_, waits),) = self("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
        return int(waits) > 0

    def _end(self, whose: str) -> int:
        sessions = self(f"SELECT id FROM information_schema.processlist WHERE {whose}")
        for (session,) in sessions:
            self(f"KILL {session}")
        return len(sessions)


OPERATORS: dict[str, type[OnPostgreSQL | OnMariaDB]] = {"postgresql": OnPostgreSQL, "mariadb": OnMariaDB}
"""By the fixture of the server."""
