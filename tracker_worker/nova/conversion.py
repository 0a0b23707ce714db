# SPDX-License-Identifier: Apache-2.0
"""Converts Nova's objects to the forms of the commands (doc/source/user/commands.rst). Pure; any thread.

Takes named fields only: what else an instance carries (user data, keys, passwords, injected files) does
not leave the process. Reads only fields that are set: reading another one makes Nova query its database.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

_IMAGE = "image_"
_HARDWARE = "hw_"
_DEVICE_FIELDS = ("address", "vendor_id", "product_id", "dev_type", "numa_node", "parent_addr", "label")
_DEVICE_KEYS_OF_A_POOL = {"vendor_id", "product_id", "dev_type", "numa_node", "address", "rp_uuid"}


def given(thing: Any, field: str) -> Any:
    """Return a field of one of Nova's objects, None if it is not set."""
    return getattr(thing, field) if thing is not None and thing.obj_attr_is_set(field) else None


def flavor(thing: Any) -> Json:
    """Return a flavor: memory in MB, disks in GB, swap in MB."""
    names = ("vcpus", "memory_mb", "root_gb", "ephemeral_gb", "name")
    return {
        **{name: given(thing, name) for name in names},
        "swap_mb": given(thing, "swap") or 0,
        "id": given(thing, "flavorid"),
        "extra_specs": dict(given(thing, "extra_specs") or {}),
    }


def instance(thing: Any, *, volume_backed: bool, last: Json | None = None) -> Json:
    """Return an instance; `last`, its conversion before, has what Nova did not load this time."""
    system_metadata = given(thing, "system_metadata")
    of_flavor = given(thing, "flavor")
    loaded = {
        "uuid": thing.uuid,
        "project_id": given(thing, "project_id"),
        "os_type": given(thing, "os_type"),
        "vm_state": given(thing, "vm_state"),
        "volume_backed": volume_backed,
        "flavor": flavor(of_flavor) if of_flavor is not None else None,
        "image_properties": None if system_metadata is None else _hardware_properties(system_metadata),
        "pci_requests": pci_requests(given(thing, "pci_requests")),
        "deleted": bool(given(thing, "deleted")),
    }
    states = {"task_state": given(thing, "task_state")}
    if thing.obj_attr_is_set("numa_topology") or last is None:
        states["numa_topology"] = numa_topology(given(thing, "numa_topology"))
    known = {key: value for key, value in (last or {}).items() if key not in ("task_state", "pci_devices")}
    return _present({**known, **_present(loaded), **states})


def image_properties(thing: Any) -> Json:
    """Return the hardware properties (hw_*) of an ImageMeta or of an image as Glance's API describes it."""
    if isinstance(thing, Mapping):
        return _hardware({name: value for name, value in (thing.get("properties") or {}).items()})
    properties = given(thing, "properties")
    if properties is None:
        return {}
    return _hardware({name: given(properties, name) for name in properties.fields})


def numa_topology(thing: Any) -> Json | None:
    """Return an instance's NUMA topology with its pins: memory in MB, page sizes in KiB."""
    if thing is None:
        return None
    policy = given(thing, "emulator_threads_policy")
    return _present({"cells": [_cell(cell) for cell in thing.cells], "emulator_threads_policy": policy})


def pci_requests(thing: Any) -> list[Json] | None:
    """Return the requests of an InstancePCIRequests, None if there is none."""
    return None if thing is None else [_pci_request(request) for request in thing.requests]


def migration(
    thing: Any, *, old_flavor: Json | None, new_flavor: Json | None, node: str | None = None
) -> Json:
    """Return a migration. `node` is the source's, which Nova does not set before a live migration's claim."""
    source_node = given(thing, "source_node")
    return _present(
        {
            "uuid": thing.uuid,
            "type": given(thing, "migration_type"),
            "status": given(thing, "status"),
            "instance_uuid": thing.instance_uuid,
            "source_node": node if source_node is None else source_node,
            "dest_node": given(thing, "dest_node"),
            "source_host": given(thing, "source_compute"),
            "dest_host": given(thing, "dest_compute"),
            "old_flavor": old_flavor,
            "new_flavor": new_flavor,
            "created_at": _time(given(thing, "created_at")),
            "updated_at": _time(given(thing, "updated_at")),
        }
    )


def limits(thing: Any) -> Json | None:
    """Return the scheduler's limits (SchedulerLimits or its dict), None if it sent none."""
    if not thing:
        return None
    if not isinstance(thing, Mapping):
        thing = {name: given(thing, name) for name in ("vcpu", "memory_mb", "disk_gb", "numa_topology")}
    converted = _present({name: thing.get(name) for name in ("vcpu", "memory_mb", "disk_gb")})
    of_topology = thing.get("numa_topology")
    if of_topology is None:
        return converted or None
    ratios = ("cpu_allocation_ratio", "ram_allocation_ratio")
    topology = {name: given(of_topology, name) for name in ratios}
    topology["network_metadata"] = network_metadata(given(of_topology, "network_metadata"))
    return converted | {"numa_topology": _present(topology)}


def network_metadata(thing: Any) -> Json | None:
    """Return the physical networks and the tunnels that a cell or a request names."""
    if thing is None:
        return None
    return {
        "physnets": sorted(given(thing, "physnets") or ()),
        "tunneled": bool(given(thing, "tunneled")),
    }


def pci_device(thing: Any, pool: Mapping[str, Any]) -> Json:
    """Return a host's device. `pool` has the keys of Nova's pool for it, tags of device_spec included."""
    tags = {name: value for name, value in pool.items() if name not in _DEVICE_KEYS_OF_A_POOL}
    return _present({name: given(thing, name) for name in _DEVICE_FIELDS}) | ({"tags": tags} if tags else {})


def addresses(devices: Iterable[Any]) -> list[str]:
    """Return the PCI addresses of devices, sorted."""
    return sorted(device.address for device in devices)


def _cell(cell: Any) -> Json:
    pinning = given(cell, "cpu_pinning_raw")
    return _present(
        {
            "id": cell.id,
            "cpuset": sorted(cell.cpuset),
            "pcpuset": sorted(given(cell, "pcpuset") or ()),
            "memory": cell.memory,
            "pagesize": given(cell, "pagesize"),
            "cpu_policy": given(cell, "cpu_policy"),
            "cpu_thread_policy": given(cell, "cpu_thread_policy"),
            "cpu_pinning": {str(guest): host for guest, host in pinning.items()} if pinning else None,
            "cpuset_reserved": sorted(given(cell, "cpuset_reserved") or ()) or None,
        }
    )


def _pci_request(request: Any) -> Json:
    policy = given(request, "numa_policy")
    return _present(
        {
            "count": request.count,
            "spec": [dict(spec) for spec in request.spec],
            "request_id": given(request, "request_id"),
            "alias_name": given(request, "alias_name"),
            "numa_policy": policy,
            "source": "flavor_alias" if given(request, "alias_name") else "neutron_port",
        }
    )


def _hardware_properties(system_metadata: Mapping[str, Any]) -> Json:
    """Return the image's properties that Nova keeps in the system metadata of an instance."""
    return _hardware(
        {name.removeprefix(_IMAGE): v for name, v in system_metadata.items() if name.startswith(_IMAGE)}
    )


def _hardware(properties: Mapping[str, Any]) -> Json:
    return {
        name: str(value)
        for name, value in properties.items()
        if name.startswith(_HARDWARE) and value is not None
    }


def _time(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat()


def _present(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
