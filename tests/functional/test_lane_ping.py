# SPDX-License-Identifier: Apache-2.0
"""oslo.messaging's ping, with which health probes call every queue that a server has."""

import oslo_messaging
import pytest
from oslo_config import cfg

from tests.builders import NODE
from tests.functional.lanes import LaneBench
from tracker_worker.core.delivery import OtherQueue
from tracker_worker.core.envelope import PING, encode
from tracker_worker.testing import TrackerWorkerFixture

BODY = encode(PING, {}, unique_id="ping-1")


def tables(bench: LaneBench) -> tuple[object, ...]:
    return (bench.receipts(), bench.parked(), bench.notifications(), bench.attempts())


@pytest.mark.parametrize("partition", [0, 3, OtherQueue.BARE_TOPIC, OtherQueue.DEAD_LETTERS])
def test_ping_is_answered_pong_on_every_queue_and_leaves_no_row(
    bench: LaneBench, partition: int | OtherQueue
) -> None:
    ping = bench.deliver_body(BODY, partition=partition)
    bench.run()
    assert ping.answer == "pong"
    assert tables(bench) == ({}, [], [], {})


@pytest.mark.parametrize(
    "body",
    [
        encode(PING, {"node": NODE, "any": ["argument"]}),
        encode(PING, {"node": 7}),
        encode(PING, {}, "3.0"),
        encode(PING, {}, namespace="baseapi"),
    ],
    ids=["with arguments", "with odd arguments", "of another version", "in a namespace"],
)
def test_ping_of_any_form_is_answered_and_not_parked(bench: LaneBench, body: bytes) -> None:
    ping = bench.deliver_body(body)
    bench.run()
    assert (ping.answer, bench.parked()) == ("pong", [])


def test_ping_that_comes_again_is_answered_again(bench: LaneBench) -> None:
    pings = [bench.deliver_body(BODY, redelivered=redelivered) for redelivered in (False, False, True)]
    bench.run()
    assert [ping.answer for ping in pings] == ["pong"] * 3
    assert tables(bench) == ({}, [], [], {})


def test_ping_with_the_id_of_an_event_is_answered_and_not_parked_as_reused(bench: LaneBench) -> None:
    bench.track()
    event_id = next(iter(bench.receipts()))
    ping = bench.deliver_body(encode(PING, {"event_id": event_id}, unique_id=event_id))
    bench.run()
    assert (ping.answer, bench.parked()) == ("pong", [])


def test_ping_after_too_many_deaths_is_answered_and_not_parked(bench: LaneBench) -> None:
    ping = bench.deliver_body(BODY, redelivered=True)
    bench.died(bench.max_attempts, ping)
    bench.run()
    assert ping.answer == "pong"
    assert tables(bench) == ({}, [], [], {})


def test_stock_client_pings_a_worker_on_any_transport() -> None:
    with TrackerWorkerFixture(cfg.CONF) as tracker:
        target = oslo_messaging.Target(exchange=tracker.exchange, topic="tracker", server="p0")
        assert oslo_messaging.get_rpc_client(tracker.transport, target).call({}, PING) == "pong"
