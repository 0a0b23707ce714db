# SPDX-License-Identifier: Apache-2.0
"""The settings of database sessions, independent of the defaults of server, database, role and driver.

* A commit waits for the disk. MariaDB has no session variable for it: a warning is logged.
* The server ends a session that is idle in its transaction, which releases the locks that others wait for.
  Our transactions never pause, unless process or machine do. PostgreSQL does not count the wait for the rest
  of a statement as idle: there, keepalives of the server detect a client that is gone.
* Statements and waits for locks have a time limit, so that a thread that is stuck gets an error and retries.
  A smaller limit of the server, database or role stays. `lift_limits` is for migrations. On SQLite only the
  wait for the lock is limited: a statement runs in this process, on a local file.
* TCP keepalives detect a dead server within 30 s. Parameters of the URL override them.
* MariaDB uses READ COMMITTED: its default, REPEATABLE READ, takes gap locks and compares tokens in an old
  snapshot.
* PostgreSQL uses no prepared statements. A pooler may give each transaction another session, without them;
  and a plan that was made for an empty table would scan it.
* Session variables are set only in sessions that are not pooled. Behind a pooler, PostgreSQL itself has to be
  configured with the limits and durable commits; otherwise the connection is refused.
* A text that is too long is refused, not truncated; texts are UTF-8 (utf8mb4); the time zone is UTC.
* A SQLite file that does not exist is created with access for its owner only.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

LOG = logging.getLogger(__name__)

APPLICATION_NAME = "tracker-worker"
IDLE_IN_TRANSACTION_SECONDS = 10
"""Maximum; a smaller value stays."""
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""Idle seconds before the first TCP keepalive, seconds between two, and the number of lost ones allowed."""
USER_TIMEOUT_MS = 30_000
"""The time in which the peer has to acknowledge sent data."""
LOCK_WAIT_SECONDS = 15
"""Maximum. Longer than an idle transaction can hold its locks, shorter than the limit of a statement."""
STATEMENT_SECONDS = 30
"""Maximum on PostgreSQL."""
MARIADB_STATEMENT_SECONDS = 25
"""Maximum. Shorter than the driver's read timeout, so that the server ends the statement, and not the driver
the connection."""

MAX_PACKET = "max_allowed_packet"
"""The key in `Connection.info` of MariaDB's limit for the length of a statement, in bytes."""
WRONG_PARAMETERS = "the driver does not take the parameters behind the ? of the URL as they are"

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    # oslo.db translates no errors of a dialect that is named "mariadb".
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
"""`reset_val`: a pooled session's value at its start, since other clients may have changed `setting`."""
_SET = "SELECT set_config(name, value, false) FROM json_each_text(%s::json) AS settings (name, value)"
_STRICT = "STRICT_TRANS_TABLES,STRICT_ALL_TABLES"
_UNESCAPED = "NO_BACKSLASH_ESCAPES"
"""PyMySQL doubles quotes in this mode. With backslashes it looks at each character: slow for JSON."""


class PooledSessions(SQLAlchemyError):
    """PostgreSQL's pooled sessions lack required settings, which a worker cannot set in each of them.

    The text has the statements that the operator has to execute.
    """


def complete(url: str | sa.URL, parameters: str = "") -> sa.URL:
    """Return a URL with the driver, the default parameters, and `parameters` added to its query."""
    parsed = sa.make_url(url)
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    if parameters:
        parsed = parsed.update_query_string(parameters)
    name = parsed.get_backend_name()
    return parsed.update_query_dict({**_DEFAULTS.get(name, {}), **parsed.query, **_ALWAYS.get(name, {})})


def sql_mode(given: str | None) -> str:
    """Return the SQL mode of MariaDB's sessions: the given one, or TRADITIONAL, strict, without escapes."""
    return ",".join([given or "TRADITIONAL", _STRICT, _UNESCAPED])


def set_up(engine: sa.Engine) -> None:
    """Register the listeners that set up each new connection of an engine."""
    _refuse_parameters(engine.dialect)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "do_connect", _make_sqlite_private)
        sa.event.listen(engine, "connect", _make_sqlite_durable)
    elif engine.dialect.name == "postgresql":
        # Must run before SQLAlchemy's own statements.
        sa.event.listen(engine, "connect", _set_postgresql_session, insert=True)
    else:
        # Must run before SQLAlchemy reads the isolation level, to which it resets connections.
        sa.event.listen(engine, "connect", _set_mariadb_session, insert=True)
        sa.event.listen(engine, "first_connect", _check_mariadb_durability)


def _refuse_parameters(dialect: Any) -> None:
    """Have a dialect refuse parameters that its driver does not take.

    What the driver says quotes the parameter, which may be a part of a password. (Not by a listener of
    do_connect: one that connects keeps the others from being called.)
    """
    connect = dialect.connect

    def checked(*args: Any, **parameters: Any) -> Any:
        try:
            return connect(*args, **parameters)
        except (TypeError, ValueError, dialect.dbapi.ProgrammingError):
            raise ArgumentError(WRONG_PARAMETERS) from None

    dialect.connect = checked


def lift_limits(connection: sa.Connection, seconds: int) -> None:
    """Remove the time limit of statements on a connection; let them wait `seconds` for locks.

    This holds on PostgreSQL until the end of the transaction, on MariaDB until the end of the session.
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
    """Create a missing file with access for its owner only; SQLite creates its other files with this mode.

    If that fails, SQLite raises the error when it opens the file.
    """
    name = arguments[0]
    if name != ":memory:" and not name.startswith("file:") and not Path(name).exists():
        with suppress(OSError):
            Path(name).touch(mode=0o600)


def _make_sqlite_durable(connection: Any, _record: object) -> None:
    """Use WAL with synchronous = FULL: with less, a commit that was acknowledged may be lost."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _set_postgresql_session(connection: Any, _record: object) -> None:
    """Set up a session without prepared statements; close the connection if that fails."""
    connection.prepare_threshold = None
    try:
        with connection.transaction():
            _set_up_postgresql(connection)
    except BaseException:
        connection.close()
        raise


def _set_up_postgresql(connection: Any) -> None:
    """Set the limits of a session; raise PooledSessions if the session is pooled and lacks them.

    A session is pooled if its server process id differs from the one at the connection's start: a pooler
    answers the connection itself, without a server process.
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
    """Return the maximum limits of a session, in milliseconds."""
    return {
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_SECONDS * 1000,
        "lock_timeout": LOCK_WAIT_SECONDS * 1000,
        "statement_timeout": STATEMENT_SECONDS * 1000,
    }


def _keepalives_of_postgresql() -> dict[str, int]:
    """Return the server's keepalives to its client. They are not needed with a pooler, which has its own."""
    keepalives = {f"tcp_{name}": value for name, value in KEEPALIVES.items()}
    return keepalives | {"tcp_user_timeout": USER_TIMEOUT_MS}


def _set_mariadb_session(connection: Any, record: ConnectionPoolEntry) -> None:
    """Set the isolation level, limits and time zone of a session; read the maximum length of a statement."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        names = [*mariadb_limits(), MAX_PACKET]
        cursor.execute("SHOW SESSION VARIABLES WHERE variable_name IN %s", (names,))
        found = dict(cursor.fetchall())
        record.info[MAX_PACKET] = int(found[MAX_PACKET])
        limits = [f", {name} = {most}" for name, most in limits_to_set(found, mariadb_limits()).items()]
        cursor.execute("SET SESSION time_zone = '+00:00'" + "".join(limits))


def mariadb_limits() -> dict[str, int]:
    """Return the maximum limits of a session by variable, in seconds unless stated otherwise."""
    return {
        "idle_transaction_timeout": IDLE_IN_TRANSACTION_SECONDS,
        "innodb_lock_wait_timeout": LOCK_WAIT_SECONDS,
        "lock_wait_timeout": LOCK_WAIT_SECONDS,  # Metadata locks.
        "max_statement_time": MARIADB_STATEMENT_SECONDS,
        "max_execution_time": MARIADB_STATEMENT_SECONDS * 1000,  # MySQL's, in milliseconds.
    }


def limits_to_set(found: Mapping[str, str], limits: Mapping[str, int]) -> dict[str, int]:
    """Return the limits to set, given the variables of the session and the maximum limits.

    A smaller limit stays; 0 means no limit. Variables that the server lacks are left out.
    """
    return {
        name: most for name, most in limits.items() if name in found and not 0 < float(found[name]) <= most
    }


def _check_mariadb_durability(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_flush_log_at_trx_commit")
        (flushes,) = cursor.fetchone()
    if flushes not in (1, 3):
        LOG.warning(
            "MariaDB's commits do not wait for the disk: what was acknowledged may be lost with its machine. "
            "Set innodb_flush_log_at_trx_commit = 1 there"
        )
