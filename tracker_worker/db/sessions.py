# SPDX-License-Identifier: Apache-2.0
"""What our sessions have, whatever server, database, role and driver are set up to give.

* A commit waits for the disk. MariaDB cannot be told so by a session: it is said in the log.
* A session that stands still in its transaction loses it, and with it the locks that others wait for: our
  transactions never pause, unless process or machine do. PostgreSQL does not count the time that it waits
  for the rest of a statement: there it looks itself whether its client is gone, as clients look for it.
* A statement and a wait for a lock end with an error in bounded time, so that a thread that is stuck says
  so and tries again. A smaller limit of the server, database or role stays. `lift_limits` is for migrations.
  SQLite bounds the wait for its lock; a statement runs in this process, on a local file.
* TCP keepalives detect a dead server within 30 s. Parameters of the URL override them.
* READ COMMITTED on MariaDB, whose default keeps locks between rows and would swap what it had read before.
* No statement is prepared on PostgreSQL. A pooler gives each transaction another session, with other prepared
  statements; and a plan kept from when a table was empty would read all of it.
* What a session keeps is set in sessions that are ours alone. Behind a pooler, PostgreSQL has to give every
  session the limits and the durable commits by itself: a connection is refused where it does not.
* A text that is too long is refused, not cut; all texts are UTF-8, all of it; the session's time zone is UTC.
* A file of SQLite that is missing is made for its user alone.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from tracker_worker.db.bulk import MAX_PACKET

LOG = logging.getLogger(__name__)

APPLICATION_NAME = "tracker-worker"
IDLE_IN_TRANSACTION_SECONDS = 10
"""At most: less is left as it is."""
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""Seconds of silence before a peer is asked, between two questions, and how many go unanswered."""
USER_TIMEOUT_MS = 30_000
"""What was sent is acknowledged within."""
LOCK_WAIT_SECONDS = 15
"""At most. Longer than a holder that stands still keeps its locks, shorter than a statement may take."""
STATEMENT_SECONDS = 30
"""At most, on PostgreSQL."""
MARIADB_STATEMENT_SECONDS = 25
"""At most: shorter than the driver waits for an answer, so that the server ends the statement, not only the
connection."""

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    # For oslo.db "mariadb" is a database of which it knows no errors.
    "mariadb": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
}
_DEFAULTS = {
    "postgresql": {
        "connect_timeout": "10",
        **{name: str(value) for name, value in KEEPALIVES.items()},
        "tcp_user_timeout": str(USER_TIMEOUT_MS),
    },
    "mysql": {"connect_timeout": "10", "read_timeout": "30", "write_timeout": "30"},
    "sqlite": {"timeout": "10"},
}
_ALWAYS = {
    "postgresql": {"fallback_application_name": APPLICATION_NAME},
    "mysql": {"charset": "utf8mb4"},
}
_DURABLE, _NOT_DURABLE = "on", "off"
_POSTGRESQL_SESSION = """
SELECT pg_backend_pid() <> %(pid)s, quote_ident(session_user), quote_ident(current_database()),
       (SELECT json_object_agg(name, CASE pg_backend_pid() WHEN %(pid)s THEN setting ELSE reset_val END)
        FROM pg_settings WHERE name = ANY (%(names)s))
"""
"""`reset_val`: what a session behind a pooler began with, whatever other clients have set in it since."""
_SET = "SELECT set_config(name, value, false) FROM json_each_text(%s::json) AS settings (name, value)"
_STRICT = "STRICT_TRANS_TABLES,STRICT_ALL_TABLES"


class PooledSessions(SQLAlchemyError):
    """A pooler hands out PostgreSQL's sessions, and they lack what a worker cannot set in each of them.

    The text has the statements that the operator has to execute.
    """


def complete(url: str | sa.URL, parameters: str = "") -> sa.URL:
    """Return a URL with its driver and what it does not say itself; `parameters` are added to its query."""
    parsed = sa.make_url(url)
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    if parameters:
        parsed = parsed.update_query_string(parameters)
    name = parsed.get_backend_name()
    return parsed.update_query_dict({**_DEFAULTS.get(name, {}), **parsed.query, **_ALWAYS.get(name, {})})


def sql_mode(given: str | None) -> str:
    """Return the mode for MariaDB's sessions: the given one, and strict in any case."""
    return ",".join([given or "TRADITIONAL", _STRICT])


def set_up(engine: sa.Engine) -> None:
    """Have each new connection of an engine set up."""
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "do_connect", _make_sqlite_private)
        sa.event.listen(engine, "connect", _make_sqlite_durable)
    elif engine.dialect.name == "postgresql":
        # Before SQLAlchemy executes statements of its own.
        sa.event.listen(engine, "connect", _set_postgresql_session, insert=True)
    else:
        # Before SQLAlchemy looks which isolation it has to go back to.
        sa.event.listen(engine, "connect", _set_mariadb_session, insert=True)
        sa.event.listen(engine, "first_connect", _look_whether_mariadb_is_durable)


def lift_limits(connection: sa.Connection, seconds: int) -> None:
    """Let statements on a connection take as long as they need, and wait so many seconds for locks.

    On PostgreSQL until the end of the transaction, on MariaDB for the whole session.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")
    elif connection.dialect.name == "mysql":
        names = "('lock_wait_timeout', 'max_execution_time', 'max_statement_time')"
        known = connection.exec_driver_sql(f"SHOW SESSION VARIABLES WHERE variable_name IN {names}")
        for name in known.scalars().all():
            value = seconds if name == "lock_wait_timeout" else 0
            connection.exec_driver_sql(f"SET SESSION {name} = {value}")


def _make_sqlite_private(_dialect: object, _record: object, arguments: Sequence[Any], _more: object) -> None:
    """Make a file that is missing, for its user alone: SQLite's other files get the mode of this one.

    Where that is not possible SQLite says why.
    """
    name = arguments[0]
    if name != ":memory:" and not name.startswith("file:") and not Path(name).exists():
        with suppress(OSError):
            Path(name).touch(mode=0o600)


def _make_sqlite_durable(connection: Any, _record: object) -> None:
    """A commit that is not on the disk could be acknowledged and lost: WAL is only safe with FULL."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _set_postgresql_session(connection: Any, _record: object) -> None:
    """Set up a session without prepared statements; close one that cannot be."""
    connection.prepare_threshold = None
    try:
        with connection.transaction():
            _set_up_postgresql(connection)
    except BaseException:
        connection.close()
        raise


def _set_up_postgresql(connection: Any) -> None:
    """Set what a session of our own can; raise PooledSessions for one that a pooler has lent without it.

    A pooler answers for the server when a client connects, and has no process of the server to name.
    """
    limits, keepalives = postgresql_limits(), _keepalives_of_postgresql()
    names = [*limits, *keepalives, "synchronous_commit"]
    answer = connection.execute(_POSTGRESQL_SESSION, {"pid": connection.info.backend_pid, "names": names})
    is_pooled, role, database, found = answer.fetchone()
    if not is_pooled:
        limits |= keepalives
    missing: dict[str, Any] = limits_to_set(found, limits)
    if found["synchronous_commit"] == _NOT_DURABLE:
        missing["synchronous_commit"] = _DURABLE
    if missing and is_pooled:
        raise PooledSessions(_refusal(role, database, missing))
    if missing:
        connection.execute(_SET, [json.dumps(missing)])


def _refusal(role: str, database: str, missing: Mapping[str, Any]) -> str:
    statements = [
        f"ALTER ROLE {role} IN DATABASE {database} SET {name} = '{value}';" for name, value in missing.items()
    ]
    return (
        "a pooler hands out the server's sessions, which cannot be set up one by one: execute "
        f"{' '.join(statements)} on the server, then RECONNECT in the pooler's console"
    )


def postgresql_limits() -> dict[str, int]:
    """Return the limits that a session has at most, in milliseconds."""
    return {
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS * 1000,
        "lock_timeout": LOCK_WAIT_SECONDS * 1000,
        "statement_timeout": STATEMENT_SECONDS * 1000,
    }


def _keepalives_of_postgresql() -> dict[str, int]:
    """With which the server looks for its client. A pooler is one that is there, and looks for its own."""
    keepalives = {f"tcp_{name}": value for name, value in KEEPALIVES.items()}
    return keepalives | {"tcp_user_timeout": USER_TIMEOUT_MS}


def _set_mariadb_session(connection: Any, record: ConnectionPoolEntry) -> None:
    """Set what a session can, and learn how long a statement may be."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        names = [*mariadb_limits(), MAX_PACKET]
        cursor.execute("SHOW SESSION VARIABLES WHERE variable_name IN %s", (names,))
        found = dict(cursor.fetchall())
        record.info[MAX_PACKET] = int(found[MAX_PACKET])
        limits = [f", {name} = {most}" for name, most in limits_to_set(found, mariadb_limits()).items()]
        cursor.execute("SET SESSION time_zone = '+00:00'" + "".join(limits))


def mariadb_limits() -> dict[str, int]:
    """Return the limits that a session has at most, by variable; seconds where nothing else is said."""
    return {
        "idle_transaction_timeout": IDLE_IN_TRANSACTION_SECONDS,
        "innodb_lock_wait_timeout": LOCK_WAIT_SECONDS,
        "lock_wait_timeout": LOCK_WAIT_SECONDS,  # For whole tables.
        "max_statement_time": MARIADB_STATEMENT_SECONDS,
        "max_execution_time": MARIADB_STATEMENT_SECONDS * 1000,  # As MySQL says it.
    }


def limits_to_set(found: Mapping[str, str], limits: Mapping[str, int]) -> dict[str, int]:
    """Return the limits that a session needs, given the variables that it has and the limits to have.

    A smaller limit stays, and 0 is none. What this server does not know is left out.
    """
    return {
        name: most for name, most in limits.items() if name in found and not 0 < float(found[name]) <= most
    }


def _look_whether_mariadb_is_durable(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_flush_log_at_trx_commit")
        (flushes,) = cursor.fetchone()
    if flushes not in (1, 3):
        LOG.warning(
            "MariaDB's commits do not wait for the disk: what was acknowledged may be lost with its machine. "
            "Set innodb_flush_log_at_trx_commit = 1 there"
        )
