# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage node history: changes, filters, the node at an earlier time, differences."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    MOVE,
    NODE,
    a_flavor,
    a_report,
    an_instance,
    args_of,
    command,
    some_resources,
)
from tests.functional.lanes import NOW, LaneBench
from tests.functional.manage import Manage
from tests.topologies import DEDICATED, PAGES, a_host, host_resources
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import CLAIMS, NODES, RECEIPTS
from tracker_worker.domain.objects import Limits

REQUEST = "req-11111111-1111-4111-8111-111111111111"
SMALL = {"vcpus": 2, "memory_mb": 2048, "disk_mb": 20480}


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def history(bench: LaneBench) -> LaneBench:
    """Seven events, an hour apart: tracked, booted, refused, moved away, confirmed, audited, grown."""
    bench.deliver(a_report(), "tracked")
    boot = args_of(command("instance_claim", instance=an_instance(), event_id="boot"))
    bench.deliver_body(encode("instance_claim", boot, request_id=REQUEST))
    large = an_instance(BYSTANDER, a_flavor(memory_mb=32768))
    bench.deliver(command("instance_claim", instance=large, limits=Limits(memory_mb=16384)), "refused")
    bench.deliver(command("start_move", instance_uuid=INSTANCE, migration_uuid=MOVE), "moved")
    bench.deliver(
        command("drop_move_claim_at_source", instance_uuid=INSTANCE, migration_uuid=MOVE), "confirmed"
    )
    bench.deliver(a_report([an_instance(BYSTANDER)], []), "audited")
    bench.deliver(a_report(resources=some_resources(vcpus=16)), "grown")
    bench.run()
    events = ("tracked", "boot", "refused", "moved", "confirmed", "audited", "grown")
    for hour, event_id in enumerate(events):
        bench.date(NOW + timedelta(hours=hour), event_id)
    return bench


def damage(engine: sa.Engine, event_id: str, column: str, value: str) -> None:
    """Write a text into a column of a receipt, past the types of the table."""
    with engine.begin() as connection:
        text = sa.text(f"UPDATE receipts SET {column} = :value WHERE event_id = :event_id")  # noqa: S608
        connection.execute(text, {"value": value, "event_id": event_id})


def test_each_event_has_its_changes_and_the_usage_after_it(history: LaneBench, manage: Manage) -> None:
    entries = manage.json("node", "history", NODE)
    used = [tuple(entry["used"].values()) for entry in entries]
    assert used == [
        (0, 512, 0),
        (2, 2560, 20480),
        (2, 2560, 20480),
        (2, 2560, 20480),
        (0, 512, 0),
        (2, 2560, 20480),
        (2, 2560, 20480),
    ]
    (booted,) = entries[1]["changes"]
    assert booted == {
        "action": "added",
        "instance_uuid": INSTANCE,
        "role": "instance",
        "reason": None,
        **SMALL,
        "old": None,
        "new": SMALL,
    }
    assert entries[1]["request_id"] == REQUEST
    assert (entries[2]["outcome"], entries[2]["changes"]) == ("refused", [])
    assert [(each["action"], each["role"]) for each in entries[3]["changes"]] == [
        ("released", "instance"),
        ("added", "outgoing"),
    ]
    (adopted,) = entries[5]["changes"]
    assert (adopted["instance_uuid"], adopted["reason"]) == (BYSTANDER, "instance_here")
    assert [entries[6]["totals"][when]["vcpus"] for when in ("old", "new")] == [8, 16]
    assert entries[5]["totals"] is None


def test_table_has_a_line_for_each_event(history: LaneBench, manage: Manage) -> None:
    assert manage.run("node", "history", NODE) == 0
    assert "added instance: +2 vcpus, +2048 MB, +20480 MB disk" in manage.out
    assert f"added instance of {BYSTANDER}" in manage.out
    assert "(instance_here)" in manage.out
    assert "totals 16 vcpus, 16384 MB, 100 GB disk" in manage.out


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        (["--instance", INSTANCE], ["boot", "moved", "confirmed"]),
        (["--instance", BYSTANDER], ["refused", "audited"]),
        (["--method", "update_available_resource"], ["tracked", "audited", "grown"]),
        (["--outcome", "refused"], ["refused"]),
        (["--request-id", REQUEST], ["boot"]),
        (["--since", "2026-11-22T16:00"], ["confirmed", "audited", "grown"]),
        (["--until", "2026-11-22T14:00+01:00"], ["tracked", "boot"]),
        (
            ["--since", "2026-11-22T13:00", "--until", "2026-11-22T15:00", "--limit", "2"],
            ["refused", "moved"],
        ),
    ],
)
def test_filters_select_events(
    history: LaneBench, manage: Manage, arguments: list[str], events: list[str]
) -> None:
    found = manage.json("node", "history", NODE, *arguments)
    assert [entry["event_id"] for entry in found] == events
    assert ("--limit shows more" in manage.err) == ("--limit" in arguments)


def test_ignored_event_has_its_reason(bench: LaneBench, manage: Manage) -> None:
    """Found by a newcomer: of a repeated command and of one that came too early it said only `ignored`."""
    bench.track()
    bench.send(command("abort_instance_claim", instance_uuid=INSTANCE), "again")
    bench.send(command("remove_node", host="another"), "removed")
    found = manage.json("node", "history", NODE, "--outcome", "ignored")
    assert {event["event_id"]: event["reason"] for event in found} == {
        "again": "nothing had to change",
        "removed": f"Node {NODE} belongs to host host-of-{NODE}",
    }
    assert manage.run("instance", "show", INSTANCE) == 0
    assert "nothing had to change" in manage.out


def test_node_is_shown_as_it_was(history: LaneBench, manage: Manage) -> None:
    then = manage.json("node", "history", NODE, "--at", "4")
    assert then == manage.json("node", "history", NODE, "--at", "2026-11-22T15:59")
    assert then["event"]["event_id"] == "moved"
    assert then["claims"] == [{"instance_uuid": INSTANCE, "role": "outgoing", **SMALL}]
    assert then["used"] == {"vcpus": 2, "memory_mb": 2560, "disk_mb": 20480}
    assert then["totals"]["vcpus"] == 8
    assert manage.json("node", "history", NODE, "--at", "2026-11-30")["sequence"] == 7
    assert manage.json("node", "history", NODE, "--at", "2026-11-22")["totals"] is None
    assert manage.run("node", "history", NODE, "--at", "4") == 0
    assert "2560 used of 16384" in manage.out
    assert re.search(rf"^instance_uuid +{INSTANCE}$", manage.out, re.MULTILINE)
    assert manage.run("node", "history", NODE, "--at", "0") == 0


def test_time_is_taken_as_it_is_printed_with_the_fraction_of_its_second(
    history: LaneBench, manage: Manage
) -> None:
    history.date(NOW + timedelta(hours=3, milliseconds=400), "moved")
    assert manage.run("node", "history", NODE, "--instance", INSTANCE) == 0
    (shown,) = re.findall(r" (\S+) +start_move", manage.out)
    assert shown == "2026-11-22T15:00:00Z"
    assert manage.json("node", "history", NODE, "--at", shown)["event"]["event_id"] == "moved"
    assert manage.json("node", "history", NODE, "--diff", "2", shown)["sequences"] == [2, 4]
    filtered = manage.json("node", "history", NODE, "--since", shown, "--until", shown)
    assert [entry["event_id"] for entry in filtered] == ["moved"]
    exact = filtered[0]["recorded_at"]
    assert manage.json("node", "history", NODE, "--at", exact)["event"]["event_id"] == "moved"
    before = "2026-11-22T15:00:00.399"
    assert manage.json("node", "history", NODE, "--at", before)["event"]["event_id"] == "refused"
    assert manage.run("dead-letter", "list", "--since", shown) == 0


def test_difference_of_two_points_is_shown(history: LaneBench, manage: Manage) -> None:
    found = manage.json("node", "history", NODE, "--diff", "2", "2026-11-22T19:00")
    assert found["sequences"] == [2, 7]
    assert [(each["action"], each["instance_uuid"]) for each in found["changes"]] == [
        ("released", INSTANCE),
        ("added", BYSTANDER),
    ]
    assert found["totals"]["new"]["vcpus"] == 16
    assert found["used"]["old"] == found["used"]["new"]
    back = manage.json("node", "history", NODE, "--diff", "7", "2")
    assert {each["action"] for each in back["changes"]} == {"released", "added"}
    assert back["sequences"] == [7, 2]
    assert manage.run("node", "history", NODE, "--diff", "2", "7") == 0
    assert "released" in manage.out


def test_point_beyond_what_is_kept_is_refused(history: LaneBench, manage: Manage, engine: sa.Engine) -> None:
    assert "is at sequence 7" in manage.complaint("node", "history", NODE, "--at", "8")
    with engine.begin() as connection:
        connection.execute(sa.delete(RECEIPTS).where(RECEIPTS.c.sequence < 3))
    assert manage.json("node", "history", NODE, "--at", "2")["event"] is None
    for point in ("1", "2026-11-22T13:30"):
        said = manage.complaint("node", "history", NODE, "--at", point)
        assert "known back to sequence 3, 2026-11-22T14:00:00Z" in said
    assert len(manage.json("node", "history", NODE)) == 5


def test_event_of_an_earlier_version_ends_what_is_known(
    history: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(RECEIPTS).where(RECEIPTS.c.sequence < 5).values(delta=None))
    entries = manage.json("node", "history", NODE)
    assert "what event moved changed was not recorded" in manage.err
    assert [entry["changes"] for entry in entries[:4]] == [None, None, [], None]
    assert [entry["used"] is None for entry in entries] == [True] * 3 + [False] * 4
    assert manage.json("node", "history", NODE, "--at", "4")["used"]["vcpus"] == 2
    assert "back to sequence 4" in manage.complaint("node", "history", NODE, "--at", "3")


def test_cells_of_a_topology_that_is_no_longer_reported_are_shown(bench: LaneBench, manage: Manage) -> None:
    pinned = an_instance(flavor=a_flavor(extra_specs=DEDICATED))
    bench.send(a_report(resources=host_resources(a_host(pages=PAGES))), "tracked")
    bench.send(command("instance_claim", instance=pinned), "boot")
    bench.send(a_report(), "without")
    assert manage.json("node", "history", NODE, "--at", "3")["cells"] == []
    (cell,) = manage.json("node", "history", NODE, "--at", "2")["cells"]
    assert (cell["memory_usage"], len(cell["pinned_cpus"])) == (2048, 2)
    (change,) = manage.json("node", "history", NODE, "--diff", "2", "3")["changes"]
    assert [len(change[when].get("cells", [])) for when in ("old", "new")] == [1, 0]


def test_rebuild_shows_what_it_corrected_and_ends_what_is_known(
    history: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(NODES).values(vcpus_used=5))
    assert manage.run("node", "rebuild", NODE) == 0
    *earlier, rebuilt = manage.json("node", "history", NODE)
    assert (rebuilt["method"], rebuilt["changes"], rebuilt["used"]["vcpus"]) == ("rebuild_node", [], 2)
    assert rebuilt["request_id"].startswith("manage:")
    assert "its row says that 5 vcpus" in rebuilt["reason"]
    assert "its claims add up to 2 vcpus" in rebuilt["reason"]
    assert {entry["used"] is None for entry in earlier} == {True}
    assert f"event {rebuilt['event_id']} corrected the row of the node" in manage.err
    assert manage.json("node", "history", NODE, "--at", "8")["used"]["vcpus"] == 2
    assert "its row says that 5 vcpus" in manage.complaint("node", "history", NODE, "--at", "7")
    (claim,) = manage.json("node", "explain", NODE)["claims"]
    assert claim["cause"]["event_id"] == "audited"


DAMAGES = [
    ("reply", "[]"),
    ("reply", "{}"),
    ("reply", '{"outcome": "parked"}'),
    ("reply", '{"outcome": 1}'),
    ("reply", "null"),
    ("reply", "{x"),
    ("recorded_at", "soon"),
]


@pytest.mark.parametrize(("column", "value"), DAMAGES)
def test_damaged_receipt_is_shown_with_its_fault(
    history: LaneBench, manage: Manage, engine: sa.Engine, column: str, value: str
) -> None:
    damage(engine, "moved", column, value)
    entries = manage.json("node", "history", NODE)
    assert [entry["sequence"] for entry in entries] == [1, 2, 3, 4, 5, 6, 7]
    assert entries[3]["reason"] == f"its receipt cannot be read: {column}"
    assert (entries[3]["changes"], entries[3]["used"]["vcpus"]) == (None, 2)
    assert [entry["used"] is None for entry in entries] == [True] * 3 + [False] * 4
    assert "what event moved changed is not known: its receipt cannot be read" in manage.err
    assert manage.json("node", "history", NODE, "--at", "4")["used"]["vcpus"] == 2
    for point in ("3", "2026-11-22T14:30"):
        said = manage.complaint("node", "history", NODE, "--at", point)
        assert "is known back to sequence 4" in said
        assert "cannot be read" in said
    assert manage.run("node", "history", NODE) == 0
    since = manage.json("node", "history", NODE, "--since", "2026-11-22T16:00")
    assert [entry["event_id"] for entry in since][-3:] == ["confirmed", "audited", "grown"]


@pytest.mark.parametrize(("column", "value"), DAMAGES)
def test_damaged_receipt_stops_neither_explain_nor_instance_show(
    history: LaneBench, manage: Manage, engine: sa.Engine, column: str, value: str
) -> None:
    damage(engine, "audited", column, value)
    damage(engine, "refused", column, value)
    (claim,) = manage.json("node", "explain", NODE)["claims"]
    assert claim["cause"]["since"] is None
    (refused,) = manage.json("instance", "show", BYSTANDER)["events"]
    assert refused["reason"] == f"its receipt cannot be read: {column}"


def test_rows_changed_by_hand_end_what_is_known(
    history: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(CLAIMS).values(vcpus=5))
    entries = manage.json("node", "history", NODE)
    assert "at sequence 6 the claim of instance" in manage.err
    assert [entry["used"] is None for entry in entries] == [True] * 6 + [False]
    with engine.begin() as connection:
        connection.execute(sa.delete(RECEIPTS).where(RECEIPTS.c.sequence == 7))
    assert manage.json("node", "history", NODE)[-1]["used"] is None
    assert "missing" in manage.err


def test_history_of_a_node_that_cannot_be_read_has_no_usage(
    history: LaneBench, manage: Manage, engine: sa.Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.update(NODES).values(resources={"vcpus": "many"}))
    assert {entry["used"] is None for entry in manage.json("node", "history", NODE)} == {True}
    assert "cannot be read" in manage.err


@pytest.mark.parametrize("point", ["yesterday", "-1", "1" * 30])
def test_wrong_point_is_a_wrong_command_line(manage: Manage, point: str) -> None:
    assert manage.run("node", "history", NODE, "--at", point) == 2
