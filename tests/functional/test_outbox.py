# SPDX-License-Identifier: Apache-2.0
"""Notifications: what is told, in which order, and that nothing is told twice under two ids or never."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tests.builders import (
    BYSTANDER,
    INSTANCE,
    NODE,
    a_flavor,
    a_report,
    an_instance,
    command,
    some_resources,
)
from tests.functional.lanes import NOW, OTHER_NODE, LaneBench, data_of
from tracker_worker.core.notification_body import MAX_BODY_BYTES
from tracker_worker.db.tables import OUTBOX
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.objects import Limits


def boot(uuid: str = INSTANCE, vcpus: int = 2, node: str = NODE, **more: Any) -> AnyCommand:
    return command("instance_claim", node=node, instance=an_instance(uuid, a_flavor(vcpus)), **more)


def told(bench: LaneBench, event_type: str | None = None, node: str | None = None) -> list[dict[str, Any]]:
    """The data of the notifications that wait, in order."""
    found = [(n["event_type"], data_of(n)) for n in bench.notifications()]
    return [data for kind, data in found if event_type in (None, kind) and node in (None, data["node"])]


def types(bench: LaneBench) -> list[str]:
    return [
        notification["event_type"].removeprefix("compute_node.") for notification in bench.notifications()
    ]


def test_a_batch_tells_each_nodes_usage_once(bench: LaneBench) -> None:
    bench.track(NODE, OTHER_NODE)
    for number in range(5):
        bench.deliver(boot(f"i-{number}"), f"event-{number}")
    bench.deliver(command("build_succeeded"), "event-ignored")
    bench.deliver(boot(node=OTHER_NODE), "event-other")
    bench.run()
    _, usage = told(bench, "compute_node.usage", NODE)
    assert (usage["sequence"], usage["since"], usage["events"]) == (7, 1, 6)
    assert (usage["vcpus_used"], usage["running_vms"]) == (10, 5)
    _, other = told(bench, "compute_node.usage", OTHER_NODE)
    assert (other["sequence"], other["events"], other["vcpus_used"]) == (2, 1, 2)


def test_the_cause_is_the_last_event_that_changed_something(bench: LaneBench) -> None:
    bench.track()
    bench.deliver(boot(), "event-a")
    bench.deliver(boot(BYSTANDER), "event-b")
    bench.deliver(command("abort_instance_claim", instance_uuid="nobody"), "event-c")
    bench.run()
    usage = told(bench, "compute_node.usage")[-1]
    assert usage["cause"]["event_id"] == "event-b"
    assert usage["cause"]["method"] == "instance_claim"
    assert usage["cause"]["instance_uuid"] == BYSTANDER


@pytest.mark.parametrize(
    "event",
    [
        command("build_succeeded"),
        command("abort_instance_claim", instance_uuid=INSTANCE),
        a_report(resources=some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}")),
        command("get_node"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_changes_nothing_is_not_told(bench: LaneBench, event: AnyCommand) -> None:
    bench.track()
    before = bench.rows(OUTBOX)
    bench.send(event)
    assert bench.rows(OUTBOX) == before


def test_since_is_the_sequence_of_the_usage_told_before(bench: LaneBench) -> None:
    bench.track(NODE, OTHER_NODE)
    for number in range(4):
        bench.send(boot(f"i-{number}"))
        bench.send(boot(f"i-{number}", limits=Limits(vcpu=0)))
        bench.send(boot(f"i-{number}", node=OTHER_NODE))
    for node in (NODE, OTHER_NODE):
        chain = told(bench, "compute_node.usage", node)
        assert chain[0]["since"] == 0
        assert all(later["since"] == earlier["sequence"] for earlier, later in pairwise(chain))
        assert len(chain) == 5


def test_since_has_no_gap_when_another_worker_takes_over(a_bench: Callable[..., LaneBench]) -> None:
    one, other = a_bench(), a_bench()
    one.track()
    for number in range(6):
        (one, other)[number % 2].send(boot(f"i-{number}"))
    chain = told(one, "compute_node.usage")
    assert all(later["since"] == earlier["sequence"] for earlier, later in pairwise(chain))
    assert [usage["vcpus_used"] for usage in chain] == [0, 2, 4, 6, 8, 10, 12]


def test_since_has_no_gap_when_a_node_was_removed_meanwhile(bench: LaneBench) -> None:
    bench.track()
    bench.send(command("remove_node"))
    bench.track()
    first, second = told(bench, "compute_node.usage")
    assert second["since"] == first["sequence"]


def test_notifications_wait_in_commit_order(bench: LaneBench) -> None:
    bench.track(NODE, OTHER_NODE)
    for number in range(10):
        bench.send(boot(f"i-{number}", node=(NODE, OTHER_NODE)[number % 2]))
    for node in (NODE, OTHER_NODE):
        sequences = [data["sequence"] for data in told(bench, node=node)]
        assert sequences == sorted(sequences)


def test_the_envelope_is_that_of_a_versioned_notification(bench: LaneBench) -> None:
    bench.track()
    first, second = bench.notifications()
    assert first.keys() == {
        "message_id", "publisher_id", "event_type", "priority", "payload", "timestamp", "_unique_id",
    }  # fmt: skip
    assert first["publisher_id"] == "tracker-worker:test"
    assert first["timestamp"] == str(NOW) + ".000000"
    assert first["payload"]["nova_object.namespace"] == "tracker_worker"
    assert first["payload"]["nova_object.version"] == "1.0"
    assert first["message_id"] != second["message_id"]
    assert [row["message_id"] for row in bench.rows(OUTBOX)] == [first["message_id"], second["message_id"]]


def test_a_new_node_is_told_as_created_and_with_its_usage(bench: LaneBench) -> None:
    bench.track()
    created, usage = told(bench)
    assert types(bench) == ["create", "usage"]
    assert (created["node"], created["host"], created["sequence"]) == (NODE, f"host-of-{NODE}", 1)
    assert (usage["memory_mb"], usage["memory_mb_used"]) == (16384, 512)


def test_a_removed_node_is_told_as_deleted_and_without_usage(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot())
    bench.deliver(boot(BYSTANDER))
    bench.deliver(command("remove_node", force=True), "event-a")
    bench.run()
    assert types(bench)[-2:] == ["usage", "delete"]
    deleted = told(bench)[-1]
    assert (deleted["node"], deleted["uuid"]) == (NODE, f"uuid-of-{NODE}")
    assert deleted["sequence"] == 4
    assert deleted["cause"]["event_id"] == "event-a"


def test_a_refused_claim_is_told_as_an_error(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot(vcpus=4, limits=Limits(vcpu=3, memory_mb=1000)), "event-a")
    assert types(bench)[2:] == ["claim.error"]
    error = told(bench)[-1]
    assert error["reason"] == (
        "Free memory 488.00 MB < requested 2048 MB; Free vcpu 3.00 VCPU < requested 4 VCPU"
    )
    assert error["cause"]["instance_uuid"] == INSTANCE
    assert bench.notifications()[-1]["priority"] == "ERROR"


def test_an_audit_tells_each_correction(bench: LaneBench) -> None:
    bench.track()
    bench.send(boot())
    found = an_instance(BYSTANDER, a_flavor(3))
    own = some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}")
    bench.send(a_report([found], resources=own), "event-a")
    assert types(bench)[-2:] == ["audit", "usage"]
    audit = told(bench, "compute_node.audit")[0]
    assert {
        (c["action"], c["instance_uuid"], c["reason"])
        for c in (wrapped["nova_object.data"] for wrapped in audit["corrections"])
    } == {
        ("added", BYSTANDER, "instance_here"),
        ("released", INSTANCE, "not_here"),
    }
    before = bench.rows(OUTBOX)
    assert bench.send(a_report([found], resources=own)).outcome == "ignored"
    assert bench.rows(OUTBOX) == before


def test_audit_with_more_corrections_than_fit_tells_their_number_and_applies_all(bench: LaneBench) -> None:
    bench.track()
    own = some_resources(uuid=f"uuid-of-{NODE}", host=f"host-of-{NODE}", vcpus=10_000)
    bench.send(a_report([an_instance(f"i-{number}", a_flavor(1)) for number in range(3000)], resources=own))
    assert types(bench)[-2:] == ["audit", "usage"]
    (audit,) = told(bench, "compute_node.audit")
    assert 1000 < len(audit["corrections"]) < 3000
    assert audit["corrections_omitted"] == 3000 - len(audit["corrections"])
    assert max(len(row["body"]) for row in bench.rows(OUTBOX)) <= MAX_BODY_BYTES
    assert bench.used()[0] == 3000


def test_a_conflict_is_told_once_a_uuid(bench: LaneBench) -> None:
    bench.track()
    for _ in range(3):
        bench.send(a_report(resources=some_resources(uuid="another")))
    assert types(bench)[2:] == ["event.error"]
    error = told(bench)[-1]
    assert (error["code"], error["dead_letter_id"]) == ("node_conflict", None)


def test_without_notifications_no_row_is_written_and_since_goes_on(a_bench: Callable[..., LaneBench]) -> None:
    quiet, loud = a_bench(notify=False), a_bench()
    quiet.track()
    quiet.send(boot())
    quiet.send(boot(BYSTANDER, limits=Limits(vcpu=0)))
    quiet.deliver_body(b"not json")
    quiet.run()
    assert quiet.rows(OUTBOX) == []
    loud.send(boot("i-1"))
    (usage,) = told(loud)
    assert usage["sequence"] == 4
