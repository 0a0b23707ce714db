# SPDX-License-Identifier: Apache-2.0
"""Nova's answers, by the interpreter of an environment that has Nova: a JSON line in, a JSON line out.

An answer has one of `value`, `refused` (one of Nova's exceptions, with its text) and `failed` (any other).
"""

import json
import sys
from typing import Any

from nova import conf, exception, objects
from nova.pci import request, utils, whitelist
from nova.scheduler.utils import resources_from_flavor_and_bfv
from nova.virt import hardware
from oslo_utils import strutils

Json = dict[str, Any]
CONF = conf.CONF


def constraints(asked: Json) -> Json:
    flavor = _flavor(asked)
    image = objects.ImageMeta.from_dict({"properties": asked["image_properties"]})
    topology = hardware.numa_get_constraints(flavor, image)
    policy = hardware.get_pci_numa_policy_constraint(flavor, image)
    if topology is None:
        return {"topology": None, "pci_numa_policy": policy or None}
    cells = [
        {
            "id": cell.id,
            "cpuset": sorted(cell.cpuset),
            "pcpuset": sorted(cell.pcpuset),
            "memory": cell.memory,
            "pagesize": cell.pagesize or None,
            "cpu_policy": cell.cpu_policy,
            "cpu_thread_policy": cell.cpu_thread_policy,
        }
        for cell in topology.cells
    ]
    emulator = topology.emulator_threads_policy
    return {"topology": {"cells": cells, "emulator": emulator}, "pci_numa_policy": policy or None}


def _flavor(asked: Json) -> Any:
    sizes = {key: asked.get(key, 0) for key in ("vcpus", "memory_mb", "root_gb", "ephemeral_gb")}
    return objects.Flavor(name="f", flavorid="f", swap=0, extra_specs=asked["extra_specs"], **sizes)


def resources(asked: Json) -> Json:
    found = resources_from_flavor_and_bfv(_flavor(asked), asked["volume_backed"])
    return {
        "vcpus": found.get("VCPU", 0) + found.get("PCPU", 0),
        "memory_mb": found.get("MEMORY_MB", 0),
        "disk_gb": found.get("DISK_GB", 0),
    }


def networks(asked: Json) -> Json:
    cells = [_host_cell(id, networks) for id, networks in enumerate(asked["cells"])]
    wanted = asked["networks"] and objects.NetworkMetadata(**_sets(asked["networks"]))
    chosen = [cells[id] for id in asked["chosen"]]
    host = objects.NUMATopology(cells=cells)
    return {"near": hardware._numa_cells_support_network_metadata(host, chosen, wanted)}


def _host_cell(id: int, networks: Json | None) -> Any:
    cell = objects.NUMACell(id=id, cpuset=set(), pcpuset=set(), memory=1)
    if networks is not None:
        cell.network_metadata = objects.NetworkMetadata(**_sets(networks))
    return cell


def _sets(networks: Json) -> Json:
    return {"physnets": set(networks["physnets"]), "tunneled": networks["tunneled"]}


def device_specs(asked: Json) -> Json:
    devices = {device["address"]: device for device in asked["devices"]}
    _show_host(devices)
    specs = whitelist.Whitelist(asked["device_specs"])
    found: Json = {}
    for address, device in devices.items():
        try:
            spec = specs.device_assignable(device)
        except exception.PciConfigInvalidSpec:  # nova.pci.manager leaves the device out
            continue
        if spec is not None:
            found[address] = _tags(spec.get_tags())
    return {"assignable": found}


def _show_host(devices: Json) -> None:
    """Have Nova find the random devices where it looks into /sys."""
    utils.is_physical_function = lambda *parts: (
        devices.get(utils.get_pci_address(*parts), {}).get("dev_type") == "type-PF"
    )
    utils.get_vf_product_id_by_pf_addr = lambda address: next(
        (each["product_id"] for each in devices.values() if each.get("parent_addr") == address), None
    )
    utils.get_pci_ids_by_pci_addr = lambda address: (
        devices[address]["vendor_id"],
        devices[address]["product_id"],
    )


def _tags(tags: Json) -> Json:
    shown = {key: value for key, value in tags.items() if key not in ("resource_class", "traits")}
    if shown.get("remote_managed") is not None:
        shown["remote_managed"] = strutils.bool_from_string(shown["remote_managed"])
    return {key: value if value is None else str(value).lower() for key, value in shown.items()}


def aliases(asked: Json) -> Json:
    """Devices of Placement or not: each way allows aliases that the other one does not."""
    CONF.set_override("alias", asked["aliases"], "pci")
    try:
        return _requests(asked, in_placement=False)
    except exception.PciInvalidAlias:
        return _requests(asked, in_placement=True)


def _requests(asked: Json, in_placement: bool) -> Json:
    CONF.set_override("pci_in_placement", in_placement, "filter_scheduler")
    request.get_alias_from_config.cache_clear()
    request.get_alias_from_config()
    found = request._translate_alias_to_requests(asked["asked"], asked["numa_policy"])
    return {
        "requests": [
            {
                "count": each.count,
                "spec": [_lowered(spec) for spec in each.spec],
                "alias_name": each.alias_name,
                "numa_policy": each.numa_policy,
            }
            for each in found
        ]
    }


def _lowered(spec: Json) -> Json:
    """Nova compares ids whatever their case; it keeps a key that means nothing."""
    ids = {key: spec[key].lower() for key in ("vendor_id", "product_id") if key in spec}
    return {key: value for key, value in spec.items() if key != "capability_type"} | ids


ANSWERS = {
    "numa_get_constraints": constraints,
    "PCI aliases and requests": aliases,
    "device_spec": device_specs,
    "network_metadata": networks,
    "resources of a flavor": resources,
}


def answer(subject: str, asked: Json) -> Json:
    try:
        return {"value": ANSWERS[subject](asked)}
    except exception.NovaException as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def main() -> None:
    objects.register_all()
    CONF([], project="nova", default_config_files=[])
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
