# SPDX-License-Identifier: Apache-2.0
"""The replay command on a real broker and a real database."""

from pathlib import Path

import pytest

from tests.integration.rabbit import connected
from tests.programs.test_replay import one, replay
from tests.servers.rabbitmq import RabbitMQ

TRACE = "04-resize-cross-host"


@pytest.fixture
def trace() -> Path:
    return one(TRACE)


def test_a_trace_ends_as_recorded_on_rabbitmq_and_postgresql(
    trace: Path, vhost_url: str, database_url: str
) -> None:
    result = replay("--check", "--transport-url", vhost_url, "--database", database_url, trace)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert " 0 differences" in result.stdout


def test_nothing_is_left_on_the_broker(trace: Path, vhost_url: str, rabbitmq: RabbitMQ) -> None:
    assert replay("--transport-url", vhost_url, trace).returncode == 0
    with connected(vhost_url) as connection:
        vhost = connection.virtual_host
    left = rabbitmq.api("GET", f"queues/{vhost}") + rabbitmq.api("GET", f"exchanges/{vhost}")
    assert [thing["name"] for thing in left if thing["name"].startswith("replay-")] == []


def test_a_database_with_nodes_is_refused(trace: Path, database_url: str) -> None:
    assert replay("--database", database_url, trace).returncode == 0
    again = replay("--database", database_url, trace)
    assert again.returncode == 2
    assert again.stderr.startswith("tracker-worker-replay: the database has ")
    assert "secret" not in again.stderr


def test_a_database_takes_one_trace(trace: Path, database_url: str) -> None:
    result = replay("--database", database_url, trace, trace)
    assert (result.returncode, result.stdout) == (2, "")
