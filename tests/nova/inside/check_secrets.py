# SPDX-License-Identifier: Apache-2.0
"""Nothing but the named fields of an instance leaves the process."""

import json
import unittest
from typing import Any

from nova import context, objects
from nova.objects import fields
from tracker_worker.nova import conversion

SECRET = "never-leaves-the-process"
SENT = {
    "uuid",
    "project_id",
    "os_type",
    "vm_state",
    "task_state",
    "flavor",
    "system_metadata",
    "numa_topology",
    "pci_requests",
    "deleted",
}


def planted(field: Any) -> Any:
    """Return a value for a field of an instance that has the secret in it, None where there is no place."""
    if isinstance(field, fields.StringField):
        return SECRET
    if isinstance(field, fields.DictOfStringsField | fields.DictOfNullableStringsField):
        return {SECRET: SECRET}
    return None


class Secrets(unittest.TestCase):
    def test_secrets_in_every_other_field_stay(self) -> None:
        objects.register_all()
        instance = objects.Instance(context.get_admin_context(), uuid="3f0a1c52-7d0e-4a51-9a0b-1f6c4f3b8d21")
        filled = []
        for name, field in objects.Instance.fields.items():
            value = None if name in SENT else planted(field)
            if value is not None:
                setattr(instance, name, value)
                filled.append(name)
        instance.system_metadata = {
            f"image_{SECRET}": SECRET,
            "password_0": SECRET,
            "image_os_secret": SECRET,
        }
        instance.flavor = objects.Flavor(
            vcpus=1, memory_mb=1, root_gb=1, ephemeral_gb=0, swap=0, name="f", flavorid="1", extra_specs={}
        )
        instance.flavor.description = SECRET
        self.assertIn("user_data", filled)
        self.assertIn("key_data", filled)
        sent = json.dumps(conversion.instance(instance, volume_backed=False))
        self.assertNotIn(SECRET, sent)
