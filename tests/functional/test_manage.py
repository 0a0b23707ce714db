# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage: the command line, the database, the nodes."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import tracker_worker
from tests.builders import INSTANCE, NODE, a_flavor, a_report, an_instance, command, some_resources
from tests.functional.lanes import NOW, OTHER_NODE, PARTITIONS, LaneBench
from tests.functional.manage import Manage
from tracker_worker.cmd.database import database_file
from tracker_worker.core.envelope import encode
from tracker_worker.core.quarantine import Attempts
from tracker_worker.db import attempts, retention, revisions
from tracker_worker.db.tables import ATTEMPTS
from tracker_worker.domain.objects import Limits, Origin
from tracker_worker.domain.partitions import partition_of

ROOT = Path(tracker_worker.__file__).parents[1]
PROGRAM = "import sys; from tracker_worker.cmd.manage import main; sys.exit(main())"


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def a_node(engine: sa.Engine, bench: LaneBench) -> LaneBench:
    """A node with one instance; the fixture's bench settles more."""
    bench.track()
    bench.send(command("instance_claim", instance=an_instance()), "boot")
    return bench


def test_the_program_prints_one_document_and_nothing_else(a_node: LaneBench, manage: Manage) -> None:
    arguments = ["--config-file", str(manage.file), "node", "list", "--format", "json"]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("[")
    assert f'"name": "{NODE}"' in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["node"],
        ["node", "show"],
        ["db", "purge", "--days", "0"],
        ["db", "purge", "--days", "3651"],
        ["dead-letter", "list", "--limit", "many"],
        ["dead-letter", "list", "--state", "lost"],
        ["queues", "list", "--format", "xml"],
    ],
)
def test_a_wrong_command_line_is_2(manage: Manage, arguments: list[str]) -> None:
    assert manage.run(*arguments) == 2
    assert "usage:" in manage.err
    assert manage.out == ""


def test_a_configuration_file_that_is_missing_is_named(manage: Manage) -> None:
    manage.file.unlink()
    assert "manage.conf" in manage.complaint("node", "list")


def test_a_wrong_option_is_named(manage: Manage) -> None:
    manage.configure("[tracker]\nreceipt_days = 0\n")
    assert "receipt_days" in manage.complaint("db", "purge")


@pytest.mark.parametrize("arguments", [["queues", "list"], ["queues", "declare"]])
def test_without_a_broker_there_are_no_queues(
    engine: sa.Engine, manage: Manage, arguments: list[str]
) -> None:
    assert "transport_url names no RabbitMQ" in manage.complaint(*arguments)


def test_a_database_that_is_missing_is_named_and_not_made(manage: Manage, tmp_path: Path) -> None:
    said = manage.complaint("node", "list")
    assert str(database_file(tmp_path)) in said
    assert "db sync" in said
    assert not database_file(tmp_path).exists()


def test_a_database_that_cannot_be_used_is_named_without_its_password(manage: Manage) -> None:
    url = "postgresql+psycopg://tracker:planted-secret@127.0.0.1:1/tracker"
    manage.configure(f"[database]\nconnection = {url}\n")
    said = manage.complaint("node", "list")
    assert "[database] connection" in said
    assert "planted-secret" not in said


def test_a_schema_is_made_and_brought_up_to_date(manage: Manage, tmp_path: Path) -> None:
    head = revisions.head()
    connection = f"sqlite:///{tmp_path}/tracker-worker.sqlite"
    assert manage.json("db", "sync", "--version", "0001") == {
        "connection": connection,
        "before": None,
        "database": "0001",
        "code": head,
    }
    version = {"connection": connection, "database": "0001", "code": head}
    assert manage.json("db", "version") == version
    said = manage.complaint("node", "list")
    assert "0001" in said
    assert "db sync" in said
    assert manage.json("db", "sync")["database"] == head
    assert manage.json("db", "sync")["before"] == head
    assert manage.json("node", "list") == []


def test_a_revision_that_does_not_exist_is_named(manage: Manage) -> None:
    assert "'0000'" in manage.complaint("db", "sync", "--version", "0000")


def test_a_purge_can_be_tried_first(bench: LaneBench, engine: sa.Engine, manage: Manage) -> None:
    """The newest 1,000 receipts of a node stay: the old ones here are of no node, and of a removed one."""
    with engine.connect() as connection:
        now = retention.now(connection)
    for age, event_id in ((9, "old"), (3, "young"), (0, "new")):
        bench.deliver_body(encode("get_node", {"event_id": event_id}))
        bench.run()
        bench.date(now - timedelta(days=age), event_id)
    bench.send(a_report(), "tracked")
    bench.send(command("remove_node", force=True), "removed")
    bench.date(datetime(2020, 1, 1), "tracked", "removed")
    with engine.begin() as connection:
        attempts.record(connection, {"gone": Attempts(1)})
        connection.execute(sa.update(ATTEMPTS).values(counted_at=datetime(2020, 1, 1)))
    expected = {"receipts": 3, "dead_letters": 0, "nodes": 1, "attempts": 1, "days": 7}
    assert manage.json("db", "purge", "--dry-run") == expected | {"dry_run": True}
    assert bench.receipts().keys() == {"old", "young", "new", "tracked", "removed"}
    assert manage.json("db", "purge") == expected | {"dry_run": False}
    assert bench.receipts().keys() == {"young", "new"}
    assert manage.json("db", "purge", "--days", "2")["receipts"] == 1


def test_nodes_are_listed_with_what_is_used_and_what_is_there(a_node: LaneBench, manage: Manage) -> None:
    a_node.track(OTHER_NODE)
    a_node.send(command("set_service_status", node=OTHER_NODE, disabled=True))
    first, second = manage.json("node", "list")
    assert datetime.fromisoformat(first.pop("last_event")) > datetime(2026, 1, 1, tzinfo=UTC)
    assert first == {
        "name": NODE,
        "host": f"host-of-{NODE}",
        "uuid": f"uuid-of-{NODE}",
        "vcpus": 8,
        "vcpus_used": 2,
        "memory_mb": 16384,
        "memory_mb_used": 512 + 2048,
        "local_gb": 100,
        "local_gb_used": 20,
        "running_vms": 1,
        "disabled": False,
        "conflicts": [],
        "broken": False,
        "reserve_too_large": [],
        "fullness": 0.2,
    }
    assert (second["name"], second["disabled"], second["running_vms"]) == (OTHER_NODE, True, 0)


def test_a_list_for_people_has_the_same_in_words(a_node: LaneBench, manage: Manage) -> None:
    assert manage.run("node", "list") == 0
    assert "2560/16384" in manage.out
    assert f"host-of-{NODE}" in manage.out


def test_a_removed_node_is_not_listed(bench: LaneBench, manage: Manage) -> None:
    bench.track()
    bench.send(command("remove_node"))
    assert manage.json("node", "list") == []


def test_a_conflict_is_listed_with_the_node_that_it_is_about(a_node: LaneBench, manage: Manage) -> None:
    a_node.send(a_report(resources=some_resources(uuid="another-uuid")))
    (listed,) = manage.json("node", "list")
    assert listed["conflicts"] == ["another-uuid"]


def test_a_conflict_of_a_name_that_is_not_tracked_is_listed_too(a_node: LaneBench, manage: Manage) -> None:
    a_node.send(a_report(node=OTHER_NODE, resources=some_resources(uuid=f"uuid-of-{NODE}")))
    _, listed = manage.json("node", "list")
    assert listed["name"] == OTHER_NODE
    assert listed["conflicts"] == [f"uuid-of-{NODE}"]
    assert (listed["uuid"], listed["host"], listed["vcpus"]) == (None, None, None)
    assert manage.run("node", "list", "--columns", "name,conflicts") == 0
    assert f"uuid-of-{NODE}" in manage.out


def test_conflict_is_gone_from_the_list_after_a_startup_of_the_right_host(
    a_node: LaneBench, manage: Manage
) -> None:
    """An audit that changes nothing else, and so leaves no receipt."""
    a_node.send(a_report(resources=some_resources(uuid="another-uuid")))
    own = some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}")
    audit = a_report([an_instance()], resources=own, startup=True, origin=Origin("c", 2), as_of=2)
    assert a_node.send(audit).outcome == "ignored"
    (listed,) = manage.json("node", "list")
    assert (listed["conflicts"], listed["running_vms"]) == ([], 1)


def test_node_list_flags_each_node_that_needs_an_operator(bench: LaneBench, manage: Manage) -> None:
    bench.track(NODE)
    bench.send(a_report(resources=some_resources(uuid="another-uuid")))
    small = some_resources(uuid="small", memory_mb=100, reserved_host_cpus=9)
    bench.send(a_report(node=OTHER_NODE, resources=small))
    first, second = manage.json("node", "list", "--broken")
    texts = ["reserved_host_cpus 9 > vcpus 8", "reserved_host_memory_mb 512 > memory_mb 100"]
    assert (first["reserve_too_large"], second["reserve_too_large"]) == ([], texts)
    assert manage.run("node", "list", "--broken", "--columns", "name,flags") == 0
    assert [line.split() for line in manage.out.splitlines()[1:]] == [
        [NODE, "conflict"],
        [OTHER_NODE, "reserve"],
    ]


def test_a_node_is_shown_as_get_node_answers(a_node: LaneBench, manage: Manage) -> None:
    answer = a_node.send(command("get_node")).answer
    assert manage.json("node", "show", NODE) == answer
    assert list(answer) == list(manage.json("node", "show", NODE))


def test_a_node_is_shown_to_people_with_its_claims(a_node: LaneBench, manage: Manage) -> None:
    assert manage.run("node", "show", NODE) == 0
    assert INSTANCE in manage.out
    assert "2560 used of 16384" in manage.out


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("subcommand", ["show", "explain"])
def test_node_whose_reserve_exceeds_it_is_shown_with_a_warning(
    bench: LaneBench, manage: Manage, form: str, subcommand: str
) -> None:
    bench.send(a_report(resources=some_resources(memory_mb=100)))
    assert manage.run("node", subcommand, NODE, "--format", form) == 0
    assert "the reserve exceeds the node: reserved_host_memory_mb 512 > memory_mb 100" in manage.err


@pytest.mark.parametrize("subcommand", ["show", "explain"])
def test_node_in_conflict_is_shown_with_where_to_find_both_uuids(
    a_node: LaneBench, manage: Manage, subcommand: str
) -> None:
    a_node.send(a_report(resources=some_resources(uuid="another-uuid", host="host-9")))
    assert manage.run("node", subcommand, NODE) == 0
    assert "reports with uuid another-uuid were refused" in manage.err
    command = "node history node-1 --outcome refused"
    assert command in manage.err
    (refused,) = manage.json(*command.split())
    for part in ("host-9", "another-uuid", f"host-of-{NODE}", f"uuid-of-{NODE}"):
        assert part in refused["reason"]


@pytest.mark.parametrize("subcommand", ["show", "explain", "verify", "remove"])
def test_name_that_only_has_conflicts_is_told_from_an_unknown_one(
    a_node: LaneBench, manage: Manage, subcommand: str
) -> None:
    a_node.send(a_report(node=OTHER_NODE, resources=some_resources(uuid=f"uuid-of-{NODE}")))
    complaint = manage.complaint("node", subcommand, OTHER_NODE)
    assert f"'{OTHER_NODE}' is not tracked: reports with uuid uuid-of-{NODE} were refused" in complaint


def test_a_node_that_is_not_tracked_is_named(engine: sa.Engine, manage: Manage) -> None:
    assert "'nobody' is not tracked" in manage.complaint("node", "show", "nobody")


def test_names_from_outside_cannot_steer_a_terminal(bench: LaneBench, manage: Manage) -> None:
    name = "[red]node[/red]"
    bench.track(name)
    assert manage.run("node", "list") == 0
    assert name in manage.out


STEERING = "\x1b[2J \x9b31m \u202e \u200b \n [red]"
ESCAPED = "\\x1b[2J \\x9b31m \\u202e \\u200b \\n [red]"


def test_texts_of_a_driver_are_shown_escaped(bench: LaneBench, manage: Manage) -> None:
    """A driver's stats and a tenant's image may have any character: none drives a terminal."""
    stats = {"about": STEERING, "\u202e[red]key": 1}
    bench.send(a_report(resources=some_resources(stats=stats)))
    bench.send(command("instance_claim", instance=an_instance(os_type="li\u202enux")))
    assert manage.run("node", "show", NODE) == 0
    assert (
        ESCAPED in manage.out and "\\u202e[red]key" in manage.out and "num_os_type_li\\u202enux" in manage.out
    )
    assert not set(manage.out) & set("\x1b\x9b\u202e\u200b")
    assert manage.json("node", "show", NODE)["stats"]["about"] == STEERING
    assert not set(manage.out) & set("\x1b\x9b\u202e\u200b")


def test_the_kept_body_of_a_letter_is_shown_escaped(bench: LaneBench, manage: Manage) -> None:
    bench.deliver_body(encode("instance_claim", {"node": "a\u202eb", "event_id": "odd"}))
    bench.run()
    (letter,) = manage.json("dead-letter", "list")
    assert (letter["node"], letter["path"]) == (None, "$.node")
    assert manage.run("dead-letter", "show", letter["id"]) == 0
    assert '"node": "a\\u202eb"' in manage.out and "\u202e" not in manage.out


def test_a_name_that_was_mistyped_is_named_escaped(engine: sa.Engine, manage: Manage) -> None:
    complaint = manage.complaint("node", "show", "a\x9b31m\u202e")
    assert complaint.startswith("node 'a\\x9b31m\\u202e' is not tracked")


def test_node_remove_shows_the_claims_and_needs_force(a_node: LaneBench, manage: Manage) -> None:
    assert manage.run("node", "remove", NODE, "--format", "json") == 1
    shown = json.loads(manage.out)
    assert (shown["name"], shown["host"], shown["event_id"]) == (NODE, f"host-of-{NODE}", None)
    assert [claim["instance_uuid"] for claim in shown["claims"]] == [INSTANCE]
    assert f"node '{NODE}' has 1 claims and is not removed: with --force" in manage.err
    assert manage.run("node", "remove", NODE) == 1
    assert INSTANCE[:8] in manage.out


def test_node_remove_leaves_the_node_of_another_host(a_node: LaneBench, manage: Manage) -> None:
    said = manage.complaint("node", "remove", NODE, "--force", "--host", "elsewhere")
    assert said == f"node '{NODE}' belongs to host 'host-of-{NODE}': it is not removed"


def test_node_remove_needs_a_tracked_node_and_a_broker(a_node: LaneBench, manage: Manage) -> None:
    assert "node 'other' is not tracked" in manage.complaint("node", "remove", "other", "--force")
    assert "this command needs a broker" in manage.complaint("node", "remove", NODE, "--force")


def test_the_history_has_every_event_in_order(a_node: LaneBench, manage: Manage) -> None:
    big = an_instance("big", a_flavor(memory_mb=99999))
    a_node.send(command("instance_claim", instance=big, limits=Limits(memory_mb=16384)), "too-big")
    wrong = (partition_of(NODE, PARTITIONS) + 1) % PARTITIONS
    body = encode("build_failed", {"node": NODE, "event_id": "astray"})
    a_node.deliver_body(body, partition=wrong)
    a_node.run()
    a_node.send(command("build_failed"), "last")
    a_node.date(NOW, *a_node.receipts())
    for seconds, event_id in enumerate(("boot", "too-big", "astray", "last")):
        a_node.date(NOW + timedelta(seconds=seconds), event_id)
    history = manage.json("node", "history", NODE)
    assert [entry["event_id"] for entry in history][1:] == ["boot", "too-big", "astray", "last"]
    assert [entry["sequence"] for entry in history] == [1, 2, 3, None, 4]
    boot, big, astray, last = history[1:]
    assert (boot["outcome"], boot["instance_uuid"]) == ("granted", INSTANCE)
    assert (big["outcome"], "Free memory" in big["reason"]) == ("refused", True)
    assert (astray["outcome"], "wrong_partition" in astray["reason"]) == ("parked", True)
    assert last["recorded_at"] == "2026-11-22T12:00:03Z"
    assert manage.run("node", "history", NODE) == 0
    assert "2026-11-22T12:00:03Z" in manage.out
    assert manage.json("node", "history", NODE, "--limit", "2") == [astray, last]


def test_a_clock_of_the_database_that_was_set_back_does_not_change_the_order(
    a_node: LaneBench, manage: Manage
) -> None:
    a_node.send(command("build_failed"), "by a slow clock")
    a_node.date(NOW - timedelta(minutes=5), "by a slow clock")
    assert [entry["sequence"] for entry in manage.json("node", "history", NODE)] == [1, 2, 3]


def test_a_node_without_history_is_named(engine: sa.Engine, manage: Manage) -> None:
    assert "'nobody' has no receipts" in manage.complaint("node", "history", "nobody")
