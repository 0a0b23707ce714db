# SPDX-License-Identifier: Apache-2.0
"""What tracker-worker-manage reads and writes on database servers; a worker's whole way on MariaDB."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from oslo_config.cfg import ConfigOpts

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    MOVE,
    NODE,
    a_report,
    an_instance,
    args_of,
    command,
    some_resources,
)
from tests.functional.lanes import PARTITIONS, LaneBench, rows
from tests.functional.manage import Manage
from tests.integration.daemon import Daemon
from tests.integration.rabbit import until
from tests.integration.stock import RPC
from tests.integration.test_interop_notifications import REPORT
from tests.servers.mariadb import MariaDB
from tracker_worker.cmd.manage import dead_letter_replay
from tracker_worker.core.envelope import encode
from tracker_worker.core.urls import printable_url
from tracker_worker.db import dead_letter_queries, leases, receipt_queries, revisions
from tracker_worker.db.dead_letter_queries import Wanted
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import DEAD_LETTERS, NODES, OUTBOX, RECEIPTS
from tracker_worker.domain.partitions import partition_of


@pytest.fixture(params=["database_url", "mariadb_url"], ids=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def bench(engine: sa.Engine) -> Iterator[LaneBench]:
    bench = LaneBench(engine)
    yield bench
    bench.close()


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str) -> Manage:
    manage = Manage(tmp_path, capsys)
    manage.configure(f"[database]\nconnection = {url}\n")
    return manage


def park(bench: LaneBench, event_id: str) -> str:
    args = args_of(command("instance_claim", instance=an_instance(), event_id=event_id))
    wrong = (partition_of(NODE, PARTITIONS) + 1) % PARTITIONS
    bench.deliver_body(encode("instance_claim", args), partition=wrong)
    bench.run()
    return next(str(row["id"]) for row in rows(bench.engine, DEAD_LETTERS) if row["event_id"] == event_id)


def test_nodes_are_listed_and_shown(bench: LaneBench, manage: Manage) -> None:
    bench.track()
    bench.send(command("instance_claim", instance=an_instance()), "boot")
    bench.send(a_report(resources=some_resources(uuid="another")), "conflict")
    (listed,) = manage.json("node", "list")
    assert (listed["vcpus"], listed["memory_mb"], listed["local_gb"]) == (8, 16384, 100)
    assert (listed["vcpus_used"], listed["running_vms"]) == (2, 1)
    assert listed["conflicts"] == ["another"]
    shown = manage.json("node", "show", NODE)
    assert shown == bench.send(command("get_node")).answer
    history = manage.json("node", "history", NODE)
    assert [entry["sequence"] for entry in history] == [1, 2, 3]
    assert history[1]["instance_uuid"] == INSTANCE
    assert "node_conflict" in history[2]["reason"]


def test_letters_are_replayed_or_discarded(bench: LaneBench, manage: Manage) -> None:
    bench.track()
    old = park(bench, "old")
    young = park(bench, "young")
    assert [letter["id"] for letter in manage.json("dead-letter", "list")] == [old, young]
    with bench.engine.connect() as connection:
        (one,), problems = dead_letter_replay.examine(connection, [young], force=True)
    assert problems == []
    bench.deliver_body(encode(one.method, one.args | {"node": one.node, "event_id": one.event_id}))
    bench.run()
    with bench.engine.connect() as connection:
        _, (problem,) = dead_letter_replay.examine(connection, [old], force=False)
    assert f"{young}.1" in problem
    assert manage.json("dead-letter", "discard", old) == [{"id": old, "result": "discarded"}]
    assert manage.json("dead-letter", "list") == []
    (replayed,) = manage.json("dead-letter", "list", "--state", "replayed")
    assert replayed["id"] == young
    assert manage.json("dead-letter", "show", young)["replays"][0]["outcome"] == "granted"


def test_many_letters_are_worked_off_in_pages(
    bench: LaneBench, manage: Manage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dead_letter_queries, "IDS_AT_ONCE", 3)
    monkeypatch.setattr(dead_letter_queries, "LETTERS_AT_ONCE", 2)
    bench.track()
    ids = [park(bench, f"event-{number}") for number in range(7)]
    bench.deliver_body(b"not JSON")
    bench.run()
    (group, _) = manage.json("dead-letter", "summary")
    assert (group["code"], group["letters"], group["nodes"]) == ("wrong_partition", 7, 1)
    assert len(manage.json("dead-letter", "list", "--since", "2020-01-01", "--limit", "7")) == 7
    assert "the newest 7 of 8 letters" in manage.err
    assert sum(dead_letter_queries.pages_in_order(bench.engine, Wanted("parked", node=NODE)), []) == ids
    sent: list[Any] = []
    args = SimpleNamespace(force=True, dry_run=False, format="json")
    assert (
        dead_letter_replay.replay_selected(ConfigOpts(), args, bench.engine, Wanted("parked"), sent.append)
        == 1
    )
    assert [one.letter_id for one in sent] == ids
    assert '"was not kept verbatim"' in capsys.readouterr().out
    assert manage.json("dead-letter", "discard", "--node", NODE)[0]["letters"] == 7
    assert len(manage.json("dead-letter", "list")) == 1


def test_history_is_kept_and_explained(
    bench: LaneBench, manage: Manage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.track()
    bench.send(command("instance_claim", instance=an_instance()), "boot")
    bench.send(command("start_move", instance_uuid=INSTANCE, migration_uuid=MOVE), "moved")
    bench.send(
        a_report([an_instance(BYSTANDER)], [], resources=some_resources(uuid=f"uuid-of-{NODE}")), "audit"
    )
    entries = manage.json("node", "history", NODE)
    assert [entry["used"]["vcpus"] for entry in entries] == [0, 2, 2, 2]
    assert [len(entry["changes"]) for entry in entries] == [0, 1, 2, 2]
    assert manage.json("node", "history", NODE, "--at", "2")["claims"][0]["instance_uuid"] == INSTANCE
    (claim,) = manage.json("node", "explain", NODE)["claims"]
    assert (claim["instance_uuid"], claim["cause"]["event_id"]) == (BYSTANDER, "audit")
    monkeypatch.setattr(receipt_queries, "RECEIPTS_AT_ONCE", 2)
    events = manage.json("instance", "show", INSTANCE)["events"]
    assert [event["event_id"] for event in events] == ["boot", "moved", "audit"]
    assert manage.run("instance", "show", "%") == 1
    assert manage.json("node", "verify", "--all") == {"nodes": 1, "differences": []}
    flavor = '{"vcpus": 2, "memory_mb": 4096, "root_gb": 20}'
    assert manage.json("node", "fit", "--all", "--flavor", flavor)[0]["outcome"] == "granted"
    assert "d1" in manage.complaint("device", "show", "d1")


def test_casts_for_invented_nodes_leave_no_rows(bench: LaneBench) -> None:
    for number in range(20):
        bench.deliver(command("build_failed", node=f"invented-{number}"))
    bench.run()
    assert rows(bench.engine, NODES) == []
    assert {row["sequence"] for row in rows(bench.engine, RECEIPTS)} == {None}


def test_schema_and_purge(bench: LaneBench, manage: Manage) -> None:
    head = revisions.head()
    version = manage.json("db", "version")
    url = bench.engine.url.render_as_string(hide_password=False)
    assert version == {"connection": printable_url(url), "database": head, "code": head}
    assert manage.json("db", "sync")["before"] == head
    bench.send(command("build_failed"))
    nothing = {"receipts": 0, "dead_letters": 0, "nodes": 0, "attempts": 0, "days": 7}
    assert manage.json("db", "purge", "--dry-run") == nothing | {"dry_run": True}
    assert manage.json("db", "purge") == nothing | {"dry_run": False}


def test_the_check_finds_the_schema(manage: Manage) -> None:
    checks = manage.check()[1]
    assert checks["Database schema"] == (0, None)


def test_casts_through_rabbitmq_reach_mariadb(
    mariadb: MariaDB, vhost_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database as its operator makes it, the commands in the order of the documentation, a worker."""
    url = mariadb.new_database()
    manage = Manage(tmp_path, capsys)
    manage.configure(
        f"transport_url = {vhost_url}\n[database]\nconnection = {url}\n[bus]\npartitions = 4\n"
        "[oslo_messaging_rabbit]\namqp_durable_queues = true\n"
    )
    assert manage.check()[1]["Database schema"][0] != 0
    synced = manage.json("db", "sync")
    assert synced.pop("connection").partition("://")[2] == printable_url(url).partition("://")[2]
    assert synced == {"before": None, "database": revisions.head(), "code": revisions.head()}
    assert manage.run("queues", "declare") == 0
    assert manage.check()[1]["Database schema"] == (0, None)
    with Daemon(vhost_url, url) as daemon, RPC(tmp_path, vhost_url) as client:
        daemon.wait_until_it_consumes()
        client.result("update_available_resource", "n", resources=REPORT)
        for number in range(30):
            client.send("build_failed", "n", how="cast", args={"event_id": f"event-{number}"})
        assert client.result("get_node", "n")["sequence"] == 31
    engine = create_engine(url)
    assert [row["sequence"] for row in rows(engine, NODES)] == [31]
    assert len(rows(engine, RECEIPTS)) == 31
    until(lambda: not rows(engine, OUTBOX), "notifications wait")
    engine.dispose()
    mariadb.drop_database(url)


def test_operators_queries_answer_on_servers(bench: LaneBench, engine: sa.Engine, manage: Manage) -> None:
    """The list with the time of the last event, the outbox with its publisher, and the status of both."""
    bench.track()
    bench.send(command("instance_claim", instance=an_instance()))
    (node,) = manage.json("node", "list", "--sort", "fullness")
    assert node["last_event"] is not None
    assert manage.json("node", "list", "--older-than", "60") == []
    waiting = manage.json("outbox", "list", "--node", NODE)
    with engine.begin() as connection:
        leases.acquire(connection, leases.RELAY, "host-1:77:id", 60)
    stats = manage.json("outbox", "stats")
    assert stats["publisher"] == "host-1:77:id"
    assert sum(group["notifications"] for group in stats["waiting"]) == len(waiting)
    assert sum(group["bytes"] for group in stats["waiting"]) == sum(one["size"] for one in waiting)
    manage.run("status", "--format", "json")
    found = json.loads(manage.out)["database"]
    assert (found["nodes"], found["outbox"], found["publisher"]) == (1, len(waiting), "host-1:77:id")
    assert found["last_commit"] == node["last_event"]
