# SPDX-License-Identifier: Apache-2.0
"""Events that name a node nobody has reported: answered and remembered, without a row of their own."""

from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import NODE, a_report, an_instance, command, some_resources
from tests.functional.lanes import PARTITIONS, LaneBench, data_of
from tests.functional.manage import Manage
from tests.functional.statements import watched
from tests.samples import EXAMPLES
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import CLAIMS, DEAD_LETTERS, NODES, RECEIPTS, TOUCHED
from tracker_worker.domain.commands import METHODS
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Origin
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.purge import Purge
from tracker_worker.worker.settings import Retention

ORIGIN = Origin("a client", 5)
BOOT = command("instance_claim", instance=an_instance(), origin=ORIGIN)


def invented(number: int) -> str:
    return f"invented-{number}"


def test_casts_for_invented_nodes_leave_no_rows_beside_their_receipts_and_letters(bench: LaneBench) -> None:
    """2,000 invented names once left 2,000 rows that no list showed."""
    for number in range(200):
        name = invented(number)
        bench.deliver(command("instance_claim", instance=an_instance(), node=name, origin=ORIGIN))
        bench.deliver(command("update_usage", instance=an_instance(), node=name, origin=ORIGIN))
        bench.deliver(command("build_failed", node=name))
        bench.deliver_body(encode("build_failed", {"node": name, "no": 1}, unique_id=f"bad-{number}"), name)
    bench.run()
    assert (bench.rows(NODES), bench.rows(TOUCHED), bench.rows(CLAIMS)) == ([], [], [])
    assert len(bench.rows(DEAD_LETTERS)) == 200
    assert len(bench.rows(RECEIPTS)) == 800
    assert {row["sequence"] for row in bench.rows(RECEIPTS)} == {None}


def test_an_event_for_an_unknown_name_costs_no_statement_for_a_row(bench: LaneBench) -> None:
    with watched(bench.engine) as statements:
        for number in range(20):
            bench.deliver(command("build_failed", node=invented(number)))
        bench.run()
    assert not any("INTO nodes" in statement.sql for statement in statements)
    assert len(statements) < 20


def test_it_is_answered_and_told_as_before(bench: LaneBench) -> None:
    boot = bench.send(BOOT)
    failed = bench.send(command("build_failed"))
    assert (boot.outcome, failed.outcome) == ("ComputeResourcesUnavailable", "ignored")
    assert "is not tracked" in str(boot.answer)
    assert failed.answer["sequence"] == 0
    (error,) = bench.notifications()
    assert error["event_type"] == "compute_node.claim.error"
    assert (data_of(error)["node"], data_of(error)["sequence"]) == (NODE, 0)


def test_a_claim_that_was_refused_stays_refused_when_the_node_is_tracked_meanwhile(bench: LaneBench) -> None:
    """Its caller was told: a redelivery must not claim room for nobody."""
    bench.send(BOOT, "boot")
    bench.track()
    again = bench.send(BOOT, "boot", redelivered=True)
    assert again.outcome == "ComputeResourcesUnavailable"
    assert bench.claimed() == {}


def test_the_sequence_of_a_node_begins_with_its_first_report(bench: LaneBench) -> None:
    for number in range(3):
        bench.deliver(command("build_failed"), f"before-{number}")
    bench.deliver(a_report(), "report")
    bench.deliver(command("build_failed"), "after")
    bench.run()
    assert {k: row["sequence"] for k, row in bench.receipts().items()} == {
        "before-0": None, "before-1": None, "before-2": None, "report": 1, "after": 2,
    }  # fmt: skip
    assert bench.sequence() == 2


def test_a_conflict_of_an_unknown_name_is_kept_to_be_shown(
    bench: LaneBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.track(NODE)
    resources = some_resources(uuid=f"uuid-of-{NODE}", host="elsewhere")
    assert bench.send(a_report(node=invented(1), resources=resources)).outcome == "NodeConflict"
    assert [row["name"] for row in bench.rows(NODES)] == [invented(1), NODE]
    listed = Manage(tmp_path, capsys).json("node", "list")
    assert [node["name"] for node in listed] == [invented(1), NODE]


def test_a_removed_node_keeps_its_row_and_its_sequence(bench: LaneBench) -> None:
    bench.track()
    bench.send(command("remove_node"))
    bench.send(BOOT)
    assert bench.sequence() == 3
    assert len(bench.rows(TOUCHED)) == 1


@pytest.mark.parametrize("method", ["instance_claim", "build_failed"])
def test_a_name_that_another_writer_tracks_meanwhile_is_decided_again(
    a_bench: Callable[..., LaneBench], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """What was read of it holds at the commit, or the event is decided once more."""
    one, other = a_bench(), a_bench()
    load = one.unit_of_work.load

    def load_then_track(names: Collection[str]) -> dict[str, Node]:
        loaded = load(names)
        monkeypatch.undo()
        other.track()
        return loaded

    monkeypatch.setattr(one.unit_of_work, "load", load_then_track)
    event = BOOT if method == "instance_claim" else command(method)
    assert one.send(event).outcome in ("granted", "applied")
    assert one.sequence() == 2


def test_the_replay_of_a_letter_settles_it(bench: LaneBench) -> None:
    body = encode("build_failed", {"node": NODE, "event_id": "bad"})
    bench.deliver_body(body, partition=(partition_of(NODE, PARTITIONS) + 1) % PARTITIONS)
    bench.run()
    (letter,) = bench.rows(DEAD_LETTERS)
    bench.send(command("build_failed"), f"{letter['id']}.1")
    (letter,) = bench.rows(DEAD_LETTERS)
    assert letter["state"] == "replayed"
    assert bench.rows(NODES) == []


def test_receipts_of_an_unknown_name_go_like_those_of_a_removed_node(bench: LaneBench) -> None:
    bench.send(BOOT, "boot")
    purge = Purge(bench.engine, Retention(), lambda: None)
    assert purge.run_once().receipts == 0
    with bench.engine.begin() as connection:
        connection.execute(sa.update(RECEIPTS).values(recorded_at=sa.func.datetime("now", "-31 days")))
    assert purge.run_once().receipts == 1


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"update_available_resource"}))
def test_only_a_report_makes_a_row(bench: LaneBench, method: str) -> None:
    args = EXAMPLES[method] | {"node": NODE, "event_id": "event-a"}
    bench.deliver_body(encode(method, args))
    bench.run()
    assert (bench.rows(NODES), bench.rows(TOUCHED), bench.parked()) == ([], [], [])
