# SPDX-License-Identifier: Apache-2.0
"""What RabbitMQ refuses for itself, by max_message_size, is replaced, and what is behind it goes on."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from kombu.connection import Connection

from tests.builders import a_node
from tests.functional.lanes import NOW, rows
from tests.integration.rabbit import TOPIC
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.bus.publisher import NotificationRefused, Publisher
from tracker_worker.bus.rabbit.publisher import ConfirmingPublisher
from tracker_worker.bus.rabbit.queues import TopologyMismatch
from tracker_worker.core.notification_body import Header
from tracker_worker.core.records import OutboxRow
from tracker_worker.core.stats import Stats
from tracker_worker.db import outbox
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import OUTBOX
from tracker_worker.domain.notifications import CausePayload, usage_notification
from tracker_worker.worker.relay import Relay
from tracker_worker.worker.settings import RelaySettings

MOST = 20_000
INFO, ERROR = f"{TOPIC}.info", f"{TOPIC}.error"
CAUSE = CausePayload("update_available_resource", "event-1", "req-1", None)


@pytest.fixture(scope="module", autouse=True)
def small_messages(rabbitmq: RabbitMQ) -> Iterator[None]:
    """The broker takes messages of at most MOST bytes."""
    usual = rabbitmq.evaluate("application:get_env(rabbit, max_message_size, 0)")
    rabbitmq.evaluate(f"application:set_env(rabbit, max_message_size, {MOST})")
    yield
    rabbitmq.evaluate(f"application:set_env(rabbit, max_message_size, {usual})")


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[sa.Engine]:
    made = create_engine(sqlite_url)
    yield made
    made.dispose()


def row(number: int, size: int = 0, **changes: Any) -> OutboxRow:
    """A usage notification of node-1 at a sequence, larger by `size` bytes."""
    notification = usage_notification(a_node(sequence=number), number - 1, CAUSE, 1)
    notification.payload["nova_object.data"]["stats"]["large"] = "x" * size
    body = Header(f"message-{number}", "tracker-worker:older", NOW).encode(notification)
    made = OutboxRow("node-1", notification.event_type, notification.priority, f"message-{number}", body)
    return msgspec.structs.replace(made, **changes)


def filled(engine: sa.Engine, *given: OutboxRow) -> None:
    with engine.begin() as connection:
        outbox.add(connection, given)


def relay(engine: sa.Engine, publisher: Publisher, stats: Stats) -> Relay:
    settings = RelaySettings()
    return Relay(engine, publisher, settings, "one", lambda: NOW, time.monotonic, lambda: None, stats)


def publish_all(one: Relay) -> None:
    """As the relay's thread does it, which tries again what was not confirmed."""
    while one._until_it_works(one.publish_window):
        pass
    one.remove_published()


def received(client: Connection, queue: str) -> list[dict[str, Any]]:
    """The messages that wait, without repetitions, in the order in which they came first."""
    with client.channel() as channel:
        found = iter(lambda: channel.basic_get(queue, no_ack=True), None)
        texts = [msgspec.json.decode(message.body)["oslo.message"] for message in found]
    return list({message["message_id"]: message for message in map(msgspec.json.decode, texts)}.values())


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [int(message["message_id"].removeprefix("message-")) for message in messages]


def test_message_above_max_message_size_is_refused_and_others_are_taken(
    publisher: ConfirmingPublisher, client: Connection
) -> None:
    with pytest.raises(NotificationRefused, match="PRECONDITION_FAILED - message size"):
        publisher.publish([row(1, MOST)])
    with pytest.raises(NotificationRefused):
        publisher.publish([row(1, MOST), row(2)])
    assert publisher.publish([row(3), row(4)]) == 2
    assert numbers(received(client, INFO)) == [3, 4]


@pytest.mark.parametrize("large", [{1}, {200}, {1, 2, 100, 101, 200}], ids=["first", "last", "some"])
def test_refused_rows_are_replaced_and_the_others_published_in_order(
    engine: sa.Engine,
    publisher: ConfirmingPublisher,
    client: Connection,
    large: set[int],
    caplog: pytest.LogCaptureFixture,
    stats: Stats,
) -> None:
    """An outbox that an older version has left."""
    filled(engine, *(row(number, MOST * (number in large)) for number in range(1, 251)))
    one = relay(engine, publisher, stats)
    publish_all(one)
    assert numbers(received(client, INFO)) == [n for n in range(1, 251) if n not in large]
    errors = received(client, ERROR)
    assert set(numbers(errors)) == large
    for error in errors:
        (number,) = numbers([error])
        data = error["payload"]["nova_object.data"]
        assert (data["code"], data["node"], data["sequence"]) == ("notification_refused", "node-1", number)
        assert data["since"] == number - 1
        assert data["cause"]["nova_object.data"]["event_id"] == "event-1"
        assert "compute_node.usage of 21" in data["message"]
        assert "PRECONDITION_FAILED" in data["message"]
    assert stats.refused_notifications == len(large)
    assert sum(record.levelname == "ERROR" for record in caplog.records) == len(large)
    assert rows(engine, OUTBOX) == []


def test_row_whose_body_is_no_text_is_replaced(
    engine: sa.Engine, publisher: ConfirmingPublisher, client: Connection, stats: Stats
) -> None:
    filled(engine, row(1), row(2, body=b"\xff{"), row(3))
    one = relay(engine, publisher, stats)
    publish_all(one)
    assert numbers(received(client, INFO)) == [1, 3]
    (error,) = received(client, ERROR)
    data = error["payload"]["nova_object.data"]
    assert (data["code"], data["node"], data["cause"]) == ("notification_refused", "node-1", None)
    assert stats.refused_notifications == 1


def test_substitute_is_replaced_once_where_the_broker_refuses_everything(
    engine: sa.Engine, publisher: ConfirmingPublisher, rabbitmq: RabbitMQ, stats: Stats
) -> None:
    filled(engine, row(1))
    rabbitmq.evaluate("application:set_env(rabbit, max_message_size, 100)")
    one = relay(engine, publisher, stats)
    for _ in range(3):
        with pytest.raises(NotificationRefused):
            one.publish_window()
    assert stats.refused_notifications == 1
    rabbitmq.evaluate(f"application:set_env(rabbit, max_message_size, {MOST})")
    publish_all(one)
    assert rows(engine, OUTBOX) == []


def test_queue_declared_otherwise_is_no_refusal_of_a_row(
    engine: sa.Engine, publisher: ConfirmingPublisher, client: Connection, stats: Stats
) -> None:
    with client.channel() as channel:
        channel.queue_declare(INFO, durable=True, auto_delete=False)
    filled(engine, row(1))
    one = relay(engine, publisher, stats)
    with pytest.raises(TopologyMismatch):
        one.publish_window()
    assert stats.refused_notifications == 0
    assert rows(engine, OUTBOX)[0]["event_type"] == "compute_node.usage"
