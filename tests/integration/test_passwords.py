# SPDX-License-Identifier: Apache-2.0
"""The page on changing a password: its statements, as they stand there, with a worker that runs."""

import re
import secrets
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.daemon import PARTITIONS, Daemon
from tests.integration.operators import OnPostgreSQL, Operator
from tests.integration.rabbit import connected, publish, until
from tests.integration.test_database_servers import kind, operator, server, url  # noqa: F401
from tests.servers import forkserver
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.core.envelope import encode
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import RECEIPTS
from tracker_worker.domain.partitions import partition_of

PAGE = (Path(__file__).parents[2] / "doc" / "source" / "admin" / "secrets.rst").read_text()
LANGUAGES = {"postgresql": "postgresql", "mariadb": "mysql"}
NODE = "node-1"
SECOND, SAME = 0, 1
"""The two ways, in the page's order."""


def block(language: str, way: int, user: str, database: str) -> list[str]:
    """The lines of a way's block in a language, for a user and a database or virtual host of the test's."""
    found = re.findall(rf"^   \.\. code-block:: {language}\n\n((?:      .*\n)+)", PAGE, re.M)
    assert len(found) == 2
    text = re.sub(r"(?<=ON )tracker(?=\.)|(?<=--vhost )tracker\b", database, found[way])
    return [line.strip() for line in re.sub(r"\btracker(2?)\b", rf"{user}\1", text).splitlines()]


@pytest.fixture
def user(url: str, kind: str, operator: Operator) -> Iterator[str]:  # noqa: F811
    """A user of the database, as the installation page creates one, who owns the tables on PostgreSQL."""
    name = f"user_{secrets.token_hex(4)}"
    if kind == "postgresql":
        operator(f"CREATE ROLE {name} LOGIN PASSWORD 'PASSWORD'")
        operator(f"GRANT CREATE ON SCHEMA public TO {name}")
        for (table,) in operator("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            operator(f"ALTER TABLE {table} OWNER TO {name}")
    else:
        operator(f"CREATE USER {name} IDENTIFIED BY 'PASSWORD'")
        (grant,) = [line for line in block("mysql", SECOND, name, operator.database) if "GRANT" in line]
        operator(grant.replace(f"{name}2", name))
    yield name
    if kind == "postgresql":
        operator.end_sessions()
        operator(f"REASSIGN OWNED BY {name} TO tracker")
        operator(f"DROP OWNED BY {name}")
        for role in (f"{name}2", name):
            operator(f"DROP ROLE IF EXISTS {role}")
    else:
        for each in (f"{name}2", name):
            operator(f"DROP USER IF EXISTS {each}")


def with_login(url: str, user: str, password: str) -> str:  # noqa: F811
    return re.sub(r"//[^@]*@", f"//{user}:{password}@", url)


def cast(vhost_url: str, event_id: str) -> None:
    body = encode("build_failed", {"node": NODE, "event_id": event_id})
    with connected(vhost_url) as client:
        publish(client, [body], partition=partition_of(NODE, PARTITIONS))


def is_applied(engine: sa.Engine, event_id: str) -> bool:
    with engine.connect() as connection:
        query = sa.select(RECEIPTS.c.event_id).where(RECEIPTS.c.event_id == event_id)
        return connection.scalar(query) is not None


def assert_applied(engine: sa.Engine, event_id: str) -> None:
    until(lambda: is_applied(engine, event_id), f"{event_id} is not applied")


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:  # noqa: F811
    """For the test itself, by a user whose password stays."""
    made = create_engine(url)
    yield made
    made.dispose()


def test_second_user_of_the_database_works_as_the_first(
    vhost_url: str, url: str, kind: str, operator: Operator, user: str, engine: sa.Engine  # noqa: F811
) -> None:  # fmt: skip
    for statement in block(LANGUAGES[kind], SECOND, user, operator.database):
        operator(statement)
    second = with_login(url, f"{user}2", "PASSWORD2")
    operator(f"ALTER ROLE {user} NOLOGIN" if kind == "postgresql" else f"DROP USER {user}")
    with Daemon(vhost_url, second) as daemon:
        daemon.wait_until_it_consumes()
        checked = forkserver.run("status", "--config-file", daemon.file, "upgrade", "check", merged=True)
        assert checked.returncode < 2, checked.stdout
        cast(vhost_url, "event-a")
        assert_applied(engine, "event-a")


def test_worker_whose_password_the_database_refuses_keeps_its_events_until_its_restart(
    vhost_url: str, url: str, kind: str, operator: Operator, user: str, engine: sa.Engine  # noqa: F811
) -> None:  # fmt: skip
    new = with_login(url, user, "PASSWORD2")
    with Daemon(
        vhost_url, with_login(url, user, "PASSWORD"), worker={"graceful_shutdown_timeout": 1}
    ) as daemon:
        daemon.wait_until_it_consumes()
        cast(vhost_url, "event-0")
        assert_applied(engine, "event-0")
        daemon.file.write_text(daemon.file.read_text().replace(":PASSWORD@", ":PASSWORD2@"))
        for statement in block(LANGUAGES[kind], SAME, user, operator.database):
            operator(statement)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_line("Ignoring change to immutable option database.connection")
        cast(vhost_url, "event-a")
        assert_applied(engine, "event-a")
        end_sessions_of(operator, user)
        cast(vhost_url, "event-b")
        daemon.wait_for_line("Transaction is tried again (3)")
        assert not is_applied(engine, "event-b")
        assert daemon.stop() == 1
    with Daemon(vhost_url, new):
        assert_applied(engine, "event-b")


def end_sessions_of(operator: Operator, user: str) -> None:  # noqa: F811
    if isinstance(operator, OnPostgreSQL):
        operator(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'")
    else:
        operator(f"KILL USER {user}")


@pytest.fixture
def login(rabbitmq: RabbitMQ, vhost_url: str) -> Iterator[str]:
    """A user of the virtual host."""
    name = f"user_{secrets.token_hex(4)}"
    rabbitmq.ctl("add_user", name, "PASSWORD")
    rabbitmq.ctl("set_permissions", "--vhost", vhost_url.rpartition("/")[2], name, ".*", ".*", ".*")
    yield name
    for each in rabbitmq.api("GET", "users"):
        if each["name"] in (name, f"{name}2"):
            rabbitmq.api("DELETE", f"users/{each['name']}")


def run(rabbitmq: RabbitMQ, lines: list[str]) -> None:
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "rabbitmqctl"
        rabbitmq.ctl(*arguments)


def test_second_user_of_the_broker_works_as_the_first(
    rabbitmq: RabbitMQ, vhost_url: str, login: str, sqlite_url: str
) -> None:
    run(rabbitmq, block("shell", SECOND, login, vhost_url.rpartition("/")[2]))
    rabbitmq.ctl("delete_user", login)
    engine = create_engine(sqlite_url)
    with Daemon(with_login(vhost_url, f"{login}2", "PASSWORD2"), sqlite_url) as daemon:
        daemon.wait_until_it_consumes(vhost_url)
        cast(vhost_url, "event-a")
        assert_applied(engine, "event-a")
    engine.dispose()


def test_worker_whose_password_the_broker_refuses_tries_until_it_is_accepted_again(
    rabbitmq: RabbitMQ, vhost_url: str, login: str, sqlite_url: str
) -> None:
    engine = create_engine(sqlite_url)
    vhost = vhost_url.rpartition("/")[2]
    with Daemon(with_login(vhost_url, login, "PASSWORD"), sqlite_url) as daemon:
        daemon.wait_until_it_consumes(vhost_url)
        run(rabbitmq, block("shell", SAME, login, vhost))
        cast(vhost_url, "event-a")
        assert_applied(engine, "event-a")
        rabbitmq.close_connections(vhost)
        (line, *_) = daemon.wait_for_line("ACCESS_REFUSED")
        assert "RabbitMQ at" in line and "cannot be used" in line
        assert "login refused" in rabbitmq.log.read_text()
        cast(vhost_url, "event-b")
        assert not is_applied(engine, "event-b")
        rabbitmq.ctl("change_password", login, "PASSWORD")
        assert_applied(engine, "event-b")
    engine.dispose()
