# SPDX-License-Identifier: Apache-2.0
"""The consumer on a real broker: what is acknowledged, what comes again, and in which order."""

import logging
import queue
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Self

import amqp
import msgspec
import pytest
from kombu.connection import Connection

from tests.integration.consumers import ALL, DONE, Start, declared, ids_of, settle, starting
from tests.integration.rabbit import (
    SECONDS,
    alarm,
    commands,
    connected,
    depth,
    publish,
    settings_of,
    until,
)
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.core.delivery import OtherQueue
from tracker_worker.core.envelope import encode

SLOW_SECONDS = 0.2
"""How long each answer of a slow broker takes."""


@pytest.fixture
def start(vhost_url: str) -> Iterator[Start]:
    """Starts consumers on the test's virtual host, and ends them."""
    with starting(vhost_url) as start:
        yield start


class Milliseconds(datetime):
    """A time as many send it, in milliseconds: AMQP has seconds, and Python no such year."""

    def __new__(cls) -> Self:
        return super().__new__(cls, 2026, 11, 22)

    def timetuple(self) -> time.struct_time:
        return time.gmtime(1_795_000_000_000)


def test_what_is_settled_is_acknowledged_and_the_rest_comes_again_in_order(
    start: Start, declared_client: Connection
) -> None:
    publish(declared_client, commands(6))
    one = start()
    taken = one.lanes.take(6)
    assert not any(delivery.redelivered for delivery in taken)
    settle(taken[:2])
    one.close()
    again = start(name="two").lanes.take(4)
    assert ids_of(again) == ["2", "3", "4", "5"]
    assert all(delivery.redelivered for delivery in again)


def test_settled_behind_a_held_delivery_is_acknowledged(start: Start, declared_client: Connection) -> None:
    publish(declared_client, commands(4))
    one = start()
    taken = one.lanes.take(4)
    settle([taken[0], taken[2], taken[3]])
    one.close()
    assert ids_of(start(name="two").lanes.take(1)) == ["1"]
    assert depth(declared_client, "tracker.p0") == 0


@pytest.mark.parametrize("quorum", [False, True])
def test_held_delivery_does_not_exhaust_the_prefetch_window(
    start: Start, vhost_url: str, quorum: bool
) -> None:
    """And is acknowledged at last, on the same channel, after all that was settled behind it."""
    one = start(prefetch=2, quorum=quorum)
    with connected(vhost_url) as client:
        until(lambda: declared(client))
        publish(client, commands(12))
        (held,) = one.lanes.take(1)
        for _ in range(11):
            settle(one.lanes.take(1))
        settle([held])
        publish(client, commands(2, first=12))
        settle(one.lanes.take(2))
        one.close()
        assert depth(client, "tracker.p0") == 0
    assert one.lanes.deliveries.empty()
    assert list(one.lanes.dropped.queue).count(0) == 1  # At its end: the channel was never closed.


def test_everything_settled_leaves_an_empty_queue(start: Start, declared_client: Connection) -> None:
    publish(declared_client, commands(30))
    one = start(prefetch=7)
    for _ in range(30):
        settle(one.lanes.take(1))
    one.close()
    assert depth(declared_client, "tracker.p0") == 0


def test_no_more_than_prefetch_of_a_partition_are_under_way(
    start: Start, declared_client: Connection
) -> None:
    publish(declared_client, commands(5))
    publish(declared_client, commands(5), partition=1)
    one = start(prefetch=2)
    taken = one.lanes.take(4)
    assert sorted(delivery.partition for delivery in taken) == [0, 0, 1, 1]
    until(lambda: depth(declared_client, "tracker.p0") == depth(declared_client, "tracker.p1") == 3)
    assert one.lanes.deliveries.empty()
    settle([taken[0]])
    assert one.lanes.take(1)[0].partition == taken[0].partition


def test_deliveries_of_a_lost_connection_are_dropped_and_never_acknowledged(
    start: Start, declared_client: Connection, rabbitmq: RabbitMQ, vhost_url: str
) -> None:
    publish(declared_client, commands(5))
    one = start()
    lost = one.lanes.take(5)
    # The management API learns of a connection a moment later; the declared_client's is one of them.
    until(lambda: len(rabbitmq.api("GET", f"vhosts/{declared_client.virtual_host}/connections")) == 2)
    rabbitmq.close_connections(declared_client.virtual_host)
    again = one.lanes.take(5)
    assert ids_of(again) == ["0", "1", "2", "3", "4"]
    assert sorted(one.lanes.dropped.queue) == [OtherQueue.DEAD_LETTERS, OtherQueue.BARE_TOPIC, 0, 1]
    assert (any(d.live for d in lost), all(d.live and d.redelivered for d in again)) == (False, True)
    settle(lost)
    settle(again[:2])
    one.close()
    with connected(vhost_url) as connection:
        assert depth(connection, "tracker.p0") == 3


@pytest.mark.parametrize("quorum", [False, True])
def test_a_broker_that_was_killed_hands_out_everything_again(
    start: Start, rabbitmq: RabbitMQ, vhost_url: str, quorum: bool
) -> None:
    one = start(quorum=quorum, rabbit_interval_max=1)
    with connected(vhost_url) as connection:
        until(lambda: declared(connection))
        publish(connection, commands(5))
    settle(one.lanes.take(5)[:3])
    with connected(vhost_url) as connection:
        until(lambda: unacknowledged(rabbitmq, connection) == 2)
    rabbitmq.kill()
    rabbitmq.start()
    again = one.lanes.take(2)
    assert ids_of(again) == ["3", "4"]
    assert all(delivery.redelivered for delivery in again)
    settle(again)


@pytest.mark.parametrize("quorum", [False, True])
def test_the_active_consumer_of_a_partition_knows_it_by_its_first_delivery(
    start: Start, vhost_url: str, quorum: bool
) -> None:
    """Until its connection ends: the one that stood by gets the messages then, and knows it likewise."""
    first = start(quorum=quorum)
    with connected(vhost_url) as client:
        until(lambda: declared(client))
        second = start(name="two", quorum=quorum)
        until(lambda: second.consumer.state.partitions == {0, 1})
        publish(client, commands(1))
        settle(first.lanes.take(1))
        until(lambda: first.consumer.state.active == {0})
        assert second.consumer.state.active == frozenset()
        first.close()
        publish(client, commands(1), partition=1)
        settle(second.lanes.take(1))
        until(lambda: second.consumer.state.active == {1})
        assert first.consumer.state.active == frozenset()


def unacknowledged(rabbitmq: RabbitMQ, connection: Connection) -> int | None:
    queue = rabbitmq.api("GET", f"queues/{connection.virtual_host}/tracker.p0")
    count: int | None = queue.get("messages_unacknowledged")
    return count


def test_a_consumer_that_stops_keeps_its_queues_until_what_is_under_way_is_settled(
    start: Start, declared_client: Connection
) -> None:
    """Another worker that got the queue before would overtake it."""
    publish(declared_client, commands(2))
    one = start(prefetch=2)
    taken = one.lanes.take(2)
    other = start(name="two")
    one.consumer.stop()
    publish(declared_client, commands(2, first=2))
    settle(taken)
    until(lambda: depth(declared_client, "tracker.p0") == 0)
    assert one.lanes.deliveries.empty()
    assert other.lanes.deliveries.empty()
    one.close()
    assert ids_of(other.lanes.take(2)) == ["2", "3"]


def test_a_standby_gets_a_partition_as_soon_as_its_worker_is_gone(
    start: Start, declared_client: Connection
) -> None:
    one = start(first=frozenset([0]))
    until(lambda: declared(declared_client))
    two = start(name="two", first=frozenset([1]), standby_delay=0.2)
    publish(declared_client, commands(1))
    publish(declared_client, commands(1, first=1), partition=1)
    assert ids_of(one.lanes.take(1)) == ["0"]
    settle(two.lanes.take(1))
    one.close()
    assert ids_of(two.lanes.take(1)) == ["0"]


def test_released_partition_is_drained_and_the_others_go_on(
    start: Start, declared_client: Connection
) -> None:
    """What was taken of it is settled here; what comes from then on waits for another worker."""
    publish(declared_client, commands(3))
    one = start(prefetch=2)
    first, second = one.lanes.take(2)
    released = threading.Event()
    one.consumer.release(0, released.set)
    settle([first])
    publish(declared_client, commands(2), partition=1)
    settle(one.lanes.take(2))
    assert not released.is_set(), "one of its deliveries is not settled"
    settle([second])
    assert released.wait(SECONDS)
    assert one.lanes.dropped.get(timeout=SECONDS) == 0
    other = start(name="two")
    (third,) = other.lanes.take(1)
    assert (ids_of([third]), third.redelivered) == (["2"], False)
    publish(declared_client, commands(1, first=9), partition=1)
    assert ids_of(one.lanes.take(1)) == ["9"]


def test_idle_partition_is_released_at_once_and_another_one_is_not(
    start: Start, declared_client: Connection
) -> None:
    one, released = start(), threading.Event()
    until(lambda: declared_client.default_channel.queue_declare("tracker.p1", passive=True).consumer_count)
    one.consumer.release(1, released.set)
    assert released.wait(SECONDS)
    publish(declared_client, commands(1), partition=1)
    publish(declared_client, commands(1, first=5))
    assert ids_of(one.lanes.take(1)) == ["5"]
    assert depth(declared_client, "tracker.p1") == 1


def test_the_heartbeat_is_kept_while_nothing_is_settled(start: Start, declared_client: Connection) -> None:
    publish(declared_client, commands(3))
    one = start(heartbeat_timeout_threshold=1)
    taken = one.lanes.take(3)
    with pytest.raises(queue.Empty):
        one.lanes.dropped.get(timeout=4.0)
    assert all(delivery.live for delivery in taken)


def a_call(number: int, reply_queue: Any) -> bytes:
    outer = msgspec.json.decode(commands(1, first=number)[0])
    inner = msgspec.json.decode(outer["oslo.message"]) | {"_msg_id": f"m{number}", "_reply_q": reply_queue}
    return msgspec.json.encode(outer | {"oslo.message": msgspec.json.encode(inner).decode()})


def test_a_reply_that_nobody_waits_for_is_counted_and_the_call_acknowledged(
    start: Start, declared_client: Connection
) -> None:
    publish(declared_client, [a_call(0, "reply_gone")])
    one = start()
    settle(one.lanes.take(1))
    until(lambda: one.stats.lost_replies == 1)
    one.close()
    assert depth(declared_client, "tracker.p0") == 0


def test_a_reply_goes_to_its_caller(start: Start, declared_client: Connection) -> None:
    with declared_client.channel() as channel:
        channel.queue_declare("reply_here", durable=False, auto_delete=False)
    publish(declared_client, [a_call(0, "reply_here")])
    settle(start().lanes.take(1))
    with declared_client.channel() as channel:
        message = until(lambda: channel.basic_get("reply_here", no_ack=True))
    inner = msgspec.json.decode(msgspec.json.decode(message.body)["oslo.message"])
    assert (inner["result"], inner["_msg_id"], inner["failure"]) == (DONE, "m0", None)


def test_a_broker_short_of_memory_still_gets_acknowledgements(
    start: Start, declared_client: Connection, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops reading from connections that publish: replies have a connection of their own."""
    caplog.set_level("INFO")
    publish(declared_client, [a_call(n, "reply_gone") for n in range(4)])
    one = start(prefetch=2)
    settle(one.lanes.take(2))
    until(lambda: one.stats.lost_replies == 2)
    rabbitmq.limit_memory(0)
    try:
        settle(one.lanes.take(2))
        until(lambda: unacknowledged(rabbitmq, declared_client) == 0)
        until(lambda: "has an alarm and takes no messages: low on memory" in caplog.text)
    finally:
        rabbitmq.limit_memory(0.4)
    until(lambda: "takes messages again" in caplog.text)


def test_alarm_is_known_to_a_worker_that_publishes_nothing(
    start: Start, rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    """Found by a newcomer: RabbitMQ names its alarm only to connections that publish."""
    one = start(check_seconds=0.2)
    with alarm(rabbitmq):
        until(lambda: one.consumer.state.alarm == "low on memory")
        assert "has an alarm and takes no messages: low on memory" in caplog.text
    until(lambda: one.consumer.state.connected and one.consumer.state.alarm is None)


def test_search_for_an_alarm_is_not_counted_as_unroutable_messages(start: Start, rabbitmq: RabbitMQ) -> None:
    """RabbitMQ's own rules have an alert for one in five minutes: it never ended."""

    def count(what: str) -> int:
        counters = "maps:get([{protocol, amqp091}], rabbit_global_counters:overview())"
        return int(rabbitmq.evaluate(f"maps:get(messages_{what}_total, {counters})"))

    dropped, received = count("unroutable_dropped"), count("received")
    start(check_seconds=0.01)
    until(lambda: count("received") > received + 10)
    assert count("unroutable_dropped") == dropped


def test_reply_is_sent_after_a_connection_was_lost_in_an_alarm(
    start: Start,
    declared_client: Connection,
    vhost_url: str,
    rabbitmq: RabbitMQ,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A new connection is not blocked because the lost one was."""
    one = start()
    publish(declared_client, [a_call(0, "reply_gone"), a_call(1, "reply_gone")])
    taken = one.lanes.take(2)
    settle(taken[:1])
    until(lambda: one.stats.lost_replies == 1)
    with alarm(rabbitmq):
        settle(taken[1:])
        until(lambda: "has an alarm and takes no messages" in caplog.text)
        rabbitmq.close_connections(vhost_url.rpartition("/")[2])
        until(lambda: one.stats.connections == 2)
    with connected(vhost_url) as client, client.channel() as channel:
        channel.queue_declare("reply_here", durable=False, auto_delete=False)

        def is_answered() -> bool:
            publish(client, [a_call(2, "reply_here")])
            settle(one.lanes.take(1))
            return channel.basic_get("reply_here", no_ack=True) is not None

        until(is_answered)


def test_a_command_without_a_partition_is_taken_from_the_bare_topic(
    start: Start, declared_client: Connection
) -> None:
    with declared_client.channel() as channel:
        message = amqp.Message(commands(1)[0], content_encoding="utf-8")
        channel.basic_publish_confirm(message, exchange="tracker", routing_key="tracker")
    (delivery,) = start().lanes.take(1)
    assert (delivery.partition, delivery.dead_lettered) == (OtherQueue.BARE_TOPIC, None)


def test_what_the_broker_dead_letters_is_taken_with_its_reason(
    start: Start, declared_client: Connection
) -> None:
    publish(declared_client, commands(1), expiration="1")
    one = start(first=frozenset([1]))
    (delivery,) = one.lanes.take(1)
    assert (delivery.partition, delivery.dead_lettered) == (
        OtherQueue.DEAD_LETTERS,
        "expired in tracker.p0, 1 times",
    )
    settle([delivery])
    one.close()
    assert depth(declared_client, "tracker.dead") == 0


def test_calls_whose_caller_gave_up_are_counted_and_gone(start: Start, declared_client: Connection) -> None:
    publish(declared_client, [a_call(0, "reply_gone"), a_call(1, "reply_gone")], expiration="1")
    publish(declared_client, commands(1, first=2), expiration="1")
    one = start(first=frozenset([1]))
    (delivery,) = one.lanes.take(1)
    assert ids_of([delivery]) == ["2"]
    until(lambda: one.stats.expired_calls == 2)
    settle([delivery])
    one.close()
    assert depth(declared_client, "tracker.dead") == 0


def test_bytes_of_any_kind_are_taken(start: Start, declared_client: Connection) -> None:
    publish(declared_client, [b"\xff\xfe", b"", b"not json"])
    assert [delivery.body for delivery in start().lanes.take(3)] == [b"\xff\xfe", b"", b"not json"]


@pytest.mark.parametrize("thing", ["exchange", "queue"])
def test_what_was_declared_otherwise_ends_the_worker_with_one_line_that_says_the_way_out(
    start: Start, vhost_url: str, thing: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(vhost_url) as connection, connection.channel() as channel:
        if thing == "exchange":
            channel.exchange_declare("tracker", "topic", durable=False, auto_delete=False)
        else:
            channel.queue_declare("tracker.p1", durable=True, auto_delete=False)
    with caplog.at_level(logging.CRITICAL):
        one = start()
        assert one.failed.wait(SECONDS)
    (line,) = [record.getMessage() for record in caplog.records]
    name = {"exchange": "exchange 'tracker'", "queue": "queue 'tracker.p1'"}[thing]
    vhost = vhost_url.rpartition("/")[2]
    mend = {
        "exchange": f"rabbitmqadmin --vhost={vhost} delete exchange name=tracker",
        "queue": f"rabbitmqctl delete_queue -p {vhost} tracker.p1",
    }[thing]
    assert line.startswith(name)
    assert mend in line
    assert "\n" not in line
    assert "rabbit-secret" not in caplog.text


def test_a_broker_that_is_away_at_the_start_is_waited_for(
    rabbitmq: RabbitMQ, start: Start, vhost_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    rabbitmq.kill()
    with caplog.at_level(logging.ERROR):
        one = start(rabbit_interval_max=1)
        until(lambda: caplog.records)
    rabbitmq.start()
    with connected(vhost_url) as connection:
        until(lambda: declared(connection))
        publish(connection, commands(1))
    assert ids_of(one.lanes.take(1)) == ["0"]
    assert "rabbit-secret" not in caplog.text


def test_a_bad_envelope_is_not_a_call(start: Start, declared_client: Connection) -> None:
    publish(declared_client, [encode("no_such_method", {"_msg_id": 1})])
    settle(start().lanes.take(1))
    until(lambda: depth(declared_client, "tracker.p0") == 0)


def test_what_a_forged_header_says_is_not_repeated(start: Start, declared_client: Connection) -> None:
    death = {"reason": "hunter2", "queue": "hunter2", "count": "hunter2"}
    message = odd(commands(1)[0], application_headers={"x-death": [death]})
    with declared_client.channel() as channel:
        channel.basic_publish_confirm(message, exchange="tracker", routing_key="tracker.dead")
    (delivery,) = start().lanes.take(1)
    assert delivery.dead_lettered == "unknown reason in an unknown queue, 1 times"


def odd(body: bytes = b"", **properties: Any) -> amqp.Message:
    return amqp.Message(body, content_encoding="utf-8", **properties)


@pytest.mark.parametrize(
    ("routing_key", "message"),
    [
        ("tracker.p1", odd(expiration="1")),
        ("tracker.dead", odd(commands(1)[0], application_headers={"x-death": "no list"})),
        ("tracker.dead", odd(commands(1)[0], application_headers={"x-death": [1]})),
        ("tracker.p0", odd(a_call(1, "q" * 300))),
        ("tracker.p0", odd(a_call(1, "ü" * 200))),
        ("tracker.p0", odd(commands(1)[0], application_headers={"at": Milliseconds()})),
    ],
    ids=["expired and empty", "x-death is text", "x-death is odd", "long queue", "long text", "no date"],
)
def test_an_odd_message_is_taken_and_the_next_one_too(
    start: Start, declared_client: Connection, routing_key: str, message: amqp.Message
) -> None:
    """One that ended the consumer would end every consumer after it."""
    with declared_client.channel() as channel:
        channel.basic_publish_confirm(message, exchange="tracker", routing_key=routing_key)
    publish(declared_client, commands(1, first=7))
    one = start(first=frozenset([0]))
    taken = one.lanes.take(2)
    settle(taken)
    one.close()
    assert not one.failed.is_set()
    assert "7" in [ids_of([d])[0] for d in taken if d.body]
    assert depth(declared_client, "tracker.p0") == depth(declared_client, "tracker.dead") == 0


def test_a_broker_that_stands_still_is_left(
    start: Start, declared_client: Connection, rabbitmq: RabbitMQ, vhost_url: str
) -> None:
    """Its own heartbeat notices; nothing may wait for it after that."""
    with Proxy(rabbitmq.port) as proxy:
        broker = settings_of(proxy.through(vhost_url), heartbeat_timeout_threshold=1, rabbit_interval_max=1)
        one = start(broker=broker)
        publish(declared_client, commands(1))
        one.lanes.take(1)
        proxy.freeze()
        assert one.lanes.dropped.get(timeout=SECONDS) in (
            *ALL,
            OtherQueue.BARE_TOPIC,
            OtherQueue.DEAD_LETTERS,
        )
        proxy.thaw()
        assert ids_of(one.lanes.take(1)) == ["0"]
        one.close()


def test_a_queue_that_cannot_be_consumed_leaves_nothing_alive_behind(
    start: Start, declared_client: Connection, rabbitmq: RabbitMQ
) -> None:
    """A deletion between declaration and consumption cannot be had at will; missing rights can."""
    publish(declared_client, commands(3))
    vhost, user = declared_client.virtual_host, rabbitmq.username
    rights = {"configure": ".*", "write": ".*", "read": "^(tracker|tracker.p0|tracker.dead)$"}
    rabbitmq.api("PUT", f"permissions/{vhost}/{user}", rights)
    one = start(rabbit_interval_max=1)
    lost = one.lanes.take(3)
    again = one.lanes.take(3)
    assert ids_of(again) == ["0", "1", "2"]
    assert not any(delivery.live for delivery in lost)


def test_start_on_a_slow_broker_is_seen_at_work(rabbitmq: RabbitMQ, vhost_url: str) -> None:
    """Many quorum queues on a slow cluster take longer than a stall: each answer counts as work."""
    with Proxy(rabbitmq.port) as proxy, starting(proxy.through(vhost_url)) as start:
        proxy.delay(SLOW_SECONDS)
        one = start()
        seen: dict[bool, set[float]] = {False: set(), True: set()}

        def consumes() -> bool:
            state, declared = one.consumer.state, bool(one.stats.connections)
            if state.connected:
                seen[declared].add(state.at)
            return state.partitions == ALL

        until(consumes)
        assert [len(times) > 1 for times in seen.values()] == [True, True]


def test_pause_before_another_connection_is_seen_at_work(
    rabbitmq: RabbitMQ, vhost_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    refusing = vhost_url.replace(f":{rabbitmq.port}", ":1")
    with starting(refusing, rabbit_retry_interval=5) as start:
        one = start()
        until(lambda: "cannot be used" in caplog.text)
        seen: set[float] = set()

        def is_seen() -> bool:
            seen.add(one.consumer.state.at)
            return len(seen) > 2

        until(is_seen)
        assert caplog.text.count("cannot be used") == 1
