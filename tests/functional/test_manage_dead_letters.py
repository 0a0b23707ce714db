# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage dead-letter: what is listed, what may be replayed, what a replay leaves behind."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    NODE,
    a_flavor,
    a_migration,
    a_report,
    an_instance,
    args_of,
    command,
    method_of,
    some_resources,
)
from tests.functional.lanes import NOW, OTHER_NODE, PARTITIONS, LaneBench, Recorded, rows
from tests.functional.manage import Manage
from tests.functional.statements import watched
from tracker_worker.cmd.manage import dead_letter_replay
from tracker_worker.cmd.manage.dead_letter_replay import Replay
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import DEAD_LETTERS, NODES
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Origin
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.purge import Purge
from tracker_worker.worker.settings import Retention

BOOT = command("instance_claim", instance=an_instance())
STOPPED = command("update_usage", instance=an_instance(vm_state="stopped"))
DELETED = command("update_usage", instance=an_instance(vm_state="deleted"))


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


def letters(bench: LaneBench) -> dict[str, dict[str, Any]]:
    return {row["event_id"]: row for row in rows(bench.engine, DEAD_LETTERS)}


def park(bench: LaneBench, event: AnyCommand, event_id: str, **args: Any) -> str:
    """Send an event where it does not belong; the id of its letter."""
    body = encode(method_of(event), args_of(event) | args | {"event_id": event_id})
    bench.deliver_body(body, partition=(partition_of(event.node, PARTITIONS) + 1) % PARTITIONS)
    bench.run()
    found = letters(bench)
    bench.date(NOW + timedelta(seconds=len(found)), event_id)
    return str(found[event_id]["id"])


def examined(bench: LaneBench, *ids: str, force: bool = False) -> tuple[list[Replay], list[str]]:
    with bench.engine.connect() as connection:
        return dead_letter_replay.examine(connection, list(ids), force=force)


def replayed(bench: LaneBench, letter_id: str, *, force: bool = False) -> Recorded:
    """Send a letter's command as the replay does, and settle it."""
    (one,), problems = examined(bench, letter_id, force=force)
    assert problems == []
    body = encode(one.method, one.args | {"node": one.node, "event_id": one.event_id})
    delivery = bench.deliver_body(body, one.node)
    bench.run()
    return delivery


def only_problem(bench: LaneBench, letter_id: str, **how: Any) -> str:
    found, (problem,) = examined(bench, letter_id, **how)
    assert found == []
    return problem


def test_letter_of_an_unknown_method_has_its_name(bench: LaneBench, manage: Manage) -> None:
    """Found by a newcomer: neither list nor show nor the text had it."""
    bench.deliver_body(encode("reboot_node", {"node": NODE}, unique_id="unknown"))
    bench.run()
    (letter,) = manage.json("dead-letter", "list")
    assert (letter["method"], letter["message"]) == ("reboot_node", "no method reboot_node in version 1.0")
    assert manage.run("dead-letter", "list") == 0
    assert "reboot_node" in manage.out
    assert manage.json("dead-letter", "show", letter["id"])["method"] == "reboot_node"
    assert manage.json("dead-letter", "summary")[0]["method"] == "reboot_node"


def test_letter_that_cannot_be_replayed_is_shown_with_the_reason(bench: LaneBench, manage: Manage) -> None:
    """Found by a newcomer: after the upgrade that the code asked for, the replay was refused."""
    bench.deliver_body(encode("reboot_node", {"node": NODE}, unique_id="unknown"))
    bench.run()
    lost, kept = letters(bench)["unknown"]["id"], park(bench, BOOT, "known")
    assert manage.run("dead-letter", "show", lost) == 0
    assert f"dead letter {lost} was not kept verbatim: it cannot be replayed; have its sender" in manage.err
    assert manage.run("dead-letter", "show", kept) == 0
    assert manage.err == ""
    assert manage.run("dead-letter", "discard", lost) == 0
    assert manage.run("dead-letter", "show", lost) == 0
    assert manage.err == ""


def test_letters_of_an_unknown_method_are_selected_by_its_name(bench: LaneBench, manage: Manage) -> None:
    """Found by a newcomer: the name that list shows was an invalid choice."""
    bench.deliver_body(encode("reboot_node", {"node": NODE}, unique_id="unknown"))
    park(bench, BOOT, "known")
    selected = ("--method", "reboot_node")
    (letter,) = manage.json("dead-letter", "list", *selected)
    assert letter["event_id"] == "unknown"
    assert [group["method"] for group in manage.json("dead-letter", "summary", *selected)] == ["reboot_node"]
    assert manage.run("dead-letter", "replay", *selected, "--dry-run") == 1
    assert "invalid choice" not in manage.err
    assert manage.json("dead-letter", "discard", *selected)
    assert [each["event_id"] for each in manage.json("dead-letter", "list")] == ["known"]


def test_the_parked_ones_are_listed_oldest_first(bench: LaneBench, manage: Manage) -> None:
    first, second = park(bench, BOOT, "first"), park(bench, DELETED, "second")
    listed = manage.json("dead-letter", "list")
    assert [letter["id"] for letter in listed] == [first, second]
    assert listed[0] == {
        "id": first,
        "recorded_at": "2026-11-22T12:00:01Z",
        "state": "parked",
        "code": "wrong_partition",
        "path": "$.node",
        "node": NODE,
        "method": "instance_claim",
        "event_id": "first",
        "message": "client and worker differ in [bus] partitions",
        "request_id": None,
        "reply_host": None,
    }
    assert [letter["id"] for letter in manage.json("dead-letter", "list", "--limit", "1")] == [second]


def test_letters_are_listed_by_node_and_by_state(bench: LaneBench, manage: Manage) -> None:
    park(bench, BOOT, "here")
    there = park(bench, command("build_failed", node=OTHER_NODE), "there")
    assert [x["id"] for x in manage.json("dead-letter", "list", "--node", OTHER_NODE)] == [there]
    assert manage.json("dead-letter", "list", "--state", "replayed") == []
    assert len(manage.json("dead-letter", "list", "--state", "all")) == 2
    assert manage.run("dead-letter", "list") == 0
    assert there in manage.out


def test_a_letter_is_shown_with_the_body_that_was_kept(bench: LaneBench, manage: Manage) -> None:
    letter = park(bench, BOOT, "boot", unheard_of="planted-secret")
    shown = manage.json("dead-letter", "show", letter)
    assert (shown["id"], shown["state"], shown["replays"]) == (letter, "parked", [])
    assert shown["body"]["args"]["instance"]["uuid"] == INSTANCE
    assert shown["body"]["args"]["unheard_of"]["type"] == "str"
    assert "planted-secret" not in manage.out
    assert manage.run("dead-letter", "show", letter) == 0
    assert INSTANCE in manage.out


def test_a_letter_that_does_not_exist_is_named(engine: sa.Engine, manage: Manage) -> None:
    assert "no dead letter nobody" in manage.complaint("dead-letter", "show", "nobody")
    assert "no dead letter nobody" in manage.complaint("dead-letter", "discard", "nobody")


def test_a_discarded_letter_is_kept_and_no_longer_parked(bench: LaneBench, manage: Manage) -> None:
    letter = park(bench, BOOT, "boot")
    assert manage.json("dead-letter", "discard", letter) == [{"id": letter, "result": "discarded"}]
    assert manage.json("dead-letter", "discard", letter) == [{"id": letter, "result": "discarded before"}]
    assert manage.json("dead-letter", "list") == []
    assert manage.json("dead-letter", "list", "--state", "discarded")[0]["id"] == letter
    assert "was discarded" in only_problem(bench, letter, force=True)


def test_without_a_broker_nothing_can_be_replayed(bench: LaneBench, manage: Manage) -> None:
    letter = park(bench, BOOT, "boot")
    assert "transport_url names no RabbitMQ" in manage.complaint("dead-letter", "replay", letter)


def test_a_replay_applies_the_command_and_settles_the_letter_in_one_transaction(
    bench: LaneBench, manage: Manage
) -> None:
    bench.track()
    letter = park(bench, BOOT, "boot")
    assert replayed(bench, letter, force=True).outcome == "granted"
    assert bench.claimed() == {(INSTANCE, "instance"): 2}
    assert letters(bench)["boot"]["state"] == "replayed"
    (settled,) = manage.json("dead-letter", "show", letter)["replays"]
    assert settled == {
        "event_id": f"{letter}.1",
        "sequence": 2,
        "method": "instance_claim",
        "outcome": "granted",
        "reason": None,
    }
    assert f"dead letter {letter} was replayed" in manage.complaint("dead-letter", "discard", letter)


@pytest.mark.parametrize(
    ("tracked", "outcome", "reason"),
    [(False, "ignored", f"Node {NODE} is not tracked"), (True, "ignored", "nothing had to change")],
)
def test_settled_replay_has_the_reason_of_its_outcome(
    bench: LaneBench, manage: Manage, tracked: bool, outcome: str, reason: str
) -> None:
    if tracked:
        bench.track()
    letter = park(bench, STOPPED, "stopped")
    assert replayed(bench, letter).outcome == outcome
    assert manage.run("dead-letter", "show", letter) == 0
    assert reason in manage.out
    (settled,) = manage.json("dead-letter", "show", letter)["replays"]
    assert (settled["outcome"], settled["reason"]) == (outcome, reason)


def test_damaged_receipt_of_a_replay_has_no_reason(
    bench: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    letter = park(bench, STOPPED, "stopped")
    replayed(bench, letter)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE receipts SET reply = '{' WHERE event_id LIKE '%.1'"))
    (settled,) = manage.json("dead-letter", "show", letter)["replays"]
    assert (settled["outcome"], settled["reason"]) == ("ignored", None)


def test_a_replay_is_the_same_event_until_it_is_settled(bench: LaneBench) -> None:
    bench.track()
    letter = park(bench, STOPPED, "stopped")
    for _ in range(3):
        (one,), _ = examined(bench, letter)
        assert (one.event_id, one.is_replayed) == (f"{letter}.1", False)
    replayed(bench, letter)
    (one,), problems = examined(bench, letter)
    assert (one.event_id, one.is_replayed, problems) == (f"{letter}.1", True, [])


def test_a_replay_that_is_parked_again_is_a_letter_of_its_own(bench: LaneBench) -> None:
    letter = park(bench, STOPPED, "stopped")
    (one,), _ = examined(bench, letter)
    body = encode(one.method, one.args | {"node": one.node, "event_id": one.event_id})
    bench.deliver_body(body, partition=(partition_of(NODE, PARTITIONS) + 1) % PARTITIONS)
    bench.run()
    states = {event_id: row["state"] for event_id, row in letters(bench).items()}
    assert states == {"stopped": "replayed", f"{letter}.1": "parked"}
    again = letters(bench)[f"{letter}.1"]["id"]
    (one,), _ = examined(bench, again)
    assert one.event_id == f"{again}.1"


def test_a_batch_without_replays_has_no_statement_for_them(bench: LaneBench) -> None:
    with watched(bench.engine) as statements:
        bench.send(command("build_failed"))
    assert not any("dead_letters" in statement.sql for statement in statements)


def test_a_letter_that_was_discarded_while_its_replay_was_under_way_is_replayed(
    bench: LaneBench, manage: Manage
) -> None:
    bench.track()
    letter = park(bench, STOPPED, "stopped")
    (one,), _ = examined(bench, letter)
    manage.json("dead-letter", "discard", letter)
    bench.deliver_body(encode(one.method, one.args | {"node": one.node, "event_id": one.event_id}))
    bench.run()
    assert letters(bench)["stopped"]["state"] == "replayed"


def test_later_events_of_the_instance_ask_for_force(bench: LaneBench) -> None:
    bench.track()
    letter = park(bench, STOPPED, "stopped")
    bench.send(DELETED, "ignored: the instance is not there")
    assert examined(bench, letter)[1] == []
    bench.send(BOOT, "booted meanwhile")
    bench.send(DELETED, "deleted meanwhile")
    problem = only_problem(bench, letter)
    assert f"instance {INSTANCE} has been changed since" in problem
    assert "instance_claim (booted meanwhile, sequence 3)" in problem
    assert "update_usage (deleted meanwhile, sequence 4)" in problem
    assert "--force" in problem
    (one,), problems = examined(bench, letter, force=True)
    assert (one.event_id, problems) == (f"{letter}.1", [])


CLAIMS: dict[str, dict[str, Any]] = {
    "instance_claim": {"instance": an_instance()},
    "resize_claim": {"instance": an_instance(), "flavor": a_flavor(), "migration": a_migration()},
    "live_migration_claim": {"instance": an_instance(), "migration": a_migration()},
    "rebuild_claim": {"instance": an_instance(), "migration": a_migration()},
    "claim_pci_devices": {"instance_uuid": INSTANCE, "pci_requests": []},
}


@pytest.mark.parametrize("method", CLAIMS)
def test_a_claim_whose_caller_was_told_that_it_is_parked_asks_for_force(
    bench: LaneBench, method: str
) -> None:
    """Whoever asked builds elsewhere by now: the claim would hold room that nobody uses."""
    bench.track()
    letter = park(bench, command(method, **CLAIMS[method]), "claim")
    problem = only_problem(bench, letter)
    assert "the caller of this claim got EventParked" in problem
    assert f"unless instance {INSTANCE} is on node {NODE}" in problem
    assert "add --force to replay it all the same, or discard it" in problem
    assert examined(bench, letter, force=True)[1] == []


def purged(bench: LaneBench, **settings: Any) -> None:
    Purge(bench.engine, Retention(**({"newest_receipts": 0} | settings)), lambda: None).run_once()


def test_a_letter_whose_receipt_was_purged_asks_for_force(bench: LaneBench) -> None:
    """It once released the claim of an instance that runs: the receipts of later events were gone, too."""
    bench.track()
    bench.send(BOOT, "used")
    bench.send(DELETED, "used")
    (letter,) = [x["id"] for x in letters(bench).values()]
    assert examined(bench, letter)[1] == []
    bench.send(BOOT, "claimed again")
    bench.send(command("build_failed"), "newest")
    bench.date(datetime(2020, 1, 1), *(bench.receipts().keys() - {"newest"}))
    purged(bench)
    assert bench.receipts().keys() == {"newest"}
    problem = only_problem(bench, letter)
    assert "its receipt has been purged, and those of later events may have been" in problem
    assert f"compare 'node show {NODE}' with the host first; add --force" in problem
    assert examined(bench, letter, force=True)[1] == []


def test_a_letter_behind_which_receipts_were_purged_asks_for_force(bench: LaneBench) -> None:
    """Its own receipt has no sequence, and is kept by its own age."""
    bench.track()
    letter = park(bench, DELETED, "deleted")
    bench.send(BOOT, "claimed")
    bench.send(command("build_failed"), "newest")
    bench.date(datetime(2020, 1, 1), *(bench.receipts().keys() - {"newest", "deleted"}))
    bench.date(datetime.now(UTC).replace(tzinfo=None), "deleted")  # The purge reads the database's clock.
    purged(bench)
    assert bench.receipts().keys() == {"deleted", "newest"}
    assert "receipts of later events may have been purged" in only_problem(bench, letter)


def test_a_letter_before_whose_place_receipts_were_purged_does_not(bench: LaneBench) -> None:
    bench.track()
    bench.send(command("build_failed"), "old")
    letter = park(bench, DELETED, "deleted")
    bench.send(command("build_failed"), "newest")
    bench.date(datetime(2020, 1, 1), *(bench.receipts().keys() - {"newest", "deleted"}))
    bench.date(datetime.now(UTC).replace(tzinfo=None), "deleted")  # The purge reads the database's clock.
    purged(bench)
    assert bench.receipts().keys() == {"deleted", "newest"}
    assert examined(bench, letter)[1] == []


def test_a_letter_of_a_node_that_began_again_asks_for_force(bench: LaneBench) -> None:
    bench.track()
    bench.send(command("build_failed"))
    letter = park(bench, DELETED, "deleted")
    with bench.engine.begin() as connection:
        connection.execute(sa.update(NODES).values(sequence=1))
    assert "receipts of later events may have been purged" in only_problem(bench, letter)


def test_a_letter_from_before_sequences_were_kept_asks_for_force(bench: LaneBench) -> None:
    bench.track()
    letter = park(bench, DELETED, "deleted")
    with bench.engine.begin() as connection:
        connection.execute(sa.update(DEAD_LETTERS).values(sequence=None))
    assert "it is unknown which events came after it" in only_problem(bench, letter)


def test_a_clock_that_was_set_back_hides_no_later_event(bench: LaneBench) -> None:
    bench.track()
    letter = park(bench, DELETED, "deleted")
    bench.send(BOOT, "claimed")
    bench.date(datetime(2020, 1, 1), "claimed")
    assert "instance_claim (claimed, sequence 2)" in only_problem(bench, letter)


def test_letters_of_one_batch_go_out_in_their_order(bench: LaneBench) -> None:
    """Their times may be the same."""
    bench.track()
    for number in range(20):
        body = encode("build_failed", {"node": NODE, "event_id": f"event-{number:02}"})
        bench.deliver_body(body, partition=(partition_of(NODE, PARTITIONS) + 1) % PARTITIONS)
    bench.run()
    with bench.engine.begin() as connection:
        connection.execute(sa.update(DEAD_LETTERS).values(recorded_at=NOW))
    ids = [row["id"] for _, row in sorted(letters(bench).items())]
    assert [one.letter_id for one in examined(bench, *sorted(ids))[0]] == ids


def test_events_before_it_and_of_others_do_not(bench: LaneBench) -> None:
    bench.track(NODE, OTHER_NODE)
    bench.send(BOOT, "used")
    # Its receipt has the node's sequence, unlike those of other queues.
    bench.send(DELETED, "used")
    (letter,) = [x["id"] for x in letters(bench).values()]
    bench.send(command("instance_claim", instance=an_instance(BYSTANDER)))
    bench.send(command("instance_claim", instance=an_instance(), node=OTHER_NODE))
    assert examined(bench, letter)[1] == []


def test_a_report_is_overtaken_by_any_change_of_its_node(bench: LaneBench) -> None:
    bench.track()
    letter = park(bench, a_report(resources=some_resources(vcpus=4)), "report")
    bench.send(command("instance_claim", instance=an_instance()), "boot")
    assert f"node {NODE} has been changed since, by instance_claim (boot" in only_problem(bench, letter)


def test_the_replays_of_older_letters_do_not_overtake(bench: LaneBench) -> None:
    bench.track()
    bench.send(BOOT, "booted before")
    first, second = park(bench, STOPPED, "stopped"), park(bench, DELETED, "deleted")
    assert [one.letter_id for one in examined(bench, second, first)[0]] == [first, second]
    replayed(bench, first)
    (one, two), problems = examined(bench, first, second)
    assert (one.is_replayed, two.is_replayed, problems) == (True, False, [])
    replayed(bench, second)
    assert bench.claimed() == {}


def test_a_younger_letter_does_overtake(bench: LaneBench) -> None:
    bench.track()
    bench.send(BOOT, "booted before")
    first, second = park(bench, STOPPED, "stopped"), park(bench, DELETED, "deleted")
    replayed(bench, second)
    assert f"{second}.1" in only_problem(bench, first)


def test_a_report_goes_out_as_it_came(bench: LaneBench) -> None:
    resources = some_resources(cpu_info={"features": ["sse"]}, stats={"type": "x", "uptime": 1})
    letter = park(bench, a_report(resources=resources), "report")
    (one,), _ = examined(bench, letter)
    assert one.args == {"origin": None, "resources": msgspec.to_builtins(resources)}


def test_origin_and_as_of_of_an_audit_go_out_again(bench: LaneBench) -> None:
    audit = a_report([], [], as_of=7, origin=Origin("a client", 9))
    letter = park(bench, audit, "audit")
    (one,), _ = examined(bench, letter)
    assert one.args["as_of"] == 7
    assert one.args["origin"] == {"source": "a client", "sequence": 9}


def test_what_was_not_kept_verbatim_is_refused(bench: LaneBench) -> None:
    bench.deliver_body(b"not JSON")
    bench.run()
    bench.deliver_body(encode("reboot_node", {"node": NODE}, unique_id="unknown method"))
    park(bench, BOOT, "unknown field", unheard_of=1)
    large = some_resources(stats={str(number): "x" * 1000 for number in range(100)})
    park(bench, a_report(resources=large), "large")
    found = letters(bench)
    assert len(found) == 4
    for letter in found.values():
        assert "was not kept verbatim: it cannot be replayed" in only_problem(bench, letter["id"])


def test_what_no_rule_reads_need_not_be_kept(bench: LaneBench) -> None:
    instance = msgspec.to_builtins(an_instance())
    instance["flavor"]["extra_specs"] = {"vendor:secret": "planted", "hw:cpu_policy": "shared"}
    letter = park(bench, BOOT, "boot", instance=instance)
    (one,), _ = examined(bench, letter, force=True)
    assert one.args["instance"]["flavor"]["extra_specs"] == {"hw:cpu_policy": "shared"}


def test_what_is_no_valid_command_is_refused(bench: LaneBench) -> None:
    letter = park(bench, BOOT, "bad", decided="perhaps")
    assert "is no valid command (wrong_type at $.decided)" in only_problem(bench, letter)


def test_a_question_is_refused(bench: LaneBench) -> None:
    letter = park(bench, command("get_node"), "asked")
    assert "is a question" in only_problem(bench, letter)


def test_each_problem_is_named_and_none_is_published(bench: LaneBench) -> None:
    good = park(bench, STOPPED, "good")
    found, problems = examined(bench, good, "nobody", "nobody", good)
    assert [one.letter_id for one in found] == [good]
    assert problems == ["there is no dead letter nobody: 'dead-letter list --state all' lists the ids"]
