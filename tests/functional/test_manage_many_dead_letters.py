# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage dead-letter, for many letters at once: filters, counts, the results of a long run."""

import json
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_config import cfg

from tests.builders import NODE, an_instance, args_of, command, method_of
from tests.functional.lanes import NOW, OTHER_NODE, PARTITIONS, LaneBench
from tests.functional.manage import Manage
from tests.functional.statements import watched
from tracker_worker import exceptions
from tracker_worker.cmd.manage import dead_letter_replay
from tracker_worker.cmd.manage.dead_letter_replay import Replay
from tracker_worker.core.envelope import encode
from tracker_worker.core.times import TIME_FORMS
from tracker_worker.db import dead_letter_queries, dead_letters
from tracker_worker.db.dead_letter_queries import Wanted
from tracker_worker.db.tables import DEAD_LETTERS
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.partitions import partition_of

WRONG = "wrong_partition"
FAILED = command("build_failed")


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


Park = Callable[..., None]


@pytest.fixture
def park(bench: LaneBench) -> Park:
    """Sends events where they do not belong, all in one batch."""

    def parked(*events: AnyCommand, **envelope: Any) -> None:
        for number, event in enumerate(events):
            args = args_of(event) | {"event_id": f"{method_of(event)}-{event.node}-{number}"}
            partition = (partition_of(event.node, PARTITIONS) + 1) % PARTITIONS
            bench.deliver_body(encode(method_of(event), args, **envelope), partition=partition)
        bench.run()

    return parked


def ids(bench: LaneBench, **where: Any) -> list[str]:
    return [r["id"] for r in bench.rows(DEAD_LETTERS) if all(r[key] == value for key, value in where.items())]


def states(bench: LaneBench) -> dict[str, int]:
    found = [row["state"] for row in bench.rows(DEAD_LETTERS)]
    return {state: found.count(state) for state in set(found)}


class Published:
    """Takes what is replayed to the lane, as the bus does; the worker settles at once, or at the end."""

    def __init__(
        self,
        bench: LaneBench,
        *,
        wrongly: bool = False,
        fails_at: int | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.bench = bench
        self.events: list[str] = []
        self.wrongly = wrongly
        self.fails_at = fails_at
        self.error = error

    def __call__(self, one: Replay) -> None:
        if len(self.events) == self.fails_at:
            assert self.error is not None
            raise self.error
        self.events.append(one.event_id)
        partition = (partition_of(one.node, PARTITIONS) + self.wrongly) % PARTITIONS
        body = encode(one.method, one.args | {"node": one.node, "event_id": one.event_id})
        self.bench.deliver_body(body, partition=partition)
        if self.wrongly:
            self.bench.run()


def replay(
    bench: LaneBench,
    capsys: pytest.CaptureFixture[str],
    publish: Callable[[Replay], None],
    wanted: Wanted | None = None,
    **options: Any,
) -> tuple[int, dict[str, int], str]:
    """Run a replay of all that is wanted: its exit code, its results, and its standard error."""
    args = SimpleNamespace(**({"force": False, "dry_run": False, "format": "json"} | options))
    capsys.readouterr()
    code = dead_letter_replay.replay_selected(
        cfg.ConfigOpts(), args, bench.engine, wanted or Wanted("parked"), publish
    )
    out, err = capsys.readouterr()
    bench.run()
    return code, {row["result"]: row["letters"] for row in json.loads(out)}, err


# Lists.


def test_a_list_that_is_cut_says_so(park: Park, manage: Manage) -> None:
    park(*[FAILED] * 7)
    assert len(manage.json("dead-letter", "list", "--limit", "5")) == 5
    assert manage.err == "tracker-worker-manage: the newest 5 of 7 letters: --limit shows more\n"
    assert len(manage.json("dead-letter", "list", "--limit", "7")) == 7
    assert manage.err == ""


def test_a_history_that_is_cut_says_so(bench: LaneBench, manage: Manage) -> None:
    bench.track()
    for number in range(4):
        bench.send(FAILED, f"event-{number}")
    assert len(manage.json("node", "history", NODE, "--limit", "2")) == 2
    assert manage.err == "tracker-worker-manage: the newest 2 events: --limit shows more\n"


def test_letters_are_chosen_by_code_node_method_and_time(
    bench: LaneBench, park: Park, manage: Manage
) -> None:
    park(FAILED, command("build_succeeded"), command("build_failed", node=OTHER_NODE))
    bench.deliver_body(encode("build_failed", {"node": NODE, "no": 1, "event_id": "bad"}))
    bench.run()
    bench.date(NOW, *(row["event_id"] for row in bench.rows(DEAD_LETTERS)))
    bench.date(NOW + timedelta(hours=1), "bad")

    def chosen(*options: str) -> set[str]:
        return {letter["event_id"] for letter in manage.json("dead-letter", "list", *options)}

    assert chosen("--code", "unknown_argument") == {"bad"}
    assert chosen("--node", OTHER_NODE) == {f"build_failed-{OTHER_NODE}-2"}
    assert chosen("--method", "build_succeeded") == {f"build_succeeded-{NODE}-1"}
    assert chosen("--since", "2026-11-22T12:30") == {"bad"}
    assert chosen("--since", "2026-11-22T14:00+01:00") == {"bad"}
    assert chosen("--since", "2026-11-23") == set()
    assert chosen("--code", WRONG, "--node", NODE) == {f"build_failed-{NODE}-0", f"build_succeeded-{NODE}-1"}


@pytest.mark.parametrize("option", [("--code", "no_such"), ("--method", "re-boot"), ("--since", "yesterday")])
def test_what_no_letter_can_have_is_a_wrong_command_line(
    engine: sa.Engine, manage: Manage, option: tuple[str, str]
) -> None:
    assert manage.run("dead-letter", "list", *option) == 2
    assert option[1] in manage.err and "ErrorCode" not in manage.err


def test_letters_are_counted_by_code_and_method(bench: LaneBench, park: Park, manage: Manage) -> None:
    park(FAILED, FAILED, command("build_failed", node=OTHER_NODE), command("build_succeeded"))
    bench.date(NOW, *(row["event_id"] for row in bench.rows(DEAD_LETTERS)))
    bench.deliver_body(b"not JSON")
    bench.run()
    (first, *others) = manage.json("dead-letter", "summary")
    assert first == {
        "state": "parked", "code": WRONG, "method": "build_failed", "letters": 3, "nodes": 2,
        "oldest": "2026-11-22T12:00:00Z", "newest": "2026-11-22T12:00:00Z",
    }  # fmt: skip
    assert {(o["code"], o["method"], o["letters"], o["nodes"]) for o in others} == {
        (WRONG, "build_succeeded", 1, 1), ("malformed_json", None, 1, 0),
    }  # fmt: skip
    assert manage.json("dead-letter", "summary", "--state", "replayed") == []
    assert manage.run("dead-letter", "summary", "--node", OTHER_NODE) == 0
    assert "build_failed" in manage.out


def test_a_letter_has_the_request_and_the_host_of_its_sender(park: Park, manage: Manage) -> None:
    park(FAILED, request_id="req-1", unique_id="u", reply_queue="reply_compute-7:nova-compute:3")
    (letter,) = manage.json("dead-letter", "list")
    assert (letter["request_id"], letter["reply_host"]) == ("req-1", "compute-7")
    shown = manage.json("dead-letter", "show", letter["id"])
    assert (shown["request_id"], shown["reply_host"]) == ("req-1", "compute-7")


# Letters are named, or chosen.


@pytest.mark.parametrize("command_", ["discard", "replay"])
@pytest.mark.parametrize("options", [(), ("an-id", "--all"), ("an-id", "--node", NODE)])
def test_letters_are_named_or_chosen_and_never_both(
    engine: sa.Engine, manage: Manage, command_: str, options: tuple[str, ...]
) -> None:
    """As everything else that is wrong with a command line: 2, and not 1."""
    assert (manage.run("dead-letter", command_, *options), manage.out) == (2, "")
    assert manage.err.startswith("tracker-worker-manage: select letters either by id, or with --code")


@pytest.mark.parametrize("command_", ["list", "summary", "discard", "replay"])
def test_node_of_a_variable_that_is_not_set_chooses_nothing(
    bench: LaneBench, park: Park, manage: Manage, command_: str
) -> None:
    """It would choose every letter."""
    park(command("build_failed"))
    assert (manage.run("dead-letter", command_, "--node", ""), manage.out) == (2, "")
    assert "--node: a name is needed" in manage.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this device")
@pytest.mark.parametrize("output", ["table", "json"])
def test_full_disk_under_the_results_is_not_blamed_on_the_database(
    bench: LaneBench, park: Park, manage: Manage, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    park(command("build_failed"))
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        code = manage.run("dead-letter", "discard", "--all", "--format", output)
        monkeypatch.undo()
    assert code == 1
    assert manage.err.splitlines()[-1].endswith("the results cannot be written: No space left on device")
    assert "connection" not in manage.err and "state_path" not in manage.err
    assert states(bench) == {"discarded": 1}


def test_moment_before_all_time_is_refused(manage: Manage) -> None:
    assert manage.run("dead-letter", "list", "--since", "0001-01-01T00:00+14:00") == 2
    assert f"{TIME_FORMS} is needed" in " ".join(manage.err.split())


# Discards.


def test_all_that_are_chosen_are_discarded_in_pages(
    bench: LaneBench, park: Park, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_queries, "IDS_AT_ONCE", 3)
    park(*[FAILED] * 10, *[command("build_succeeded")] * 2)
    assert manage.json("dead-letter", "discard", "--method", "build_failed") == [
        {"result": "discarded", "letters": 10, "first": None}
    ]
    assert states(bench) == {"discarded": 10, "parked": 2}
    assert manage.json("dead-letter", "discard", "--method", "build_failed") == []
    assert "no parked letter matches" in manage.err


def test_a_dry_run_of_a_discard_counts_and_changes_nothing(
    bench: LaneBench, park: Park, manage: Manage
) -> None:
    park(*[FAILED] * 5)
    assert manage.json("dead-letter", "discard", "--all", "--dry-run") == [
        {"result": "would be discarded", "letters": 5, "first": None}
    ]
    (first, *_) = ids(bench)
    assert manage.json("dead-letter", "discard", first, "--dry-run") == [
        {"id": first, "result": "would be discarded"}
    ]
    assert states(bench) == {"parked": 5}


def test_an_interrupted_discard_tells_what_is_done_and_is_repeated(
    bench: LaneBench, park: Park, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_queries, "IDS_AT_ONCE", 2)
    park(*[FAILED] * 6)
    discard = dead_letters.discard
    calls: list[list[str]] = []

    def interrupted(connection: sa.Connection, page: list[str]) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(page)
        return discard(connection, page)

    monkeypatch.setattr(dead_letters, "discard", interrupted)
    assert manage.run("dead-letter", "discard", "--all", "--format", "json") == 130
    assert json.loads(manage.out) == [{"result": "discarded", "letters": 4, "first": None}]
    assert "interrupted after 4 of 6 letters: their results are kept" in manage.err
    assert states(bench) == {"discarded": 4, "parked": 2}
    monkeypatch.undo()
    assert manage.json("dead-letter", "discard", "--all")[0]["letters"] == 2


# Replays.


def test_all_that_are_chosen_are_replayed_in_the_order_of_each_node(
    bench: LaneBench, park: Park, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_queries, "LETTERS_AT_ONCE", 3)
    bench.track(NODE, OTHER_NODE)
    park(*[FAILED, command("build_failed", node=OTHER_NODE)] * 8)
    publish = Published(bench)
    code, results, err = replay(bench, capsys, publish)
    assert (code, results, err) == (0, {"published": 16}, "")
    assert states(bench) == {"replayed": 16}
    letters = {row["id"]: row for row in bench.rows(DEAD_LETTERS)}
    replayed = [letters[event.removesuffix(".1")] for event in publish.events]
    for node in (NODE, OTHER_NODE):
        positions = [letter["position"] for letter in replayed if letter["node"] == node]
        assert len(positions) == 8 and positions == sorted(positions)


def test_what_may_do_harm_or_cannot_be_replayed_is_left_and_counted(
    bench: LaneBench, park: Park, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.track()
    park(FAILED, command("instance_claim", instance=an_instance()))
    bench.deliver_body(encode("build_failed", {"node": NODE, "no": 1, "event_id": "bad"}))
    bench.deliver_body(b"not JSON")
    bench.run()
    code, results, err = replay(bench, capsys, Published(bench))
    assert code == 1
    assert results == {"published": 1, "needs --force": 1, "was not kept verbatim": 2}
    assert "not replayed: 3 of 4; 'dead-letter replay ID' shows the reason for each" in err
    assert states(bench) == {"replayed": 1, "parked": 3}
    code, results, _ = replay(bench, capsys, Published(bench), force=True)
    assert results == {"published": 1, "was not kept verbatim": 2}


def test_a_dry_run_of_a_replay_publishes_nothing(
    bench: LaneBench, park: Park, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.track()
    park(*[FAILED] * 3)
    code, results, _ = replay(bench, capsys, lambda _one: None, dry_run=True)
    assert (code, results) == (0, {"would be published": 3})
    assert states(bench) == {"parked": 3}


def test_what_is_parked_again_is_not_replayed_for_ever(
    bench: LaneBench, park: Park, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cause was not mended: each replay makes a new letter, which is chosen by the same options."""
    bench.track()
    park(*[FAILED] * 4)
    publish = Published(bench, wrongly=True)
    _, results, _ = replay(bench, capsys, publish, Wanted("parked", WRONG))
    assert results == {"published": 4}
    assert states(bench) == {"replayed": 4, "parked": 4}


def test_an_interrupted_replay_tells_what_is_done_and_is_repeated(
    bench: LaneBench, park: Park, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.track()
    park(*[FAILED] * 5)
    publish = Published(bench, fails_at=2, error=KeyboardInterrupt())
    code, results, err = replay(bench, capsys, publish)
    assert (code, results) == (130, {"published": 2})
    assert "interrupted after 2 of 5 letters" in err
    again = Published(bench)
    assert replay(bench, capsys, again)[:2] == (0, {"published": 3})
    assert not set(publish.events) & set(again.events)
    assert states(bench) == {"replayed": 5}


def test_what_was_published_and_is_not_settled_is_published_as_the_same_event(
    bench: LaneBench, park: Park, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.track()
    park(*[FAILED] * 3)
    first, second = [], []
    replay(bench, capsys, lambda one: first.append(one.event_id))
    replay(bench, capsys, lambda one: second.append(one.event_id))
    assert first == second and len(first) == 3


def test_a_broker_that_goes_away_ends_a_replay_with_its_summary(
    bench: LaneBench, park: Park, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.track()
    park(*[FAILED] * 5)
    gone = exceptions.TrackerUnavailable("the broker is gone")
    code, results, err = replay(bench, capsys, Published(bench, fails_at=3, error=gone))
    assert (code, results) == (1, {"published": 3})
    assert "2 of 5 not published: the broker is gone" in err


def test_a_page_of_letters_costs_a_constant_number_of_statements(bench: LaneBench, park: Park) -> None:
    """None of these has been overtaken."""
    park(*[FAILED] * 40)
    counts = []
    for most in (4, 40):
        with bench.engine.connect() as connection, watched(bench.engine) as statements:
            letters = list(dead_letter_queries.find(connection, ids(bench)[:most]).values())
            dead_letter_replay.examine_each(connection, letters, force=False)
        counts.append(len(statements))
    assert counts[0] == counts[1] < 10


def test_letters_of_one_moment_are_all_found(
    bench: LaneBench, park: Park, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their times and sequences are the same, or are not known."""
    monkeypatch.setattr(dead_letter_queries, "LETTERS_AT_ONCE", 2)
    park(*[FAILED] * 7)
    with bench.engine.begin() as connection:
        connection.execute(sa.update(DEAD_LETTERS).values(recorded_at=NOW))
        odd = ids(bench)[::2]
        connection.execute(sa.update(DEAD_LETTERS).where(DEAD_LETTERS.c.id.in_(odd)).values(sequence=None))
    pages = list(dead_letter_queries.pages_in_order(bench.engine, Wanted("parked")))
    assert sorted(sum(pages, [])) == ids(bench)
    assert set(pages[0] + pages[1]) == set(odd)
