# SPDX-License-Identifier: Apache-2.0
"""Moves of a server with a PCI device, whose claim is granted and its reply lost: nothing stays of it."""

import time
from typing import Any

import fixtures
import oslo_messaging
from oslo_config import cfg
from oslo_serialization import jsonutils
from oslo_utils import uuidutils
from oslo_utils.versionutils import convert_version_to_int

from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import test_pci_sriov_servers
from nova.virt.libvirt import driver
from tests.nova.cluster import cloud
from tests.nova.inside import replaced
from tests.nova.workers import InProcessWorker
from tests.servers.server import wait_until
from tracker_worker.nova import devices, hooks
from tracker_worker.nova.cast_queue import CastQueue
from tracker_worker.nova.tapping import tapped

SECONDS = 20
HOSTS = ("test_compute0", "test_compute1")
ALIAS = "device"
DEVICE = {
    "vendor_id": fakelibvirt.PCI_VEND_ID,
    "product_id": fakelibvirt.VF_PROD_ID,
    "live_migratable": "yes",
}
GUESTS = {"migrate_disk_and_power_off": cloud._power_off, "_cleanup_resize": cloud._undefine_guest}
VERSIONS = {
    "libvirt_version": convert_version_to_int(driver.MIN_VFIO_PCI_VARIANT_LIBVIRT_VERSION),
    "qemu_version": convert_version_to_int(driver.MIN_VFIO_PCI_VARIANT_QEMU_VERSION),
}


class UndecidedMoves(test_pci_sriov_servers._PCIServersTestBase):  # type: ignore[misc]
    ADMIN_API = True
    CAST_AS_CALL = False
    microversion = "latest"
    PCI_DEVICE_SPEC = (jsonutils.dumps(DEVICE),)
    PCI_ALIAS = (jsonutils.dumps(DEVICE | {"name": ALIAS, "device_type": "type-VF"}),)

    def setUp(self) -> None:
        super().setUp()
        self.loses_replies = False
        self.flags(allow_resize_to_same_host=True)
        for owner, name, tap in hooks.READERS:
            reader = staticmethod(tapped(getattr(owner, name), tap))
            self.useFixture(fixtures.MonkeyPatch(f"{owner.__module__}.{owner.__name__}.{name}", reader))
        for owner, name, tap in hooks.BESIDE_THE_TRACKER:
            method = tapped(getattr(owner, name), tap)
            self.useFixture(fixtures.MonkeyPatch(f"{owner.__module__}.{owner.__name__}.{name}", method))
        for name, stand_in in GUESTS.items():
            self.useFixture(fixtures.MonkeyPatch(f"nova.virt.libvirt.driver.LibvirtDriver.{name}", stand_in))
        self.worker = self.useFixture(InProcessWorker(cfg.CONF))
        for host in HOSTS:
            has_devices = fakelibvirt.HostPCIDevicesInfo(num_pfs=1, num_vfs=4)
            self.start_compute(hostname=host, pci_info=has_devices, **VERSIONS)
            self.replace(host)
        self.flavors = [
            self._create_flavor(extra_spec={"pci_passthrough:alias": f"{ALIAS}:{number}"})
            for number in (1, 2)
        ]
        created = self._create_server(flavor_id=self.flavors[0], networks="none")
        self.server = self.api.get_server(created["id"])
        self.host = self.server["OS-EXT-SRV-ATTR:host"]

    def replace(self, host: str) -> None:
        """Replace the tracker of a host, whose calls lose their replies at the test's will."""
        api: Any = self.worker.connect()
        call = api._link.call

        def call_and_lose(*args: Any, **kwargs: Any) -> Any:
            reply = call(*args, **kwargs)
            if self.loses_replies:
                raise oslo_messaging.MessagingTimeout
            return reply

        api._link.call = call_and_lose
        manager = self.computes[host].manager
        casts = CastQueue(api, uuidutils.generate_uuid, time.sleep, time.monotonic, SECONDS)
        manager.rt = replaced.a_tracker(manager, casts)

    def audit(self) -> None:
        for host in HOSTS:
            self.computes[host].manager.rt.update_available_resource(self.ctxt, host)

    def claims(self) -> dict[str, list[tuple[str, list[str]]]]:
        """Compare Nova's devices with the worker's, and return the claims of each host."""
        held = {}
        for host in HOSTS:
            tracker = self.computes[host].manager.rt
            self.assertTrue(tracker.casts.drain(SECONDS))
            view = self.worker.api.get_node({}, host)
            known = tracker.pci_tracker.pci_devs
            self.assertEqual([], [*devices.taken(view, known), *devices.freed(view, known)])
            held[host] = [
                (claim["role"], [device["address"] for device in claim["pci_devices"]])
                for claim in view["claims"]
            ]
        return held

    def assert_undone(self, before: dict[str, list[tuple[str, list[str]]]]) -> None:
        """The claim was given back, and an audit finds nothing else to do."""
        self.assertEqual(before, self.claims())
        self.audit()
        self.assertEqual(before, self.claims())

    def undecided(self, action: str, body: Any, event: str | None) -> None:
        """Ask for a move whose claim is not decided; the server is then as it was. `event` is what fails."""
        before = self.api.get_server(self.server["id"])
        self.loses_replies = True
        self.api.post_server_action(self.server["id"], {action: body})
        if event is None:
            self._wait_for_migration_status(self.server, ["error"])
        else:
            self._wait_for_action_fail_completion(self.server, action, event)
        after = self._wait_for_server_parameter(self.server, {"OS-EXT-STS:task_state": None})
        self.loses_replies = False
        same = ("status", "OS-EXT-SRV-ATTR:host")
        self.assertEqual([before[name] for name in same], [after[name] for name in same])
        trackers = [self.computes[host].manager.rt for host in HOSTS]
        wait_until(lambda: all(tracker._answered for tracker in trackers), "probes are answered", SECONDS)

    def test_resize_and_migration(self) -> None:
        before = self.claims()
        for action, body in (("resize", {"flavorRef": self.flavors[1]}), ("migrate", None)):
            self.undecided(action, body, "compute_prep_resize")
            self.assert_undone(before)
        self._resize_server(self.server, self.flavors[1])
        self.claims()
        self._confirm_resize(self.server)
        ((_, addresses),) = [claim for claims in self.claims().values() for claim in claims]
        self.assertEqual(2, len(addresses))

    def test_live_migration(self) -> None:
        before = self.claims()
        self.undecided("os-migrateLive", {"host": None, "block_migration": "auto"}, None)
        self.assert_undone(before)

    def test_unshelve(self) -> None:
        self._shelve_server(self.server)
        before = self.claims()
        self.undecided("unshelve", None, "compute_unshelve_instance")
        self.assert_undone(before)
        self._unshelve_server(self.server)
        self.assertEqual(1, sum(map(len, self.claims().values())))

    def test_evacuation(self) -> None:
        before = self.claims()
        self.api.put_service_force_down(self.computes[self.host].service_ref.uuid, True)
        self.computes[self.host].stop()
        self.undecided("evacuate", {}, "compute_rebuild_instance")
        self.assert_undone(before)
        self._evacuate_server(self.server)
        self.restart_compute_service(self.host)
        self.replace(self.host)
        self.audit()
        after = self.claims()
        self.assertEqual([], after.pop(self.host))
        self.assertEqual(1, sum(map(len, after.values())))
