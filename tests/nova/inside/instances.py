# SPDX-License-Identifier: Apache-2.0
"""An instance in Nova's database that is about to be built."""

from typing import Any

from oslo_utils import uuidutils

from nova import objects


def an_instance(context: Any, vcpus: int = 1, memory_mb: int = 512, root_gb: int = 1, **more: Any) -> Any:
    """Return a new one, of the size of 1 vcpu, 512 MB and 1 GB where nothing else is said."""
    given = {
        "project_id": "project",
        "user_id": "user",
        "vm_state": "building",
        "image_ref": uuidutils.generate_uuid(),
        "flavor": objects.Flavor(
            id=1,
            name="m1.small",
            flavorid="2",
            vcpus=vcpus,
            memory_mb=memory_mb,
            root_gb=root_gb,
            ephemeral_gb=0,
            swap=0,
            extra_specs={},
        ),
        "old_flavor": None,
        "new_flavor": None,
        "system_metadata": {"image_hw_machine_type": "pc"},
        "numa_topology": None,
        "pci_requests": objects.InstancePCIRequests(requests=[]),
        "migration_context": None,
    }
    instance = objects.Instance(context, **given | more)
    instance.create()
    return instance
