# SPDX-License-Identifier: Apache-2.0
"""The database of a configuration: its URL, its file, and its errors in words.

Imports SQLAlchemy only, since many commands need nothing else.
"""

from pathlib import Path

from oslo_config import cfg
from oslo_db.exception import DBError
from sqlalchemy.exc import SQLAlchemyError

from tracker_worker.cmd.urls import hide_secrets, url_of
from tracker_worker.core.error_text import driver_text
from tracker_worker.core.urls import URLRefused, check_url, printable_url, secrets_of
from tracker_worker.db.fitness import UnfitDatabase

DIRECTORY_MODE = 0o750

DATABASE_ERRORS = (OSError, ImportError, DBError, SQLAlchemyError, UnfitDatabase)
"""The errors of a database that cannot be used."""


def database_file(directory: Path) -> Path:
    """Return the path of the embedded database in a directory."""
    return directory / "tracker-worker.sqlite"


def database_url(conf: cfg.ConfigOpts) -> str | None:
    """Return `[database] connection` after checking it. Raises URLRefused."""
    hide_secrets(_secrets_of_parameters(conf))
    return url_of(conf, "database", "connection", check_url)


def database_text(conf: cfg.ConfigOpts, error: BaseException) -> str:
    """Return which database cannot be used, its driver's error and advice, in one line without a password."""
    url = conf.database.connection
    where = (
        f"[database] connection = {printable_url(url)}"
        if url
        else f"[DEFAULT] state_path = {conf.state_path}"
    )
    return unusable(where, error, secrets_of(url) | _secrets_of_parameters(conf))


def unusable(where: str, error: BaseException, secrets: frozenset[str]) -> str:
    """Return that a database cannot be used, with its driver's error and advice, in one line."""
    from tracker_worker.cmd.advice import advice_for

    advice = advice_for(error)
    return f"{where} cannot be used: {driver_text(error, secrets)}" + (f"; {advice}" if advice else "")


def _secrets_of_parameters(conf: cfg.ConfigOpts) -> frozenset[str]:
    """Return the secrets in `[database] connection_parameters`, which oslo.db appends to the URL."""
    try:
        return secrets_of(f"any://?{conf.database.connection_parameters}")
    except cfg.Error:  # oslo.config's error quotes the text after a $.
        raise URLRefused("[database] connection_parameters: write $ as $$") from None
