# SPDX-License-Identifier: Apache-2.0
"""What a lane counts: each answered event once, after its commit, with its wait and its run time."""

import logging
from collections.abc import Callable

import pytest

from tests.builders import NODE, a_report, an_instance, command, some_resources
from tests.functional.lanes import OTHER_NODE, LaneBench
from tests.functional.statements import Fault, out_of_range
from tracker_worker.core.envelope import PING, encode
from tracker_worker.core.stats import LaneStats
from tracker_worker.domain.commands import AnyCommand

CALLER = "reply_0d9a4f0e94a64a3b8d4f2f6b1c7e5a21"


def boot(uuid: str = "i-1", node: str = NODE) -> AnyCommand:
    return command("instance_claim", node=node, instance=an_instance(uuid))


def counted(bench: LaneBench) -> LaneStats:
    (lane,) = bench.stats.snapshot().lanes
    return lane


def test_outcomes_are_counted_by_method(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot(), "event-a")
    bench.send(boot(), "event-a")
    bench.send(boot("i-2", node=OTHER_NODE))
    bench.send(command("build_failed"), "event-a")
    bench.deliver_body(b"no JSON")
    bench.deliver_body(b"no JSON")
    bench.deliver_body(encode("get_node", {"node": NODE}))
    bench.deliver_body(encode("get_node", {"node": NODE}, reply_queue=CALLER))
    bench.deliver_body(encode(PING, {}, reply_queue=CALLER))
    bench.run()
    counts = counted(bench).counts
    assert counts.events == {
        ("update_available_resource", "applied"): 1,
        ("instance_claim", "granted"): 1,
        ("instance_claim", "duplicate"): 1,
        ("instance_claim", "refused"): 1,
        ("build_failed", "parked"): 1,
        ("unknown", "parked"): 1,
        ("unknown", "duplicate"): 1,
        ("get_node", "answered"): 2,
        ("oslo_rpc_server_ping", "answered"): 1,
    }
    assert counts.refusals == {"node": 1}
    assert counts.dead_letters == {"event_id_reused": 1, "malformed_json": 1}
    assert sum(counts.events.values()) == sum(counted(bench).run.counts) == 10


def test_corrections_are_counted_by_reason(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot())
    resources = some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}")
    bench.send(a_report(resources=resources, instances=[], migrations=[]))
    assert counted(bench).counts.corrections == {"not_here": 1}


def test_transaction_that_fails_is_not_counted_until_it_is_committed(bench: LaneBench) -> None:
    bench.track()
    before = counted(bench)
    bench.deliver(boot())
    with Fault(bench.engine, "INSERT INTO claims", out_of_range, times=10):
        bench.run()
    after = counted(bench)
    assert after.counts.events["instance_claim", "parked"] == 1
    assert after.counts.events["instance_claim", "granted"] == 0
    assert sum(after.commit.counts) == sum(before.commit.counts) + 1


def test_wait_and_run_time_are_measured_and_a_slow_event_is_logged(
    a_bench: Callable[..., LaneBench], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    bench = a_bench(slow_event=5.0)
    bench.track()
    bench.seconds = 4.0
    bench.deliver(boot("i-1"), "quick")  # Received at 0.0.
    bench.run()
    assert caplog.messages == []
    bench.seconds = 7.5
    bench.deliver(boot("i-2"), "slow")
    bench.deliver(boot("i-3"), "slow too")
    bench.run()
    (line,) = caplog.messages
    assert line == (
        f"Event slow (instance_claim) of node {NODE} was slow: it waited 7.500 s and ran 0.000 s, "
        "in a batch of 2"
    )
    lane = counted(bench)
    assert lane.wait.total == 4.0 + 7.5 + 7.5
    assert lane.run.total == 0.0
    assert (sum(lane.batch.counts), lane.batch.total) == (3, 4.0)
