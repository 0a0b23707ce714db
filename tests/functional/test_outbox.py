# SPDX-License-Identifier: Apache-2.0
"""Notifications: what is told, in which order, and that nothing is told twice under two ids or never."""

import threading
from itertools import pairwise

import msgspec
import pytest
import sqlalchemy as sa
from oslo_messaging.exceptions import MessageDeliveryFailure

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
from tests.functional.lanes import NOW, OTHER_NODE, data_of
from tests.functional.statements import Fault, disk_full
from tracker_worker.db.tables import OUTBOX
from tracker_worker.domain.objects import Limits
from tracker_worker.worker.relay import Relay, RelaySettings

SECONDS = 20


def boot(uuid=INSTANCE, vcpus=2, node=NODE, **more):
    return command("instance_claim", node=node, instance=an_instance(uuid, a_flavor(vcpus)), **more)


def told(bench, event_type=None, node=None):
    """The data of the notifications that wait, in order."""
    found = [(n["event_type"], data_of(n)) for n in bench.notifications()]
    return [data for kind, data in found if event_type in (None, kind) and node in (None, data["node"])]


def types(bench):
    return [
        notification["event_type"].removeprefix("compute_node.") for notification in bench.notifications()
    ]


class Bus:
    """Takes notifications; fails where it is told to, after having taken some of a window."""

    def __init__(self, fail_after=None):
        self.taken = []
        self.fail_after = fail_after
        self.some = threading.Event()

    def publish(self, notifications):
        for notification in notifications:
            if self.fail_after == 0:
                self.fail_after = None
                raise MessageDeliveryFailure("the channel closed")
            if self.fail_after:
                self.fail_after -= 1
            self.taken.append(msgspec.json.decode(notification.body))
            self.some.set()

    @property
    def ids(self):
        return [message["message_id"] for message in self.taken]


def test_a_batch_tells_each_nodes_usage_once(bench):
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


def test_the_cause_is_the_last_event_that_changed_something(bench):
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
def test_what_changes_nothing_is_not_told(bench, event):
    bench.track()
    before = bench.rows(OUTBOX)
    bench.send(event)
    assert bench.rows(OUTBOX) == before


def test_since_is_the_sequence_of_the_usage_told_before(bench):
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


def test_since_has_no_gap_when_another_worker_takes_over(a_bench):
    one, other = a_bench(), a_bench()
    one.track()
    for number in range(6):
        (one, other)[number % 2].send(boot(f"i-{number}"))
    chain = told(one, "compute_node.usage")
    assert all(later["since"] == earlier["sequence"] for earlier, later in pairwise(chain))
    assert [usage["vcpus_used"] for usage in chain] == [0, 2, 4, 6, 8, 10, 12]


def test_since_has_no_gap_when_a_node_was_removed_meanwhile(bench):
    bench.track()
    bench.send(command("remove_node"))
    bench.track()
    first, second = told(bench, "compute_node.usage")
    assert second["since"] == first["sequence"]


def test_notifications_wait_in_commit_order(bench):
    bench.track(NODE, OTHER_NODE)
    for number in range(10):
        bench.send(boot(f"i-{number}", node=(NODE, OTHER_NODE)[number % 2]))
    for node in (NODE, OTHER_NODE):
        sequences = [data["sequence"] for data in told(bench, node=node)]
        assert sequences == sorted(sequences)


def test_the_envelope_is_that_of_a_versioned_notification(bench):
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


def test_a_new_node_is_told_as_created_and_with_its_usage(bench):
    bench.track()
    created, usage = told(bench)
    assert types(bench) == ["create", "usage"]
    assert (created["node"], created["host"], created["sequence"]) == (NODE, f"host-of-{NODE}", 1)
    assert (usage["memory_mb"], usage["memory_mb_used"]) == (16384, 512)


def test_a_removed_node_is_told_as_deleted_and_without_usage(bench):
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


def test_a_refused_claim_is_told_as_an_error(bench):
    bench.track()
    bench.send(boot(vcpus=4, limits=Limits(vcpu=3, memory_mb=1000)), "event-a")
    assert types(bench)[2:] == ["claim.error"]
    error = told(bench)[-1]
    assert error["reason"] == (
        "Free memory 488.00 MB < requested 2048 MB; Free vcpu 3.00 VCPU < requested 4 VCPU"
    )
    assert error["cause"]["instance_uuid"] == INSTANCE
    assert bench.notifications()[-1]["priority"] == "ERROR"


def test_an_audit_tells_each_correction(bench):
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


def test_a_conflict_is_told_once_a_uuid(bench):
    bench.track()
    for _ in range(3):
        bench.send(a_report(resources=some_resources(uuid="another")))
    assert types(bench)[2:] == ["event.error"]
    error = told(bench)[-1]
    assert (error["code"], error["dead_letter_id"]) == ("node_conflict", None)


def test_without_notifications_no_row_is_written_and_since_goes_on(a_bench):
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


def relay(bench, bus, **settings):
    return Relay(bench.engine, bus, RelaySettings(**settings), lambda: None)


def filled(bench, count=10):
    bench.track()
    for number in range(count):
        bench.send(boot(f"i-{number}"))
    return [message["message_id"] for message in bench.notifications()]


def publish_all(a_relay):
    while a_relay.publish_window():
        pass
    a_relay.remove_published()


def test_the_relay_publishes_in_the_order_of_ids_and_removes(bench):
    ids, bus = filled(bench), Bus()
    publish_all(relay(bench, bus, window=3))
    assert bus.ids == ids
    assert bench.rows(OUTBOX) == []


def test_a_relay_publishes_only_what_is_new(bench):
    ids, bus = filled(bench), Bus()
    one = relay(bench, bus, window=100)
    assert one.publish_window()
    assert not one.publish_window()
    bench.send(boot("i-99"))
    assert one.publish_window()
    assert bus.ids[:-1] == ids
    assert len(bus.ids) == len(ids) + 1


@pytest.mark.parametrize("taken", [0, 1, 5, 11])
def test_what_is_published_again_keeps_its_id_and_its_body(bench, taken):
    """The channel closes in the middle of a window; what was taken may come again, under the same id."""
    ids, bus = filled(bench), Bus(fail_after=taken)
    with pytest.raises(MessageDeliveryFailure):
        publish_all(relay(bench, bus, window=100))
    assert len(bench.rows(OUTBOX)) == len(ids)
    publish_all(relay(bench, bus, window=100))
    assert bus.ids == ids[:taken] + ids
    assert bus.taken[:taken] == bus.taken[taken : 2 * taken]
    assert bench.rows(OUTBOX) == []


def test_a_crash_between_publish_and_remove_repeats_at_most_a_window(bench):
    ids, bus = filled(bench), Bus()
    one = relay(bench, bus, window=4)
    with Fault(bench.engine, "DELETE FROM outbox", disk_full), pytest.raises(sa.exc.OperationalError):
        publish_all(one)
    publish_all(relay(bench, bus, window=4))
    assert bus.ids == ids[:4] + ids


def test_a_removal_that_failed_is_made_good(bench):
    ids, bus = filled(bench), Bus()
    one = relay(bench, bus, window=100)
    one.publish_window()
    with Fault(bench.engine, "DELETE FROM outbox", disk_full), pytest.raises(sa.exc.OperationalError):
        one.remove_published()
    publish_all(one)
    assert bus.ids == ids
    assert bench.rows(OUTBOX) == []


def test_a_row_that_commits_late_under_a_lower_id_is_published_all_the_same(bench):
    """Two workers on PostgreSQL take ids in one order and may commit in the other."""
    bench.track(NODE, OTHER_NODE)
    late, *_ = bench.rows(OUTBOX)
    with bench.engine.begin() as connection:
        connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id == late["id"]))
    bus = Bus()
    one = relay(bench, bus, window=100)
    publish_all(one)
    with bench.engine.begin() as connection:
        connection.execute(sa.insert(OUTBOX), late)
    publish_all(one)
    assert late["message_id"] in bus.ids
    assert len(bus.ids) == len(set(bus.ids)) == 4
    assert bench.rows(OUTBOX) == []


def test_the_relay_thread_outlives_a_bus_that_fails(bench):
    ids, bus = filled(bench), Bus(fail_after=3)
    one = relay(bench, bus, window=100, retry_max=0.01)
    one.start()
    assert one.drain(SECONDS)
    assert bus.ids == ids[:3] + ids
    assert bench.rows(OUTBOX) == []


def test_the_relay_thread_publishes_when_it_is_called(bench):
    bus = Bus()
    one = relay(bench, bus, poll_interval=3600.0)
    one.start()
    filled(bench, 1)
    one.notify()
    assert bus.some.wait(SECONDS)
    assert one.drain(SECONDS)


def test_a_relay_that_cannot_drain_in_time_says_so(bench):
    filled(bench)

    class Deaf(Bus):
        def publish(self, notifications):
            raise OSError("no route")

    one = relay(bench, Deaf())
    one.start()
    assert not one.drain(0.05)
    assert one.drain(SECONDS), "its thread goes on, with a connection that the test closes"
