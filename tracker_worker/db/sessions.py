# SPDX-License-Identifier: Apache-2.0
"""What our sessions have, whatever server, database, role and driver are set up to give.

* A commit waits for the disk. MariaDB cannot be told so by a session: it is said in the log.
* A session that stands still in its transaction loses it, and with it the locks that others wait for: our
  transactions never pause, unless process or machine do. PostgreSQL does not count the time that it waits
  for the rest of a statement: there it looks itself whether its client is gone, as clients look for it.
* A server that is gone without a word is noticed in half a minute. The URL may say otherwise.
* READ COMMITTED on MariaDB, whose default keeps locks between rows and would swap what it had read before.
* A text that is too long is refused, not cut; all texts are UTF-8, all of it; the clock knows no summer.
"""

import json
import logging
from typing import Any

import sqlalchemy as sa
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
"""Longer than a holder that stands still keeps its locks, shorter than the driver waits for an answer."""

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
}
_ALWAYS = {
    "postgresql": {"fallback_application_name": APPLICATION_NAME},
    "mysql": {"charset": "utf8mb4"},
}
_POSTGRESQL_SESSION = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', false),
       CASE current_setting('synchronous_commit')
           WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END,
       (SELECT count(set_config(name, value, false))
        FROM pg_settings JOIN json_each_text(%(most)s::json) AS most (name, value) USING (name)
        WHERE setting::bigint NOT BETWEEN 1 AND value::bigint)
"""
_STRICT = "STRICT_TRANS_TABLES,STRICT_ALL_TABLES"


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
        sa.event.listen(engine, "connect", _make_sqlite_durable)
    elif engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _set_postgresql_session)
    else:
        # Before SQLAlchemy looks which isolation it has to go back to.
        sa.event.listen(engine, "connect", _set_mariadb_session, insert=True)
        sa.event.listen(engine, "first_connect", _look_whether_mariadb_is_durable)


def _make_sqlite_durable(connection: Any, _record: object) -> None:
    """A commit that is not on the disk could be acknowledged and lost: WAL is only safe with FULL."""
    connection.execute("PRAGMA busy_timeout = 10000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _set_postgresql_session(connection: Any, _record: object) -> None:
    """Wait for the disk, even where server, database or role are set up not to; do not idle in a transaction,
    and do not keep one whose client is gone.

    And plan every time: a plan kept from when a table was empty would read all of it, until the server looks
    at the table again.
    """
    most = {f"tcp_{name}": value for name, value in KEEPALIVES.items()}
    most["tcp_user_timeout"] = USER_TIMEOUT_MS
    most["idle_in_transaction_session_timeout"] = IDLE_IN_TRANSACTION_SECONDS * 1000
    connection.execute(_POSTGRESQL_SESSION, {"most": json.dumps(most)})
    connection.commit()


def _set_mariadb_session(connection: Any, record: ConnectionPoolEntry) -> None:
    """Set what a session can, and learn how long a statement may be."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        cursor.execute(
            "SET SESSION idle_transaction_timeout = IF("
            f"@@idle_transaction_timeout BETWEEN 1 AND {IDLE_IN_TRANSACTION_SECONDS},"
            f" @@idle_transaction_timeout, {IDLE_IN_TRANSACTION_SECONDS}),"
            f" innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}, time_zone = '+00:00'"
        )
        cursor.execute("SELECT @@max_allowed_packet")
        (record.info[MAX_PACKET],) = cursor.fetchone()


def _look_whether_mariadb_is_durable(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@innodb_flush_log_at_trx_commit")
        (flushes,) = cursor.fetchone()
    if flushes not in (1, 3):
        LOG.warning(
            "MariaDB's commits do not wait for the disk: what was acknowledged may be lost with its machine. "
            "Set innodb_flush_log_at_trx_commit = 1 there"
        )
