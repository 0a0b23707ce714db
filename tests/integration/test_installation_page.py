# SPDX-License-Identifier: Apache-2.0
"""The commands of the installation page, run as they stand there, under names of the test's own."""

import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.daemon import Daemon
from tests.integration.rabbit import connected, depth, publish, until
from tests.samples import a_report, message
from tests.servers import forkserver
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.db.engine import create_engine
from tracker_worker.domain.partitions import DEFAULT_PARTITIONS, partition_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "doc" / "source" / "install" / "index.rst").read_text()
LOGGING = ROOT / "etc" / "tracker-worker" / "logging.conf.sample"
INFO = "versioned_notifications.info"
BOUND = 3
AS_USER = "sudo -u tracker-worker /opt/tracker-worker/bin/"


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language."""
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", PAGE, re.MULTILINE)
    return [re.sub("^   ", "", block, flags=re.MULTILINE) for block in found]


def own(text: str, name: str) -> str:
    """Replace the page's name of user, database and virtual host."""
    return re.sub(r"(?<![-/\w])tracker(?![-\w])|(?<=/)tracker$", name, text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def name(rabbitmq: RabbitMQ) -> Iterator[str]:
    """The name of a virtual host and its user, which the page's commands have made."""
    name = f"installed_{secrets.token_hex(4)}"
    for block in blocks("shell"):
        for line in block.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line) or ["rabbitmqctl"]
            assert program == "rabbitmqctl"
            if arguments:
                rabbitmq.ctl(*(own(each.replace("100000", str(BOUND)), name) for each in arguments))
    yield name
    rabbitmq.start_again()
    rabbitmq.delete_vhost(name)
    rabbitmq.api("DELETE", f"users/{name}")


def configuration(rabbitmq: RabbitMQ, name: str, database: str) -> str:
    """The page's configuration for the test's servers."""
    (text,) = blocks("ini")
    text = re.sub(r"rabbit[12]:5672", f"{rabbitmq.host}:{rabbitmq.port}", own(text, name))
    text = text.replace("/etc/tracker-worker/logging.conf", str(LOGGING))
    return re.sub("^connection = .*", f"connection = {database}", text, flags=re.MULTILINE)


def administrator_of(server: PostgreSQL | MariaDB) -> str:
    """The URL for somebody who may make databases and users."""
    return (
        server.url("postgres") if isinstance(server, PostgreSQL) else server.operator_url(server.url("mysql"))
    )


@pytest.mark.parametrize(
    ("fixture", "language", "scheme"),
    [("postgresql", "postgresql", "postgresql"), ("mariadb", "mysql", "mysql")],
)
def test_page_leads_to_a_database_and_queues_that_pass_the_check(
    request: pytest.FixtureRequest, rabbitmq: RabbitMQ, name: str, tmp_path: Path,
    fixture: str, language: str, scheme: str,
) -> None:  # fmt: skip
    server: PostgreSQL | MariaDB = request.getfixturevalue(fixture)
    (block,) = blocks(language)
    engine = create_engine(administrator_of(server))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in filter(str.strip, own(block, name).split(";")):
            connection.exec_driver_sql(statement)
    engine.dispose()
    assert f"{scheme}://tracker:PASSWORD@db/tracker" in PAGE
    url = f"{scheme}://{name}:PASSWORD@{server.host}:{server.port}/{name}"
    file = tmp_path / "tracker-worker.conf"
    file.write_text(configuration(rabbitmq, name, url))
    lines = re.findall(rf"^    {AS_USER}tracker-worker-(manage|status) (.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 3
    for program, arguments in lines:
        done = forkserver.run(program, "--config-file", file, *arguments.split(), merged=True)
        assert done.returncode == 0, done.stdout


def test_policy_bounds_the_queues_of_notifications_and_no_others(rabbitmq: RabbitMQ, name: str) -> None:
    url = f"rabbit://{name}:PASSWORD@{rabbitmq.host}:{rabbitmq.port}/{name}"
    with Daemon(url, bus={"partitions": DEFAULT_PARTITIONS}) as daemon, connected(url) as connection:
        daemon.wait_until_it_consumes()
        for number in range(2 * BOUND):
            node = f"node-{number}"
            resources = a_report(f"{number:08}-1111-4111-8111-111111111111")
            args = {"node": node, "resources": resources}
            body = message("update_available_resource", args, _unique_id=node)
            publish(connection, [body], partition_of(node, DEFAULT_PARTITIONS))
        engine = create_engine(f"sqlite:///{next(daemon.directory.glob('*.sqlite'))}")
        until(lambda: (count(engine, "nodes"), count(engine, "outbox")) == (2 * BOUND, 0), "an empty outbox")
        engine.dispose()
        assert depth(connection, INFO) == BOUND
        listed = rabbitmq.ctl("list_queues", "--silent", "--no-table-headers", "-p", name, "name", "policy")
    policies = dict(line.split("\t") for line in listed.splitlines())
    bounded = {queue for queue, policy in policies.items() if policy}
    assert bounded == {INFO} < policies.keys()


def count(engine: sa.Engine, table: str) -> int:
    """How many rows a table has."""
    with engine.connect() as connection:
        return connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0
