# SPDX-License-Identifier: Apache-2.0
"""An instance in Nova's database that is about to be built."""

from typing import Any

from oslo_utils import uuidutils

from nova import objects


def an_instance(context: Any) -> Any:
    """Return a new one: 1 vcpu, 512 MB, 1 GB."""
    instance = objects.Instance(
        context,
        project_id="project",
        user_id="user",
        vm_state="building",
        image_ref=uuidutils.generate_uuid(),
        flavor=objects.Flavor(
            id=1,
            name="m1.small",
            flavorid="2",
            vcpus=1,
            memory_mb=512,
            root_gb=1,
            ephemeral_gb=0,
            swap=0,
            extra_specs={},
        ),
        old_flavor=None,
        new_flavor=None,
        system_metadata={"image_hw_machine_type": "pc"},
        numa_topology=None,
        pci_requests=objects.InstancePCIRequests(requests=[]),
        migration_context=None,
    )
    instance.create()
    return instance
