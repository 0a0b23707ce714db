# SPDX-License-Identifier: Apache-2.0
"""Audits that find nothing: what a lane writes for them, and that nobody else is woken by them."""

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from tests.builders import NODE, a_report, an_instance, command, some_resources
from tests.functional.lanes import OTHER_NODE, LaneBench, Recorded
from tests.functional.statements import Fault, out_of_range, watched
from tracker_worker.core.node_progress import NodeProgress
from tracker_worker.db.tables import DEAD_LETTERS, NODES, RECEIPTS
from tracker_worker.domain.node import LedgerBroken
from tracker_worker.domain.objects import Origin


def deliver_audit(bench: LaneBench, sequence: int, node: str = NODE, source: str = "client") -> Recorded:
    here = an_instance() if node == NODE else an_instance("elsewhere")
    resources = some_resources(uuid=f"uuid-of-{node}", host=f"host-of-{node}")
    return bench.deliver(a_report([here], resources=resources, node=node, origin=Origin(source, sequence)))


def audit(bench: LaneBench, sequence: int, node: str = NODE, source: str = "client") -> Recorded:
    delivery = deliver_audit(bench, sequence, node, source)
    bench.run()
    return delivery


@contextmanager
def transactions(engine: sa.Engine) -> Iterator[list[str]]:
    """Collect the isolation levels of the connections that commit inside the block."""
    seen: list[str] = []

    def note(connection: sa.Connection) -> None:
        seen.append(connection.get_execution_options().get("isolation_level", "default"))

    sa.event.listen(engine, "commit", note)
    try:
        yield seen
    finally:
        sa.event.remove(engine, "commit", note)


def audited(bench: LaneBench) -> LaneBench:
    """A lane whose nodes have been audited, and the audits repeated."""
    bench.track(NODE, OTHER_NODE)
    for sequence in (1, 2):
        audit(bench, sequence)
        audit(bench, sequence, OTHER_NODE)
    return bench


def test_audit_that_repeats_the_last_one_writes_its_sequence_in_one_statement(bench: LaneBench) -> None:
    audited(bench)
    receipts, sequence = len(bench.rows(RECEIPTS)), bench.sequence()
    with watched(bench.engine) as seen, transactions(bench.engine) as committed:
        assert audit(bench, 3).outcome == "ignored"
    (writing,) = (statement.sql for statement in seen)
    assert re.search(r"\bUPDATE\b.*\bnodes\b", writing, re.DOTALL)
    assert set(committed) == {"AUTOCOMMIT"}
    row = next(row for row in bench.rows(NODES) if row["name"] == NODE)
    assert row["sources"]["client"]["audited"] == 3
    assert (len(bench.rows(RECEIPTS)), row["sequence"]) == (receipts, sequence)


def test_repeated_audit_with_the_id_of_another_command_is_parked(bench: LaneBench) -> None:
    audited(bench)
    bench.send(command("build_failed"), "event-a")
    assert audit(bench, 3).outcome == "ignored"
    here, resources = an_instance(), some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}")
    reused = a_report([here], resources=resources, origin=Origin("client", 4))
    assert bench.send(reused, "event-a").outcome == "EventIdReused"
    assert [code for _, code in bench.parked()] == ["event_id_reused"]
    row = next(row for row in bench.rows(NODES) if row["name"] == NODE)
    assert row["sources"]["client"]["audited"] == 3


def test_repeated_audit_of_a_client_that_is_new_is_looked_up(bench: LaneBench) -> None:
    audited(bench)
    with watched(bench.engine) as seen:
        assert audit(bench, 1, source="other").outcome == "ignored"
    assert [statement.sql.split()[0] for statement in seen][0] == "SELECT"


def test_repeated_audits_of_several_nodes_are_one_transaction(bench: LaneBench) -> None:
    audited(bench)
    deliveries = [deliver_audit(bench, 3), deliver_audit(bench, 3, OTHER_NODE)]
    with transactions(bench.engine) as committed:
        bench.run()
    assert "default" in committed
    assert {delivery.outcome for delivery in deliveries} == {"ignored"}


def test_audit_without_changes_calls_no_commit_hook(bench: LaneBench) -> None:
    audited(bench)
    before = bench.commits
    audit(bench, 3)
    assert bench.commits == before
    bench.send(command("build_failed"))
    assert bench.commits == before + 1


def test_repeated_audit_of_a_stale_worker_is_decided_anew(a_bench: Callable[..., LaneBench]) -> None:
    first, second = audited(a_bench()), a_bench()
    second.send(command("abort_instance_claim", instance_uuid=an_instance().uuid))
    assert audit(first, 3).outcome == "applied"
    assert set(first.claimed()) == {(an_instance().uuid, "instance")}


def test_old_audit_that_repeats_the_last_one_is_stale(bench: LaneBench) -> None:
    audited(bench)
    assert audit(bench, 2).answer["reason"] == "stale_audit"


def test_repeated_audit_of_another_source_is_recorded_under_it(bench: LaneBench) -> None:
    audited(bench)
    audit(bench, 1, source="other")
    row = next(row for row in bench.rows(NODES) if row["name"] == NODE)
    assert {source: each["audited"] for source, each in row["sources"].items()} == {"client": 2, "other": 1}


@pytest.mark.parametrize("statement", ["INSERT INTO claims", "UPDATE nodes"])
def test_audit_that_the_database_cannot_store_is_parked_with_its_command(
    bench: LaneBench, statement: str
) -> None:
    bench.track()
    with Fault(bench.engine, statement, out_of_range, times=2):
        parked = audit(bench, 1)
        assert parked.outcome == "EventParked"
    (letter,) = bench.rows(DEAD_LETTERS)
    assert (letter["method"], letter["node"]) == ("update_available_resource", NODE)
    assert audit(bench, 2).outcome == "applied"


def test_repeated_audit_that_the_database_cannot_store_is_parked(bench: LaneBench) -> None:
    audited(bench)
    with Fault(bench.engine, "UPDATE nodes", out_of_range, times=3):
        assert audit(bench, 3).outcome == "EventParked"
    assert audit(bench, 4).outcome == "ignored"


def test_audit_whose_batch_fails_is_parked_and_not_run_again(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.track()
    prove = NodeProgress.prove_sum

    def fail(progress: NodeProgress) -> None:
        if progress.visible:
            raise LedgerBroken("planted")
        prove(progress)

    monkeypatch.setattr(NodeProgress, "prove_sum", fail)
    assert audit(bench, 1).outcome == "EventParked"
    assert [code for _, code in bench.parked()] == ["internal_error"]


def test_replay_that_repeats_the_last_audit_gets_its_first_reply_when_it_comes_again(
    bench: LaneBench,
) -> None:
    audited(bench)
    replay = f"{uuid.uuid4()}.1"
    resources = some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}")
    again = a_report([an_instance()], resources=resources, origin=Origin("client", 7))
    first = bench.send(again, replay)
    assert len(bench.receipts()[replay]["digest"]) == 64
    assert bench.send(again, replay, redelivered=True).answer == first.answer
    assert bench.parked() == []
