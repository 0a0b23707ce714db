# SPDX-License-Identifier: Apache-2.0
"""Eight threads of one compute manager on one node, and audits in the midst of it.

Nothing is ever wrong with what they do, so no audit may correct anything: no claim that is being saved is
released, no instance that is being deleted comes back, no confirmed room stays.
"""

import itertools
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from oslo_config import cfg

from tests import samples
from tracker_worker.rpcapi import TrackerAPI
from tracker_worker.testing import TrackerWorkerFixture

Json = dict[str, Any]
AsOf = Callable[[TrackerAPI], int | None]

THREADS = 8
STEPS = 150
NODE = "compute1"
REPORT = samples.a_report(host=NODE, vcpus=1000, memory_mb=1000000, local_gb=10000)
FLAVORS = (samples.a_flavor(1, 1024, 10), samples.a_flavor(2, 2048, 20))


class Database:
    """What the compute manager has saved. A row is whole; two rows are saved one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._instances: dict[str, Json] = {}
        self._migrations: dict[str, Json] = {}

    def save(self, instance: Json, migration: Json | None = None) -> None:
        with self._lock:
            self._instances[instance["uuid"]] = dict(instance)
            if migration is not None:
                self._migrations[instance["uuid"]] = dict(migration)

    def confirm(self, instance: Json) -> None:
        with self._lock:
            self._instances[instance["uuid"]] = dict(instance)
            del self._migrations[instance["uuid"]]

    def delete(self, uuid: str) -> None:
        with self._lock:
            self._instances.pop(uuid, None)

    def read(self) -> tuple[list[Json], list[Json]]:
        with self._lock:
            return list(self._instances.values()), list(self._migrations.values())

    def vcpus(self) -> int:
        instances, migrations = self.read()
        flavors = [row["flavor"] for row in instances] + [move["old_flavor"] for move in migrations]
        return sum(int(flavor["vcpus"]) for flavor in flavors)


class NoHypervisor(Exception):
    pass


class Manager:
    """A compute manager. An instance is in one thread's hands at a time, as under Nova's instance lock."""

    def __init__(self, api: TrackerAPI, as_of: AsOf) -> None:
        self._api = api
        self._as_of = as_of
        self._numbers = itertools.count(1)
        self.database = Database()
        self.idle: queue.Queue[Json] = queue.Queue()

    def run(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(STEPS):
            step = chance.choice((self.boot, self.fail, self.touch, self.touch, self.touch, self.audit))
            step(chance)

    def boot(self, chance: random.Random) -> None:
        instance = self._new(chance)
        with self._api.instance_claim({}, NODE, instance) as claim:
            pause(chance)
            self.database.save(instance)
            if chance.random() < 0.5:
                claim.saved()
            pause(chance)
        self.idle.put(instance)

    def fail(self, chance: random.Random) -> None:
        instance = self._new(chance)
        with suppress(NoHypervisor), self._api.instance_claim({}, NODE, instance):
            self.database.save(instance)
            pause(chance)
            self.database.delete(instance["uuid"])
            raise NoHypervisor

    def touch(self, chance: random.Random) -> None:
        try:
            instance = self.idle.get_nowait()
        except queue.Empty:
            return
        if instance["vm_state"] == "resized":
            self.confirm(instance, chance)
        elif chance.random() < 0.5:
            self.delete(instance, chance)
        else:
            self.resize(instance, chance)

    def resize(self, instance: Json, chance: random.Random) -> None:
        new_flavor = next(flavor for flavor in FLAVORS if flavor != instance["flavor"])
        migration = samples.a_migration(
            f"migration-{next(self._numbers)}",
            instance["uuid"],
            source_node=NODE,
            dest_node=NODE,
            old_flavor=instance["flavor"],
            new_flavor=new_flavor,
        )
        moving = instance | {"task_state": "resize_prep"}
        with self._api.resize_claim({}, NODE, moving, new_flavor, migration):
            pause(chance)
            self.database.save(moving, migration)
        resized = instance | {"vm_state": "resized", "task_state": None, "flavor": new_flavor}
        with self._api.change():
            self._api.finish_move({}, NODE, resized, migration["uuid"])
            pause(chance)
            self.database.save(resized)
        self.idle.put(resized | {"migration": migration["uuid"]})

    def confirm(self, instance: Json, chance: random.Random) -> None:
        migration = instance.pop("migration")
        active = instance | {"vm_state": "active"}
        with self._api.change():
            self._api.drop_move_claim_at_source({}, NODE, instance["uuid"], migration)
            pause(chance)
            self.database.confirm(active)
        self.idle.put(active)

    def delete(self, instance: Json, chance: random.Random) -> None:
        with self._api.change():
            self._api.update_usage({}, NODE, instance | {"vm_state": "deleted", "task_state": None})
            pause(chance)
            self.database.delete(instance["uuid"])

    def audit(self, chance: random.Random) -> None:
        as_of = self._as_of(self._api)
        pause(chance)
        instances, migrations = self.database.read()
        pause(chance)
        self._api.update_available_resource(
            {}, NODE, REPORT, instances=instances, migrations=migrations, as_of=as_of
        )

    def _new(self, chance: random.Random) -> Json:
        return samples.an_instance(f"instance-{next(self._numbers)}", chance.choice(FLAVORS))


def pause(chance: random.Random) -> None:
    """Let the others go first; how long is what the test varies, nothing waits for it."""
    time.sleep(chance.choice((0, 0, 0.001, 0.003)))


def corrections(tracker: TrackerWorkerFixture) -> list[Json]:
    last = tracker.api.call({}, "build_failed", NODE)["sequence"]
    count = 1
    while (
        tracker.wait_for_notifications("compute_node.usage", node=NODE, count=count)[-1]["payload"][
            "nova_object.data"
        ]["sequence"]
        < last
    ):
        count += 1
    return [
        correction["nova_object.data"]
        for each in tracker.notifications
        if each["event_type"] == "compute_node.audit"
        for correction in each["payload"]["nova_object.data"]["corrections"]
    ]


def race(tracker: TrackerWorkerFixture, as_of: AsOf) -> Manager:
    """Eight threads at work until each has done its steps."""
    tracker.api.update_available_resource({}, NODE, REPORT)
    manager = Manager(tracker.api, as_of)
    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(manager.run, seed) for seed in range(THREADS)]:
            future.result()
    return manager


@pytest.fixture
def tracker() -> Iterator[TrackerWorkerFixture]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    with TrackerWorkerFixture(cfg.CONF) as tracker:
        yield tracker
    sys.setswitchinterval(interval)


def test_audits_correct_nothing_while_eight_threads_change_the_node(tracker: TrackerWorkerFixture) -> None:
    manager = race(tracker, TrackerAPI.snapshot)
    assert corrections(tracker) == []
    view = tracker.api.get_node({}, NODE)
    instances, migrations = manager.database.read()
    assert {(claim["instance_uuid"], claim["role"]) for claim in view["claims"]} == {
        *((instance["uuid"], "instance") for instance in instances),
        *((migration["instance_uuid"], "outgoing") for migration in migrations),
    }
    assert view["vcpus_used"] == manager.database.vcpus() > 0
    tracker.api.update_available_resource({}, NODE, REPORT, instances=instances, migrations=migrations)
    assert corrections(tracker) == []


def no_as_of(_api: TrackerAPI) -> None:
    return None


def as_of_that_heeds_no_hold(api: TrackerAPI) -> int:
    """The number of the last event, saved or not."""
    return int(api._events.origin()["sequence"])


@pytest.mark.parametrize("wrong", [no_as_of, as_of_that_heeds_no_hold])
def test_a_wrong_as_of_would_be_found(
    tracker: TrackerWorkerFixture, wrong: Callable[[TrackerAPI], int | None]
) -> None:
    race(tracker, wrong)
    assert {"released", "added"} <= {correction["action"] for correction in corrections(tracker)}
