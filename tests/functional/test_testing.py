# SPDX-License-Identifier: Apache-2.0
"""The fixture for other projects: what they write with it."""

import runpy
import threading
import unittest
import uuid
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.exceptions import ComputeResourcesUnavailable
from tracker_worker.rpcapi import TrackerAPI
from tracker_worker.testing import TrackerWorkerFixture

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"vcpus": 2, "memory_mb": 2048, "root_gb": 20}
LARGE = {"vcpus": 4, "memory_mb": 4096, "root_gb": 40}


class ComputeManager:
    """The smallest compute manager there is: a hypervisor of 8 vcpus, and a database that is a dict."""

    report = {"uuid": "7c0e3f5a-5d0b-4f5e-9d5c-0a4f6f1f0c11", "host": "compute1",
              "vcpus": 8, "memory_mb": 16384, "local_gb": 100}  # fmt: skip

    def __init__(self, tracker: TrackerAPI, node: str = "compute1") -> None:
        self.tracker, self.node = tracker, node
        self.instances: dict[str, Json] = {}
        self.migrations: dict[str, Json] = {}

    def boot(self, uuid: str, flavor: Json, spawn: Any = lambda: None) -> None:
        instance = {"uuid": uuid, "project_id": "demo", "vm_state": "active", "flavor": flavor}
        limits = {"memory_mb": 16384}
        with self.tracker.instance_claim({}, self.node, instance, limits=limits) as claim:
            spawn()
            self.instances[uuid] = instance
            assert claim["claim"]["vcpus"] == flavor["vcpus"]

    def resize(self, uuid: str, flavor: Json) -> None:
        old = self.instances[uuid]
        move = {"uuid": f"resize-of-{uuid}", "type": "resize", "status": "finished", "instance_uuid": uuid,
                "source_node": self.node, "dest_node": self.node,
                "old_flavor": old["flavor"], "new_flavor": flavor}  # fmt: skip
        with self.tracker.resize_claim({}, self.node, old, flavor, move):
            self.migrations[uuid] = move
            self.instances[uuid] = old | {"vm_state": "resized", "flavor": flavor}
            self.tracker.finish_move({}, self.node, self.instances[uuid], move["uuid"])

    def confirm(self, uuid: str) -> None:
        with self.tracker.change():
            self.tracker.drop_move_claim_at_source({}, self.node, uuid, self.migrations[uuid]["uuid"])
            del self.migrations[uuid]

    def delete(self, uuid: str) -> None:
        with self.tracker.change():
            self.tracker.update_usage({}, self.node, self.instances[uuid] | {"vm_state": "deleted"})
            del self.instances[uuid]

    def audit(self) -> None:
        as_of = self.tracker.snapshot()
        here, moves = list(self.instances.values()), list(self.migrations.values())
        self.tracker.update_available_resource(
            {}, self.node, self.report, instances=here, migrations=moves, as_of=as_of
        )


@pytest.fixture
def tracker() -> Iterator[TrackerWorkerFixture]:
    with TrackerWorkerFixture(cfg.CONF) as tracker:
        yield tracker


@pytest.fixture
def manager(tracker: TrackerWorkerFixture) -> ComputeManager:
    manager = ComputeManager(tracker.api)
    manager.audit()
    assert used(tracker) == (0, 512, 0)  # A usage notification covers a batch: this ends the first one.
    return manager


def used(tracker: TrackerWorkerFixture) -> tuple[int, int, int]:
    view = tracker.api.get_node({}, "compute1")
    return view["vcpus_used"], view["memory_mb_used"], view["local_gb_used"]


def data(notification: Json) -> Json:
    found: Json = notification["payload"]["nova_object.data"]
    return found


def test_a_life_of_an_instance(tracker: TrackerWorkerFixture, manager: ComputeManager) -> None:
    manager.boot("a", SMALL)
    assert used(tracker) == (2, 2560, 20)
    manager.resize("a", LARGE)
    assert used(tracker) == (6, 6656, 60)
    manager.audit()
    manager.confirm("a")
    assert used(tracker) == (4, 4608, 40)
    manager.delete("a")
    manager.audit()
    assert used(tracker) == (0, 512, 0)
    usages = tracker.wait_for_notifications("compute_node.usage", node="compute1", count=6)
    shown = [vcpus for vcpus, _ in groupby(data(usage)["vcpus_used"] for usage in usages)]
    assert shown[:4] == [0, 2, 6, 4]
    assert "compute_node.audit" not in {each["event_type"] for each in tracker.notifications}


def test_a_claim_without_room_is_refused_and_told(
    tracker: TrackerWorkerFixture, manager: ComputeManager
) -> None:
    with pytest.raises(ComputeResourcesUnavailable, match="Free memory 15872.00 MB < requested 99999 MB"):
        manager.boot("huge", SMALL | {"memory_mb": 99999})
    assert (manager.instances, used(tracker)) == ({}, (0, 512, 0))
    (refused,) = tracker.wait_for_notifications("compute_node.claim.error")
    assert (refused["priority"], data(refused)["node"]) == ("ERROR", "compute1")


def test_a_failed_spawn_gives_the_room_back(tracker: TrackerWorkerFixture, manager: ComputeManager) -> None:
    with pytest.raises(ZeroDivisionError):
        manager.boot("a", SMALL, lambda: 1 / 0)
    assert used(tracker) == (0, 512, 0)


def test_an_audit_corrects_what_was_lost(tracker: TrackerWorkerFixture, manager: ComputeManager) -> None:
    manager.boot("a", SMALL)
    del manager.instances["a"]
    manager.audit()
    (audit,) = tracker.wait_for_notifications("compute_node.audit")
    (correction,) = data(audit)["corrections"]
    assert data({"payload": correction})["action"] == "released"


def test_a_notification_that_does_not_come_is_an_error_that_says_what_came(
    tracker: TrackerWorkerFixture, manager: ComputeManager
) -> None:
    with pytest.raises(TimeoutError, match=r"0 of 1 compute_node\.delete .*'compute_node\.create'"):
        tracker.wait_for_notifications("compute_node.delete", timeout=0.2)


def test_notifications_of_other_nodes_do_not_count(
    tracker: TrackerWorkerFixture, manager: ComputeManager
) -> None:
    ComputeManager(tracker.api, "compute2").tracker.update_available_resource(
        {}, "compute2", manager.report | {"uuid": "8c0e3f5a-5d0b-4f5e-9d5c-0a4f6f1f0c11"}
    )
    (created,) = tracker.wait_for_notifications("compute_node.create", node="compute2")
    assert data(created)["node"] == "compute2"
    assert len(tracker.wait_for_notifications("compute_node.create", count=2)) == 2


def cast_something_wrong(tracker: TrackerWorkerFixture) -> None:
    flavor = SMALL | {"memory_gb": 2}
    instance = {"uuid": "a", "project_id": "demo", "vm_state": "active", "flavor": flavor}
    tracker.api.update_usage({}, "compute1", instance)


def test_parked_cast_fails_the_test_at_clean_up_with_its_code_and_path() -> None:
    tracker = TrackerWorkerFixture(cfg.CONF)
    tracker.setUp()
    ComputeManager(tracker.api).audit()
    cast_something_wrong(tracker)
    with pytest.raises(AssertionError, match="discard_dead_letters") as failure:
        tracker.cleanUp()
    said = "unknown_argument at $.instance.flavor.memory_gb: no such field (update_usage, node compute1)"
    assert str(failure.value).endswith(said)


def test_expected_dead_letter_is_looked_at_and_discarded(
    tracker: TrackerWorkerFixture, manager: ComputeManager
) -> None:
    cast_something_wrong(tracker)
    tracker.drain()
    (letter,) = tracker.dead_letters
    assert (letter["code"], letter["path"]) == ("unknown_argument", "$.instance.flavor.memory_gb")
    assert (letter["method"], letter["node"]) == ("update_usage", "compute1")
    tracker.discard_dead_letters()
    assert tracker.dead_letters == []


def test_more_dead_letters_than_are_shown_are_all_discarded(
    tracker: TrackerWorkerFixture, manager: ComputeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker_worker.testing.MOST_LETTERS", 2)
    for _ in range(5):
        cast_something_wrong(tracker)
    tracker.drain()
    assert len(tracker.dead_letters) == 2
    tracker.discard_dead_letters()
    assert tracker.dead_letters == []


def test_drain_returns_once_all_that_was_cast_is_applied_and_notified(
    tracker: TrackerWorkerFixture, manager: ComputeManager
) -> None:
    for _ in range(100):
        tracker.api.build_failed({}, "compute1")
    cast_something_wrong(tracker)
    tracker.drain()
    last = tracker.notifications[-1]
    (parked,) = tracker.wait_for_notifications("compute_node.event.error", timeout=0)
    usages = tracker.wait_for_notifications("compute_node.usage", node="compute1", timeout=0)
    assert (data(parked)["code"], data(usages[-1])["stats"]["failed_builds"]) == ("unknown_argument", 100)
    assert last in (parked, usages[-1])
    tracker.discard_dead_letters()


def test_drain_of_an_idle_worker_returns_at_once(tracker: TrackerWorkerFixture) -> None:
    tracker.drain()
    assert (tracker.notifications, tracker.dead_letters) == ([], [])


def test_drain_of_a_worker_that_stands_still_times_out(
    tracker: TrackerWorkerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on = threading.Event()
    (lane,) = tracker._worker._dispatcher._lanes
    with monkeypatch.context() as patch:
        patch.setattr(lane, "step", going_on.wait)
        tracker.api.build_failed({}, "compute1")
        with pytest.raises(TimeoutError, match=r"has not finished what was cast in 0\.1 s"):
            tracker.drain(timeout=0.1)
    going_on.set()


def test_the_operators_settings_can_be_chosen() -> None:
    with TrackerWorkerFixture(cfg.CONF, TrackerSettings(reserved_host_memory_mb=1024)) as tracker:
        ComputeManager(tracker.api).audit()
        assert used(tracker) == (0, 1024, 0)


def test_two_workers_at_once_know_nothing_of_each_other(
    tracker: TrackerWorkerFixture, manager: ComputeManager
) -> None:
    with TrackerWorkerFixture(cfg.CONF) as other:
        other_manager = ComputeManager(other.api)
        other_manager.audit()
        other_manager.boot("a", SMALL)
        assert (used(other), used(tracker)) == ((2, 2560, 20), (0, 512, 0))


def test_a_client_of_ones_own_reaches_the_worker(
    tracker: TrackerWorkerFixture, manager: ComputeManager
) -> None:
    api = TrackerAPI(tracker.transport, exchange=tracker.exchange, partitions=tracker.partitions)
    assert api.get_node({}, "compute1")["vcpus"] == 8


def test_example_of_the_documentation_passes() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "test_builds.py"))
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(example["TestBuilds"]).run(result)
    assert result.testsRun == 2
    assert result.wasSuccessful(), result.failures + result.errors


def test_arguments_that_only_oslo_serializes_arrive_as_on_rabbitmq(tracker: TrackerWorkerFixture) -> None:
    report = ComputeManager.report | {"uuid": uuid.UUID(str(ComputeManager.report["uuid"]))}
    tracker.api.update_available_resource({}, "compute1", report)
    assert tracker.api.get_node({}, "compute1")["uuid"] == ComputeManager.report["uuid"]


def test_configuration_of_ones_own_will_do() -> None:
    with TrackerWorkerFixture(cfg.ConfigOpts()) as worker:
        manager = ComputeManager(worker.api)
        manager.tracker.update_available_resource({}, manager.node, manager.report)
        worker.drain()
        assert worker.api.get_node({}, manager.node)["vcpus"] == 8
