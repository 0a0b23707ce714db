# SPDX-License-Identifier: Apache-2.0
"""A worker in an environment of its own, on RabbitMQ and PostgreSQL, and claims from other environments."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import samples
from tests.integration.daemon import consumers, write_options
from tests.integration.rabbit import connected
from tests.packaging.environments import Environment, surroundings
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.server import wait_until

CLAIM = Path(__file__).with_name("claim.py")
LAST_QUEUE = "tracker.dead"
"""The last one that a worker consumes."""
SECONDS = 60


class Failed(Exception):
    """A program has failed; the text is what it said."""


@contextmanager
def served(worker: Environment) -> Iterator[str]:
    """Run the worker of an environment; yield the transport URL of its clients.

    Raises Failed where one of its programs fails, at the end too.
    """
    with RabbitMQ() as rabbitmq, PostgreSQL() as postgresql:
        rabbitmq.start()
        postgresql.start()
        url = rabbitmq.url(rabbitmq.new_vhost())
        file = write_options(
            worker.directory / "tracker-worker.conf",
            {
                "DEFAULT": {"transport_url": url},
                "database": {"connection": postgresql.new_database()},
                "oslo_messaging_rabbit": {"amqp_durable_queues": True},
            },
        )
        options = ("--config-file", str(file))
        for command in (("db", "sync"), ("queues", "declare")):
            _succeed(worker.run("tracker-worker-manage", *options, *command))
        with _running(worker, *options) as process:
            with connected(url) as connection:
                wait_until(
                    lambda: process.poll() is not None or bool(consumers(connection, LAST_QUEUE)),
                    "a worker that consumes",
                )
            yield f"{url}?amqp_durable_queues=true"


@contextmanager
def _running(worker: Environment, *options: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run the worker; it ends with 0 when it is told to."""
    log = worker.directory / "tracker-worker.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [worker.program("tracker-worker"), *options],
            stdout=file,
            stderr=file,
            cwd=worker.directory,
            env=surroundings(),
        )
    try:
        yield process
        process.terminate()
        if process.wait(SECONDS):
            raise Failed(log.read_text())
    finally:
        process.kill()
        process.wait()


def claim(client: Environment, url: str, number: int) -> str:
    """Claim an instance from an environment, on a node of that number, and return what came of it.

    Raises Failed where it fails, or where the client has imported what is the worker's.
    """
    order = {
        "url": url,
        "node": f"node-{number}",
        "report": samples.a_report(str(uuid.UUID(int=number))),
        "instance": samples.an_instance(),
    }
    # Isolated: neither the script's directory nor the user's packages are searched.
    answer = json.loads(_succeed(client.run("python", "-I", str(CLAIM), given=json.dumps(order))))
    if answer["imported"] or answer["running_vms"] != 1:
        raise Failed(json.dumps(answer))
    return str(answer["outcome"])


def _succeed(done: "subprocess.CompletedProcess[str]") -> str:
    if done.returncode:
        raise Failed(f"{done.args}: {done.stdout}{done.stderr}")
    return done.stdout
