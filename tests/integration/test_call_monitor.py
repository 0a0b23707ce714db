# SPDX-License-Identifier: Apache-2.0
"""Heartbeats of unanswered calls on a real broker: who gets them, and that the reply ends them."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from kombu.connection import Connection
from oslo_messaging._drivers.common import deserialize_msg

from tests.integration.consumers import Start, settle, starting
from tests.integration.rabbit import publish, until
from tests.unit.bus.rabbit.calls import a_call


@pytest.fixture
def start(vhost_url: str) -> Iterator[Start]:
    """Starts consumers on the test's virtual host, and ends them."""
    with starting(vhost_url) as start:
        yield start


class Caller:
    """A queue for replies, and what came there."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.name = name
        self._channel = connection.channel()
        self._channel.queue_declare(name)
        self.heard: list[dict[str, Any]] = []

    def listen(self) -> list[dict[str, Any]]:
        """Everything that came until now."""
        while message := self._channel.basic_get(self.name, no_ack=True):
            self.heard.append(deserialize_msg(msgspec.json.decode(message.body)))
        return self.heard


def test_caller_that_asks_gets_heartbeats_until_its_reply_and_nobody_else_does(
    start: Start, declared_client: Connection
) -> None:
    asks, asks_not = (Caller(declared_client, name) for name in ("reply_asks", "reply_asks_not"))
    calls = [a_call(_reply_q=asks.name, _timeout=2), a_call(_reply_q=asks_not.name, _timeout=None)]
    publish(declared_client, calls, expiration="20000")
    one = start()
    taken = one.lanes.take(2)
    until(lambda: len(asks.listen()) >= 3)
    assert asks_not.listen() == []
    settle(taken)
    until(lambda: len(asks_not.listen()) == 1)
    publish(declared_client, [a_call(_reply_q=asks_not.name, _timeout=2)], expiration="20000")
    until(lambda: len(asks_not.listen()) >= 3)
    *heartbeats, reply = asks.listen()
    assert all(
        (each["ending"], each["result"], each["failure"]) == (False, None, None) for each in heartbeats
    )
    assert (reply["ending"], reply["_msg_id"]) == (True, "id-1")
    assert one.stats.lost_replies == 0


def test_heartbeat_that_nobody_gets_is_no_lost_reply(start: Start, declared_client: Connection) -> None:
    caller = Caller(declared_client, "reply_still_there")
    calls = [a_call(_reply_q=name, _timeout=2) for name in ("reply_gone", caller.name)]
    publish(declared_client, calls, expiration="20000")
    one = start()
    until(lambda: len(caller.listen()) >= 2)
    assert one.stats.lost_replies == 0
