# SPDX-License-Identifier: Apache-2.0
"""The database's clock, in SQL. Hosts whose clocks differ agree on it."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Seconds(FunctionElement[float]):
    """Seconds since 1970 when the expression is evaluated: not when the transaction began."""

    type = sa.Double()
    inherit_cache = True


class UtcNow(FunctionElement[datetime]):
    """UTC without a zone, in the resolution of the database: microseconds, on SQLite milliseconds.

    Not the time at which the transaction began. All rows of one statement may have the same.
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
    # With six digits, as SQLAlchemy writes times here: they are compared as texts.
    return "(strftime('%Y-%m-%d %H:%M:%f', julianday('now')) || '000')"


@compiles(UtcNow, "postgresql")
def _utc_of_postgresql(_element: UtcNow, _compiler: SQLCompiler, **_how: Any) -> str:
    return "timezone('utc', clock_timestamp())"


@compiles(UtcNow, "mysql")
def _utc_of_mariadb(_element: UtcNow, _compiler: SQLCompiler, **_how: Any) -> str:
    # Not SYSDATE(): replicas that repeat the statement have to write the same.
    return "UTC_TIMESTAMP(6)"
