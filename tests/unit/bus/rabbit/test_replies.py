# SPDX-License-Identifier: Apache-2.0
"""Replies as a caller's oslo.messaging reads them."""

import socket
from typing import Any

import kombu.compression
import pytest
from oslo_messaging._drivers.common import deserialize_remote_exception

from tests.unit.bus.rabbit.calls import a_call, received
from tracker_worker import exceptions, rpcapi
from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.bus.rabbit.replies import Replies, Reply, heartbeat_for, is_call, reply_to
from tracker_worker.core.delivery import BodyDigest
from tracker_worker.core.envelope import encode
from tracker_worker.core.stats import Stats
from tracker_worker.domain.compressions import Compression


def test_a_value_is_the_result() -> None:
    reply = reply_to(a_call(), {"outcome": "granted"})
    assert reply is not None and reply.queue == "reply_1"
    message = received(reply)
    assert (message["result"], message["failure"], message["ending"]) == ({"outcome": "granted"}, None, True)
    assert message["_msg_id"] == "id-1"


def test_an_exception_is_raised_as_itself_without_a_traceback() -> None:
    error = exceptions.ComputeResourcesUnavailable("Insufficient compute resources: no room.")
    message = received(reply_to(a_call(), error))
    raised = deserialize_remote_exception(message["failure"], rpcapi.EXMODS)
    assert isinstance(raised, exceptions.ComputeResourcesUnavailable)
    assert "no room" in str(raised)
    assert "Traceback" not in str(raised)


def test_a_repeated_reply_has_the_id_by_which_the_caller_drops_it() -> None:
    first, second = (received(reply_to(a_call(), {})) for _ in range(2))
    assert first["_unique_id"] == second["_unique_id"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff",
        b'{"oslo.message": "{}"}',
        b'{"oslo.message": "[1"}',
        encode("get_node", {"node": "n"}),
        encode("get_node", {"node": "_msg_id"}),
        a_call(_reply_q=None),
        a_call(_reply_q="tracker.p0"),
        a_call(_reply_q="versioned_notifications.info"),
        a_call(_reply_q=""),
        a_call(_reply_q="reply_" + "x" * 250),
        a_call(_msg_id=1),
        b'{"_msg_id":' + b"[" * 100_000,
    ],
)
def test_nobody_waits_for_anything_else(body: bytes) -> None:
    assert not is_call(body)
    assert reply_to(body, {}) is None


def test_body_that_was_too_large_gets_no_reply() -> None:
    digest = BodyDigest(9_000_000, "0" * 64)
    assert not is_call(digest)
    assert reply_to(digest, {"outcome": "applied"}) is None


@pytest.mark.parametrize("name", Compression)
def test_the_caller_of_a_compressed_call_is_found(name: Compression) -> None:
    body, header = kombu.compression.compress(a_call(), name)
    assert is_call(body, header) and not is_call(body)
    assert reply_to(body, {"outcome": "granted"}, header) == reply_to(a_call(), {"outcome": "granted"})


@pytest.mark.parametrize("header", [*Compression, "application/x-snappy", "?"])
def test_nobody_waits_for_a_body_that_cannot_be_decompressed(header: Compression | str) -> None:
    assert not is_call(a_call(), header)
    assert reply_to(a_call(), {}, header) is None


def test_broker_that_is_away_is_asked_again_after_a_pause_that_doubles(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And not for every reply: the thread that sends them keeps the heartbeat of another connection."""
    caplog.set_level("INFO")
    now = 1000.0
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # Nobody listens there, and nobody else takes it.
        url = f"amqp://user:password@127.0.0.1:{closed.getsockname()[1]}//"
        settings = BrokerSettings("broker", (url,), retry_initial=2.0, retry_max=3.0)
        stats = Stats()
        replies = Replies(settings, lambda: now, stats)
        asked = []
        for seconds in (0.0, 1.9, 0.1, 2.9, 0.1, 2.9, 0.1):
            now += seconds
            caplog.clear()
            replies.send([Reply("reply_1", b"{}")])
            asked.append("ConnectionRefusedError" in caplog.text)
    assert asked == [True, False, True, False, True, False, True]
    assert stats.lost_replies == len(asked)


def test_text_is_the_result() -> None:
    assert received(reply_to(a_call(), "pong"))["result"] == "pong"


def test_caller_that_asks_gets_heartbeats_at_half_its_monitor_timeout() -> None:
    heartbeat = heartbeat_for(a_call(_timeout=3))
    assert heartbeat is not None
    assert (heartbeat.interval, heartbeat.reply.queue) == (1.5, "reply_1")
    message = received(heartbeat.reply)
    assert message == {"result": None, "failure": None, "ending": False, "_msg_id": "id-1"}


@pytest.mark.parametrize("timeout", [None, 0, 1, -1, 1.9, "8", True, [2], {}, float("nan")])
def test_caller_without_a_monitor_timeout_of_two_seconds_gets_no_heartbeat_but_its_reply(
    timeout: Any,
) -> None:
    assert heartbeat_for(a_call(_timeout=timeout)) is None
    assert received(reply_to(a_call(_timeout=timeout), {}))["ending"] is True


@pytest.mark.parametrize(
    "body", [encode("build_failed", {"node": "n"}), b"", BodyDigest(9_000_000, "0" * 64)]
)
def test_nobody_gets_a_heartbeat_for_anything_else(body: bytes | BodyDigest) -> None:
    assert heartbeat_for(body) is None


@pytest.mark.parametrize("name", Compression)
def test_the_caller_of_a_compressed_call_gets_heartbeats(name: Compression) -> None:
    body, header = kombu.compression.compress(a_call(), name)
    assert heartbeat_for(body, header) == heartbeat_for(a_call())
