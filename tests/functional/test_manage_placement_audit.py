# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage placement audit."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    MOVE,
    NODE,
    a_flavor,
    a_migration,
    an_instance,
    args_of,
    command,
)
from tests.fake_placement import FailingAt, FakePlacement, NoFaults
from tests.functional.allocations import Before, add_provider, allocate, held, kinds_of, methods_of
from tests.functional.lanes import NOW, OTHER_NODE, LaneBench
from tests.functional.manage import Manage
from tracker_worker.cmd.failures import INTERRUPTED
from tracker_worker.cmd.manage import placement_audit
from tracker_worker.cmd.manage.placement_commands import INCOMPLETE
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import CLAIMS, NODES
from tracker_worker.placement.errors import (
    PlacementError,
    PlacementRefused,
    PlacementUnauthorized,
    PlacementUnavailable,
)

REQUEST = "req-11111111-1111-4111-8111-111111111111"
STRANGER = "eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee"
SMALL = {"VCPU": 2, "MEMORY_MB": 2048, "DISK_GB": 20}
HERE, THERE = f"uuid-of-{NODE}", f"uuid-of-{OTHER_NODE}"


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def placement(monkeypatch: pytest.MonkeyPatch) -> FakePlacement:
    """The Placement of the command, with providers of two nodes."""
    made = FakePlacement()
    add_provider(made, HERE, NODE)
    add_provider(made, THERE, OTHER_NODE)
    monkeypatch.setattr(placement_audit, "placement_client", lambda _: made)
    return made


@pytest.fixture
def nodes(bench: LaneBench) -> LaneBench:
    """Two nodes, the first with an instance."""
    bench.track(NODE, OTHER_NODE)
    bench.send(command("instance_claim", instance=an_instance()), "boot")
    return bench


def release(bench: LaneBench, uuid: str = INSTANCE, node: str = NODE) -> None:
    """Boot and delete an instance, the latter by a request of its own."""
    bench.send(command("instance_claim", node=node, instance=an_instance(uuid)))
    deleted = args_of(
        command(
            "update_usage",
            node=node,
            instance=an_instance(uuid, vm_state="deleted"),
            event_id=f"end-{uuid}-{node}",
        )
    )
    bench.deliver_body(encode("update_usage", deleted, request_id=REQUEST), node)
    bench.run()
    bench.date(NOW, f"end-{uuid}-{node}")


def findings(manage: Manage, *arguments: str, code: int = 1) -> list[dict[str, Any]]:
    assert manage.run("placement", "audit", *arguments, "--format", "json") == code, manage.err
    found: list[dict[str, Any]] = json.loads(manage.out)["findings"]
    return found


def test_allocations_that_agree_are_no_finding(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    allocate(placement, INSTANCE, HERE, SMALL)
    assert manage.json("placement", "audit") == {
        "complete": True,
        "nodes": 2,
        "findings": [],
        "left_out": [],
        "resume_after": None,
    }
    assert "findings: 0, nodes: 2" in manage.err
    assert methods_of(placement) == ["tree", "allocations_of"] * 2


def test_each_kind_is_found_with_its_last_event(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    nodes.send(command("instance_claim", instance=an_instance(BYSTANDER)))
    release(nodes, STRANGER)
    allocate(placement, INSTANCE, HERE, {**SMALL, "VCPU": 4})
    allocate(placement, INSTANCE, THERE, SMALL)
    allocate(placement, STRANGER, HERE, SMALL)
    found = {(each["node"], each["consumer"]): each for each in findings(manage)}
    assert {key: each["finding"] for key, each in found.items()} == {
        (NODE, BYSTANDER): "missing",
        (NODE, INSTANCE): "size",
        (NODE, STRANGER): "orphaned",
        (OTHER_NODE, INSTANCE): "double",
    }
    assert found[NODE, STRANGER] == {
        "node": NODE,
        "finding": "orphaned",
        "consumer": STRANGER,
        "instance_uuid": None,
        "role": None,
        "ledger": None,
        "placement": SMALL,
        "claimed_by": [],
        "providers": [HERE],
        "last_event": {
            "recorded_at": "2026-11-22T12:00:00Z",
            "sequence": 5,
            "method": "update_usage",
            "outcome": "applied",
            "event_id": f"end-{STRANGER}-{NODE}",
            "request_id": REQUEST,
        },
        "explanation": placement_audit.PROVED,
        "result": None,
    }
    assert found[NODE, INSTANCE]["ledger"] == SMALL
    assert found[OTHER_NODE, INSTANCE]["claimed_by"] == [NODE]
    assert found[NODE, BYSTANDER]["last_event"]["method"] == "instance_claim"


def test_table_names_what_to_do_about_each_kind(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    allocate(placement, STRANGER, HERE, SMALL)
    assert manage.run("placement", "audit") == 1
    assert "DISK_GB=20 MEMORY_MB=2048 VCPU=2" in manage.out
    for way_out in ("heal_allocations --instance", "nova-manage placement audit", "findings: 2, nodes: 2"):
        assert way_out in manage.err
    assert "--force" not in manage.err


def test_only_what_the_ledger_proves_is_removed(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    release(nodes, STRANGER)
    allocate(placement, STRANGER, HERE, SMALL)
    add_provider(placement, "shared-storage", "shared-storage")
    allocate(placement, STRANGER, "shared-storage", {"DISK_GB": 5})
    allocate(placement, BYSTANDER, HERE, SMALL)
    found = findings(manage, "--fix", "--grace", "0")
    assert {each["consumer"]: each["result"] for each in found} == {
        STRANGER: "removed",
        BYSTANDER: "left",
        INSTANCE: "left",
    }
    assert held(placement, STRANGER) == {"shared-storage": {"DISK_GB": 5}}
    assert held(placement, BYSTANDER) == {HERE: SMALL}
    assert "findings: 3 (1 removed, 2 left), nodes: 2" in manage.err
    assert "no receipt on this node names it" in next(
        each["explanation"] for each in found if each["consumer"] == BYSTANDER
    )


def test_nothing_is_left_when_all_was_removed(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    allocate(placement, INSTANCE, HERE, SMALL)
    release(nodes, STRANGER)
    release(nodes, STRANGER, OTHER_NODE)
    allocate(placement, STRANGER, HERE, SMALL)
    allocate(placement, STRANGER, THERE, SMALL)
    found = findings(manage, "--fix", "--grace", "0", code=0)
    assert [each["result"] for each in found] == ["removed", "removed"]
    assert held(placement, STRANGER) == {}
    assert findings(manage, "--fix", "--grace", "0", code=0) == []


def test_dry_run_changes_nothing_and_does_not_wait(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    release(nodes, STRANGER)
    allocate(placement, STRANGER, HERE, SMALL)
    for arguments in (["--dry-run"], ["--fix", "--dry-run"]):
        found = findings(manage, *arguments)
        assert {each["consumer"]: each["result"] for each in found} == {
            STRANGER: "would be removed",
            INSTANCE: "would be left",
        }
    assert held(placement, STRANGER) == {HERE: SMALL}


@pytest.mark.parametrize("request_name", ["tree", "put_allocations"])
def test_allocation_that_changes_meanwhile_is_kept(
    nodes: LaneBench, manage: Manage, placement: FakePlacement, request_name: str
) -> None:
    release(nodes, STRANGER)
    allocate(placement, STRANGER, HERE, SMALL)

    def allocate_again(request: str) -> None:
        if request == request_name and "consumer_allocations" in methods_of(placement):
            allocate(placement, STRANGER, HERE, SMALL)

    placement.faults = Before(placement, allocate_again)
    (found,) = (each for each in findings(manage, "--fix", "--grace", "0") if each["consumer"] == STRANGER)
    assert found["result"] == "left"
    assert "changed since" in found["explanation"]
    assert held(placement, STRANGER) == {HERE: SMALL}


def test_instance_whose_claim_comes_during_the_grace_period_keeps_its_allocation(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    release(nodes, STRANGER)
    allocate(placement, STRANGER, HERE, SMALL)

    def claim(request: str) -> None:
        if request == "tree" and methods_of(placement).count("consumer_allocations") == 1:
            placement.faults = NoFaults()
            nodes.send(command("instance_claim", instance=an_instance(STRANGER)))

    placement.faults = Before(placement, claim)
    found = findings(manage, "--fix", "--grace", "0")
    assert {each["consumer"]: each["result"] for each in found} == {STRANGER: "left", INSTANCE: "left"}
    assert held(placement, STRANGER) == {HERE: SMALL}


def test_what_is_found_once_only_is_no_finding(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    def allocate_late(_: str) -> None:
        if methods_of(placement).count("tree") == 3:
            allocate(placement, INSTANCE, HERE, SMALL)

    placement.faults = Before(placement, allocate_late)
    assert findings(manage, code=0) == []


def test_move_is_found_by_the_claims_of_the_other_node(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    big = a_flavor(4, 4096, 40)
    allocate(placement, MOVE, HERE, SMALL)
    allocate(placement, INSTANCE, THERE, {"VCPU": 4, "MEMORY_MB": 4096, "DISK_GB": 40})
    migration = a_migration(source_node=NODE, dest_node=OTHER_NODE)
    nodes.send(
        command("resize_claim", node=OTHER_NODE, instance=an_instance(), flavor=big, migration=migration)
    )
    assert findings(manage, code=0) == []
    nodes.send(command("start_move", instance_uuid=INSTANCE, migration_uuid=MOVE))
    nodes.send(command("finish_move", node=OTHER_NODE, instance=an_instance(flavor=big), migration_uuid=MOVE))
    assert findings(manage, code=0) == []
    nodes.send(command("drop_move_claim_at_source", instance_uuid=INSTANCE, migration_uuid=MOVE))
    (found,) = findings(manage)
    assert (found["finding"], found["consumer"], found["claimed_by"]) == ("double", MOVE, [OTHER_NODE])
    assert found["last_event"]["method"] == "drop_move_claim_at_source"


def test_allocations_of_a_removed_node_are_found_by_its_name(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    release(nodes, STRANGER, OTHER_NODE)
    allocate(placement, INSTANCE, HERE, SMALL)
    allocate(placement, STRANGER, THERE, SMALL)
    nodes.send(command("instance_claim", node=OTHER_NODE, instance=an_instance(BYSTANDER)))
    allocate(placement, BYSTANDER, THERE, SMALL)
    nodes.send(command("remove_node", node=OTHER_NODE, force=True))
    found = findings(manage, "--fix", "--grace", "0")
    assert kinds_of(found) == {STRANGER: "removed_node", BYSTANDER: "removed_node"}
    assert {each["consumer"]: each["result"] for each in found} == {STRANGER: "removed", BYSTANDER: "left"}


def test_provider_of_a_node_that_got_another_name_is_not_that_of_a_removed_node(
    nodes: LaneBench, manage: Manage, placement: FakePlacement, engine: sa.Engine
) -> None:
    allocate(placement, INSTANCE, HERE, SMALL)
    nodes.send(command("remove_node", node=OTHER_NODE))
    with placement.others():
        placement.delete(THERE)
        placement.rename(HERE, OTHER_NODE, None)
    assert findings(manage, code=0) == []


def test_children_of_a_node_and_shared_storage_are_understood(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    for uuid in (HERE, THERE):
        del placement.providers[uuid].inventories["DISK_GB"]
    add_provider(placement, "cell", "cell", HERE, ["VCPU"])
    allocate(placement, INSTANCE, HERE, {"MEMORY_MB": 2048})
    allocate(placement, INSTANCE, "cell", {"VCPU": 2})
    assert findings(manage, code=0) == []


def test_node_without_a_provider_is_named(nodes: LaneBench, manage: Manage, placement: FakePlacement) -> None:
    del placement.providers[HERE]
    assert kinds_of(findings(manage, NODE)) == {INSTANCE: "missing"}
    assert f"'{NODE}': Placement has no provider of it" in manage.err


def test_chosen_nodes_and_those_after_one_are_audited(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    allocate(placement, INSTANCE, HERE, SMALL)
    for arguments in ([NODE], ["--after", NODE], [NODE, OTHER_NODE, "--after", NODE]):
        assert manage.json("placement", "audit", *arguments)["nodes"] == 1
    assert "'nobody' is not tracked" in manage.complaint("placement", "audit", "nobody")


def test_node_to_go_on_after_has_to_be_known(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    """A mistyped one would leave nodes out, or all of them, and end as if they agreed."""
    assert "no node is named 'nobody'" in manage.complaint("placement", "audit", "--after", "nobody")
    assert manage.json("placement", "audit", "--after", OTHER_NODE)["nodes"] == 0


def test_named_node_before_the_one_to_go_on_after_is_not_called_removed(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    assert manage.json("placement", "audit", NODE, "--after", OTHER_NODE)["nodes"] == 0
    assert "was removed" not in manage.err


class Ending(NoFaults):
    """The request for a number of a provider's tree does not end well."""

    def __init__(self, placement: FakePlacement, number: int, error: BaseException) -> None:
        self._placement = placement
        self._number = number
        self._error = error

    def before(self) -> None:
        if methods_of(self._placement).count("tree") == self._number:
            raise self._error


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is one node."""
    monkeypatch.setattr(placement_audit, "NODES_AT_ONCE", 1)


@pytest.mark.parametrize("output", ["json", "yaml", "table"])
@pytest.mark.parametrize(
    "error", [PlacementUnavailable("no answer"), PlacementUnauthorized("401"), PlacementRefused("403")]
)
@pytest.mark.parametrize("fix", [[], ["--fix"], ["--dry-run"]])
def test_audit_that_placement_prevents_is_not_taken_for_agreement(
    nodes: LaneBench,
    manage: Manage,
    placement: FakePlacement,
    output: str,
    error: PlacementError,
    fix: list[str],
) -> None:
    placement.faults = FailingAt(1, error, carried_out=False)
    assert manage.run("placement", "audit", *fix, "--format", output) == INCOMPLETE
    assert manage.out == ""
    assert f"{error.code}: {error}; 0 of 2 nodes were audited, repeat the command" in manage.err
    assert "findings" not in manage.err


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_audit_that_ends_before_it_finds_anything_prints_no_document(
    nodes: LaneBench, manage: Manage, placement: FakePlacement, one_at_a_time: None, output: str
) -> None:
    allocate(placement, INSTANCE, HERE, SMALL)
    placement.faults = Ending(placement, 2, PlacementUnavailable("no answer"))
    assert manage.run("placement", "audit", "--format", output) == INCOMPLETE
    assert manage.out == ""
    assert "findings: 0, nodes so far: 1" in manage.err
    assert f"1 of 2 nodes were audited, '--after {NODE}' audits the others" in manage.err


@pytest.mark.parametrize(
    ("error", "code"), [(PlacementUnavailable("no answer"), INCOMPLETE), (KeyboardInterrupt(), INTERRUPTED)]
)
def test_audit_that_ends_early_says_in_its_document_where_it_goes_on(
    nodes: LaneBench,
    manage: Manage,
    placement: FakePlacement,
    one_at_a_time: None,
    error: BaseException,
    code: int,
) -> None:
    placement.faults = Ending(placement, 3, error)
    assert manage.run("placement", "audit", "--fix", "--format", "json") == code
    document = json.loads(manage.out)
    assert {key: document[key] for key in ("complete", "nodes", "resume_after", "left_out")} == {
        "complete": False,
        "nodes": 1,
        "resume_after": NODE,
        "left_out": [],
    }
    (found,) = document["findings"]
    assert (found["finding"], found["result"]) == ("missing", "left")
    assert f"1 of 2 nodes were audited, '--after {NODE}' audits the others" in manage.err


def test_error_while_fixing_keeps_the_allocation(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    allocate(placement, INSTANCE, HERE, SMALL)
    release(nodes, STRANGER)
    allocate(placement, STRANGER, HERE, SMALL)
    for request_name in ("consumer_allocations", "put_allocations"):

        def fail(request: str, failing: str = request_name) -> None:
            if request == failing:
                raise PlacementUnavailable("Placement does not answer")

        placement.faults = Before(placement, fail)
        (found,) = findings(manage, "--fix", "--grace", "0")
        assert (found["result"], found["explanation"]) == (
            "left",
            "placement_unavailable: Placement does not answer",
        )


def test_nodes_that_cannot_be_read_are_named_and_not_taken_for_agreement(
    nodes: LaneBench, manage: Manage, placement: FakePlacement, engine: sa.Engine
) -> None:
    allocate(placement, INSTANCE, HERE, SMALL)
    with engine.begin() as connection:
        broken = sa.update(NODES).where(NODES.c.name == OTHER_NODE).values(resources={"vcpus": "many"})
        connection.execute(broken)
    assert manage.run("placement", "audit", "--format", "json") == INCOMPLETE
    assert manage.out == ""
    assert f"node '{OTHER_NODE}' is left out" in manage.err
    assert "findings: 0, nodes: 1" in manage.err
    allocate(placement, STRANGER, HERE, SMALL)
    assert manage.run("placement", "audit", "--format", "json") == INCOMPLETE
    document = json.loads(manage.out)
    assert (document["complete"], document["nodes"], document["resume_after"]) == (False, 1, None)
    assert [each["node"] for each in document["left_out"]] == [OTHER_NODE]


def test_database_error_while_fixing_shows_the_findings_and_removes_nothing(
    nodes: LaneBench, manage: Manage, placement: FakePlacement, engine: sa.Engine
) -> None:
    allocate(placement, INSTANCE, HERE, SMALL)
    release(nodes, STRANGER)
    allocate(placement, STRANGER, HERE, SMALL)

    def damage(request: str) -> None:
        if request == "consumer_allocations":
            with engine.begin() as connection:
                connection.execute(sa.text("ALTER TABLE receipts RENAME TO elsewhere"))

    placement.faults = Before(placement, damage)
    (found,) = findings(manage, "--fix", "--grace", "0", code=INCOMPLETE)
    assert (found["consumer"], found["result"]) == (STRANGER, "left")
    assert "it has removed nothing" in manage.err
    assert held(placement, STRANGER)


def test_node_that_breaks_before_it_is_read_again_is_left_out(
    nodes: LaneBench, manage: Manage, placement: FakePlacement, engine: sa.Engine
) -> None:
    """Its findings cannot be confirmed, and must not be taken for agreement."""
    allocate(placement, INSTANCE, HERE, SMALL)
    allocate(placement, STRANGER, THERE, SMALL)

    def damage(request: str) -> None:
        if request == "allocations_of" and methods_of(placement).count(request) == 2:
            with engine.begin() as connection:
                connection.execute(
                    sa.update(NODES).where(NODES.c.name == OTHER_NODE).values(resources={"vcpus": "many"})
                )

    placement.faults = Before(placement, damage)
    assert manage.run("placement", "audit", "--format", "json") == INCOMPLETE
    assert f"node '{OTHER_NODE}' is left out" in manage.err
    assert "findings: 0, nodes: 1" in manage.err


def counted(manage: Manage, *arguments: str) -> tuple[int, int, str]:
    """The number of nodes and of findings of a document, and what became of them."""
    manage.run("placement", "audit", *arguments, "--format", "json")
    document = json.loads(manage.out)
    (line,) = (line for line in manage.err.splitlines() if ": findings: " in line)
    findings, _, nodes = line.partition(": findings: ")[2].partition(", nodes: ")
    count, _, results = findings.partition(" ")
    assert int(count) == len(document["findings"])
    assert int(nodes) == document["nodes"]
    return int(nodes), int(count), results


def test_nodes_are_counted_whose_claims_were_compared(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    """Not one that was removed and has no provider: of it there is nothing to compare."""
    allocate(placement, INSTANCE, HERE, SMALL)
    assert counted(manage) == (2, 0, "")
    assert counted(manage, NODE) == (1, 0, "")
    assert counted(manage, NODE, OTHER_NODE, NODE) == (2, 0, "")
    nodes.send(command("remove_node", node=OTHER_NODE))
    assert counted(manage) == (2, 0, "")
    with placement.others():
        placement.delete(THERE)
    assert counted(manage) == (1, 0, "")
    assert counted(manage, OTHER_NODE) == (0, 0, "")
    assert f"node '{OTHER_NODE}' was removed, and Placement has no provider of it" in manage.err
    del placement.providers[HERE]
    assert counted(manage) == (1, 1, "")


def test_no_node_at_all_is_agreement(engine: sa.Engine, manage: Manage, placement: FakePlacement) -> None:
    assert counted(manage) == (0, 0, "")
    assert manage.run("placement", "audit") == 0


def test_findings_are_counted_by_what_became_of_them(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    release(nodes, STRANGER)
    allocate(placement, STRANGER, HERE, SMALL)
    assert counted(manage, NODE) == (1, 2, "")
    assert counted(manage, NODE, "--dry-run") == (1, 2, "(1 would be removed, 1 would be left)")
    assert counted(manage, NODE, "--fix", "--grace", "0") == (1, 2, "(1 removed, 1 left)")
    assert counted(manage, NODE, "--fix", "--grace", "0") == (1, 1, "(1 left)")


def test_what_was_removed_before_an_interruption_is_counted_as_removed(
    nodes: LaneBench, manage: Manage, placement: FakePlacement
) -> None:
    for uuid in (STRANGER, BYSTANDER):
        release(nodes, uuid)
        allocate(placement, uuid, HERE, SMALL)
    allocate(placement, INSTANCE, HERE, SMALL)

    def interrupt(_: str) -> None:
        if methods_of(placement).count("put_allocations") == 2:
            raise KeyboardInterrupt

    placement.faults = Before(placement, interrupt)
    assert manage.run("placement", "audit", "--fix", "--grace", "0", "--format", "json") == INTERRUPTED
    document = json.loads(manage.out)
    assert document["complete"]
    results = {each["consumer"]: each["result"] for each in document["findings"]}
    assert results == {uuid: "left" if held(placement, uuid) else "removed" for uuid in results}
    assert "findings: 2 (1 removed, 1 left), nodes: 2" in manage.err
    assert "interrupted: repeat the command" in manage.err


def test_texts_of_rows_have_no_control_characters(
    nodes: LaneBench, manage: Manage, placement: FakePlacement, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(CLAIMS).values(instance_uuid="a\u202eb"))
    assert manage.run("placement", "audit") == 1
    assert "a\\u202eb" in manage.out


@pytest.mark.parametrize("grace", ["-1", "a", "86401"])
def test_wrong_grace_is_refused(manage: Manage, grace: str) -> None:
    assert manage.run("placement", "audit", "--grace", grace) == 2
