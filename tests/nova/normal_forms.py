# SPDX-License-Identifier: Apache-2.0
"""What a recorded command and a cast one may differ in, one function a reason. Pure; all of them copy.

A trace was recorded by a tap that shared one memory of instances among all hosts of the test's process, that
cast claims as requests, and that spoke an earlier form of the commands. Everything else has to be equal.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any

Json = dict[str, Any]
Form = Callable[[Json], Json]

_CLAIMS = ("instance_claim", "resize_claim", "live_migration_claim", "rebuild_claim")
_MOVE_CLAIMS = _CLAIMS[1:]
_DISABLED = "COMPUTE_STATUS_DISABLED"
_NAMES = ("node", "host", "source_node", "dest_node", "source_host", "dest_host")
_SUFFIX = re.compile(r"\.[0-9a-f]{6}$")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")


def without_refused(commands: Iterable[Json]) -> list[Json]:
    """A refused claim was recorded. A tap casts what was done, and a refused claim has done nothing."""
    return [each for each in commands if each.get("expect", {}).get("outcome") != "refused"]


def decided(command: Json) -> Json:
    """A claim was recorded as a request, and what Nova chose beside it. A tap casts what Nova chose."""
    if command["method"] not in _CLAIMS:
        return command
    args, chosen = deepcopy(command["args"]), command["expect"].get("claim", {})
    holder, prefix = (
        (args["instance"], "") if command["method"] == "instance_claim" else (args["migration"], "new_")
    )
    if "numa_topology" in chosen:
        holder[f"{prefix}numa_topology"] = chosen["numa_topology"]
    holder[f"{prefix}pci_devices"] = sorted(device["address"] for device in chosen.get("pci_devices", ()))
    return command | {"args": args | {"decided": True}}


def without_suffix(command: Json) -> Json:
    """Nodes and hosts were recorded with a suffix of the trace: host1.b68e45."""

    def strip(each: Json) -> Json:
        return {
            name: _SUFFIX.sub("", value) if name in _NAMES and isinstance(value, str) else value
            for name, value in each.items()
        }

    return command | {"args": _everywhere(command["args"], strip)}


def with_disabled(command: Json) -> Json:
    """`disabled` of an audit is new. The recorded traits of the node say the same."""
    if command["method"] != "update_available_resource":
        return command
    args = command["args"]
    return command | {"args": args | {"disabled": _DISABLED in args["resources"].get("traits", ())}}


def without_stamps(command: Json) -> Json:
    """Ids and counters that the client makes are not in a recording: a replay makes its own."""
    return command | {"args": _without(command["args"], "event_id", "as_of")}


def without_newer_arguments(command: Json) -> Json:
    """Arguments that the commands did not have when the traces were recorded.

    network_metadata of host cells and limits, numa_topology and pci_devices of claim_pci_devices, host of
    remove_node, devices of migrations in audits.
    """
    newer = {"claim_pci_devices": ("numa_topology", "pci_devices"), "remove_node": ("host",)}
    everywhere = ["network_metadata"]
    if command["method"] == "update_available_resource":
        everywhere += ["old_pci_devices", "new_pci_devices"]
    args = _without(command["args"], *newer.get(command["method"], ()))
    return command | {"args": _everywhere(args, lambda each: _without(each, *everywhere))}


def without_uptime(command: Json) -> Json:
    """The driver's statistics have the uptime of the machine as a text."""
    return command | {"args": _everywhere(command["args"], lambda each: _without(each, "uptime"))}


def without_machine(command: Json) -> Json:
    """host_ip is the address of the machine that ran the test."""
    return command | {"args": _everywhere(command["args"], lambda each: _without(each, "host_ip"))}


def with_sorted_features(command: Json) -> Json:
    """Nova's fake libvirt gives the features of a CPU in the order of a set, in a text of JSON."""

    def sort(each: Json) -> Json:
        if "cpu_info" not in each:
            return each
        info = json.loads(each["cpu_info"])
        return each | {"cpu_info": info | {"features": sorted(info["features"])}}

    return command | {"args": _everywhere(command["args"], sort)}


def without_times(command: Json) -> Json:
    """Migrations have the times of the run; that they have them is compared."""

    def hide(each: Json) -> Json:
        return {
            name: "a time" if isinstance(value, str) and _TIME.fullmatch(value) else value
            for name, value in each.items()
        }

    return command | {"args": _everywhere(command["args"], hide)}


def without_placement(command: Json) -> Json:
    """rp_uuids of a PCI request's spec is Placement's. It was not recorded, and the worker ignores it."""
    return command | {"args": _everywhere(command["args"], lambda each: _without(each, "rp_uuids"))}


def with_requests_of_move(command: Json) -> Json:
    """A move claim was recorded with pci_requests if there are any, else with the instance's: none."""
    if command["method"] not in _MOVE_CLAIMS:
        return command
    args = deepcopy(command["args"])
    requests = args["instance"].pop("pci_requests", [])
    return command | {"args": {"pci_requests": requests, **args}}


def without_drawn_request_ids(command: Json) -> Json:
    """The recorder asked Nova for a flavor's requests, as Nova's claim does: each time Nova draws their ids.

    Requests of ports have the port's, which are compared.
    """
    if command["method"] not in _MOVE_CLAIMS:
        return command
    requests = [
        _without(each, "request_id") if "alias_name" in each else each
        for each in command["args"]["pci_requests"]
    ]
    return command | {"args": command["args"] | {"pci_requests": requests}}


def with_request_of_moving(command: Json) -> Json:
    """The instance of a move claim has its request, or what the source chose of it, as Nova has loaded it.

    The claim is of the migration's topology; the instance's is the source's, and audits compare that.
    """
    topology = command["args"].get("instance", {}).get("numa_topology")
    if command["method"] not in _MOVE_CLAIMS or topology is None:
        return command
    request = topology | {
        "cells": [_without(cell, "id", "cpu_pinning", "cpuset_reserved") for cell in topology["cells"]]
    }
    return command | {
        "args": command["args"] | {"instance": command["args"]["instance"] | {"numa_topology": request}}
    }


def without_empty_lists(command: Json) -> Json:
    """No pci_requests and no pci_devices equal empty ones."""

    def drop(each: Json) -> Json:
        return _without(each, *(name for name in ("pci_requests", "pci_devices") if each.get(name) == []))

    return command | {"args": _everywhere(command["args"], drop)}


def without_memory_of_left(commands: Iterable[Json]) -> Iterator[Json]:
    """Of a migration whose instance has left the node, an audit has what Nova loads of the instance.

    The recorder remembered the rest from the destination's casts: a nova-compute forgets who has left it.
    """
    left: set[str] = set()
    for command in commands:
        if command["method"] == "drop_move_claim_at_source":
            left.add(command["args"]["instance_uuid"])
        migrations = [
            each
            | {"instance": _without(each["instance"], "image_properties", "numa_topology", "pci_requests")}
            if each["instance_uuid"] in left and "instance" in each
            else each
            for each in command["args"].get("migrations", ())
        ]
        yield command | {"args": command["args"] | ({"migrations": migrations} if migrations else {})}


OF_RECORDED: tuple[Form, ...] = (without_suffix, decided, with_disabled)
OF_BOTH: tuple[Form, ...] = (
    without_stamps,
    without_newer_arguments,
    without_uptime,
    without_machine,
    with_sorted_features,
    without_times,
    without_placement,
    with_requests_of_move,
    without_drawn_request_ids,
    with_request_of_moving,
    without_empty_lists,
)


def of_recorded(commands: Iterable[Json]) -> list[Json]:
    """Return the commands of a trace in the form in which they are compared."""
    return _normal(without_refused(commands), OF_RECORDED + OF_BOTH)


def of_cast(commands: Iterable[Json]) -> list[Json]:
    """Return what an adapter has cast in the form in which it is compared."""
    return _normal(commands, OF_BOTH)


def _normal(commands: Iterable[Json], forms: Iterable[Form]) -> list[Json]:
    for form in forms:
        commands = [form(each) for each in commands]
    return list(commands)


def _without(fields: Json, *names: str) -> Json:
    return {name: value for name, value in fields.items() if name not in names}


def _everywhere(value: Any, change: Form) -> Any:
    """Return a value of JSON with every object in it changed."""
    if isinstance(value, dict):
        return change({name: _everywhere(each, change) for name, each in value.items()})
    return [_everywhere(each, change) for each in value] if isinstance(value, list) else value
