# SPDX-License-Identifier: Apache-2.0
"""What an operator can get wrong with real servers: one line with the server's own words and the way out."""

import re
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.programs.test_mistakes import TRACE, Programs
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.server import wait_until

WRONG = "planted-secret"


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def use_database(programs: Programs, url: str) -> None:
    """Configure a database."""
    programs.configure(f"[database]\nmax_retries = 1\nconnection = {url}\n")


def every_program(programs: Programs) -> Iterator[str]:
    """What each program that would write to the configured database says, with its exit code."""
    for program, arguments, code in (("worker", [], 1), ("manage", ["db", "sync"], 1)):
        found, line = programs.mistake(program, *arguments)
        assert found == code
        yield line
    code, table, _ = programs.run("status", "upgrade", "check")
    assert code == 2
    yield " ".join(table.replace("|", " ").split())


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def other_encoding(request: pytest.FixtureRequest, postgresql: PostgreSQL) -> Iterator[tuple[str, str]]:
    """An encoding, and the URL of a database in it."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgresql.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
    yield request.param, postgresql.url(name)
    postgresql.drop_database(postgresql.url(name))


def test_postgresql_database_that_is_not_utf8_is_refused(
    programs: Programs, other_encoding: tuple[str, str]
) -> None:
    encoding, url = other_encoding
    use_database(programs, url)
    for said in every_program(programs):
        assert f"its server_encoding is {encoding}, which cannot be changed" in said
        assert "ENCODING 'UTF8'" in said
    code, line = programs.mistake("replay", "--database", url, TRACE)
    assert (code, f"its server_encoding is {encoding}" in line) == (2, True)


def test_mariadb_table_that_is_not_utf8mb4_is_refused_and_can_be_converted(
    programs: Programs, mariadb: MariaDB, mariadb_url: str
) -> None:
    """The default of the tests' databases is latin1, which has no effect on the tables."""
    use_database(programs, mariadb_url)
    assert programs.run("manage", "db", "sync")[0] == 0
    name = mariadb_url.rpartition("/")[2]
    mariadb.execute(f"USE {name}; ALTER TABLE receipts CONVERT TO CHARACTER SET latin1 COLLATE latin1_bin")
    for said in every_program(programs):
        assert "the character set of receipts.event_id is latin1" in said
    way_out = re.search("run (ALTER TABLE .*)", programs.mistake("manage", "db", "sync")[1])
    assert way_out
    mariadb.execute(f"USE {name}; {way_out[1]}")
    assert programs.run("manage", "db", "sync")[0] == 0


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("postgresql", 'password authentication failed for user "tracker"'),
        ("mariadb", "Access denied for user 'tracker'@'127.0.0.1' (using password: YES) (1045)"),
    ],
)
def test_wrong_password_of_the_database_is_said_in_the_servers_words(
    request: pytest.FixtureRequest, programs: Programs, kind: str, said: str
) -> None:
    server: PostgreSQL | MariaDB = request.getfixturevalue(kind)
    url = server.url("any")
    use_database(programs, url.replace(server.password, WRONG))
    for line in every_program(programs):
        assert f":{server.port}/any cannot be used: " in line
        assert said in " ".join(line.split())
        assert WRONG not in line


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_right_that_is_missing_is_named_with_those_that_are_needed(
    request: pytest.FixtureRequest, programs: Programs, kind: str
) -> None:
    server: PostgreSQL | MariaDB = request.getfixturevalue(kind)
    database = server.new_database()
    name = f"low_{secrets.token_hex(4)}"
    if isinstance(server, PostgreSQL):
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    else:
        server.execute(f"CREATE USER {name} IDENTIFIED BY '{name}'")
        server.execute(f"GRANT SELECT ON {database.rpartition('/')[2]}.* TO {name}")
    use_database(programs, re.sub("//.*@", f"//{name}:{name}@", database))
    code, line = programs.mistake("manage", "db", "sync")
    server.drop_database(database)
    assert code == 1
    assert "denied" in line
    assert "its user needs SELECT, INSERT, UPDATE and DELETE, for 'db sync' also CREATE" in line


@pytest.mark.parametrize(
    ("user", "vhost", "said"),
    [
        ("tracker:{}", "{}", "ACCESS_REFUSED - Login was refused"),
        ("{}", "nowhere", "NOT_ALLOWED - vhost nowhere"),
    ],
)
def test_broker_that_refuses_is_said_once_in_its_own_words(
    programs: Programs, rabbitmq: RabbitMQ, vhost_url: str, user: str, vhost: str, said: str
) -> None:
    credentials, _, address = vhost_url.removeprefix("rabbit://").partition("@")
    host, _, own = address.partition("/")
    url = f"rabbit://{user.format(WRONG if ':' in user else credentials)}@{host}/{vhost.format(own)}"
    programs.configure(f"transport_url = {url}\n")
    code, line = programs.mistake("manage", "queues", "list")
    assert (code, line.count(said), WRONG in line) == (1, 1, False)
    code, line = programs.mistake("replay", "--transport-url", url, TRACE)
    assert (code, line.count(said), WRONG in line) == (2, 1, False)
    log = programs.directory / "worker.log"
    with (programs.directory / "said").open("w") as file:
        worker = programs.start("worker", "--log-file", log, stdout=file, stderr=file)
    wait_until(lambda: log.exists() and said in log.read_text(), "the worker to be refused")
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    (line, *_) = [line for line in log.read_text().splitlines() if said in line]
    assert line.count(said) == 1, line


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("password", "refuses the user (Login failed): it needs the right password and the tag 'monitoring'"),
        ("port", "does not answer: Connection refused; the plugin rabbitmq_management listens there"),
    ],
)
def test_list_of_queues_without_the_management_api_is_incomplete(
    programs: Programs, rabbitmq: RabbitMQ, vhost_url: str, wrong: str, said: str
) -> None:
    management_url = rabbitmq.management_url
    other = {
        "password": management_url.replace(rabbitmq.password, WRONG),
        "port": re.sub(r":\d+$", ":1", management_url),
    }
    for url, code in ((management_url, 0), (other[wrong], 1)):
        programs.configure(
            f"transport_url = {vhost_url}\n[bus]\npartitions = 1\nmanagement_url = {url}\n"
            "[oslo_messaging_rabbit]\namqp_durable_queues = true\n"
        )
        assert programs.run("manage", "queues", "declare")[0] == 0
        found, out, err = programs.run("manage", "queues", "list")
        assert (found, "tracker.p0" in out) == (code, True)
        assert (said in err) == (code == 1)
        assert WRONG not in err


@pytest.mark.parametrize("arguments", [["queues", "list"], ["queues", "declare"], ["node", "list"]])
def test_debug_of_a_command_shows_no_password(
    programs: Programs,
    rabbitmq: RabbitMQ,
    postgresql: PostgreSQL,
    vhost_url: str,
    database_url: str,
    arguments: list[str],
) -> None:
    programs.configure(
        f"transport_url = {vhost_url}\n[database]\nconnection = {database_url}\n"
        f"[bus]\npartitions = 1\nmanagement_url = {rabbitmq.management_url}\n"
    )
    _, out, err = programs.run("manage", "--debug", *arguments)
    assert any(line.startswith(("DEBUG:", "INFO:")) for line in err.splitlines())
    for password in (rabbitmq.password, postgresql.password):
        assert password not in out + err
