# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage node fit: what decide would say, without claiming."""

import json
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import INSTANCE, NODE, a_flavor, a_report, an_instance, args_of, command, some_resources
from tests.functional.lanes import OTHER_NODE, LaneBench, rows
from tests.functional.manage import Manage
from tracker_worker.db.tables import CLAIMS, NODES, RECEIPTS

FLAVOR = '{"vcpus": 2, "memory_mb": 4096, "root_gb": 20}'


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def nodes(bench: LaneBench) -> LaneBench:
    """Two nodes, the first of which holds 12 GB of its 16."""
    bench.track(NODE, OTHER_NODE)
    bench.send(command("instance_claim", instance=an_instance(flavor=a_flavor(memory_mb=12288))))
    return bench


def test_claim_is_decided_and_nothing_is_written(nodes: LaneBench, manage: Manage, engine: sa.Engine) -> None:
    before = [rows(engine, table) for table in (NODES, CLAIMS, RECEIPTS)]
    found = manage.json("node", "fit", NODE, "--flavor", FLAVOR.replace("4096", "2048"))
    assert (found["outcome"], found["memory_mb_left"]) == ("granted", 16384 - 512 - 12288 - 2048)
    assert [rows(engine, table) for table in (NODES, CLAIMS, RECEIPTS)] == before


@pytest.mark.parametrize("check", ["limits", "capacity", "none"])
def test_request_without_limits_is_decided_as_the_scheduler_would(
    nodes: LaneBench, manage: Manage, check: str
) -> None:
    """12 of 16 GB are held: without a limit a worker would grant 4 GB more, and Nova would not send them."""
    manage.configure(f"[tracker]\ncapacity_check = {check}\n")
    assert manage.run("node", "fit", NODE, "--flavor", FLAVOR) == 1
    assert "Free memory 3584.00 MB < requested 4096 MB" in manage.out
    assert "no limits were given: Nova's scheduler decides" in manage.out
    assert manage.run("node", "fit", NODE, "--flavor", FLAVOR, "--format", "json") == 1
    found = json.loads(manage.out)
    assert (found["outcome"], found["limits"], found["tested_against"]) == ("refused", None, "capacity")
    assert [test["passed"] for test in found["tests"]] == [False, True, True]


@pytest.mark.parametrize(
    ("check", "outcome", "against"),
    [
        ("limits", "granted", "limits"),
        ("capacity", "refused", "limits and capacity"),
        ("none", "granted", "nothing"),
    ],
)
def test_request_with_limits_is_decided_as_the_worker_would(
    nodes: LaneBench, manage: Manage, check: str, outcome: str, against: str
) -> None:
    manage.configure(f"[tracker]\ncapacity_check = {check}\n")
    arguments = ["node", "fit", NODE, "--flavor", FLAVOR, "--limits", '{"vcpu": 64}']
    assert manage.run(*arguments) == (outcome == "refused")
    assert f"tested against  {against}" in manage.out
    assert manage.run("node", "fit", "--all", *arguments[3:], "--format", "json") == 0
    found = next(each for each in json.loads(manage.out) if each["node"] == NODE)
    assert (found["outcome"], found["limits"], found["tested_against"]) == (outcome, {"vcpu": 64}, against)


def test_what_is_left_is_what_the_scheduler_would_still_place(bench: LaneBench, manage: Manage) -> None:
    """(8 - 2) vcpus * 4.0, of which 2 are claimed; 8 * 4.0 - 2 would be 6 more."""
    bench.send(a_report(resources=some_resources(reserved_host_cpus=2)))
    bench.send(command("instance_claim", instance=an_instance(flavor=a_flavor(2))))
    found = manage.json("node", "fit", NODE, "--flavor", FLAVOR)
    (vcpu,) = (test for test in found["tests"] if test["rule"] == "vcpu")
    assert (vcpu["free"], vcpu["requested"], found["vcpus_left"]) == ("22 VCPU", "2 VCPU", 20)


def test_node_whose_reserve_exceeds_it_is_ranked_last(bench: LaneBench, manage: Manage) -> None:
    bench.send(a_report(resources=some_resources(memory_mb=100)))
    bench.track(OTHER_NODE)
    ranked = manage.json("node", "fit", "--all", "--flavor", FLAVOR, "--limits", "{}")
    assert [(each["node"], each["outcome"]) for each in ranked] == [
        (OTHER_NODE, "granted"),
        (NODE, "granted"),
    ]


def test_disabled_node_is_refused_as_the_scheduler_passes_it_over(nodes: LaneBench, manage: Manage) -> None:
    """Found by a newcomer: the emptiest of all nodes was granted, and Nova chose others."""
    nodes.send(command("set_service_status", node=OTHER_NODE, disabled=True))
    assert manage.run("node", "fit", OTHER_NODE, "--flavor", FLAVOR) == 1
    assert "The compute service is disabled: Nova's scheduler does not choose the node" in manage.out
    assert manage.run("node", "fit", "--all", "--flavor", FLAVOR, "--format", "json") == 1
    found = {each["node"]: each for each in json.loads(manage.out)}
    assert [(found[name]["disabled"], found[name]["outcome"]) for name in (NODE, OTHER_NODE)] == [
        (False, "refused"),
        (True, "refused"),
    ]
    assert found[OTHER_NODE]["memory_mb_left"] == 16384 - 512
    assert "0 of 2 nodes would grant the claim" in manage.err


def test_reason_of_a_disabled_node_has_what_it_lacks_too(nodes: LaneBench, manage: Manage) -> None:
    nodes.send(command("set_service_status", disabled=True))
    assert manage.run("node", "fit", NODE, "--flavor", FLAVOR, "--format", "json") == 1
    reason = json.loads(manage.out)["reason"]
    assert reason.startswith("The compute service is disabled") and "Free memory 3584.00 MB" in reason


def test_disabled_node_is_flagged_where_the_scheduler_has_chosen_it(nodes: LaneBench, manage: Manage) -> None:
    """With limits the answer is the worker's own, which grants the claim."""
    nodes.send(command("set_service_status", node=OTHER_NODE, disabled=True))
    arguments = ["--flavor", FLAVOR, "--limits", "{}"]
    assert manage.run("node", "fit", OTHER_NODE, *arguments) == 0
    assert "flags           disabled" in manage.out
    ranked = manage.json("node", "fit", "--all", *arguments)
    assert [each["node"] for each in ranked] == [NODE, OTHER_NODE]
    assert manage.run("node", "fit", "--all", *arguments) == 0
    assert [line.split()[5] for line in manage.out.splitlines() if line.startswith(OTHER_NODE)] == [
        "disabled"
    ]


def test_node_in_conflict_is_flagged_with_the_way_out(nodes: LaneBench, manage: Manage) -> None:
    nodes.send(a_report(node=OTHER_NODE, resources=some_resources(uuid="another-uuid")))
    assert manage.run("node", "fit", OTHER_NODE, "--flavor", FLAVOR) == 0
    assert "flags           conflict" in manage.out
    assert f"node '{OTHER_NODE}' is in conflict: reports with uuid another-uuid were refused" in manage.err
    assert manage.json("node", "fit", OTHER_NODE, "--flavor", FLAVOR)["conflicts"] == ["another-uuid"]


def test_node_smaller_than_its_reserve_is_flagged(nodes: LaneBench, manage: Manage) -> None:
    """`node list` had the flag. A reserve of vcpus leaves all of the memory, by which nodes are ranked."""
    resources = some_resources(
        uuid=f"uuid-of-{OTHER_NODE}", host=f"host-of-{OTHER_NODE}", reserved_host_cpus=9
    )
    nodes.send(a_report(node=OTHER_NODE, resources=resources))
    arguments = ["--flavor", FLAVOR, "--limits", "{}"]
    assert manage.run("node", "fit", OTHER_NODE, *arguments) == 0
    assert "flags           reserve" in manage.out
    found = manage.json("node", "fit", OTHER_NODE, *arguments)["reserve_too_large"]
    (listed,) = (each for each in manage.json("node", "list") if each["name"] == OTHER_NODE)
    assert found == listed["reserve_too_large"] == ["reserved_host_cpus 9 > vcpus 8"]
    assert [each["node"] for each in manage.json("node", "fit", "--all", *arguments)] == [NODE, OTHER_NODE]


def test_ranking_without_limits_says_what_it_tested(nodes: LaneBench, manage: Manage) -> None:
    assert manage.run("node", "fit", "--all", "--flavor", FLAVOR) == 0
    assert "no limits were given: Nova's scheduler decides" in manage.out
    assert "1 of 2 nodes would grant the claim" in manage.err


def test_refusal_has_the_reason_of_the_worker_and_exit_code_1(nodes: LaneBench, manage: Manage) -> None:
    limits = '{"memory_mb": 16384}'
    refused = command(
        "instance_claim", instance=an_instance("new", a_flavor(2, 4096, 20)), limits=json.loads(limits)
    )
    args = args_of(refused)
    arguments = ["node", "fit", NODE, "--instance", json.dumps(args["instance"]), "--limits", limits]
    assert manage.run(*arguments) == 1
    assert "Free memory 3584.00 MB < requested 4096 MB" in manage.out
    assert "not tested" in manage.out
    assert manage.run(*arguments, "--format", "json") == 1
    (memory, disk, vcpu) = json.loads(manage.out)["tests"]
    assert (memory["passed"], disk["passed"], vcpu["passed"]) == (False, None, None)


def test_request_is_read_from_a_file(nodes: LaneBench, manage: Manage, tmp_path: Path) -> None:
    file = tmp_path / "flavor.json"
    file.write_text(FLAVOR)
    assert manage.run("node", "fit", OTHER_NODE, "--flavor", str(file)) == 0


def test_instance_that_has_its_claim_gets_it_again(nodes: LaneBench, manage: Manage) -> None:
    args = args_of(command("instance_claim", instance=an_instance(flavor=a_flavor(memory_mb=12288))))
    found = manage.json("node", "fit", NODE, "--instance", json.dumps(args["instance"]))
    assert found["memory_mb_left"] == 16384 - 512 - 12288
    assert INSTANCE in json.dumps(args)


def test_nodes_are_ranked_by_what_is_left(nodes: LaneBench, manage: Manage, engine: sa.Engine) -> None:
    found = manage.json("node", "fit", "--all", "--flavor", FLAVOR)
    assert [(each["node"], each["outcome"]) for each in found] == [(OTHER_NODE, "granted"), (NODE, "refused")]
    assert "1 of 2 nodes would grant the claim" in manage.err
    assert len(manage.json("node", "fit", "--all", "--flavor", FLAVOR, "--limit", "1")) == 1
    too_large = '{"vcpus": 2, "memory_mb": 99999, "root_gb": 20}'
    assert manage.run("node", "fit", "--all", "--flavor", too_large) == 1
    with engine.begin() as connection:
        broken = sa.update(NODES).where(NODES.c.name == NODE).values(resources={"vcpus": "many"})
        connection.execute(broken)
    assert len(manage.json("node", "fit", "--all", "--flavor", FLAVOR)) == 1
    assert f"'{NODE}' is left out" in manage.err
    assert "cannot be read" in manage.complaint("node", "fit", NODE, "--flavor", FLAVOR)


def test_node_whose_events_are_held_grants_nothing(
    nodes: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        wrong = sa.update(NODES).where(NODES.c.name == NODE)
        connection.execute(wrong.values(vcpus_used=NODES.c.vcpus_used + 3))
    complaint = manage.complaint("node", "fit", NODE, "--flavor", FLAVOR)
    assert f"node {NODE}: it is broken, its events are held" in complaint
    assert "see 'node rebuild'" in complaint
    found = manage.json("node", "fit", "--all", "--flavor", FLAVOR)
    assert [each["node"] for each in found] == [OTHER_NODE]
    assert f"node '{NODE}' is left out: it is broken" in manage.err
    assert "1 of 1 nodes would grant the claim" in manage.err


@pytest.mark.parametrize(
    ("request_text", "said"),
    [
        ('{"vcpus": "two"}', "$.vcpus"),
        ('{"vcpus": 2, "memory_mb": 1, "root_gb": 1, "color": 1}', "color"),
        ("/nowhere", "a file with JSON, or JSON itself, is expected: No such file"),
        ("vcpus=2,ram=2048", "a file with JSON, or JSON itself, is expected: No such file"),
        (
            '{"vcpus": 2, "ram": 1, "disk": 1}',
            "; missing: memory_mb, root_gb; ram is memory_mb, disk is root_gb;",
        ),
        (f'{FLAVOR[:-1]}, "swap": 1}}', "unknown field `swap`; swap is swap_mb;"),
        ('{"vcpus": "two"}', "; missing: memory_mb, root_gb;"),
        ("{", "truncated"),
    ],
)
def test_wrong_request_is_named(nodes: LaneBench, manage: Manage, request_text: str, said: str) -> None:
    complaint = manage.complaint("node", "fit", NODE, "--flavor", request_text)
    assert complaint.startswith("--flavor ")
    assert said in complaint


@pytest.mark.parametrize(
    ("option", "text", "keys"),
    [
        ("--flavor", '{"vcpus": 2, "ram": 4096, "disk": 20}', "vcpus, memory_mb, root_gb, ephemeral_gb"),
        ("--flavor", '{"vcpus": 2', "vcpus, memory_mb, root_gb, ephemeral_gb"),
        ("--flavor", "vcpus=2,ram=4096,disk=20", "vcpus, memory_mb, root_gb, ephemeral_gb"),
        ("--instance", '{"flavor": {"ram": 4096}}', "vcpus, memory_mb, root_gb, ephemeral_gb"),
        ("--instance", '{"id": 1}', "uuid, project_id, vm_state, flavor"),
        ("--limits", '{"ram": 4096}', "memory_mb, disk_gb, vcpu"),
    ],
)
def test_wrong_request_leads_to_the_keys(
    nodes: LaneBench, manage: Manage, option: str, text: str, keys: str
) -> None:
    """Found by a newcomer, who tried the words of `openstack flavor create`."""
    flavor = [] if option != "--limits" else ["--flavor", FLAVOR]
    complaint = manage.complaint("node", "fit", NODE, *flavor, option, text)
    assert f"; the keys are {keys}" in complaint
    assert (FLAVOR in complaint) is ("root_gb" in keys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", ": missing: uuid, project_id, vm_state, flavor;"),
        (
            '{"uuid": "x", "flavor": {"ram": 4096, "vcpus": 2}}',
            "; missing: project_id, vm_state, flavor.memory_mb, flavor.root_gb; ram is memory_mb;",
        ),
        (f'{{"flavor": {FLAVOR}}}', ": missing: uuid, project_id, vm_state; the keys are uuid, project_id,"),
        ('{"flavor": []}', "Expected"),
    ],
)
def test_all_missing_keys_of_an_instance_are_named_at_once(
    nodes: LaneBench, manage: Manage, text: str, said: str
) -> None:
    """Found by a newcomer, who added one key after the other."""
    assert said in manage.complaint("node", "fit", NODE, "--instance", text)


def test_file_that_has_no_object_is_named(nodes: LaneBench, manage: Manage, tmp_path: Path) -> None:
    (file := tmp_path / "flavors.json").write_text(f"[{FLAVOR}]")
    assert "Expected `object`, got `array`" in manage.complaint("node", "fit", NODE, "--instance", str(file))


def test_instance_of_the_help_is_accepted(
    nodes: LaneBench, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert manage.run("node", "fit", "--help") == 0
    (example,) = re.findall(r"JSON such as '(\{\"uuid.*?\}\})'", manage.out)
    assert manage.run("node", "fit", OTHER_NODE, "--instance", example) == 0


def test_help_shows_a_flavor_that_is_accepted(
    nodes: LaneBench, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert manage.run("node", "fit", "--help") == 0
    assert f"JSON such as '{FLAVOR}'" in manage.out


def test_command_line_needs_one_request(manage: Manage) -> None:
    assert manage.run("node", "fit", NODE) == 2
    assert manage.run("node", "fit", NODE, "--flavor", FLAVOR, "--instance", "{}") == 2
    assert manage.run("node", "fit", "--flavor", FLAVOR) == 2
