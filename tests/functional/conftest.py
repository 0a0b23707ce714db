# SPDX-License-Identifier: Apache-2.0
"""A database of its own for every test: migrated once, then copied, for alembic runs once at a time."""

# The commands choose oslo.service's threading model, before oslo.messaging is imported by anything.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.functional.lanes import LaneBench
from tracker_worker.cmd.bootstrap import embedded_engine
from tracker_worker.cmd.database import database_file
from tracker_worker.db.engine import create_engine


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a database that has the schema and no rows."""
    directory = tmp_path_factory.mktemp("empty")
    embedded_engine(directory).dispose()
    return database_file(directory)


@pytest.fixture
def engine(empty_database: Path, tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine on a database of the test's own."""
    copy = shutil.copyfile(empty_database, database_file(tmp_path))
    engine = create_engine(f"sqlite:///{copy}")
    yield engine
    engine.dispose()


@pytest.fixture
def a_bench(engine: sa.Engine) -> Iterator[Callable[..., LaneBench]]:
    """Makes benches on the same database: each call is another worker's lane."""
    benches: list[LaneBench] = []

    def make(**options: Any) -> LaneBench:
        benches.append(LaneBench(engine, **options))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(a_bench: Callable[..., LaneBench]) -> LaneBench:
    """A lane with the default settings."""
    return a_bench()
