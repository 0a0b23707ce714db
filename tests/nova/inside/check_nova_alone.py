# SPDX-License-Identifier: Apache-2.0
"""Faults of Nova without the adapter, in which the worker has the right number."""

from typing import Any

import fixtures

from nova.compute import claims
from nova.tests.fixtures import libvirt as fakelibvirt
from nova.tests.functional.libvirt import test_pci_sriov_servers


class NovaAlone(test_pci_sriov_servers._PCIServersTestBase):  # type: ignore[misc]
    ADMIN_API = True
    CAST_AS_CALL = False
    microversion = "latest"
    PCI_DEVICE_SPEC = test_pci_sriov_servers.PCIServersTest.PCI_DEVICE_SPEC
    PCI_ALIAS = test_pci_sriov_servers.PCIServersTest.PCI_ALIAS

    def setUp(self) -> None:
        super().setUp()
        # The adapter's other tests in this process have replaced it.
        self.useFixture(fixtures.MonkeyPatch("nova.compute.resource_tracker.claims", claims))
        for host in ("test_compute0", "test_compute1"):
            self.start_compute(hostname=host, pci_info=fakelibvirt.HostPCIDevicesInfo(num_pci=1))
        alias = test_pci_sriov_servers.PCIServersTest.ALIAS_NAME
        self.flavor = self._create_flavor(extra_spec={"pci_passthrough:alias": f"{alias}:1"})

    def a_server(self, host: str) -> Any:
        return self._create_server(flavor_id=self.flavor, networks="none", host=host)

    def assert_free(self, host: str, free: int) -> None:
        self._run_periodics()
        self.assertPCIDeviceCounts(host, total=1, free=free)

    def evacuate(self, server: Any, host: str) -> None:
        """Evacuate a server from its host, which is back afterwards."""
        compute = self.computes[host]
        compute.stop()
        self.api.put_service_force_down(compute.service_ref.uuid, True)
        self._evacuate_server(server)
        self.restart_compute_service(host)
        self.api.put_service_force_down(compute.service_ref.uuid, False)

    def test_device_of_an_evacuated_server_is_freed(self) -> None:
        server = self.a_server("test_compute0")
        self.evacuate(server, "test_compute0")
        self.assert_free("test_compute0", 1)

    def test_device_of_an_evacuated_server_is_kept_if_a_migration_has_failed_before(self) -> None:
        """PciDevTracker.clean_usage keeps what any migration in `error` names, for as long as it is there."""
        server, other = self.a_server("test_compute0"), self.a_server("test_compute1")
        self.api.post_server_action(server["id"], {"migrate": None})
        self._wait_for_migration_status(server, ["error"])
        self._delete_server(other)
        self.evacuate(server, "test_compute0")
        self.assert_free("test_compute0", 0)
        self._delete_server(server)
        self.assert_free("test_compute0", 1)
