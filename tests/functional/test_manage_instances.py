# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage instance show and device show."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import BYSTANDER, INSTANCE, MOVE, NODE, a_report, an_instance, args_of, command
from tests.functional.lanes import OTHER_NODE, PARTITIONS, LaneBench, rows
from tests.functional.manage import Manage
from tests.functional.statements import watched
from tests.topologies import a_card, a_device, a_port, host_resources
from tracker_worker.core.envelope import encode
from tracker_worker.db import receipt_queries
from tracker_worker.db.tables import NODES, RECEIPTS
from tracker_worker.domain.partitions import partition_of

REQUEST = "req-11111111-1111-4111-8111-111111111111"


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def moved(bench: LaneBench) -> LaneBench:
    """An instance with a virtual function that moves from one node to another, and was adopted by a third."""
    for number, node in enumerate((NODE, OTHER_NODE, "node-3")):
        resources = host_resources(None, [*a_card(), a_device("0000:81:00.0")], uuid=f"uuid-{number}")
        bench.deliver(a_report(node=node, resources=resources), f"tracked-{number}")
    instance = an_instance(pci_requests=[a_port()])
    boot = args_of(command("instance_claim", instance=instance, event_id="boot"))
    bench.deliver_body(encode("instance_claim", boot, request_id=REQUEST))
    bench.deliver(command("start_move", instance_uuid=INSTANCE, migration_uuid=MOVE), "started")
    bench.deliver(command("finish_move", node=OTHER_NODE, instance=instance, migration_uuid=MOVE), "finished")
    resources = host_resources(None, [*a_card(), a_device("0000:81:00.0")], uuid="uuid-2")
    both = [an_instance(), an_instance(BYSTANDER)]
    bench.deliver(a_report(both, [], node="node-3", resources=resources), "adopted")
    bench.run()
    return bench


def test_instance_has_its_claims_and_events_on_all_nodes(moved: LaneBench, manage: Manage) -> None:
    found = manage.json("instance", "show", INSTANCE)
    assert [(claim["node"], claim["role"]) for claim in found["claims"]] == [
        (NODE, "outgoing"),
        (OTHER_NODE, "instance"),
        ("node-3", "instance"),
    ]
    assert found["claims"][0]["devices"] == ["vf2"]
    assert {event["event_id"] for event in found["events"]} == {"boot", "started", "finished", "adopted"}
    adopted = next(event for event in found["events"] if event["event_id"] == "adopted")
    assert [change["instance_uuid"] for change in adopted["changes"]] == [INSTANCE]
    assert found["dead_letters"] == []
    assert manage.run("instance", "show", INSTANCE) == 0
    assert "devices +vf2" in manage.out


def test_instance_has_its_dead_letters(moved: LaneBench, manage: Manage) -> None:
    args = args_of(command("update_usage", instance=an_instance(), event_id="astray"))
    wrong = (partition_of(NODE, PARTITIONS) + 1) % PARTITIONS
    moved.deliver_body(encode("update_usage", args, request_id=REQUEST), partition=wrong)
    moved.run()
    (letter,) = manage.json("instance", "show", INSTANCE)["dead_letters"]
    assert (letter["code"], letter["request_id"]) == ("wrong_partition", REQUEST)
    assert manage.run("instance", "show", INSTANCE) == 0
    assert "Dead letters" in manage.out


def test_events_of_an_instance_are_limited(moved: LaneBench, manage: Manage) -> None:
    assert len(manage.json("instance", "show", INSTANCE, "--limit", "2")["events"]) == 2
    assert "--limit shows more" in manage.err


def test_receipts_are_read_in_parts_that_no_statement_exceeds(
    moved: LaneBench, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = manage.json("instance", "show", INSTANCE)
    monkeypatch.setattr(receipt_queries, "RECEIPTS_AT_ONCE", 2)
    with watched(sa.Engine) as seen:
        assert manage.json("instance", "show", INSTANCE) == found
    reading = [each for each in seen if "FROM receipts" in each.sql and "LIKE" in each.sql]
    assert len(reading) == len(rows(moved.engine, RECEIPTS)) // 2 + 1
    assert all("receipts.event_id <= " in each.sql for each in reading[:-1])


@pytest.mark.parametrize("uuid", ["nobody", "%", "_", "a\u202eb"])
def test_instance_that_nothing_is_kept_of_is_named(moved: LaneBench, manage: Manage, uuid: str) -> None:
    said = manage.complaint("instance", "show", uuid)
    assert said.startswith("no claim, event or dead letter of instance")
    assert "\u202e" not in said


def test_device_has_its_holder_and_origin(moved: LaneBench, manage: Manage) -> None:
    (held,) = manage.json("device", "show", "vf2", "--node", NODE)
    assert (held["status"], held["instance_uuid"], held["role"]) == ("allocated", INSTANCE, "outgoing")
    assert (held["event_id"], held["method"], held["request_id"]) == ("boot", "instance_claim", REQUEST)
    assert held["since"] is not None
    assert held["device"] == "8086:1572 type-VF"


def test_device_is_found_on_all_nodes(moved: LaneBench, manage: Manage) -> None:
    found = manage.json("device", "show", "vf2")
    assert [(each["node"], each["status"]) for each in found] == [
        (NODE, "allocated"),
        (OTHER_NODE, "available"),
        ("node-3", "available"),
    ]
    assert manage.run("device", "show", "0000:81:00.0") == 0
    assert manage.out.count("available") == 3


def test_device_that_is_excluded_names_what_excludes_it(moved: LaneBench, manage: Manage) -> None:
    (card,) = manage.json("device", "show", "pf", "--node", NODE)
    assert (card["status"], card["excluded_by"], card["since"]) == ("unavailable", ["vf2"], None)


def test_origin_of_a_device_that_is_not_kept_is_not_guessed(
    moved: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.delete(RECEIPTS).where(RECEIPTS.c.event_id == "boot"))
    (held,) = manage.json("device", "show", "vf2", "--node", NODE)
    assert (held["instance_uuid"], held["since"], held["event_id"]) == (INSTANCE, None, None)


def test_device_that_no_node_has_is_named(moved: LaneBench, manage: Manage, engine: sa.Engine) -> None:
    assert "'d9' is neither reported nor held on any tracked node" in manage.complaint("device", "show", "d9")
    assert f"on node '{NODE}'" in manage.complaint("device", "show", "d9", "--node", NODE)
    with engine.begin() as connection:
        broken = sa.update(NODES).where(NODES.c.name == NODE).values(resources={"vcpus": "many"})
        connection.execute(broken)
    assert len(manage.json("device", "show", "vf2")) == 2
    assert f"'{NODE}' is left out" in manage.err
