# SPDX-License-Identifier: Apache-2.0
"""The migrations make the schema that the code speaks to, all of it and nothing else."""

import stat
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tracker_worker.cmd.bootstrap import embedded_engine
from tracker_worker.db import revisions
from tracker_worker.db.engine import alembic_config, create_engine, sync_schema
from tracker_worker.db.tables import METADATA


def differences(engine: sa.Engine) -> Any:
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)


def columns(engine: sa.Engine) -> Any:
    """Names, types and constraints as the database tells them."""
    found = sa.MetaData()
    with engine.connect() as connection:
        found.reflect(connection)
        statements = connection.exec_driver_sql(
            "SELECT name, type, tbl_name FROM sqlite_schema WHERE name NOT LIKE 'alembic%'"
            " AND tbl_name NOT LIKE 'alembic%' ORDER BY name"
        ).all()
    tables = {name: table for name, table in found.tables.items() if name != "alembic_version"}
    return statements, {
        name: [(c.name, str(c.type), c.nullable, c.primary_key) for c in table.columns]
        for name, table in tables.items()
    }


def test_nothing_to_head_is_what_the_code_expects(engine: sa.Engine) -> None:
    assert differences(engine) == []


def test_a_migrated_database_is_like_a_created_one(engine: sa.Engine, tmp_path: Path) -> None:
    created = create_engine(f"sqlite:///{tmp_path}/created.sqlite")
    METADATA.create_all(created)
    assert columns(engine) == columns(created)
    created.dispose()


def test_a_difference_would_be_found(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_receipts_node_sequence_recorded_at")
    assert [difference[0] for difference in differences(engine)] == ["add_index"]


def test_there_is_one_head_and_one_way_to_it() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1
    assert not [r for r in script.walk_revisions() if r.is_merge_point or r.is_branch_point]


def test_to_migrate_again_does_nothing(engine: sa.Engine) -> None:
    before = columns(engine)
    sync_schema(engine)
    assert columns(engine) == before


def test_a_database_is_durable(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL"


def test_sqlite_file_is_made_for_its_user_alone_by_whatever_connects_first(tmp_path: Path) -> None:
    made = create_engine(f"sqlite:///{tmp_path}/made.sqlite")
    with made.connect() as connection:
        assert revisions.current(connection) is None
    sync_schema(made)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("made.sqlite*")} == {0o600}
    made.dispose()


def test_the_directory_of_the_database_is_made(tmp_path: Path) -> None:
    made = embedded_engine(tmp_path / "not" / "yet" / "there")
    assert differences(made) == []
    made.dispose()
