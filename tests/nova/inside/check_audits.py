# SPDX-License-Identifier: Apache-2.0
"""Audits of a tap and a mirror: those that Nova does not finish, what they forget, and what they compare."""

import time
from typing import Any

import fixtures
import oslo_messaging
from oslo_config import cfg
from oslo_utils import uuidutils

from nova import context, objects
from nova.tests.functional import integrated_helpers
from tests.nova.inside import instances
from tests.nova.workers import InProcessWorker
from tracker_worker.nova import hooks
from tracker_worker.nova.cast_queue import CastQueue
from tracker_worker.nova.mirror import MirrorResourceTracker
from tracker_worker.nova.tapping import tapped

SECONDS = 20

NODE = "compute1"


class Mirror(MirrorResourceTracker):
    """A mirror, hooked."""


hooks.hook_tracker(Mirror)


class PlacementAway(Exception):
    """What Nova's audit raises."""


class Audits(integrated_helpers.ProviderUsageBaseTestCase):  # type: ignore[misc]
    compute_driver = "fake.MediumFakeDriver"

    def setUp(self) -> None:
        super().setUp()
        for owner, name, tap in hooks.READERS:
            reader = staticmethod(tapped(getattr(owner, name), tap))
            self.useFixture(fixtures.MonkeyPatch(f"{owner.__module__}.{owner.__name__}.{name}", reader))
        self.worker: Any = self.useFixture(InProcessWorker(cfg.CONF)).connect()
        self.casts: Any = CastQueue(self.worker, uuidutils.generate_uuid, time.sleep, time.monotonic, SECONDS)
        Mirror.new_casts = staticmethod(lambda: self.casts)
        manager = self.start_service("compute", host=NODE).manager
        self.tracker: Any = Mirror(manager.host, manager.driver, manager.reportclient)
        self.tracker.set_service_ref(manager.rt.service_ref)
        self.context = context.get_admin_context()
        self.audit()

    def audit(self) -> None:
        self.tracker.update_available_resource(self.context, NODE)
        self.assertTrue(self.casts.drain(SECONDS))

    def fail_in(self, method: str) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise PlacementAway

        setattr(self.tracker, method, fail)

    def a_saved_instance(self) -> Any:
        """Return an instance that was claimed by something that has no tap."""
        instance = instances.an_instance(self.context)
        instance.host = instance.node = NODE
        instance.compute_id = self.tracker.compute_nodes[NODE].id
        instance.save()
        return instance

    def a_resized_instance(self) -> Any:
        """Return one that is being resized on its node."""
        instance = self.a_saved_instance()
        migration = objects.Migration(
            self.context,
            uuid=uuidutils.generate_uuid(),
            instance_uuid=instance.uuid,
            migration_type="resize",
            status="migrating",
            source_compute=NODE,
            source_node=NODE,
            dest_compute=NODE,
            dest_node=NODE,
            dest_compute_id=instance.compute_id,
        )
        migration.create()
        instance.old_flavor = instance.new_flavor = instance.flavor
        instance.migration_context = objects.MigrationContext(
            self.context,
            instance_uuid=instance.uuid,
            migration_id=migration.id,
            old_numa_topology=None,
            new_numa_topology=None,
            old_pci_devices=objects.PciDeviceList(),
            new_pci_devices=objects.PciDeviceList(),
            old_pci_requests=objects.InstancePCIRequests(requests=[]),
            new_pci_requests=objects.InstancePCIRequests(requests=[]),
        )
        instance.vm_state, instance.task_state = "active", "resize_migrating"
        instance.save()
        return instance

    def startups(self) -> list[bool]:
        """Return a list that gets the `startup` of each audit that is sent from now on."""
        sent, send = list[bool](), self.worker.update_available_resource

        def note(*args: Any, startup: bool, **kwargs: Any) -> None:
            sent.append(startup)
            send(*args, startup=startup, **kwargs)

        self.worker.update_available_resource = note
        return sent

    def claims(self) -> list[str]:
        return [claim["instance_uuid"] for claim in self.worker.get_node({}, NODE)["claims"]]

    def test_audit_that_fails_after_it_has_read_is_cast_and_not_compared(self) -> None:
        instance, compared = self.a_saved_instance(), self.tracker.audits_compared
        self.fail_in("_update_to_placement")
        self.assertRaises(PlacementAway, self.audit)
        self.assertTrue(self.casts.drain(SECONDS))
        self.assertEqual([instance.uuid], self.claims())
        self.assertEqual(compared, self.tracker.audits_compared)

    def test_audit_that_fails_before_it_has_read_all_is_not_cast(self) -> None:
        self.a_saved_instance()
        self.useFixture(
            fixtures.MonkeyPatch("nova.objects.MigrationList.get_in_progress_and_error", lambda *args: 1 / 0)
        )
        self.assertRaises(ZeroDivisionError, self.audit)
        self.assertTrue(self.casts.drain(SECONDS))
        self.assertEqual([], self.claims())

    def test_audit_that_fails_before_migrations_have_their_instances_releases_no_claim(self) -> None:
        instance = self.a_resized_instance()
        self.audit()
        self.assertEqual([instance.uuid] * 2, self.claims())
        self.fail_in("_ensure_compute_id_for_instances")
        self.assertRaises(PlacementAway, self.audit)
        self.assertTrue(self.casts.drain(SECONDS))
        self.assertEqual([instance.uuid] * 2, self.claims())

    def test_startup_of_an_audit_that_is_not_cast_passes_to_the_next_that_is(self) -> None:
        sent = self.startups()
        with fixtures.MonkeyPatch(
            "nova.objects.MigrationList.get_in_progress_and_error", lambda *args: 1 / 0
        ):
            self.assertRaises(
                ZeroDivisionError, self.tracker.update_available_resource, self.context, NODE, startup=True
            )
        for _ in range(2):
            self.audit()
        self.assertEqual([True, False], sent)

    def test_tap_that_fails_too_does_not_hide_what_nova_raises(self) -> None:
        self.fail_in("_update_to_placement")
        self.tracker.audited = lambda *args: 1 / 0
        with self.assertLogs("tracker_worker.nova.tapping", "ERROR"):
            self.assertRaises(PlacementAway, self.audit)

    def test_what_has_left_without_a_tap_is_forgotten_by_the_audit_after_the_next(self) -> None:
        here, elsewhere = self.a_saved_instance(), instances.an_instance(self.context)
        self.tracker.converted(elsewhere)
        self.tracker.remember_move(elsewhere.uuid, "migration-1")
        self.audit()
        self.assertEqual({here.uuid, elsewhere.uuid}, set(self.tracker._last))
        self.assertEqual({elsewhere.uuid: "migration-1"}, self.tracker.moves)
        self.audit()
        self.assertEqual({here.uuid}, set(self.tracker._last))
        self.assertEqual(({here.uuid}, {}), (set(self.tracker.is_bfv), self.tracker.moves))

    def test_instances_of_a_node_are_kept_until_it_is_audited(self) -> None:
        other = instances.an_instance(self.context)
        self.tracker.compute_nodes["compute2"] = self.tracker.compute_nodes[NODE]
        self.tracker.converted(other)
        for _ in range(3):
            self.audit()
        self.assertIn(other.uuid, self.tracker._last)

    def test_audit_during_which_another_thread_casts_is_not_compared(self) -> None:
        compared = self.tracker.audits_compared
        self.tracker._report_final_resource_view = self.tracker.build_failed
        self.audit()
        self.assertEqual(compared, self.tracker.audits_compared)
        del self.tracker._report_final_resource_view
        self.audit()
        self.assertEqual(compared + 1, self.tracker.audits_compared)
        self.assertEqual([], self.tracker.differences)

    def test_comparisons_do_not_wait_for_a_worker_that_has_not_answered_one(self) -> None:
        asked = []

        def unanswered(*args: Any) -> None:
            asked.append(args[1])
            raise oslo_messaging.MessagingTimeout

        compared, self.worker._link.call = self.tracker.audits_compared, unanswered
        self.casts.put_later = lambda seconds, job: None
        for _ in range(3):
            self.audit()
        self.assertEqual(["get_node"] * 2, asked)  # One comparison, and the first probe.
        self.assertEqual(compared, self.tracker.audits_compared)
