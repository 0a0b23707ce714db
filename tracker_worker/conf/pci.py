# SPDX-License-Identifier: Apache-2.0
"""[pci]: which devices instances may have, and the names under which flavors ask for them."""

from oslo_config import cfg

GROUP = cfg.OptGroup("pci", title="PCI devices")

OPTS = [
    cfg.MultiStrOpt(
        "device_spec",
        default=[],
        help="""
Which of the PCI devices in a report instances may have; not set, all of them.

Change it when compute managers report every device of a host. Leave it unset when they report what their own
device_spec lets pass. It must be the same for all workers, and takes effect at each node's next report.

A value is Nova's, a JSON object or a list of them. For example::

    device_spec = {"vendor_id": "8086", "product_id": "1515"}
    device_spec = {"address": "*:0a:00.*", "physical_network": "physnet1"}
    device_spec = {"address": "0000:0a:00.0", "trusted": "true"}
    device_spec = {"address": {"bus": "0[ab]", "function": "[2-7]"}}
    device_spec = [{"product_id": "0442"}, {"product_id": "0443"}]

Ids and the parts of an address are hexadecimal; what is left out is any. The full address of a physical
function stands for its virtual functions too. The first value that matches a device gives it its other keys
as tags: ``physical_network``, ``trusted``, ``remote_managed``, ``live_migratable``, ``managed`` and any of
your own. ``resource_class`` and ``traits`` are Placement's and not used. ``devname`` is refused: the worker
is not on the host.
""",
    ),
    cfg.MultiStrOpt(
        "alias",
        default=[],
        help="""
Names under which flavors ask for PCI devices in their extra spec ``pci_passthrough:alias``.

Change it when flavors have that extra spec: give it the values that nova-api and nova-compute have. It must
be the same for all workers. It takes effect at the claims of moves and boots that carry no computed requests.

A value is Nova's JSON object; values of one name are alternatives. For example::

    alias = {"name": "qat", "vendor_id": "8086", "product_id": "0442"}
    alias = {"name": "qat", "vendor_id": "8086", "product_id": "0443"}
    alias = {"name": "nic", "vendor_id": "8086", "product_id": "1528",
             "device_type": "type-PF", "numa_policy": "required"}

``device_type`` is ``type-PCI``, ``type-PF`` or ``type-VF``; a whole physical function is given away by
``type-PF`` only. ``numa_policy`` is ``required``, ``preferred``, ``legacy`` (the default) or ``socket``.
``live_migratable`` is ``true`` or ``false``. ``resource_class``, which may stand in for the ids, and
``traits`` are Placement's: devices are not compared by them.
""",
    ),
]
