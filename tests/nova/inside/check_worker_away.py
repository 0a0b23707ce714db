# SPDX-License-Identifier: Apache-2.0
"""A tracker that is replaced, and no worker that answers: claims fail, nothing leaks, nothing else waits."""

import time
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_utils import uuidutils

from nova import context, exception, objects
from nova.tests.functional import integrated_helpers
from tests.nova.inside import instances, replaced
from tracker_worker.nova import worker_claims
from tracker_worker.nova.cast_queue import CastQueue
from tracker_worker.rpcapi import EXMODS, TrackerAPI

TIMEOUT = 0.3


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
        self.context = context.get_admin_context()
        self.tracker = replaced.a_tracker(self.start_service("compute", host="compute1").manager, self.casts)

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

    def test_first_call_waits_and_later_ones_do_not_until_a_probe_was_answered(self) -> None:
        self.assertEqual(1, self.casts.made)  # Of the first audit.
        self.audit()
        self.assertRaises(exception.ComputeResourcesUnavailable, self.claim, self.an_instance())
        self.assertEqual(1, self.casts.made)

    def test_resize_keeps_the_servers_state_when_no_other_host_is_found(self) -> None:
        """Nova's prep_resize schedules again after any exception, and sets ERROR but after this one."""
        instance = self.an_instance()
        instance.host = instance.node = "elsewhere"
        failed = self.assertRaises(exception.InstanceFaultRollback, self.move, "resize", instance)
        self.assertIn("no answer from the worker", failed.inner_exception.format_message())

    def test_other_moves_fail_as_a_refused_claim_of_which_nova_keeps_the_servers_state(self) -> None:
        for kind in ("live-migration", "evacuation"):
            instance = self.an_instance()
            instance.host = instance.node = "elsewhere"
            self.assertRaises(exception.ComputeResourcesUnavailable, self.move, kind, instance)

    def test_devices_of_a_live_migration_fail_as_its_pre_check(self) -> None:
        def claimed(*args: Any) -> None:
            try:
                self.claim(self.an_instance())
            except exception.ComputeResourcesUnavailable as error:
                raise exception.PciDeviceRequestFailed(requests=[]) from error

        def refused(*args: Any) -> None:
            raise exception.PciDeviceRequestFailed(requests=[])

        failed = self.assertRaises(exception.MigrationPreCheckError, worker_claims.pre_check(claimed))
        self.assertIn("no answer from the worker", failed.format_message())
        self.assertRaises(exception.PciDeviceRequestFailed, worker_claims.pre_check(refused))

    def move(self, kind: str, instance: Any) -> None:
        migration = objects.Migration(
            self.context, migration_type=kind, instance_uuid=instance.uuid, uuid=uuidutils.generate_uuid()
        )
        migration.create()
        if kind == "resize":
            self.tracker.resize_claim(self.context, instance, instance.flavor, "compute1", migration, {})
        elif kind == "evacuation":
            self.tracker.rebuild_claim(self.context, instance, "compute1", {}, migration=migration)
        else:
            self.tracker.live_migration_claim(self.context, instance, "compute1", migration, None, {})

    def test_compute_node_keeps_the_usage_that_was_saved(self) -> None:
        node = objects.ComputeNode.get_by_host_and_nodename(self.context, "compute1", "compute1")
        node.vcpus_used = 3
        node.save()
        self.audit()
        node = objects.ComputeNode.get_by_host_and_nodename(self.context, "compute1", "compute1")
        self.assertEqual(3, node.vcpus_used)
