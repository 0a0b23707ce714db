# SPDX-License-Identifier: Apache-2.0
"""Stock oslo.messaging clients with kombu_compression: casts, calls, errors, bombs, calls that expired."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import amqp
import kombu.compression
import pytest
import sqlalchemy as sa

from tests import samples
from tests.integration.daemon import Daemon
from tests.integration.rabbit import connected, until
from tests.integration.stock import RPC, raised, server_of
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker import exceptions
from tracker_worker.core.envelope import encode
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import DEAD_LETTERS, RECEIPTS
from tracker_worker.domain.compressions import Compression

NAMES = ("gzip", "bzip2", "lzma", "zstd", "brotli")
INSTANCE = samples.an_instance("i-1")

Json = dict[str, Any]


class Tracker:
    """A daemon over PostgreSQL, and one stock client for each compression."""

    def __init__(self, url: str, engine: sa.Engine, daemon: Daemon, clients: dict[str, RPC]) -> None:
        self.url = url
        self.daemon = daemon
        self.clients = clients
        self._engine = engine

    def rows(self, table: sa.Table, **where: Any) -> list[Any]:
        query = sa.select(table).filter_by(**where)
        with self._engine.connect() as connection:
            return list(connection.execute(query))

    def publish(self, body: bytes, headers: Json, server: str) -> None:
        with connected(self.url) as connection:
            message = amqp.Message(
                body, content_type="application/json", delivery_mode=2, application_headers=headers
            )
            channel: Any = connection.default_channel
            channel.basic_publish_confirm(message, exchange="tracker", routing_key=f"tracker.{server}")


@pytest.fixture(scope="module")
def tracker(
    rabbitmq: RabbitMQ,
    postgresql: PostgreSQL,
    migrated_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Tracker]:
    directory = tmp_path_factory.mktemp("compression")
    url = rabbitmq.url(vhost := rabbitmq.new_vhost())
    database = postgresql.new_database(migrated_database)
    engine = create_engine(database)
    rabbit = {"amqp_durable_queues": True}
    with ExitStack() as stack:
        stack.callback(rabbitmq.delete_vhost, vhost)
        stack.callback(postgresql.drop_database, database)
        stack.callback(engine.dispose)
        daemon = stack.enter_context(Daemon(url, database, oslo_messaging_rabbit=rabbit))
        clients = {
            name: stack.enter_context(RPC(directory, url, rabbit=rabbit | {"kombu_compression": name}))
            for name in NAMES
        }
        daemon.wait_until_it_consumes()
        yield Tracker(url, engine, daemon, clients)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def client(tracker: Tracker, name: str) -> RPC:
    return tracker.clients[name]


@pytest.fixture
def node(client: RPC, name: str, request: pytest.FixtureRequest) -> str:
    node = f"{request.node.originalname}-{name}"
    client.result("update_available_resource", node, resources=samples.a_report(node[-36:], "h"))
    return node


def test_compressed_casts_are_applied_and_calls_answered(client: RPC, node: str) -> None:
    assert client.send("build_failed", node, how="cast") == {"result": None}
    claimed = client.result("instance_claim", node, instance=INSTANCE)
    assert (claimed["outcome"], claimed["sequence"]) == ("granted", 3)
    view = client.result("get_node", node)
    assert (view["vcpus_used"], view["stats"]["failed_builds"]) == (2, 1)


def test_a_refusal_of_a_compressed_call_is_raised_in_its_caller(client: RPC, node: str) -> None:
    answer = client.send("instance_claim", node, args={"instance": INSTANCE, "limits": {"memory_mb": 600}})
    kind, text = raised(answer)
    assert kind.endswith(exceptions.ComputeResourcesUnavailable.__name__)
    assert "Insufficient compute resources" in text


def test_a_bad_compressed_cast_is_kept_with_its_fields(
    tracker: Tracker, client: RPC, node: str, name: str
) -> None:
    """So that it can be replayed once what was wrong is mended."""
    args = {"event_id": f"new-{name}", "instance": INSTANCE}
    client.send("update_usage", node, how="cast", version="1.7", args=args)
    (letter,) = until(lambda: tracker.rows(DEAD_LETTERS, event_id=f"new-{name}"))
    assert (letter.code, letter.node) == ("unsupported_version", node)
    assert '"memory_mb":2048' in letter.body


def test_a_compressed_call_that_expired_is_no_dead_letter_and_a_cast_is(
    tracker: Tracker, client: RPC, node: str, name: str
) -> None:
    """As the broker dead-letters them: the header compression stays."""
    death = [{"reason": "expired", "queue": "tracker.p0", "count": 1}]
    a_cast = encode("build_failed", {"node": node, "event_id": f"cast-{name}"})
    a_call = a_cast.replace(b"cast-", b"call-").replace(
        b'}"}', rb', \"_msg_id\": \"m\", \"_reply_q\": \"reply_r\"}"}'
    )
    for body in (a_call, a_cast):
        compressed, header = kombu.compression.compress(body, name)
        tracker.publish(compressed, {"compression": header, "x-death": death}, "dead")
    (letter,) = until(lambda: tracker.rows(DEAD_LETTERS, event_id=f"cast-{name}"))
    assert (letter.code, letter.node) == ("dead_lettered", node)
    assert tracker.rows(DEAD_LETTERS, event_id=f"call-{name}") == []


def test_bombs_and_broken_streams_are_parked_beside_good_commands(
    tracker: Tracker, client: RPC, node: str, name: str
) -> None:
    header = kombu.compression.get_encoder(name)[1]
    bomb = encode("build_failed", {"node": node}) + bytes(1 << 26)
    tracker.publish(kombu.compression.compress(bomb, name)[0], {"compression": header}, server_of(node))
    tracker.publish(f"no stream of {name}".encode(), {"compression": header}, server_of(node))
    tracker.publish(encode("build_failed", {"node": node}), {"compression": f"x-{name}"}, server_of(node))
    client.send("build_failed", node, how="cast")
    assert client.result("get_node", node)["stats"]["failed_builds"] == 1
    assert {row.code for row in tracker.rows(DEAD_LETTERS, node=None)} == {
        "message_too_large",
        "malformed_compression",
        "unsupported_compression",
    }
    assert tracker.rows(RECEIPTS, node=node, outcome="parked") == []


def test_the_names_cover_all_compressions() -> None:
    assert {kombu.compression.get_encoder(name)[1] for name in NAMES} == set(Compression)
