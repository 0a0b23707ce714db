# SPDX-License-Identifier: Apache-2.0
import fixtures
from oslo_config import cfg

from tracker_worker.testing import TrackerWorkerFixture

REPORT = {"uuid": "node-uuid", "host": "compute1", "vcpus": 8, "memory_mb": 16384, "local_gb": 100}
FLAVOR = {"vcpus": 2, "memory_mb": 2048, "root_gb": 20}
INSTANCE = {"uuid": "instance-uuid", "project_id": "demo", "vm_state": "active", "flavor": FLAVOR}


class TestBuilds(fixtures.TestWithFixtures):
    def setUp(self):
        super().setUp()
        self.tracker = self.useFixture(TrackerWorkerFixture(cfg.CONF))
        self.tracker.api.update_available_resource({}, "compute1", REPORT)

    def test_build_is_counted_and_notified(self):
        with self.tracker.api.instance_claim({}, "compute1", INSTANCE, limits={"vcpu": 8}):
            pass
        self.assertEqual(2, self.tracker.api.get_node({}, "compute1")["vcpus_used"])
        self.tracker.drain()
        usage = self.tracker.notifications[-1]["payload"]["nova_object.data"]
        self.assertEqual(2, usage["vcpus_used"])

    def test_cast_that_cannot_be_applied_is_parked(self):
        self.tracker.api.update_usage({}, "compute1", INSTANCE | {"vm_state": "asleep"})
        self.tracker.drain()
        (letter,) = self.tracker.dead_letters
        self.assertEqual("invalid_value at $.instance.vm_state", f"{letter['code']} at {letter['path']}")
        self.tracker.discard_dead_letters()  # Without this the test would fail at its end.
