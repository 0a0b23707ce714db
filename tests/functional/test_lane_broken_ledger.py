# SPDX-License-Identifier: Apache-2.0
"""A node whose row and claims disagree: its events are held, nothing is parked, and it can be repaired."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from tests.builders import INSTANCE, NODE, a_flavor, a_report, an_instance, command, some_resources
from tests.functional.lanes import OTHER_NODE, PARTITIONS, LaneBench, data_of, names_of_partition
from tests.functional.manage import Manage
from tests.functional.statements import Fault, death, disk_full, lost_commits, out_of_range
from tests.unwritable_log import unwritable_log
from tracker_worker.core.decode import attempts_key
from tracker_worker.core.envelope import encode
from tracker_worker.core.quarantine import Attempts
from tracker_worker.db import queries
from tracker_worker.db.tables import CLAIMS, NODES
from tracker_worker.db.unit_of_work import UnitOfWork
from tracker_worker.domain.commands import AnyCommand, UpdateAvailableResource
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Origin
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker import broken_nodes


def boot(uuid: str = INSTANCE, node: str = NODE) -> AnyCommand:
    return command("instance_claim", node=node, instance=an_instance(uuid, a_flavor(2)))


def delete_claim(engine: sa.Engine, node: str = NODE) -> None:
    """Somebody deletes a claim by SQL."""
    with engine.begin() as connection:
        connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.node == node))


def mend(engine: sa.Engine, node: str = NODE) -> None:
    """Somebody puts the sum right."""
    with engine.begin() as connection:
        connection.execute(
            sa.update(NODES)
            .where(NODES.c.name == node)
            .values(vcpus_used=0, memory_mb_used=512, disk_mb_used=0)
        )


@pytest.fixture
def broken(a_bench: Callable[..., LaneBench]) -> LaneBench:
    """The next worker's lane, on a database whose node lacks a claim."""
    first = a_bench()
    first.track(NODE, OTHER_NODE)
    first.send(boot("i-0"))
    delete_claim(first.engine)
    return a_bench()


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


def startup_audit(node: str = NODE, **more: Any) -> UpdateAvailableResource:
    resources = some_resources(uuid=f"uuid-of-{node}", host=f"host-of-{node}")
    return a_report(node=node, resources=resources, instances=[], startup=True, **more)


def test_events_of_a_broken_node_are_held_and_not_parked(broken: LaneBench) -> None:
    held = [broken.deliver(boot(f"i-{n}")) for n in range(3)]
    other = broken.deliver(boot(node=OTHER_NODE))
    broken.run()
    assert other.outcome == "granted"
    assert [delivery.answers for delivery in held] == [[], [], []]
    assert broken.parked() == []
    assert broken.sequence() == 2


def test_broken_node_is_told_once_as_an_event_error(broken: LaneBench) -> None:
    for number in range(3):
        broken.send(boot(f"i-{number}"), f"event-{number}")
    errors = [n for n in broken.notifications() if n["event_type"] == "compute_node.event.error"]
    (error,) = errors
    data = data_of(error)
    assert (data["code"], data["node"], data["cause"]["event_id"]) == ("ledger_broken", NODE, "event-0")
    assert "2 vcpus" in data["message"]
    assert "node rebuild" in data["message"]


def test_broken_node_whose_commit_nobody_heard_of_is_told_with_the_same_message_id(
    broken: LaneBench,
) -> None:
    """Consumers drop the repetition by that id."""
    with lost_commits(broken.engine, after="INSERT INTO outbox"):
        broken.send(boot("i-1"))
    errors = [n for n in broken.notifications() if n["event_type"] == "compute_node.event.error"]
    assert len(errors) == 2
    assert len({error["message_id"] for error in errors}) == 1


def test_read_of_a_broken_node_is_answered_and_not_held(broken: LaneBench) -> None:
    first, second = (broken.send(command("get_node")) for _ in range(2))
    assert (first.outcome, second.outcome) == ("NodeBroken", "NodeBroken")
    assert "node rebuild" in str(second.answer)
    mend(broken.engine)
    broken.seconds += 60
    broken.run()
    assert broken.send(command("get_node")).answer["vcpus_used"] == 0


def test_broken_node_is_listed_as_broken(broken: LaneBench) -> None:
    with broken.engine.connect() as connection:
        found = {node.name: node.broken for node in queries.nodes(connection)}
    assert found == {NODE: True, OTHER_NODE: False}


def test_other_nodes_of_the_same_partition_go_on(a_bench: Callable[..., LaneBench]) -> None:
    first = a_bench()
    neighbour = next(n for n in names_of_partition(partition_of(NODE, PARTITIONS)) if n != NODE)
    first.track(NODE, neighbour)
    first.send(boot())
    delete_claim(first.engine)
    bench = a_bench()
    held = bench.deliver(boot("i-1"))
    assert bench.send(boot(node=neighbour)).outcome == "granted"
    assert held.answers == []


def test_held_events_are_applied_in_order_once_the_sum_is_right_again(broken: LaneBench) -> None:
    held = [broken.deliver(boot(f"i-{n}")) for n in range(3)]
    broken.run()
    later = broken.send(boot("i-9"))
    mend(broken.engine)
    broken.run()
    assert later.answers == [], "it is not looked at all the time"
    broken.seconds += 60
    broken.run()
    assert [delivery.answer["sequence"] for delivery in (*held, later)] == [3, 4, 5, 6]
    assert broken.used()[0] == 8


def test_audit_with_startup_repairs_the_node_and_releases_what_is_held(broken: LaneBench) -> None:
    held = broken.send(boot("i-1"))
    assert broken.send(startup_audit()).outcome == "applied"
    assert held.outcome == "granted"
    assert broken.claimed() == {}
    assert broken.used() == (0, 512, 0)
    assert broken.send(boot("i-2")).outcome == "granted"


def test_repair_beside_an_event_that_the_database_cannot_store_parks_that_one_alone(
    broken: LaneBench,
) -> None:
    """Found by a review: the repair was lost with the failed batch, and begun again without end."""
    held = broken.send(boot("i-1"))
    audit, bad = broken.deliver(startup_audit()), broken.deliver(boot("bad"))
    with Fault(broken.engine, "INSERT INTO claims", out_of_range, holding="bad"):
        broken.run()
    assert (held.outcome, audit.outcome, bad.outcome) == ("granted", "applied", "EventParked")
    errors = [n for n in broken.notifications() if n["event_type"] == "compute_node.event.error"]
    assert len(errors) == 2, "the broken node, and the event that is parked"


@pytest.mark.parametrize("beginning", ["SELECT nodes", "UPDATE nodes", "INSERT INTO receipts"])
def test_repair_outlasts_errors_of_the_database(broken: LaneBench, beginning: str) -> None:
    held = broken.send(boot("i-1"))
    audit = broken.deliver(startup_audit())
    with Fault(broken.engine, beginning, disk_full, times=7):
        broken.run()
    assert (held.outcome, audit.outcome, broken.parked()) == ("granted", "applied", [])


def test_repair_that_cannot_be_logged_is_no_failed_repair(
    broken: LaneBench, caplog: pytest.LogCaptureFixture
) -> None:
    log = unwritable_log(broken_nodes.__name__, "Node node-1 is rebuilt")
    with log, pytest.raises(OSError, match="journal"):
        broken.send(startup_audit())
    assert "cannot be rebuilt" not in caplog.text


def test_repair_is_told_as_usage_and_moves_the_sequence(broken: LaneBench) -> None:
    """Though the audit itself finds nothing to correct."""
    audit = broken.send(startup_audit(origin=Origin("client-1", 1)))
    assert (audit.outcome, broken.used(), broken.sequence()) == ("ignored", (0, 512, 0), 3)
    told = data_of(broken.notifications()[-1])
    assert (told["sequence"], told["vcpus_used"], told["cause"]["method"]) == (3, 0, "rebuild_node")


def test_event_to_be_parked_waits_behind_those_that_are_held(broken: LaneBench) -> None:
    held = broken.send(boot("i-1"), "held")
    mend(broken.engine)
    killer = broken.deliver(boot("i-2"), "killer", redelivered=True)
    broken.died(broken.max_attempts, killer)
    broken.run()
    assert (held.answers, killer.answers) == ([], [])
    broken.seconds += 60
    broken.run()
    assert [broken.receipts()[event]["sequence"] for event in ("held", "killer")] == [3, 4]


def test_broken_node_is_told_once_whatever_is_to_become_of_its_events(broken: LaneBench) -> None:
    broken.send(boot("i-1"))
    for number in range(3):
        killer = broken.deliver(boot(f"killer-{number}"), redelivered=True)
        broken.died(broken.max_attempts, killer)
        broken.run()
    errors = [n for n in broken.notifications() if n["event_type"] == "compute_node.event.error"]
    assert len(errors) == 1


def test_event_to_be_parked_is_parked_once_its_node_is_rebuilt(broken: LaneBench) -> None:
    held = broken.deliver_body(encode("build_failed", {"node": NODE, "event_id": "e", "x": 1}))
    broken.run()
    assert held.answers == []
    mend(broken.engine)
    broken.seconds += 60
    broken.run()
    assert broken.parked() == [("e", "unknown_argument")]


def test_claims_without_a_row_hold_their_node(a_bench: Callable[..., LaneBench]) -> None:
    first = a_bench()
    first.track(NODE, OTHER_NODE)
    first.send(boot())
    with first.engine.begin() as connection:
        connection.execute(sa.delete(NODES).where(NODES.c.name == NODE))
    bench = a_bench()
    assert bench.send(startup_audit()).answers == []
    assert bench.send(boot(node=OTHER_NODE)).outcome == "granted"
    assert bench.parked() == []


@pytest.mark.parametrize("column", ["resources", "conflicts"])
def test_row_that_is_no_json_survives_an_audit_with_startup_and_is_listed(
    a_bench: Callable[..., LaneBench], manage: Manage, column: str
) -> None:
    first = a_bench()
    first.track(NODE, OTHER_NODE)
    with first.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE nodes SET {column} = '{{' WHERE name = ?", (NODE,))
    bench = a_bench()
    assert bench.send(startup_audit()).answers == []
    assert {node["name"]: node["broken"] for node in manage.json("node", "list")} == {
        NODE: True,
        OTHER_NODE: False,
    }
    for verb in ("show", "rebuild"):
        assert "restore them" in manage.complaint("node", verb, NODE)


def test_removed_node_with_a_wrong_sum_is_listed_and_can_be_rebuilt(
    a_bench: Callable[..., LaneBench], manage: Manage
) -> None:
    first = a_bench()
    first.track()
    first.send(command("remove_node"))
    with first.engine.begin() as connection:
        connection.execute(sa.update(NODES).values(vcpus_used=3))
    bench = a_bench()
    report = bench.send(a_report(resources=startup_audit().resources))
    assert report.answers == []
    assert [node["broken"] for node in manage.json("node", "list")] == [True]
    manage.json("node", "rebuild", NODE)
    bench.seconds += 60
    bench.run()
    assert report.outcome == "applied"


def test_audit_without_startup_is_held_like_everything_else(broken: LaneBench) -> None:
    resources = some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}")
    assert broken.send(a_report(resources=resources, instances=[])).answers == []
    assert broken.parked() == []


def test_redelivered_event_that_is_held_has_no_attempts(broken: LaneBench) -> None:
    """A worker that ends while it holds an event has not died of it."""
    for _ in range(5):
        broken.send(boot("i-1"), "event-a", redelivered=True)
    assert broken.attempts() == {}
    assert broken.parked() == []


@pytest.mark.parametrize("deaths", [1, 2])
def test_event_that_is_held_keeps_the_deaths_that_were_counted_before(broken: LaneBench, deaths: int) -> None:
    """Found by the simulation: they were forgotten, and an event that kills had all its deaths before it."""
    delivery = broken.deliver(boot("i-1"), redelivered=True)
    broken.died(deaths, delivery)
    before = broken.attempts()
    broken.run()
    assert (broken.attempts(), delivery.answers) == (before, [])


def test_held_event_is_counted_before_it_runs(broken: LaneBench) -> None:
    """Found by the simulation: it ran as soon as its node was whole, and its death was not counted."""
    delivery = broken.send(boot("i-1"), redelivered=True)
    mend(broken.engine)
    broken.seconds += 60
    with death(broken, "INSERT INTO outbox"):
        broken.run()
    assert broken.attempts() == {attempts_key(delivery): Attempts(1)}


def test_held_event_that_met_too_many_deaths_is_parked_once_its_node_is_whole(broken: LaneBench) -> None:
    delivery = broken.deliver(boot("i-1"), "event-a", redelivered=True)
    broken.died(broken.max_attempts, delivery)
    broken.run()
    assert broken.parked() == []
    mend(broken.engine)
    broken.seconds += 60
    broken.run()
    assert (broken.parked(), broken.attempts()) == ([("event-a", "worker_died")], {})


def test_attempts_that_another_worker_has_counted_are_not_given_back(broken: LaneBench) -> None:
    """The broker has given this one up while it found out that the node is broken."""
    delivery = broken.deliver(boot("i-1"), redelivered=True)
    successor = UnitOfWork(broken.engine)
    key = attempts_key(delivery)

    def count_on() -> Exception:
        successor.record_attempts({key: Attempts(2)})
        return disk_full()

    with Fault(broken.engine, "SELECT nodes", count_on, times=1):
        broken.run()
    successor.close()
    assert broken.attempts() == {key: Attempts(2)}


def test_attempt_whose_giving_back_was_reported_lost_is_given_back_once(broken: LaneBench) -> None:
    delivery = broken.deliver(boot("i-1"), redelivered=True)
    broken.died(2, delivery)
    before = broken.attempts()
    with lost_commits(broken.engine, times=9):
        broken.run()
    assert broken.attempts() == before


def test_events_that_were_held_run_before_those_that_came_later(broken: LaneBench) -> None:
    held = broken.send(boot("i-1"))
    audit, later = broken.deliver(startup_audit()), broken.deliver(boot("i-2"))
    broken.run()
    assert [delivery.answer["sequence"] for delivery in (held, audit, later)] == [4, 5, 6]


def test_held_event_that_the_broker_hands_out_again_is_applied_once(broken: LaneBench) -> None:
    first = broken.send(boot("i-1"), "event-a")
    first.live = False
    broken.lane.inbox.drop(first.partition)
    again = broken.send(boot("i-1"), "event-a", redelivered=True)
    mend(broken.engine)
    broken.seconds += 60
    broken.run()
    assert (first.answers, again.answer["sequence"]) == ([], 3)


def test_running_worker_notices_a_claim_that_was_deleted_when_it_drops_it(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot("i-0"))
    delete_claim(bench.engine)
    abort = bench.send(command("abort_instance_claim", instance_uuid="i-0"))
    assert abort.answers == []
    assert bench.parked() == []


def test_torn_read_of_a_node_is_read_once_more_and_holds_nothing(
    bench: LaneBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.track()
    bench.send(boot("i-0"))
    load = bench.unit_of_work.load
    reads: list[Collection[str]] = []

    def torn_once(names: Collection[str]) -> dict[str, Node]:
        reads.append(names)
        return {n: replace(node, claims={}) if len(reads) == 1 else node for n, node in load(names).items()}

    bench.lane.nodes.clear()
    monkeypatch.setattr(bench.unit_of_work, "load", torn_once)
    assert bench.send(boot("i-1")).outcome == "granted"
    assert len(reads) == 2


def edit_resources(engine: sa.Engine, change: Callable[[dict[str, Any]], object]) -> None:
    with engine.begin() as connection:
        resources = connection.execute(sa.select(NODES.c.resources).where(NODES.c.name == NODE)).scalar_one()
        assert isinstance(resources, dict)
        change(resources)
        connection.execute(sa.update(NODES).where(NODES.c.name == NODE).values(resources=resources))


def test_row_with_fields_of_a_newer_version_is_read_without_them(a_bench: Callable[..., LaneBench]) -> None:
    first = a_bench()
    first.track()
    edit_resources(first.engine, lambda resources: resources.update(gpus=4))
    assert a_bench().send(boot()).outcome == "granted"


def test_row_that_cannot_be_read_holds_the_events_of_its_node_alone(
    a_bench: Callable[..., LaneBench],
) -> None:
    first = a_bench()
    first.track(NODE, OTHER_NODE)
    edit_resources(first.engine, lambda resources: resources.update(vcpus="many"))
    bench = a_bench()
    held = bench.deliver(boot())
    other = bench.deliver(boot(node=OTHER_NODE))
    bench.run()
    assert (held.answers, other.outcome, bench.parked()) == ([], "granted", [])
    edit_resources(first.engine, lambda resources: resources.update(vcpus=8))
    bench.seconds += 60
    bench.run()
    assert held.outcome == "granted"


def test_row_that_is_no_json_holds_the_events_of_its_node_alone(a_bench: Callable[..., LaneBench]) -> None:
    first = a_bench()
    first.track(NODE, OTHER_NODE)
    with first.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE nodes SET resources = '{' WHERE name = ?", (NODE,))
    bench = a_bench()
    held = bench.deliver(boot())
    other = bench.deliver(boot(node=OTHER_NODE))
    bench.run()
    assert (held.answers, other.outcome, bench.parked()) == ([], "granted", [])


def test_node_rebuild_recomputes_the_node_and_says_what_changed(broken: LaneBench, manage: Manage) -> None:
    held = broken.send(boot("i-1"))
    changes = {each["used"]: (each["before"], each["after"]) for each in manage.json("node", "rebuild", NODE)}
    assert changes == {"vcpus": (2, 0), "memory_mb": (2560, 512), "disk_mb": (20480, 0)}
    broken.seconds += 60
    broken.run()
    assert held.answer["sequence"] == 4
    assert [n["event_type"] for n in broken.notifications()][-2:] == ["compute_node.usage"] * 2
    history = manage.json("node", "history", NODE)
    assert [entry["method"] for entry in history][-2:] == ["rebuild_node", "instance_claim"]


def test_node_rebuild_of_a_whole_node_changes_nothing(bench: LaneBench, manage: Manage) -> None:
    bench.track()
    bench.send(boot())
    changes = manage.json("node", "rebuild", NODE)
    assert all(each["before"] == each["after"] for each in changes)
    assert bench.sequence() == 2


def test_node_rebuild_of_an_unknown_node_says_so(bench: LaneBench, manage: Manage) -> None:
    assert "not tracked" in manage.complaint("node", "rebuild", "nobody")
