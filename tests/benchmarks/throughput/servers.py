# SPDX-License-Identifier: Apache-2.0
"""The servers of a run: a broker, and databases that are copies of one that tracker-worker has filled."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from tests.servers.fixtures import migrated
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ


class SQLite:
    """Database files in a directory of their own."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self._number = 0

    def start(self) -> None:
        """There is nothing to start."""

    def new_database(self, template: str | None = None) -> str:
        """Name a new file, a copy of the template; return its URL."""
        self._number += 1
        file = self._directory / f"{self._number}.sqlite"
        if template:
            shutil.copyfile(template.removeprefix("sqlite:///"), file)
        return f"sqlite:///{file}"

    def drop_database(self, url: str) -> None:
        """Delete the file."""
        file = Path(url.removeprefix("sqlite:///"))
        for path in file.parent.glob(f"{file.name}*"):
            path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory)


Database = SQLite | PostgreSQL | MariaDB
DATABASES: dict[str, type[SQLite] | type[PostgreSQL] | type[MariaDB]] = {
    "sqlite": SQLite,
    "postgresql": PostgreSQL,
    "mariadb": MariaDB,
}


class Servers:
    """A broker and the databases of these kinds; `with` starts and ends them."""

    def __init__(self, kinds: list[str]) -> None:
        self._kinds = kinds
        self._databases: dict[str, Database] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.rabbitmq = stack.enter_context(RabbitMQ())
            self.rabbitmq.start()
            for kind in self._kinds:
                self._databases[kind] = database = DATABASES[kind]()
                stack.enter_context(database)
                database.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def vhost(self) -> Iterator[str]:
        """The transport URL of a new virtual host."""
        name = self.rabbitmq.new_vhost()
        yield self.rabbitmq.url(name)
        self.rabbitmq.delete_vhost(name)

    def new_database(self, kind: str) -> str:
        """The URL of a new database with the schema."""
        return migrated(self.empty_database(kind))

    def empty_database(self, kind: str) -> str:
        """The URL of a new database without tables."""
        return self._databases[kind].new_database()

    @contextmanager
    def copy(self, kind: str, template: str) -> Iterator[str]:
        """The URL of a copy of a database, with its rows. Nobody may be connected to the template."""
        database = self._databases[kind]
        url = database.new_database(template)
        if isinstance(database, MariaDB):
            _copy_rows(database, template, url)
        yield url
        database.drop_database(url)


def _copy_rows(server: MariaDB, template: str, url: str) -> None:
    source, target = (each.rpartition("/")[2] for each in (template, url))
    for (table,) in server.execute(f"SHOW TABLES FROM {source}"):
        if table != "alembic_version":
            server.execute(f"INSERT INTO {target}.{table} SELECT * FROM {source}.{table}")
