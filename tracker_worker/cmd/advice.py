# SPDX-License-Identifier: Apache-2.0
"""Advice on database errors: the error says what is wrong, the advice how to correct it."""

import sqlite3

from sqlalchemy.exc import NoSuchModuleError

from tracker_worker.core.error_text import driver_error
from tracker_worker.db.errors import is_right_missing

SUPPORTED = "supported are postgresql://, mysql:// (MariaDB too) and sqlite:///"
_EXTRAS = {"psycopg": "postgresql", "pymysql": "mariadb"}
_SQLITE = {
    sqlite3.SQLITE_CANTOPEN: "its directory must exist, and this user must be able to write to it",
    sqlite3.SQLITE_READONLY: "this user must be able to write to the file and to its directory",
    sqlite3.SQLITE_NOTADB: "name another file, or move this one away",
}


def advice_for(error: BaseException) -> str | None:
    """Return how to correct an error, or None if its own text says so."""
    if isinstance(error, NoSuchModuleError):
        return SUPPORTED
    if isinstance(error, ImportError):
        extra = _EXTRAS.get(error.name or "")
        return f"install its driver: pip install 'tracker-worker[{extra}]'" if extra else SUPPORTED
    if is_right_missing(error):
        is_owner = type(driver_error(error)).__module__.startswith("psycopg")
        rights = "SELECT, INSERT, UPDATE and DELETE, for 'db sync' also CREATE, ALTER, DROP and INDEX"
        return f"its user needs {rights}" + ("; make it the owner of the database" if is_owner else "")
    if isinstance(driver_error(error), FileNotFoundError):
        return "a file that its URL names must exist, such as that of its CA"
    return _SQLITE.get(
        getattr(driver_error(error), "sqlite_errorcode", 0) & 0xFF
    )  # The low byte is the primary result code.
