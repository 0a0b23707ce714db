# SPDX-License-Identifier: Apache-2.0
"""One run of a worker with a secret wherever a sender, an operator or a server can put one: nothing that the
worker writes has any of them. Every logger is at DEBUG.

What is planted begins with PLANTED; the servers' passwords begin with SECRETS. tests/functional,
tests/programs and tests/unit have the places one by one.
"""

import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from kombu.connection import Connection

from tests.integration.daemon import PARTITIONS, SECRETS, Daemon
from tests.integration.rabbit import connected, publish, until
from tests.samples import (
    INSTANCE_UUID,
    MOVE_UUID,
    NODE,
    Json,
    Object,
    a_flavor,
    a_migration,
    a_report,
    an_instance,
    body,
)
from tests.servers import forkserver
from tests.servers.ports import LOOPBACK, Port
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.db.engine import create_engine
from tracker_worker.domain.commands import METHODS
from tracker_worker.domain.partitions import partition_of

PLANTED = "PLANTED"
SHOWN = "project-that-is-shown"
"""A text that does pass: the search for the others would find them, too."""
REQUEST = "req-3f0a1c52-7d0e-4a51-9a0b-1f6c4f3b8d21"
OTHER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
REFUSED = "eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee"
"""The instance whose rows the database refuses."""
EVERYTHING = {"debug": True, "default_log_levels": "", "admin_password": f"{PLANTED}-option"}
RAISES = f"""
from tracker_worker.domain import decide
def remove(*_):
    raise RuntimeError("{PLANTED}-exception")
decide._remove = remove
"""
"""A bug in a rule, whose exception has a value of the event in its text."""
REPLIES = "reply_of_the_test"
REPORTS = (signal.SIGUSR2, signal.SIGHUP)

CONTEXT: Object = {
    "_context_request_id": REQUEST,
    "_context_auth_token": f"{PLANTED}-token",
    "_context_password": f"{PLANTED}-password",
    "_context_user_name": f"{PLANTED}-user",
    "_context_service_catalog": [{"endpoints": [{"token": f"{PLANTED}-catalog"}]}],
    "surprise": f"{PLANTED}-key-of-the-envelope",
}
SPECS = {"quota:x": f"{PLANTED}-spec", "hw:mem_page_size": "small"}
PROPERTIES = {"os_admin_password": f"{PLANTED}-property"}


def with_secrets(uuid: str = INSTANCE_UUID, **more: Json) -> Object:
    """An instance that is valid: what no rule reads of it is dropped."""
    return an_instance(
        uuid, a_flavor(extra_specs=SPECS), image_properties=PROPERTIES, project_id=SHOWN, **more
    )


def report(**more: Json) -> Object:
    """A report whose driver has a secret among its figures."""
    return a_report(stats={"auth_token": f"{PLANTED}-figure", "cpu_arch": "x86_64"}, **more)


def claim(instance: Json, **more: Json) -> tuple[str, Object]:
    return "instance_claim", {"node": NODE, "instance": instance, **more}


USER_DATA = {name: f"{PLANTED}-{name}" for name in ("user_data", "key_data", "admin_pass", "config_drive")}
APPLIED: list[tuple[str, Object]] = [
    ("update_available_resource", {"node": NODE, "resources": report()}),
    claim(with_secrets()),
    claim(with_secrets(OTHER), limits={"memory_mb": 1}),
    (
        "resize_claim",
        {
            "node": NODE,
            "instance": with_secrets(),
            "flavor": a_flavor(3, extra_specs=SPECS),
            "migration": a_migration(MOVE_UUID, old_flavor=a_flavor(extra_specs=SPECS)),
            "image_properties": PROPERTIES,
        },
    ),
    (
        "update_available_resource",
        {"node": NODE, "resources": report(memory_mb=100), "instances": [with_secrets(OTHER)]},
    ),
    ("update_available_resource", {"node": NODE, "resources": report(uuid=OTHER)}),
]
"""Valid: granted, refused, corrected, in conflict, with a reserve above the size."""
PARKED: list[tuple[str, Object]] = [
    claim({**with_secrets(), **USER_DATA}),
    claim({**with_secrets(), "metadata": {PLANTED: f"{PLANTED}-metadata"}}),
    claim(with_secrets(vm_state={"password": f"{PLANTED}-in-place-of-a-text"})),
    claim(with_secrets(), password=f"{PLANTED}-argument"),
    ("update_available_resource", {"node": NODE, "resources": report(vcpus="many"), "x": [PLANTED]}),
    (
        "update_available_resource",
        {"node": NODE, "resources": a_report(stats={"a": {"password": f"{PLANTED}-nested"}})},
    ),
    ("build_failed", {"node": {"name": NODE, "password": f"{PLANTED}-node"}}),
    (f"{PLANTED}-method", {"node": NODE}),
    ("remove_node", {"node": NODE, "force": True}),
]
"""Invalid, or decided by a rule that fails."""
BODIES = [
    f"{PLANTED} is no JSON".encode(),
    body({"method": "build_failed", "args": {"node": NODE}, "version": f"{PLANTED}-version"}),
    body({"method": "build_failed", "args": {"node": NODE}, "namespace": f"{PLANTED}-namespace"}),
    body({"method": "build_failed", "args": {"node": NODE}}, version=f"{PLANTED}-envelope"),
]


def sent(method: str, args: Json, number: int, **more: Json) -> bytes:
    inner = {"method": method, "args": args, "version": "1.0", "_unique_id": f"event-{number}"}
    return body(inner | CONTEXT | more)


def send_everything(connection: Connection) -> int:
    """Publish all; return how many events there are."""
    partition = partition_of(NODE, PARTITIONS)
    calls = {"_reply_q": REPLIES, "_timeout": None}
    bodies = [
        # An unknown method that is called is answered, without a receipt.
        sent(method, args, number, **(calls | {"_msg_id": f"call-{number}"} if method in METHODS else {}))
        for number, (method, args) in enumerate([*APPLIED, *PARKED])
    ]
    reused = sent("build_failed", {"node": NODE}, 1)
    with connection.channel() as channel:
        channel.queue_declare(REPLIES, durable=True, auto_delete=False)
    publish(connection, [*bodies, reused, *BODIES], partition)
    publish(connection, [sent("build_failed", {"node": NODE}, 100)], (partition + 1) % PARTITIONS)
    return len(bodies) + 1 + len(BODIES) + 1


def taken(connection: Connection, queue: str) -> list[str]:
    """Take and return the messages of a queue."""
    found = []
    with connection.channel() as channel:
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            found.append(f"{message.body!r} {message.properties} {message.headers}")
    return found


def rows_of(engine: sa.Engine) -> str:
    """Everything in the database, of all tables."""
    with engine.connect() as connection:
        names = sa.inspect(connection).get_table_names()
        tables = {name: connection.execute(sa.text(f"SELECT * FROM {name}")).all() for name in names}
    return "\n".join(f"{name} {row!r}" for name, rows in tables.items() for row in rows)


def commands(file: Path) -> Iterator[str]:
    """What an operator's commands print."""

    def run(program: str, *arguments: str) -> str:
        done = forkserver.run(program, "--config-file", file, *arguments, merged=True)
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    listed = forkserver.run("manage", "--config-file", file, "dead-letter", "list", "--format", "json")
    yield listed.stdout
    for letter in json.loads(listed.stdout)[:3]:  # The bodies of all are in the database.
        yield run("manage", "dead-letter", "show", letter["id"], "--format", "json")
    for form in ("table", "json"):
        yield run("manage", "node", "show", NODE, "--format", form)
        yield run("manage", "node", "history", NODE, "--format", form)
    yield run("manage", "settings", "show")
    yield run("manage", "config", "show", "--all")
    yield run("manage", "queues", "list")
    yield run("status", "upgrade", "check")


def count(engine: sa.Engine) -> int:
    """How many events are settled."""
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM receipts")) or 0


def outbox(engine: sa.Engine) -> int:
    """How many notifications wait."""
    with engine.connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM outbox")) or 0


@contextmanager
def refusing(url: str, daemon: Daemon) -> Iterator[None]:
    """The database refuses an instance's claims for good, every receipt for a while, and quotes its URL."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for name, table, state, of in (
            ("refuse", "claims", "P0001", f"WHEN (NEW.instance_uuid = '{REFUSED}')"),
            ("fail", "receipts", "XX000", ""),
        ):
            connection.exec_driver_sql(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" RAISE SQLSTATE '{state}' USING MESSAGE = 'see {url.replace('%', '%%')}'; END $$"
            )
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} BEFORE INSERT ON {table} FOR EACH ROW {of} EXECUTE FUNCTION {name}()"
            )
    yield
    daemon.wait_for_line("Transaction is tried again")
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER fail ON receipts")
    daemon.wait_for_line("The database refuses event")
    engine.dispose()


def assert_clean(texts: list[str], secrets: tuple[str, ...]) -> None:
    """Assert that what passes did, and nothing else."""
    assert any(SHOWN in text for text in texts)
    for text in texts:
        for secret in secrets:
            at = text.find(secret)
            assert at < 0, text[max(at - 200, 0) : at + 200]


def text_of(port: int, path: str) -> str:
    """What the worker serves, whether a check has failed or not."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=30) as response:
            text: str = response.read().decode()
    except urllib.error.HTTPError as error:
        text = error.read().decode()
    return text


@pytest.fixture
def port() -> Iterator[int]:
    held = Port()
    yield held.number
    held.release()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """The URL of a database server, None for a SQLite file of the worker's own."""
    return None if request.param == "sqlite" else request.getfixturevalue("database_url")


def test_no_secret_is_in_anything_that_a_whole_run_leaves(
    rabbitmq: RabbitMQ, vhost_url: str, database: str | None, port: int
) -> None:
    management = {
        "management_url": f"http://tracker:{PLANTED}-management@127.0.0.1:1",
        "partitions": PARTITIONS,
    }
    login = {
        "enabled": True,
        "auth_type": "v3password",  # The other one logs tracebacks, which this test takes for failures.
        "auth_url": f"http://user:{PLANTED}-keystone@127.0.0.1:1/v3",
        "username": "tracker",
        "password": f"{PLANTED}-placement",
        "user_domain_name": "Default",
        "project_name": "service",
        "project_domain_name": "Default",
    }
    foreign = {"password": f"{PLANTED}-foreign-group"}
    with (
        Daemon(
            vhost_url,
            database,
            before=RAISES,
            DEFAULT=EVERYTHING,
            bus=management,
            health={"port": port},
            placement=login,
            keystone_authtoken=foreign,
        ) as daemon,
        connected(vhost_url) as connection,
    ):
        daemon.wait_until_it_consumes()
        engine = create_engine(database or f"sqlite:///{next(daemon.directory.glob('*.sqlite'))}")
        events = send_everything(connection)
        until(lambda: count(engine) >= events, f"{events} receipts")
        rabbitmq.ctl("close_all_connections", "--vhost", connection.virtual_host, f"see {vhost_url}")
        daemon.wait_for_line("Consuming from", 2)
        with connected(vhost_url) as again:
            if database is not None:
                with refusing(database, daemon):
                    publish(again, [sent(*claim(with_secrets(REFUSED)), 200)], partition_of(NODE, PARTITIONS))
                events += 1
            until(lambda: count(engine) >= events, f"{events} receipts")
            until(lambda: outbox(engine) == 0, "an empty outbox")
            for number in REPORTS:
                daemon.process.send_signal(number)
            daemon.wait_for_line("Options changed")
            queues = ("versioned_notifications.info", "versioned_notifications.error", REPLIES)
            messages = {queue: taken(again, queue) for queue in queues}
        printed = list(commands(daemon.file))
        served = [text_of(port, path) for path in ("/livez", "/readyz", "/metrics")]
        rows = rows_of(engine)
        engine.dispose()
        assert daemon.stop() == 0
        files = [path.read_bytes().decode(errors="replace") for path in daemon.directory.glob("*.sqlite*")]
        log = daemon.log
    secrets = (PLANTED, *SECRETS)
    for sort, texts in messages.items():
        assert len(texts) > 1, sort
    assert_clean([text for texts in messages.values() for text in texts], secrets)
    assert_clean([rows, *files], secrets)
    assert_clean(printed, secrets)
    assert "tracker_worker_dead_letters_total" in served[-1]
    assert_clean([*served, SHOWN], secrets)
    assert "Guru Meditation" in log and "oldest_unacknowledged_seconds" in log
    assert " DEBUG " in log and "is parked as dead letter" in log and REQUEST in log
    assert_clean([log, SHOWN], secrets)
