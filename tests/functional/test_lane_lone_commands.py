# SPDX-License-Identifier: Apache-2.0
"""Commands that come alone: their receipts are not looked up, and found all the same."""

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import NODE, a_flavor, a_report, an_instance, command, some_resources
from tests.functional.lanes import LaneBench
from tests.functional.statements import watched
from tracker_worker.db.tables import RECEIPTS
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Limits


def is_lookup(sql: str) -> bool:
    """Whether a statement looks receipts up."""
    return sql.startswith("SELECT") and "receipts.digest" in sql


def a_boot(uuid: str = "new", **more: Any) -> AnyCommand:
    return command("instance_claim", node=NODE, instance=an_instance(uuid, a_flavor(1, 64, 1)), **more)


def an_abort(uuid: str = "new") -> AnyCommand:
    return command("abort_instance_claim", node=NODE, instance_uuid=uuid)


def statements(bench: LaneBench, sent: AnyCommand, **how: Any) -> list[str]:
    """The statements of a command that comes alone."""
    with watched(bench.engine) as seen:
        bench.send(sent, **how)
    return [statement.sql for statement in seen]


@pytest.mark.parametrize(
    "sent",
    [a_boot(), an_abort("nobody"), command("build_failed", node=NODE)],
    ids=["claim", "ignored", "build_failed"],
)
def test_command_that_comes_alone_reads_nothing(bench: LaneBench, sent: AnyCommand) -> None:
    bench.track()
    assert not [sql for sql in statements(bench, sent) if sql.startswith("SELECT")]


def test_command_leaves_nothing_to_the_garbage_collector(bench: LaneBench) -> None:
    """Every caller would wait for its pause, once there is enough. Statements are compiled at first."""
    bench.track()
    left = []
    for _ in range(2):
        gc.collect()
        gc.disable()
        try:
            for sent in (a_boot(), a_boot("large", limits=Limits(memory_mb=1)), a_report(), an_abort()):
                bench.send(sent)
            left.append(gc.collect())
        finally:
            gc.enable()
    assert left[-1] == 0, left


def test_redelivered_command_is_looked_up(bench: LaneBench) -> None:
    bench.track()
    lookups = [sql for sql in statements(bench, a_boot(), redelivered=True) if is_lookup(sql)]
    assert len(lookups) == 2, "by the quarantine and by the committer"


def test_command_to_a_node_that_is_not_cached_is_looked_up(a_bench: Callable[..., LaneBench]) -> None:
    a_bench().track()
    assert is_lookup(statements(a_bench(), a_boot())[0])


@pytest.mark.parametrize(
    "sent",
    [a_report(resources=some_resources(vcpus=9)), command("get_node", node=NODE)],
    ids=["audit", "get_node"],
)
def test_command_that_seldom_leaves_a_receipt_is_looked_up_first(bench: LaneBench, sent: AnyCommand) -> None:
    bench.track()
    assert is_lookup(statements(bench, sent)[0])


@pytest.mark.parametrize("limits", [None, Limits(vcpu=0)], ids=["granted", "refused"])
def test_command_that_is_sent_twice_is_answered_from_its_receipt(
    bench: LaneBench, caplog: pytest.LogCaptureFixture, limits: Limits | None
) -> None:
    bench.track()
    first = bench.send(a_boot(limits=limits), "event-a")
    before = bench.used(), bench.sequence(), len(bench.rows(RECEIPTS))
    with caplog.at_level(logging.WARNING):
        again = bench.send(a_boot(limits=limits), "event-a")
    assert again.outcome == first.outcome
    assert (bench.used(), bench.sequence(), len(bench.rows(RECEIPTS))) == before
    assert not caplog.records, "nobody waited for a retry"


def test_command_that_would_be_ignored_now_is_answered_as_it_was_applied(bench: LaneBench) -> None:
    bench.track()
    bench.send(a_boot())
    assert bench.send(an_abort(), "event-a").outcome == "applied"
    sequence = bench.sequence()
    assert bench.send(an_abort(), "event-a").outcome == "applied"
    assert bench.sequence() == sequence


def test_command_with_the_id_of_another_one_is_parked(bench: LaneBench) -> None:
    bench.track()
    bench.send(command("build_failed", node=NODE), "event-a")
    assert bench.send(a_boot(), "event-a").outcome == "EventIdReused"
    assert [code for _, code in bench.parked()] == ["event_id_reused"]


def test_command_that_another_worker_has_committed_is_applied_once(a_bench: Callable[..., LaneBench]) -> None:
    here, elsewhere = a_bench(), a_bench()
    here.track()
    elsewhere.send(a_boot(), "event-a")
    used = elsewhere.used()
    assert here.send(a_boot(), "event-a").outcome == "granted"
    assert here.used() == used
    assert here.send(a_boot("another")).outcome == "granted"
