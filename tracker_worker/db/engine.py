# SPDX-License-Identifier: Apache-2.0
"""Engines, with oslo.db's exception translation, and the schema's migrations."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from oslo_db.sqlalchemy import engines

MIGRATIONS = Path(__file__).parent / "migrations"


def create_engine(url: str, **options: Any) -> sa.Engine:
    """Return an engine; `options` are oslo.db's. SQLite is opened in WAL mode and commits are synchronous."""
    engine: sa.Engine = engines.create_engine(url, **options)
    engine.hide_parameters = True  # An error's text goes to the log; what was bound may be anybody's secret.
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _make_sqlite_durable)
    return engine


def _make_sqlite_durable(connection: Any, _record: object) -> None:
    """A commit that is not on the disk could be acknowledged and lost: WAL is only safe with FULL."""
    connection.execute("PRAGMA busy_timeout = 10000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def alembic_config(connection: sa.Connection | None = None) -> Config:
    """Return alembic's configuration for this package's migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def sync_schema(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the database's schema to a revision; does nothing when it is there."""
    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), revision)
