# SPDX-License-Identifier: Apache-2.0
"""The servers that the other tests stand on: where they listen, what they keep, that nothing stays."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pymysql
import pytest
import sqlalchemy as sa
from kombu.connection import Connection
from kombu.entity import Queue

from tests.servers.certificates import Certificates
from tests.servers.mariadb import MariaDB
from tests.servers.pgbouncer import PgBouncer
from tests.servers.placement import Placement
from tests.servers.ports import LOOPBACK, Port, listens
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.reaper import Reaper
from tests.servers.server import Server, wait_until
from tests.servers.skips import skip_unless_installed
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import METADATA

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_PORTS = {3306, 4369, 5432, 5671, 5672, 6432, 15672, 25672}


def processes_of(server: Server) -> list[psutil.Process]:
    """Every process that was started from the server's directory, the reaper apart."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(server.directory)):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def listeners_of(server: Server) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for process in processes_of(server):
        with contextlib.suppress(psutil.NoSuchProcess):  # servers have short-lived children
            connections = process.net_connections(kind="tcp")
            found |= {
                (each.laddr.ip, each.laddr.port) for each in connections if each.status == psutil.CONN_LISTEN
            }
    return found


def written_by(server: Server) -> set[str]:
    files = psutil.Process(server.pid).open_files()
    # Directories of tests are in /dev/shm where there is room.
    devices = [file.path.startswith("/dev/") and not file.path.startswith("/dev/shm/") for file in files]
    return {file.path for file, device in zip(files, devices, strict=True) if file.mode != "r" and not device}


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def publish(url: str, queue_name: str, body: str) -> None:
    """Publish a persistent message to a durable queue; return once the broker has confirmed it."""
    options = {"confirm_publish": True}
    with Connection(url.replace("rabbit:", "amqp:"), transport_options=options) as connection:
        queue = Queue(queue_name, durable=True)(connection.default_channel)
        queue.declare()
        connection.Producer().publish(body, routing_key=queue_name, delivery_mode=2)


def get(url: str, queue_name: str) -> object:
    with Connection(url.replace("rabbit:", "amqp:")) as connection:
        message = Queue(queue_name)(connection.default_channel).get(no_ack=True)
        return message and message.payload


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    skip_unless_installed(PostgreSQL)
    with PostgreSQL() as server:
        server.start()
        yield server


Parent = Callable[..., tuple[subprocess.Popen[str], list[Any]]]


@pytest.fixture
def parent() -> Iterator[Parent]:
    """Starts a Python process that runs a script and prints a JSON list, and returns both."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> tuple[subprocess.Popen[str], list[Any]]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout
        return process, json.loads(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_rabbitmq_listens_on_free_loopback_ports_only(rabbitmq: RabbitMQ) -> None:
    listeners = listeners_of(rabbitmq)
    assert {(LOOPBACK, rabbitmq.port), (LOOPBACK, rabbitmq.tls_port)} <= listeners
    assert {address for address, _ in listeners} <= {LOOPBACK, "::1"}
    assert not {port for _, port in listeners} & DEFAULT_PORTS


def test_postgresql_listens_on_a_free_loopback_port_only(postgresql: PostgreSQL) -> None:
    assert listeners_of(postgresql) == {(LOOPBACK, postgresql.port)}
    assert postgresql.port not in DEFAULT_PORTS


def test_pgbouncer_listens_on_a_free_loopback_port_only(pgbouncer: PgBouncer) -> None:
    assert listeners_of(pgbouncer) == {(LOOPBACK, pgbouncer.port)}
    assert pgbouncer.port not in DEFAULT_PORTS


def test_mariadb_listens_on_a_free_loopback_port_only(mariadb: MariaDB) -> None:
    assert listeners_of(mariadb) == {(LOOPBACK, mariadb.port)}
    assert mariadb.port not in DEFAULT_PORTS


def test_placement_listens_on_a_free_loopback_port_only(placement: Placement) -> None:
    assert listeners_of(placement) == {(LOOPBACK, placement.port)}
    assert placement.port not in DEFAULT_PORTS


def test_virtual_host_of_a_test_takes_messages(vhost_url: str) -> None:
    publish(vhost_url, "greetings", "hello")
    assert get(vhost_url, "greetings") == "hello"


def test_tls_port_answers_with_the_certificate_of_the_test_authority(
    rabbitmq: RabbitMQ, certificates: Certificates
) -> None:
    vhost = rabbitmq.new_vhost()
    with Connection(
        hostname=rabbitmq.host,
        port=rabbitmq.tls_port,
        userid=rabbitmq.username,
        password=rabbitmq.password,
        virtual_host=vhost,
        transport="amqp",
        ssl={
            "ca_certs": str(certificates.authority),
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": "localhost",
        },
    ) as connection:
        connection.connect()
        assert connection.connected
    rabbitmq.delete_vhost(vhost)


def test_management_lists_a_virtual_host_until_it_is_deleted(rabbitmq: RabbitMQ) -> None:
    vhost = rabbitmq.new_vhost()
    assert vhost in rabbitmq.ctl("list_vhosts", "--quiet").splitlines()
    rabbitmq.delete_vhost(vhost)
    assert vhost not in [each["name"] for each in rabbitmq.api("GET", "vhosts")]


def test_connections_of_a_virtual_host_are_closed(rabbitmq: RabbitMQ, vhost_url: str) -> None:
    with Connection(vhost_url.replace("rabbit:", "amqp:")) as connection:
        connection.connect()
        vhost = vhost_url.rpartition("/")[2]
        wait_until(lambda: rabbitmq.close_connections(vhost) == 1, "the connection is listed")
        with pytest.raises(connection.connection_errors):
            connection.drain_events(timeout=10)


def test_databases_of_tests_have_the_schema_and_are_apart(postgresql: PostgreSQL, database_url: str) -> None:
    engine = create_engine(database_url)
    assert METADATA.tables.keys() <= set(sa.inspect(engine).get_table_names())
    engine.dispose()
    rows(database_url, "CREATE TABLE mine ()")
    other = postgresql.new_database()
    assert rows(other, "SELECT to_regclass('mine')") == [(None,)]
    postgresql.drop_database(other)


def test_sqlite_database_of_a_test_has_the_schema(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    assert METADATA.tables.keys() <= set(sa.inspect(engine).get_table_names())
    engine.dispose()


# A broker needs up to ten seconds for a start: one test for its life.
def test_second_rabbitmq_keeps_durable_messages_and_leaves_nothing(rabbitmq: RabbitMQ) -> None:
    with RabbitMQ() as own:
        own.start()
        assert rabbitmq.api("GET", "overview")["node"] != own.api("GET", "overview")["node"]
        url = own.url(own.new_vhost())
        publish(url, "kept", "still here")
        written = written_by(own)
        assert written
        assert [path for path in written if not path.startswith(str(own.directory))] == []
        own.kill()
        assert not listens(own.port)
        own.start()
        assert get(url, "kept") == "still here"
        processes, ports = processes_of(own), listeners_of(own)
        assert processes
    assert_gone(own, processes, ports)
    assert listens(rabbitmq.port)


@pytest.mark.parametrize("end", [PostgreSQL.kill, PostgreSQL.stop])
def test_postgresql_keeps_committed_rows(
    own_postgresql: PostgreSQL, end: Callable[[PostgreSQL], None]
) -> None:
    url = own_postgresql.new_database()
    rows(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    before = processes_of(own_postgresql)
    end(own_postgresql)
    assert not listens(own_postgresql.port)
    _, alive = psutil.wait_procs(before, timeout=10)
    assert not alive
    own_postgresql.start()
    assert rows(url, "SELECT answer FROM kept") == [(42,)]


def test_mariadb_keeps_committed_rows_and_leaves_nothing(mariadb: MariaDB) -> None:
    with MariaDB() as own:
        own.start()
        url = own.new_database()
        name = url.rpartition("/")[2]
        own.execute(f"CREATE TABLE {name}.kept AS SELECT 42 AS answer")
        for end in (own.kill, own.stop):
            before = processes_of(own)
            end()
            assert not listens(own.port)
            _, alive = psutil.wait_procs(before, timeout=10)
            assert not alive
            own.start()
            assert own.execute(f"SELECT answer FROM {name}.kept") == ((42,),)
        with pytest.raises(pymysql.OperationalError, match="denied"):
            pymysql.connect(host=own.host, port=own.port, user="root")
        own.drop_database(url)
        processes, ports = processes_of(own), listeners_of(own)
        assert processes
    assert_gone(own, processes, ports)
    assert mariadb.execute("SELECT @@port") == ((mariadb.port,),)


def test_placement_keeps_providers_and_leaves_nothing(placement: Placement) -> None:
    with Placement() as own:
        own.start()
        for end in (own.kill, own.stop):
            name = f"kept-by-{end.__name__}"
            own.request("POST", "/resource_providers", {"name": name})
            before = processes_of(own)
            end()
            assert not listens(own.port)
            _, alive = psutil.wait_procs(before, timeout=10)
            assert not alive
            own.start()
            assert len(own.request("GET", f"/resource_providers?name={name}")["resource_providers"]) == 1
            assert not placement.request("GET", f"/resource_providers?name={name}")["resource_providers"]
        processes, ports = processes_of(own), listeners_of(own)
        assert processes
    assert_gone(own, processes, ports)


def test_placement_on_postgresql_has_the_classes_and_the_traits(placement_on_postgresql: Placement) -> None:
    classes = placement_on_postgresql.request("GET", "/resource_classes")["resource_classes"]
    assert {"VCPU", "MEMORY_MB", "DISK_GB"} <= {each["name"] for each in classes}
    assert "COMPUTE_NODE" in placement_on_postgresql.request("GET", "/traits")["traits"]


def test_two_postgresql_run_at_once_and_one_leaves_nothing(postgresql: PostgreSQL) -> None:
    with PostgreSQL() as own:
        own.start()
        assert rows(own.url("postgres"), "SHOW port") == [(str(own.port),)]
        processes, ports = processes_of(own), listeners_of(own)
        assert processes
    assert_gone(own, processes, ports)
    assert rows(postgresql.url("postgres"), "SHOW port") == [(str(postgresql.port),)]


def test_server_that_cannot_start_shows_its_log(own_postgresql: PostgreSQL) -> None:
    own_postgresql.stop()
    (own_postgresql.directory / "data" / "PG_VERSION").write_text("8.1\n")
    with pytest.raises(RuntimeError, match="postgresql does not start.*(?s:.*)8\\.1"):
        own_postgresql.start()


SERVERS_OF_A_PARENT = """
import json, time
from tests.servers.{module} import {name}
server = {name}()
server.start()
print(json.dumps([server.pid, server.port, str(server.directory)]), flush=True)
time.sleep(100)
"""


@pytest.mark.parametrize("server", [PostgreSQL, MariaDB, RabbitMQ, Placement])
def test_servers_of_a_killed_test_process_are_gone(server: type[Server], parent: Parent) -> None:
    skip_unless_installed(server)
    module = server.__module__.rpartition(".")[2]
    process, (pid, port, directory) = parent(SERVERS_OF_A_PARENT.format(module=module, name=server.__name__))
    assert listens(port)
    process.kill()
    wait_until(lambda: not Path(directory).exists(), "the directory is removed")
    wait_until(lambda: not runs(pid), "the server is gone")
    wait_until(lambda: not listens(port), "its port is free")


def test_ctrl_c_does_not_reach_the_server_before_its_tests(own_postgresql: PostgreSQL) -> None:
    assert own_postgresql.pid
    assert os.getsid(own_postgresql.pid) != os.getsid(0)
    assert os.getpgid(own_postgresql.pid) != os.getpgid(0)


def test_reaper_spares_what_it_was_told_to_forget(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    bystander = subprocess.Popen(["sleep", "100"])
    try:
        reaper = Reaper(directory)
        reaper.watch("KILL", bystander.pid)
        reaper.forget()
        reaper.close()
        assert not directory.exists()
        assert bystander.poll() is None
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()


def test_held_port_is_not_given_twice_and_is_free_for_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Port()
    monkeypatch.setattr("random.sample", lambda *_: [first.number])
    with pytest.raises(RuntimeError, match="no free port"):
        Port()
    first.release()
    again = Port()
    assert again.number == first.number
    again.release()


def runs(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be reaped is gone."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_gone(server: Server, processes: list[psutil.Process], ports: set[tuple[str, int]]) -> None:
    wait_until(lambda: not any(runs(process.pid) for process in processes), "its processes are gone")
    assert not [port for _, port in ports if listens(port)]
    assert not server.directory.exists()
