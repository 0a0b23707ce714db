# SPDX-License-Identifier: Apache-2.0
"""PCI devices of a tracker that is replaced, where Nova and the worker differ, and nodes that do."""

import time
from typing import Any
from unittest import mock

from oslo_config import cfg
from oslo_utils import uuidutils

from nova import exception, objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import test_pci_sriov_servers
from tests.nova.inside import instances, replaced
from tests.nova.workers import InProcessWorker
from tracker_worker.nova import devices
from tracker_worker.nova.cast_queue import CastQueue

SECONDS = 20


class Devices(test_pci_sriov_servers._PCIServersTestBase):  # type: ignore[misc]
    ADMIN_API = True
    microversion = "latest"
    PCI_DEVICE_SPEC = test_pci_sriov_servers.PCIServersTest.PCI_DEVICE_SPEC
    PCI_ALIAS = test_pci_sriov_servers.PCIServersTest.PCI_ALIAS

    def setUp(self) -> None:
        super().setUp()
        self.worker = self.useFixture(InProcessWorker(cfg.CONF))
        self.trackers = {host: self.a_compute(host) for host in ("test_compute0", "test_compute1")}
        alias = test_pci_sriov_servers.PCIServersTest.ALIAS_NAME
        self.flavor = self._create_flavor(extra_spec={"pci_passthrough:alias": f"{alias}:1"})

    def a_compute(self, host: str) -> Any:
        self.start_compute(hostname=host, pci_info=fakelibvirt.HostPCIDevicesInfo(num_pci=3))
        manager = self.computes[host].manager
        casts = CastQueue(self.worker.connect(), uuidutils.generate_uuid, time.sleep, time.monotonic, SECONDS)
        manager.rt = replaced.a_tracker(manager, casts)
        return manager.rt

    def a_server(self, host: str) -> Any:
        return self._create_server(flavor_id=self.flavor, networks="none", host=host)

    def assert_same_devices(self, host: str) -> None:
        tracker = self.trackers[host]
        self.assertTrue(tracker.casts.drain(SECONDS))
        view, known = self.worker.api.get_node({}, host), tracker.pci_tracker.pci_devs
        self.assertEqual([], [*devices.taken(view, known), *devices.freed(view, known)])

    def test_device_that_nova_has_leaked_hinders_nobody_else(self) -> None:
        moving = self.a_server("test_compute0")
        failure = exception.ResourceProviderUpdateFailed(url="http://placement", error="away")
        with mock.patch.object(self.trackers["test_compute1"], "_update_to_placement", side_effect=failure):
            self.api.post_server_action(moving["id"], {"migrate": None}, check_response_status=[202, 500])
            self._wait_for_migration_status(moving, ["error"])
        for _ in range(2):
            self.a_server("test_compute1")
        self.assert_same_devices("test_compute1")

    def test_claim_that_fails_in_nova_is_undone(self) -> None:
        server, tracker = self.a_server("test_compute0"), self.trackers["test_compute0"]
        request = objects.InstancePCIRequest(
            count=1,
            spec=[{"vendor_id": fakelibvirt.PCI_VEND_ID, "product_id": fakelibvirt.PCI_PROD_ID}],
            request_id=uuidutils.generate_uuid(),
        )
        requests = objects.InstancePCIRequests(instance_uuid=server["id"], requests=[request])
        failure = exception.PciDeviceNotFound(node_id=1, address="0000:81:00.0")
        with mock.patch.object(tracker.pci_tracker, "claim_instance", side_effect=failure):
            self.assertRaises(
                exception.PciDeviceNotFound, tracker.claim_pci_devices, self.ctxt, requests, None
            )
        self.assert_same_devices("test_compute0")

    def test_view_of_another_uuid_is_not_written(self) -> None:
        tracker, host = self.trackers["test_compute0"], "test_compute0"
        node = tracker.compute_nodes[host]
        self.worker.api.remove_node({}, host, force=True)
        other = {"uuid": uuidutils.generate_uuid(), "host": host, "vcpus": 3, "memory_mb": 3, "local_gb": 3}
        self.worker.api.update_available_resource({}, host, other)
        self.worker.api.get_node({}, host)
        before = node.free_ram_mb
        tracker.update_available_resource(self.ctxt, host)
        self.assertEqual(before, node.free_ram_mb)
        instance = instances.an_instance(self.ctxt)
        refused = self.assertRaises(
            exception.ComputeResourcesUnavailable, tracker.instance_claim, self.ctxt, instance, host, {}, None
        )
        self.assertIn("by another uuid", str(refused))
