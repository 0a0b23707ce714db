# SPDX-License-Identifier: Apache-2.0
"""Real servers, and what a test takes from them: a virtual host or a database of its own.

Each pytest-xdist worker has its own servers, started by the first test that wants them: a test may kill or
restart one without asking anybody, as long as it starts it again.
"""

# The commands choose oslo.service's threading model, before oslo.messaging is imported by anything.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.compiled_statements import CompiledStatements
from tests.functional.conftest import empty_database  # noqa: F401
from tests.servers import forkserver
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.mariadb import MariaDB
from tests.servers.pgbouncer import PgBouncer
from tests.servers.placement import Placement
from tests.servers.ports import Port
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.skips import skip_unless_installed
from tracker_worker.cmd.database import database_file
from tracker_worker.db.engine import create_engine, sync_schema


@pytest.fixture(scope="session", autouse=True)
def programs_forked() -> Iterator[None]:
    """Ends what forks the programs of the tests; the first that wants one starts it."""
    yield
    forkserver.close()


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> Iterator[None]:
    """The engines of all tests share what they have compiled."""
    statements = CompiledStatements()

    def use(conn: sa.Connection) -> None:
        conn.execution_options(compiled_cache=statements)

    sa.event.listen(sa.Engine, "engine_connect", use)
    yield
    sa.event.remove(sa.Engine, "engine_connect", use)


@pytest.fixture(scope="session", autouse=True)
def no_certificates_of_the_machine() -> Iterator[None]:
    """PyMySQL would read all of them for each connection, which takes longer than to connect."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield


@pytest.fixture
def port() -> Iterator[int]:
    """A port of loopback that nobody else uses."""
    held = Port()
    yield held.number
    held.release()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """What the broker's TLS port uses, and what its clients have to trust."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def rabbitmq(certificates: Certificates) -> Iterator[RabbitMQ]:
    """A broker with AMQP, AMQP over TLS and the management API."""
    skip_unless_installed(RabbitMQ)
    with RabbitMQ(tls=certificates) as broker:
        broker.start()
        yield broker


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A database server."""
    skip_unless_installed(PostgreSQL)
    with PostgreSQL() as server:
        server.start()
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgresql: PostgreSQL) -> Iterator[PgBouncer]:
    """A pooler that gives each transaction another session of the database server."""
    skip_unless_installed(PgBouncer)
    with PgBouncer(postgresql) as pooler:
        pooler.start()
        yield pooler


@pytest.fixture(scope="session")
def migrated_database(postgresql: PostgreSQL) -> str:
    """The URL of a database that has the schema and no rows, to be copied only."""
    return migrated(postgresql.new_database())


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """Another database server."""
    skip_unless_installed(MariaDB)
    with MariaDB() as server:
        server.start()
        yield server


@pytest.fixture(scope="session")
def migrated_mariadb(mariadb: MariaDB) -> str:
    """The URL of a MariaDB database that has the schema and no rows, to be copied only."""
    return migrated(mariadb.new_database())


@pytest.fixture(scope="session")
def placement() -> Iterator[Placement]:
    """A Placement on SQLite. What a test makes there is named by uuids of its own, and stays."""
    skip_unless_installed(Placement)
    with Placement() as server:
        server.start()
        yield server


@pytest.fixture(scope="session")
def placement_on_postgresql(postgresql: PostgreSQL) -> Iterator[Placement]:
    """A Placement on PostgreSQL, for tests with several writers at a time."""
    skip_unless_installed(Placement)
    with Placement(postgresql.new_database()) as server:
        server.start()
        yield server


def migrated(url: str) -> str:
    """Bring the schema of a database to the newest revision; return its URL."""
    engine = create_engine(url)
    sync_schema(engine)
    engine.dispose()
    return url


@pytest.fixture
def vhost_url(rabbitmq: RabbitMQ) -> Iterator[str]:
    """The transport URL of a virtual host of the test's own."""
    vhost = rabbitmq.new_vhost()
    yield rabbitmq.url(vhost)
    rabbitmq.start_again()
    rabbitmq.delete_vhost(vhost)


@pytest.fixture
def database_url(postgresql: PostgreSQL, migrated_database: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own, with the newest schema."""
    url = postgresql.new_database(migrated_database)
    yield url
    postgresql.start_again()
    postgresql.drop_database(url)


@pytest.fixture
def pooled_url(postgresql: PostgreSQL, pgbouncer: PgBouncer, database_url: str) -> Iterator[str]:
    """The URL of the same database behind the pooler, where sessions have the limits that a worker wants."""
    postgresql.limit_sessions(database_url)
    yield pgbouncer.through(database_url)
    pgbouncer.start_again()


@pytest.fixture
def mariadb_url(mariadb: MariaDB, migrated_mariadb: str) -> Iterator[str]:
    """The URL of an empty MariaDB database of the test's own, with the newest schema."""
    url = mariadb.new_database(migrated_mariadb)
    yield url
    mariadb.start_again()
    mariadb.drop_database(url)


@pytest.fixture
def sqlite_url(empty_database: Path, tmp_path: Path) -> str:  # noqa: F811
    """The URL of an empty SQLite database of the test's own, with the newest schema."""
    return f"sqlite:///{shutil.copyfile(empty_database, database_file(tmp_path))}"
