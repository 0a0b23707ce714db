# SPDX-License-Identifier: Apache-2.0
"""A stuck worker says so to those who ask and to systemd; one whose servers are down is not dead."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.integration.daemon import PARTITIONS, Daemon
from tests.integration.rabbit import connected, publish
from tests.servers.ports import LOOPBACK, Port
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.core.envelope import encode
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import NODES, RECEIPTS
from tracker_worker.domain.partitions import partition_of

NODE = "node-1"
STALL_SECONDS = 2
HEARTBEAT = 4
"""Seconds that a read of a dead connection lasts: longer than a stall, shorter than a test."""
SYSTEMD_SECONDS = 20


@pytest.fixture
def port() -> Iterator[int]:
    held = Port()
    yield held.number
    held.release()


def options(port: int, **more: Any) -> dict[str, Any]:
    return {
        "health": {"port": port, "stall_limit": STALL_SECONDS},
        "oslo_messaging_rabbit": {"amqp_durable_queues": True, "rabbit_interval_max": 1, **more},
    }


def ask(port: int, path: str) -> tuple[int, dict[str, str]]:
    """The status of an answer, and the texts of the checks that have failed; 0 while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=10) as response:
            status, body = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read()
    except OSError:
        return 0, {}
    checks = json.loads(body)["checks"]
    return status, {check["name"]: check["text"] for check in checks if not check["ok"]}


def build_failed() -> bytes:
    return encode("build_failed", {"node": NODE, "event_id": "event-a"})


def cast(url: str) -> None:
    """Cast one event of the node."""
    with connected(url) as client:
        publish(client, [build_failed()], partition=partition_of(NODE, PARTITIONS))


def test_worker_whose_broker_is_away_is_live_and_not_ready(
    rabbitmq: RabbitMQ, vhost_url: str, port: int
) -> None:
    with Proxy(rabbitmq.port) as proxy, Daemon(proxy.through(vhost_url), **options(port)) as daemon:
        daemon.wait_until_it_consumes(vhost_url)
        daemon.wait_for(lambda: ask(port, "/readyz") == (200, {}), "is never ready")
        proxy.freeze()
        assert proxy.cut()
        daemon.wait_for(lambda: list(ask(port, "/readyz")[1]) == ["consumer"], "is ready all the same")
        assert ask(port, "/livez") == (200, {})
        proxy.thaw()
        daemon.wait_for(lambda: ask(port, "/readyz") == (200, {}), "is never ready again")


def test_worker_of_a_broker_that_is_silent_gets_another_connection_and_is_ready_again(
    rabbitmq: RabbitMQ, vhost_url: str, port: int
) -> None:
    """Half-open, as after the reboot of a member of the cluster: nothing comes, and nothing is refused."""
    half_open = options(port, heartbeat_timeout_threshold=HEARTBEAT)
    with Proxy(rabbitmq.port) as proxy, Daemon(proxy.through(vhost_url), **half_open) as daemon:
        daemon.wait_until_it_consumes(vhost_url)
        daemon.wait_for(lambda: ask(port, "/livez") == (200, {}), "is never live")
        assert proxy.black_hole()
        daemon.wait_for_line("Consuming from", 2)
        daemon.wait_for(lambda: ask(port, "/readyz") == (200, {}), "does not connect again")
        assert ask(port, "/livez") == (200, {})


def test_lane_that_hangs_in_a_statement_is_not_live_and_starves_systemds_watchdog(
    vhost_url: str, database_url: str, port: int, tmp_path: Path
) -> None:
    engine = create_engine(database_url)
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, closing(engine.connect()) as holder:
        systemd.bind(told["NOTIFY_SOCKET"])
        systemd.settimeout(SYSTEMD_SECONDS)
        with Daemon(vhost_url, database_url, told, **options(port)) as daemon:
            daemon.wait_until_it_consumes()
            while systemd.recv(99) != b"WATCHDOG=1":
                pass
            with holder.begin():
                holder.execute(sa.text(f"LOCK TABLE {RECEIPTS.name}, {NODES.name}"))
                cast(vhost_url)
                daemon.wait_for(
                    lambda: "a batch of 1, at: looking up " in ask(port, "/livez")[1].get("lane-0", ""),
                    "is live all the same",
                )
                systemd.setblocking(False)
                with pytest.raises(BlockingIOError):
                    while systemd.recv(99):
                        pass
                systemd.settimeout(SYSTEMD_SECONDS)
            assert systemd.recv(99) == b"WATCHDOG=1"
            daemon.wait_for(lambda: ask(port, "/readyz") == (200, {}), "is never ready again")
            with engine.connect() as connection:
                assert len(connection.execute(sa.select(RECEIPTS)).all()) == 1
    engine.dispose()
