# SPDX-License-Identifier: Apache-2.0
"""Nova in one process: API, conductor, scheduler, Placement and four computes, from its functional fixtures.

What stands in for Keystone, Glance, Neutron and Cinder are Nova's fixtures, too.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import fixtures
from oslo_serialization import jsonutils

from nova import context, objects
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import base

AUDIT_SECONDS = 10
"""Between two audits of a compute: Nova's default is a minute."""

FAKE_HOSTS = ("fake-1", "fake-2")
LIBVIRT_HOSTS = {
    "numa": {
        "host_info": {"cpu_nodes": 2, "cpu_sockets": 1, "cpu_cores": 3, "cpu_threads": 2},
        "pci_info": {"num_pfs": 1, "num_vfs": 4, "numa_node": 0},
    },
    "sriov": {
        "host_info": {"cpu_nodes": 2, "cpu_sockets": 1, "cpu_cores": 6, "cpu_threads": 1},
        "pci_info": {"num_pfs": 2, "num_vfs": 8},
    },
}
"""Arguments of HostInfo and HostPCIDevicesInfo of Nova's libvirt fixture: 12 CPUs each."""

HOSTS = (*FAKE_HOSTS, *LIBVIRT_HOSTS)

ZONES = {"fake": FAKE_HOSTS, "libvirt": tuple(LIBVIRT_HOSTS)}
"""Servers move within their availability zone: the drivers cannot take over each other's guests."""

VF_ALIAS = "vf"


class Cloud(base.ServersTestBase):  # type: ignore[misc]
    """The services and what a scenario needs of them."""

    ADDITIONAL_FILTERS = ("NUMATopologyFilter", "PciPassthroughFilter")
    ADMIN_API = True
    CAST_AS_CALL = False
    microversion = "latest"

    def setUp(self) -> None:
        self._configure()
        super().setUp()
        self.stopped: set[str] = set()
        for method, stand_in in self._of_guests().items():
            self.useFixture(fixtures.MonkeyPatch(method, stand_in))
        self._start_hosts()

    def audit(self) -> None:
        """Audit each compute that is up. Raises what an audit raises."""
        for host, admin in self._up():
            self.computes[host].manager.rt.update_available_resource(admin, host)

    def run_periodic_tasks(self) -> None:
        """Audit each compute that is up, as its periodic task does: what an audit raises is logged."""
        for host, admin in self._up():
            self.computes[host].manager.update_available_resource(admin)

    def free_kept_devices(self) -> list[str]:
        """Free the devices that Nova keeps for servers that were evacuated from their host; return these.

        Nova keeps them as long as a migration of the server is in error, without the adapter, too
        (tests/nova/inside/check_nova_alone.py).
        """
        freed = []
        for host, admin in self._up():
            pci_tracker = self.computes[host].manager.rt.pci_tracker
            for uuid in sorted({device.instance_uuid for device in pci_tracker.pci_devs} - {None}):
                instance = objects.Instance.get_by_uuid(admin, uuid)
                if instance.host != host and _is_evacuated(admin, host, uuid):
                    held = [device for device in pci_tracker.pci_devs if device.instance_uuid == uuid]
                    freed += [f"{host} {device.address} of {uuid}" for device in held]
                    pci_tracker.free_instance(admin, instance)
        return freed

    @contextmanager
    def audited(self) -> Iterator[None]:
        """Audit all computes again and again, beside what the block does."""
        ended = threading.Event()

        def repeat() -> None:
            while not ended.wait(AUDIT_SECONDS):
                self.run_periodic_tasks()

        auditor = threading.Thread(target=repeat, daemon=True)
        auditor.start()
        try:
            yield
        finally:
            ended.set()
            auditor.join()

    @contextmanager
    def away(self, host: str) -> Iterator[None]:
        """Have a compute stop, as seen by Nova, and start again with the guests that it had."""
        compute = self.computes[host]
        self.admin_api.put_service_force_down(compute.service_ref.uuid, True)
        self.stopped.add(host)
        compute.stop()
        try:
            yield
        finally:
            if host in FAKE_HOSTS:
                self.computes[host] = self._restart_fake(compute)
            else:
                self.restart_compute_service(host)
            self.admin_api.put_service_force_down(compute.service_ref.uuid, False)
            self.stopped.remove(host)

    def _up(self) -> Iterator[tuple[str, Any]]:
        """Return the hosts that are up, with a context for each."""
        for host in HOSTS:
            if host not in self.stopped:
                # target_cell would hold a lock of Nova's fixture, which the threads of an audit take, too.
                admin = context.get_admin_context()
                context.set_target_cell(admin, self.host_mappings[host].cell_mapping)
                yield host, admin

    def _configure(self) -> None:
        spec = {"vendor_id": fakelibvirt.PCI_VEND_ID, "product_id": fakelibvirt.VF_PROD_ID}
        self.flags(
            device_spec=[jsonutils.dumps(spec)],
            alias=[jsonutils.dumps(spec | {"name": VF_ALIAS, "device_type": "type-VF"})],
            group="pci",
        )
        self.flags(cpu_dedicated_set="0-9", cpu_shared_set="10-11", group="compute")
        self.flags(instances=-1, cores=-1, ram=-1, group="quota")
        self.flags(allow_resize_to_same_host=True)

    def _start_hosts(self) -> None:
        self.flags(compute_driver="fake.MediumFakeDriver")
        for host in FAKE_HOSTS:
            self.computes[host] = self.start_service("compute", host=host)
        self.flags(compute_driver="libvirt.LibvirtDriver")
        for host, described in LIBVIRT_HOSTS.items():
            self.start_compute(
                host,
                host_info=fakelibvirt.HostInfo(**described["host_info"]),
                pci_info=fakelibvirt.HostPCIDevicesInfo(**described["pci_info"]),
            )
        for zone, hosts in ZONES.items():
            aggregate = self._create_aggregate(zone, availability_zone=zone)
            for host in hosts:
                self.admin_api.add_host_to_aggregate(aggregate, host)

    def _restart_fake(self, compute: Any) -> Any:
        driver, cell = compute.manager.driver, self.host_mappings[compute.host].cell_mapping.name
        with mock.patch("nova.virt.driver.load_compute_driver", return_value=driver):
            return self.start_service("compute", host=compute.host, cell_name=cell)

    def _of_guests(self) -> dict[str, Any]:
        """Return what stands in for the guests and their disks, which there are not."""
        return {
            "nova.tests.fixtures.libvirt.Domain.migrateToURI3": self._migrate_guest,
            "nova.virt.fake.FakeDriver.post_live_migration": _forget_guest,
            "nova.virt.libvirt.driver.LibvirtDriver.migrate_disk_and_power_off": _power_off,
            "nova.virt.libvirt.driver.LibvirtDriver._cleanup_resize": _undefine_guest,
        }

    def _migrate_guest(self, domain: Any, destination: str, params: Any, flags: int) -> None:
        """Do what libvirt and QEMU do in a live migration."""
        host = destination.partition("://")[2].partition("/")[0]
        there = self.computes[host].driver._host.get_connection()
        there.defineXML(params["destination_xml"]).createWithFlags(0)
        domain.complete_job()


def _is_evacuated(admin: Any, host: str, uuid: str) -> bool:
    """Tell whether a server has left a host by an evacuation, and only failed moves of it name the host."""
    of_server = {"source_compute": host, "instance_uuid": uuid, "migration_type": "evacuation"}
    evacuations = objects.MigrationList.get_by_filters(admin, of_server)
    named = objects.MigrationList.get_in_progress_and_error(admin, host, host)
    counted = {each.status for each in named if each.instance_uuid == uuid}
    return counted == {"error"} and any(each.status in ("done", "completed") for each in evacuations)


def _forget_guest(driver: Any, context: Any, instance: Any, *args: Any) -> None:
    """The guest has left the host: Nova's fake driver would keep it, and refuse its return."""
    driver.instances.pop(instance.uuid, None)


def _power_off(driver: Any, context: Any, instance: Any, *args: Any, **kwargs: Any) -> str:
    """The guest ends before a cold migration; there is no disk to be moved."""
    driver.power_off(instance)
    return "{}"


def _undefine_guest(driver: Any, context: Any, instance: Any, network_info: Any) -> None:
    """The guest has left the host with a resize. Nova asks CONF.host, which all computes here share."""
    if instance.host != driver._host.get_hostname():
        driver._undefine_domain(instance)
