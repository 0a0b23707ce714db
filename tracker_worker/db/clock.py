# SPDX-License-Identifier: Apache-2.0
"""The database's clock, in SQL. All hosts use it, so that their own clocks may differ."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Seconds(FunctionElement[float]):
    """Seconds since 1970 at the time of evaluation, not at the start of the transaction."""

    type = sa.Double()
    inherit_cache = True


class UtcNow(FunctionElement[datetime]):
    """The current UTC time without a zone, in microseconds; on SQLite in milliseconds.

    The time of evaluation, not of the start of the transaction. Rows of one statement may have the same time.
    """

    type = sa.DateTime()
    inherit_cache = True


@compiles(Seconds)
def _seconds_of_sqlite(_element: Seconds, _compiler: SQLCompiler, **_how: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Seconds, "postgresql")
def _seconds_of_postgresql(_element: Seconds, _compiler: SQLCompiler, **_how: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)"


@compiles(Seconds, "mysql")
def _seconds_of_mariadb(_element: Seconds, _compiler: SQLCompiler, **_how: Any) -> str:
    return "CAST(UNIX_TIMESTAMP(SYSDATE(6)) AS DOUBLE)"


@compiles(UtcNow)
def _utc_of_sqlite(_element: UtcNow, _compiler: SQLCompiler, **_how: Any) -> str:
    # Six digits, as SQLAlchemy writes them: SQLite compares times as texts.
    return "(strftime('%Y-%m-%d %H:%M:%f', julianday('now')) || '000')"


@compiles(UtcNow, "postgresql")
def _utc_of_postgresql(_element: UtcNow, _compiler: SQLCompiler, **_how: Any) -> str:
    return "timezone('utc', clock_timestamp())"


@compiles(UtcNow, "mysql")
def _utc_of_mariadb(_element: UtcNow, _compiler: SQLCompiler, **_how: Any) -> str:
    # SYSDATE() would differ on a replica with statement-based replication.
    return "UTC_TIMESTAMP(6)"
