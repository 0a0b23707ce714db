# SPDX-License-Identifier: Apache-2.0
"""What tests of the bus begin with: a connection and a publisher on the test's virtual host."""

import time
from collections.abc import Iterator

import pytest
from kombu.connection import Connection

from tests.integration.rabbit import EXCHANGE, TOPIC, TOPOLOGY, connected, settings_of
from tracker_worker.bus.rabbit.publisher import ConfirmingPublisher
from tracker_worker.bus.rabbit.queues import declare
from tracker_worker.core.stats import Stats


@pytest.fixture
def client(vhost_url: str) -> Iterator[Connection]:
    """A connection of the test's own."""
    with connected(vhost_url) as connection:
        yield connection


@pytest.fixture
def declared_client(client: Connection) -> Connection:
    """A connection on a virtual host where everything is declared."""
    declare(client, TOPOLOGY)
    return client


@pytest.fixture
def stats() -> Stats:
    """What the parts of one worker add to."""
    return Stats()


@pytest.fixture
def publisher(vhost_url: str, stats: Stats) -> Iterator[ConfirmingPublisher]:
    """A publisher of notifications."""
    made = ConfirmingPublisher(settings_of(vhost_url), EXCHANGE, TOPIC, time.monotonic, stats)
    yield made
    made.close()
