# SPDX-License-Identifier: Apache-2.0
"""A lane that is stuck in a rule is not live; one that retries is."""

import threading
from typing import Any

import pytest

from tests.builders import command
from tests.functional.lanes import SECONDS, LaneBench
from tests.functional.statements import Fault, connection_lost
from tracker_worker.bus.state import IngressState
from tracker_worker.domain.decide import decide
from tracker_worker.worker.health import WorkerState, all_ok, liveness

LIMIT = 120.0


def is_live(bench: LaneBench) -> bool:
    ingress = IngressState(at=bench.seconds, since=0.0, connected=True)
    return all_ok(liveness(WorkerState(bench.seconds, (bench.lane.state(),), ingress), LIMIT))


def test_lane_that_is_stuck_in_a_rule_is_not_live(bench: LaneBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.track()
    entered, leave = threading.Event(), threading.Event()

    def endless(*arguments: Any) -> Any:
        entered.set()
        assert leave.wait(SECONDS)
        return decide(*arguments)

    monkeypatch.setattr("tracker_worker.core.batch.decide", endless)
    with bench.at_work():
        bench.deliver(command("build_failed"))
        assert entered.wait(SECONDS)
        assert is_live(bench)
        bench.seconds += LIMIT + 1
        state = bench.lane.state()
        live = is_live(bench)
        leave.set()
    assert not live
    assert state.progress is not None
    assert state.progress.text == "a batch of 1, at: deciding"
    assert is_live(bench)


def test_lane_that_retries_is_live_and_does_not_commit(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.track()
    seen = []
    commit = bench.unit_of_work.commit

    def later(transaction: Any) -> None:
        seen.append((is_live(bench), bench.lane.state().progress))
        bench.seconds += LIMIT - 1
        commit(transaction)

    monkeypatch.setattr(bench.unit_of_work, "commit", later)
    with Fault(bench.engine, "INSERT INTO receipts", connection_lost, times=2):
        bench.send(command("build_failed"))
    assert [live for live, _ in seen] == [True] * 3
    last = seen[-1][1]
    assert last is not None
    assert last.uncommitted > LIMIT
    assert bench.stats.snapshot().lanes[0].retries == 2
