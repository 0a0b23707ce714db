# SPDX-License-Identifier: Apache-2.0
"""What an operator can do about an error of the database: its own text says what is wrong."""

import sqlite3

from sqlalchemy.exc import NoSuchModuleError

from tracker_worker.core.error_text import driver_error
from tracker_worker.db.errors import is_right_missing

SUPPORTED = "supported are postgresql://, mysql:// (MariaDB too) and sqlite:///"
_EXTRAS = {"psycopg": "postgresql", "pymysql": "mariadb"}
_SQLITE = {
    sqlite3.SQLITE_CANTOPEN: "its directory has to exist, and this user to be allowed to write into it",
    sqlite3.SQLITE_READONLY: "this user has to be allowed to write the file and into its directory",
    sqlite3.SQLITE_NOTADB: "name another file, or move this one away",
}


def way_out(error: BaseException) -> str | None:
    """Return what to do about an error, None where there is nothing to add to its text."""
    if isinstance(error, NoSuchModuleError):
        return SUPPORTED
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(error.name or "")
        return f"install its driver: pip install 'tracker-worker[{extra}]'" if extra else SUPPORTED
    if is_right_missing(error):
        is_owner = type(driver_error(error)).__module__.startswith("psycopg")
        rights = "SELECT, INSERT, UPDATE and DELETE, for 'db sync' also CREATE, ALTER, DROP and INDEX"
        return f"its user needs {rights}" + ("; make it the owner of the database" if is_owner else "")
    return _SQLITE.get(getattr(driver_error(error), "sqlite_errorcode", 0) & 0xFF)  # The rest is detail.
