# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage node explain and node verify."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    NODE,
    a_flavor,
    a_report,
    an_instance,
    args_of,
    command,
    some_resources,
)
from tests.functional.lanes import OTHER_NODE, LaneBench
from tests.functional.manage import Manage
from tests.functional.statements import watched
from tests.functional.terminal import on_terminal
from tests.topologies import DEDICATED, PAGES, a_device, a_host, a_request, host_resources
from tracker_worker.cmd.manage import every_node, explain
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import CLAIMS, NODES, RECEIPTS

REQUEST = "req-11111111-1111-4111-8111-111111111111"


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def full(bench: LaneBench) -> LaneBench:
    """A node of two cells with a pinned instance that has a device, and one that an audit has added."""
    pinned = an_instance(flavor=a_flavor(extra_specs=DEDICATED), pci_requests=[a_request()])
    bench.deliver(a_report(resources=host_resources(a_host(pages=PAGES), [a_device()])), "tracked")
    boot = args_of(command("instance_claim", instance=pinned, event_id="boot"))
    bench.deliver_body(encode("instance_claim", boot, request_id=REQUEST))
    bench.run()
    other = an_instance(BYSTANDER, a_flavor(4, 4096, 40))
    resources = host_resources(a_host(pages=PAGES), [a_device()])
    bench.send(a_report([pinned, other], [], resources=resources), "audited")
    return bench


def causes(manage: Manage, field: str) -> dict[str, str | None]:
    """A field of the event that each claim comes from, by instance."""
    claims = manage.json("node", "explain", NODE)["claims"]
    return {claim["instance_uuid"]: claim["cause"][field] for claim in claims}


def test_claims_add_up_to_the_usage(full: LaneBench, manage: Manage) -> None:
    explained = manage.json("node", "explain", NODE)
    assert explained["usage"] == [
        {"resource": name, "reserved": reserved, "claimed": claimed, "used": reserved + claimed}
        | {"total": total, "ratio": ratio, "limit": limit, "free": limit - reserved - claimed}
        for name, reserved, claimed, total, ratio, limit in (
            ("vcpus", 0, 6, 8, 4.0, 32),
            ("memory_mb", 512, 6144, 16384, 1.0, 16384),
            ("disk_mb", 0, 61440, 102400, 1.0, 102400),
        )
    ]
    for line in explained["usage"]:
        claims = [claim[line["resource"]] for claim in explained["claims"]]
        assert line["reserved"] + sum(claims) == line["used"]


def test_claims_have_their_origin_and_what_they_hold(full: LaneBench, manage: Manage) -> None:
    other, pinned = manage.json("node", "explain", NODE)["claims"]
    assert (pinned["instance_uuid"], pinned["cause"]["event_id"]) == (INSTANCE, "boot")
    assert (pinned["cause"]["method"], pinned["cause"]["request_id"]) == ("instance_claim", REQUEST)
    (cell,) = pinned["cells"]
    assert (cell["memory_mb"], len(cell["pinned_cpus"]), cell["pages"]) == (2048, 2, 2048 * 256)
    assert pinned["devices"] == ["d1"]
    assert (other["instance_uuid"], other["cause"]["event_id"]) == (BYSTANDER, "audited")


def test_corrections_of_audits_have_reasons(full: LaneBench, manage: Manage) -> None:
    (corrected,) = manage.json("node", "explain", NODE)["corrections"]
    assert corrected["event_id"] == "audited"
    assert corrected["change"]["reason"] == "instance_here"
    assert corrected["change"]["vcpus"] == 4
    assert manage.run("node", "explain", NODE) == 0
    table = manage.out.partition("Last corrections of audits:\n")[2].splitlines()
    assert table[0].split()[4] == "change"


def test_tables_show_texts_without_control_characters(
    full: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(CLAIMS).values(project_id="a\u202eb"))
    assert manage.run("node", "explain", NODE) == 0
    for text in ("reserved + claimed = used", "a\\u202eb", "Held of NUMA cells", "Last corrections", "d1"):
        assert text in manage.out
    assert "\u202e" not in manage.out


def test_later_states_do_not_change_the_origin(full: LaneBench, manage: Manage) -> None:
    full.send(command("update_usage", instance=an_instance(vm_state="stopped")), "stopped")
    causes = {
        c["instance_uuid"]: c["cause"]["event_id"] for c in manage.json("node", "explain", NODE)["claims"]
    }
    assert causes == {INSTANCE: "boot", BYSTANDER: "audited"}


def test_origin_that_is_not_kept_is_not_guessed(full: LaneBench, manage: Manage, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(RECEIPTS).where(RECEIPTS.c.event_id == "boot").values(delta=None))
    since = causes(manage, "since")
    assert since[INSTANCE] is None
    assert since[BYSTANDER] is not None
    assert "older than what the receipts" in manage.err


def test_explanation_has_the_faults_of_the_node(bench: LaneBench, manage: Manage) -> None:
    bench.send(a_report(resources=some_resources(memory_mb=100)))
    bench.send(a_report(resources=some_resources(uuid="another-uuid")))
    explained = manage.json("node", "explain", NODE)
    assert explained["broken"] is None
    assert explained["conflicts"] == ["another-uuid"]
    assert explained["reserve_too_large"] == ["reserved_host_memory_mb 512 > memory_mb 100"]


def test_node_that_is_not_tracked_is_named(engine: sa.Engine, manage: Manage) -> None:
    for arguments in (["explain"], ["verify"]):
        assert "'nobody' is not tracked" in manage.complaint("node", *arguments, "nobody")


def test_verified_node_has_no_difference(full: LaneBench, manage: Manage) -> None:
    assert manage.json("node", "verify", NODE) == {"nodes": 1, "differences": []}
    assert "0 of 1 nodes have differences" in manage.err


def test_wrong_and_unreadable_rows_are_found(
    full: LaneBench, manage: Manage, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(every_node, "NODES_AT_ONCE", 2)
    full.track(OTHER_NODE, "node-3", "node-4", "node-5")
    with engine.begin() as connection:
        connection.execute(sa.update(CLAIMS).where(CLAIMS.c.instance_uuid == INSTANCE).values(vcpus=3))
        broken = sa.update(NODES).where(NODES.c.name == "node-3").values(resources={"vcpus": "many"})
        connection.execute(broken)
        connection.exec_driver_sql("UPDATE nodes SET resources = '{' WHERE name = 'node-4'")
    assert manage.run("node", "verify", "--all") == 1
    assert "3 of 5 nodes have differences" in manage.err
    assert "vcpus_used" in manage.out
    assert "not valid JSON" in manage.out
    assert manage.run("node", "verify", OTHER_NODE) == 0
    assert manage.run("node", "verify", "node-3", "--format", "json") == 1


def test_verify_needs_a_node_or_all(manage: Manage) -> None:
    assert manage.run("node", "verify") == 2
    assert manage.run("node", "verify", NODE, "--all") == 2


def test_all_nodes_are_verified_with_a_bar_on_a_terminal(full: LaneBench, manage: Manage) -> None:
    with on_terminal("manage", "--config-file", str(manage.file), "node", "verify", "--all") as terminal:
        shown = terminal.read_all()
        assert terminal.process.wait(60) == 0
    assert "verifying" in shown
    assert "1/1 nodes" in shown
    assert "0 of 1 nodes have differences" in shown


def test_explanation_ends_at_the_newest_events(
    full: LaneBench, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert causes(manage, "event_id") == {INSTANCE: "boot", BYSTANDER: "audited"}
    assert manage.err == ""
    monkeypatch.setattr(explain, "MOST_EVENTS", 1)
    assert causes(manage, "event_id") == {INSTANCE: None, BYSTANDER: "audited"}
    assert "of which the newest 1 are read" in manage.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "explain", NODE],
        ["node", "history", NODE],
        ["node", "history", NODE, "--at", "1"],
        ["node", "verify", "--all"],
        ["node", "fit", "--all", "--flavor", '{"vcpus": 1, "memory_mb": 1, "root_gb": 1}'],
        ["instance", "show", INSTANCE],
        ["device", "show", "d1"],
    ],
)
def test_number_of_statements_does_not_grow_with_claims_and_nodes(
    full: LaneBench, manage: Manage, arguments: list[str]
) -> None:
    def statements() -> int:
        with watched(sa.Engine) as seen:
            assert manage.run(*arguments) == 0
        return len(seen)

    before = statements()
    full.track(*(f"node-{number}" for number in range(2, 60)))
    for number in range(200):
        full.deliver(command("instance_claim", instance=an_instance(f"instance-{number}", a_flavor(0, 1, 0))))
    full.run()
    assert statements() <= before
