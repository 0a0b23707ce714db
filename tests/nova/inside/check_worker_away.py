# SPDX-License-Identifier: Apache-2.0
"""A tracker that is replaced, and no worker that answers: claims fail, nothing leaks, nothing else waits."""

import time
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_utils import uuidutils

from nova import context, exception, objects
from nova.tests.functional import integrated_helpers
from tests.nova.inside import instances
from tracker_worker.nova import hooks
from tracker_worker.nova.cast_queue import CastQueue
from tracker_worker.nova.replace import ReplaceResourceTracker
from tracker_worker.rpcapi import EXMODS, TrackerAPI

TIMEOUT = 0.3

hooks.hook_replacing_tracker(ReplaceResourceTracker)


class Calls(CastQueue):
    """Counts the calls."""

    made = 0

    def call(self, job: Any) -> Any:
        self.made += 1
        return super().call(job)


class WorkerAway(integrated_helpers.ProviderUsageBaseTestCase):  # type: ignore[misc]
    compute_driver = "fake.MediumFakeDriver"

    def setUp(self) -> None:
        super().setUp()
        transport = oslo_messaging.get_rpc_transport(cfg.CONF, url="fake://", allowed_remote_exmods=EXMODS)
        api = TrackerAPI(transport, exchange=uuidutils.generate_uuid(), timeout=TIMEOUT)
        self.casts = Calls(api, uuidutils.generate_uuid, time.sleep, time.monotonic, TIMEOUT)
        ReplaceResourceTracker.new_casts = staticmethod(lambda: self.casts)
        manager = self.start_service("compute", host="compute1").manager
        self.tracker = ReplaceResourceTracker(manager.host, manager.driver, manager.reportclient)
        self.tracker.set_service_ref(manager.rt.service_ref)
        self.context = context.get_admin_context()
        self.audit()

    def audit(self) -> None:
        self.tracker.update_available_resource(self.context, "compute1")

    def an_instance(self) -> Any:
        return instances.an_instance(self.context)

    def claim(self, instance: Any) -> None:
        self.tracker.instance_claim(self.context, instance, "compute1", {}, None)

    def test_claim_fails_and_leaves_the_instance_as_it_was(self) -> None:
        instance = self.an_instance()
        refused = self.assertRaises(exception.ComputeResourcesUnavailable, self.claim, instance)
        self.assertIn("no answer from the worker", str(refused))
        saved = objects.Instance.get_by_uuid(self.context, instance.uuid)
        self.assertEqual((None, None), (saved.host, saved.node))
        self.assertNotIn(instance.uuid, self.tracker.tracked_instances)

    def test_change_of_a_state_does_not_wait_once_the_worker_was_silent(self) -> None:
        instance = self.an_instance()
        self.tracker.tracked_instances.add(instance.uuid)
        before = self.casts.made
        for _ in range(3):
            self.tracker.update_usage(self.context, instance, "compute1")
        self.assertEqual(before, self.casts.made)

    def test_audit_asks_again(self) -> None:
        before = self.casts.made
        self.audit()
        self.assertEqual(before + 1, self.casts.made)

    def test_compute_node_keeps_the_usage_that_was_saved(self) -> None:
        node = objects.ComputeNode.get_by_host_and_nodename(self.context, "compute1", "compute1")
        node.vcpus_used = 3
        node.save()
        self.audit()
        node = objects.ComputeNode.get_by_host_and_nodename(self.context, "compute1", "compute1")
        self.assertEqual(3, node.vcpus_used)
