# SPDX-License-Identifier: Apache-2.0
"""A tracker that is replaced, and a worker: what is written back and when, and calls after an outage."""

import threading
import time
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_utils import uuidutils

from nova import context, exception, objects
from nova.tests.functional import integrated_helpers
from tests.nova.inside import instances, replaced
from tests.nova.workers import InProcessWorker
from tracker_worker.nova.cast_queue import RETRY_SECONDS, CastQueue

SECONDS = 20


class WorkerBack(integrated_helpers.ProviderUsageBaseTestCase):  # type: ignore[misc]
    compute_driver = "fake.MediumFakeDriver"

    def setUp(self) -> None:
        super().setUp()
        self.is_silent = False
        self.answered = threading.Event()
        worker = self.useFixture(InProcessWorker(cfg.CONF))
        api = worker.connect()
        self.call = api._link.call
        api._link.call = self.call_unless_silent
        self.casts: Any = CastQueue(api, uuidutils.generate_uuid, time.sleep, time.monotonic, SECONDS)
        self.context = context.get_admin_context()
        self.tracker: Any = replaced.a_tracker(
            self.start_service("compute", host="compute1").manager, self.casts
        )

    def call_unless_silent(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_silent:
            raise oslo_messaging.MessagingTimeout
        reply = self.call(*args, **kwargs)
        self.answered.set()
        return reply

    def claim(self) -> Any:
        instance = instances.an_instance(self.context)
        self.tracker.instance_claim(self.context, instance, "compute1", {}, None)
        return instance

    def update(self, instance: Any, **states: Any) -> None:
        for name, value in states.items():
            setattr(instance, name, value)
        instance.save()
        self.tracker.update_usage(self.context, instance, "compute1")
        self.assertTrue(self.casts.drain(SECONDS))

    def saved(self) -> Any:
        return objects.ComputeNode.get_by_host_and_nodename(self.context, "compute1", "compute1")

    def test_claim_after_the_worker_answers_again_is_granted_without_waiting(self) -> None:
        self.is_silent = True
        for _ in range(2):
            self.assertRaises(exception.ComputeResourcesUnavailable, self.claim)
        self.answered.clear()
        self.is_silent = False
        self.assertTrue(self.answered.wait(max(RETRY_SECONDS) + SECONDS))
        self.assertTrue(self.casts.drain(SECONDS))
        self.claim()
        self.assertEqual(1, self.saved().running_vms)

    def test_states_are_written_back_with_the_next_change_and_no_call_in_novas_lock(self) -> None:
        instance, made = self.claim(), list[str]()
        self.casts.call = lambda job: made.append("a call")
        self.update(instance, task_state="networking")
        self.assertEqual(0, self.saved().stats.get("num_task_networking", 0))
        self.update(instance, task_state="spawning")
        self.assertEqual("1", self.saved().stats["num_task_networking"])
        self.update(instance, vm_state="active", task_state=None)
        self.update(instance, task_state="image_snapshot")
        self.assertEqual(("1", 1), (self.saved().stats["num_vm_active"], self.saved().running_vms))
        self.assertEqual([], made)

    def test_view_from_before_a_claim_is_not_written_after_it(self) -> None:
        first = self.claim()
        self.update(first, task_state="networking")
        second = self.claim()
        self.assertEqual(2, self.saved().running_vms)
        self.update(second, task_state="networking")
        self.assertEqual(2, self.saved().running_vms)

    def test_release_is_written_back_at_once(self) -> None:
        instance = self.claim()
        self.update(instance, vm_state="deleted", task_state=None)
        self.assertEqual(0, self.saved().running_vms)

    def test_claim_whose_method_fails_is_given_back_through_a_full_queue(self) -> None:
        instance, blocked, go_on = instances.an_instance(self.context), threading.Event(), threading.Event()

        def fail(*args: Any) -> None:
            self.casts.put(lambda api: blocked.set())
            self.casts.put(lambda api: go_on.wait(SECONDS))
            self.assertTrue(blocked.wait(SECONDS))
            while self.casts.put(lambda api: None):
                pass
            raise exception.InstanceNotFound(instance_id=instance.uuid)

        self.tracker._set_instance_host_and_node = fail
        self.assertRaises(
            exception.InstanceNotFound,
            self.tracker.instance_claim,
            self.context,
            instance,
            "compute1",
            {},
            None,
        )
        self.assertGreaterEqual(self.casts.dropped, 1)
        go_on.set()
        self.assertTrue(self.casts.drain(SECONDS))
        view = self.casts.call(lambda api: api.get_node({}, "compute1"))
        self.assertEqual([], view["claims"])
