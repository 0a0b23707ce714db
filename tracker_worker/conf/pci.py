# SPDX-License-Identifier: Apache-2.0
"""[pci]: which devices can be assigned to instances, and the aliases by which flavors request them."""

from oslo_config import cfg

GROUP = cfg.OptGroup("pci", title="PCI devices")

OPTS = [
    cfg.MultiStrOpt(
        "device_spec",
        default=[],
        help="""
PCI devices of a report that can be assigned to instances. If it is not set, all of them can.

Set it when compute managers report every device of a host. Leave it unset when they report only the devices
that their own device_spec matches. It must be the same for all workers. It takes effect at each node's next
report.

A value is a JSON object, or a list of them, as in Nova. For example::

    device_spec = {"vendor_id": "8086", "product_id": "1515"}
    device_spec = {"address": "*:0a:00.*", "physical_network": "physnet1"}
    device_spec = {"address": "0000:0a:00.0", "trusted": "true"}
    device_spec = {"address": {"bus": "0[ab]", "function": "[2-7]"}}
    device_spec = [{"product_id": "0442"}, {"product_id": "0443"}]

Ids and the parts of an address are hexadecimal; a part that is left out matches any. The full address of a
physical function also matches its virtual functions. The first value that matches a device adds its other
keys to the device as tags: ``physical_network``, ``trusted``, ``remote_managed``, ``live_migratable``,
``managed`` and any others. ``resource_class`` and ``traits`` are for Placement, without effect. ``devname``
is rejected: the worker does not run on the host.
""",
    ),
    cfg.MultiStrOpt(
        "alias",
        default=[],
        help="""
Names by which flavors request PCI devices in their extra spec ``pci_passthrough:alias``.

Set it when flavors have that extra spec, to the values of nova-api and nova-compute. It must be the same for
all workers. It takes effect at claims of boots and moves that carry no computed requests.

A value is a JSON object, as in Nova. Several values with one name are alternatives. For example::

    alias = {"name": "qat", "vendor_id": "8086", "product_id": "0442"}
    alias = {"name": "qat", "vendor_id": "8086", "product_id": "0443"}
    alias = {"name": "nic", "vendor_id": "8086", "product_id": "1528",
             "device_type": "type-PF", "numa_policy": "required"}

``device_type`` is ``type-PCI``, ``type-PF`` or ``type-VF``; a whole physical function is assigned for
``type-PF`` only. ``numa_policy`` is ``required``, ``preferred``, ``legacy`` (the default) or ``socket``.
``live_migratable`` is ``true`` or ``false``. ``resource_class``, which may replace the ids, and
``traits`` are for Placement: devices are not matched by them.
""",
    ),
]
