# SPDX-License-Identifier: Apache-2.0
"""Commands on the wire: what decodes, what is refused, what is made of it (doc/source/user/commands.rst)."""

import copy
from typing import Any

import msgspec
import pytest

from tests.json_paths import structs
from tests.samples import EXAMPLES, INSTANCE_UUID, RESOURCES
from tracker_worker.domain.commands import (
    METHOD_OF,
    METHODS,
    AnyCommand,
    UpdateAvailableResource,
    instance_uuid_of,
)

OPTIONAL = {
    "event_id", "origin", "instances", "migrations", "as_of", "startup", "limits", "decided",
    "image_properties", "host", "force", "addresses", "numa_topology", "disabled",
}  # fmt: skip
MAY_LACK_ITS_MIGRATION = ("drop_move_claim", "finish_move")


def arguments_of(method: str) -> dict[str, Any]:
    arguments: dict[str, Any] = copy.deepcopy(EXAMPLES[method])
    return arguments


def decode(method: str, arguments: dict[str, Any]) -> AnyCommand:
    return msgspec.json.decode(msgspec.json.encode(arguments), type=METHODS[method])


def decode_report(arguments: dict[str, Any]) -> UpdateAvailableResource:
    command = decode("update_available_resource", arguments)
    assert isinstance(command, UpdateAvailableResource)
    return command


def refusal(method: str, arguments: dict[str, Any]) -> str:
    with pytest.raises(msgspec.ValidationError) as caught:
        decode(method, arguments)
    return str(caught.value)


def put(arguments: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Put a value at a path into nested arguments; return what was there."""
    for step in path[:-1]:
        arguments = arguments[step]
    before = arguments.get(path[-1]) if isinstance(arguments, dict) else arguments[path[-1]]
    arguments[path[-1]] = value
    return before


def test_methods_have_names_both_ways() -> None:
    assert set(EXAMPLES) == set(METHODS)
    assert {METHOD_OF[command]: command for command in METHODS.values()} == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_every_argument_decodes_and_comes_back(method: str) -> None:
    command = decode(method, arguments_of(method))
    assert decode(method, msgspec.to_builtins(command)) == command
    sent = msgspec.to_builtins(command)
    kept = {key for key, value in arguments_of(method).items() if value not in (False, {}, [])}
    assert kept <= sent.keys()


@pytest.mark.parametrize("method", METHODS)
def test_only_required_arguments_are_required(method: str) -> None:
    may_lack = OPTIONAL | ({"migration_uuid"} if method in MAY_LACK_ITS_MIGRATION else set())
    may_lack |= {"pci_requests"} if method != "claim_pci_devices" else set()
    may_lack |= {"pci_devices"} if method == "claim_pci_devices" else set()
    may_lack -= {"disabled"} if method == "set_service_status" else set()
    full = arguments_of(method)
    decode(method, {key: value for key, value in full.items() if key not in may_lack})
    for required in full.keys() - may_lack:
        lacking = {key: value for key, value in full.items() if key != required}
        assert f"missing required field `{required}`" in refusal(method, lacking)


@pytest.mark.parametrize("method", METHODS)
def test_unknown_argument_is_refused_at_any_depth(method: str) -> None:
    for path in structs(arguments_of(method)):
        arguments = arguments_of(method)
        put(arguments, (*path, "surprise"), 1)
        assert "unknown field `surprise`" in refusal(method, arguments), path


@pytest.mark.parametrize("method", METHODS)
def test_instance_of_a_command_is_found(method: str) -> None:
    about = any(key.startswith("instance") for key in EXAMPLES[method].keys() - {"instances"})
    expected = INSTANCE_UUID if about else None
    assert instance_uuid_of(decode(method, arguments_of(method))) == expected


OF_AN_INSTANCE = ("instance",)
OF_A_REPORT = ("resources",)
OF_A_CELL = (*OF_A_REPORT, "numa_topology", "cells", 0)


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("update_usage", ("node",), ""),
        ("update_usage", ("node",), "n" * 256),
        ("update_usage", ("node",), "two\nlines"),
        ("update_usage", ("node",), "line end\n"),
        ("update_usage", ("node",), None),
        ("update_usage", ("event_id",), "e" * 65),
        ("update_usage", ("origin", "sequence"), -1),
        ("update_usage", (*OF_AN_INSTANCE, "uuid"), "u" * 37),
        ("update_usage", (*OF_AN_INSTANCE, "vm_state"), "flying"),
        ("update_usage", (*OF_AN_INSTANCE, "task_state"), "thinking"),
        ("update_usage", (*OF_AN_INSTANCE, "volume_backed"), 1),
        ("update_usage", (*OF_AN_INSTANCE, "flavor", "vcpus"), -1),
        ("update_usage", (*OF_AN_INSTANCE, "flavor", "vcpus"), 2**31),
        ("update_usage", (*OF_AN_INSTANCE, "flavor", "vcpus"), 1.0),
        ("update_usage", (*OF_AN_INSTANCE, "flavor", "memory_mb"), "1"),
        ("update_usage", (*OF_AN_INSTANCE, "flavor", "root_gb"), True),
        ("update_usage", (*OF_AN_INSTANCE, "flavor", "extra_specs"), {"hw:numa_nodes": 1}),
        ("update_usage", (*OF_AN_INSTANCE, "image_properties"), {"hw_numa_nodes": 1}),
        ("update_usage", (*OF_AN_INSTANCE, "numa_topology", "cells", 0, "id"), -1),
        ("update_usage", (*OF_AN_INSTANCE, "numa_topology", "cells", 0, "pagesize"), -4),
        ("update_usage", (*OF_AN_INSTANCE, "numa_topology", "cells", 0, "cpu_policy"), "x"),
        ("update_usage", (*OF_AN_INSTANCE, "pci_requests", 0, "source"), "x"),
        ("resize_claim", ("migration", "type"), "teleport"),
        ("resize_claim", ("migration", "updated_at"), "yesterday"),
        ("resize_claim", ("limits", "vcpu"), -1),
        ("resize_claim", ("limits", "numa_topology", "cpu_allocation_ratio"), -0.5),
        ("update_available_resource", ("as_of",), -1),
        ("update_available_resource", (*OF_A_REPORT, "vcpus"), -1),
        ("update_available_resource", (*OF_A_REPORT, "vcpus"), -0.5),
        ("update_available_resource", (*OF_A_REPORT, "memory_mb"), 2**31),
        ("update_available_resource", (*OF_A_REPORT, "local_gb"), 1e300),
        ("update_available_resource", (*OF_A_REPORT, "local_gb"), None),
        ("update_available_resource", (*OF_A_REPORT, "disk_available_least"), "1"),
        ("update_available_resource", (*OF_A_REPORT, "cpu_allocation_ratio"), -1),
        ("update_available_resource", (*OF_A_REPORT, "reserved_host_cpus"), -1),
        ("update_available_resource", (*OF_A_REPORT, "pci_devices", 0, "dev_type"), "type-X"),
        ("update_available_resource", (*OF_A_REPORT, "pci_devices", 0, "numa_node"), -2),
        ("update_available_resource", (*OF_A_CELL, "memory"), -0.5),
        ("update_available_resource", (*OF_A_CELL, "mempages", 0, "size_kb"), 0.5),
        ("update_available_resource", (*OF_A_CELL, "socket"), -2),
        ("update_available_resource", (*OF_A_REPORT, "traits", 0), 7),
    ],
)
def test_wrong_value_is_refused(method: str, path: tuple[Any, ...], value: Any) -> None:
    arguments = arguments_of(method)
    put(arguments, path, value)
    assert refusal(method, arguments)


@pytest.mark.parametrize("pagesize", [-3, -2, -1, 4, 2048])
def test_novas_symbolic_page_sizes_are_numbers_below_zero(pagesize: int) -> None:
    arguments = arguments_of("update_usage")
    put(arguments, ("instance", "numa_topology", "cells", 0, "pagesize"), pagesize)
    assert decode("update_usage", arguments)


@pytest.mark.parametrize(
    ("field", "sent", "taken"),
    [
        ("vcpus", 7.9, 7),
        ("memory_mb", 1000.5, 1000),
        ("local_gb", 99.999, 99),
        ("hypervisor_version", 8.0, 8),
        ("reserved_host_memory_mb", 0.9, 0),
        ("reserved_host_disk_mb", 1.5, 1),
        ("reserved_host_cpus", 2.0, 2),
        ("disk_available_least", 5.9, 5),
        ("disk_available_least", -0.1, -1),
        ("disk_available_least", -5, -5),
        ("disk_available_least", -5.0, -5),
    ],
)
def test_fractions_of_a_report_are_cut(field: str, sent: float, taken: int) -> None:
    """disk_available_least alone is rounded down: below zero that is not the same."""
    arguments = arguments_of("update_available_resource")
    put(arguments, ("resources", field), sent)
    value = getattr(decode_report(arguments).resources, field)
    assert (value, type(value)) == (taken, int)


def numbers_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all integers, at any depth, but of what is kept as it is sent."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    as_sent = (
        "stats", "inventories", "capabilities", "cpu_info", "cpu_allocation_ratio", "disk_available_least"
    )  # fmt: skip
    return [
        found
        for key, one in inner
        if key not in as_sent and not str(key).endswith("_used")
        for found in numbers_in(one, (*path, key))
    ]


@pytest.mark.parametrize("path", numbers_in(RESOURCES), ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize("fraction", [0.0, 0.0078125])
def test_fraction_anywhere_in_a_report_is_cut(path: tuple[Any, ...], fraction: float) -> None:
    """A cell of a real host has 80407.0078125 MB: 82336776 KiB."""
    arguments = arguments_of("update_available_resource")
    whole = put(arguments, ("resources", *path), 7)
    put(arguments, ("resources", *path), 7 + fraction)
    cut = decode("update_available_resource", arguments)
    put(arguments, ("resources", *path), 7)
    assert cut == decode("update_available_resource", arguments)
    assert type(whole) is int
    assert type(put(msgspec.to_builtins(cut), ("resources", *path), None)) is int


EMPTY_TEXTS = [("update_usage", ("instance", field)) for field in ("os_type", "host", "node")] + [
    ("update_available_resource", ("resources", *path))
    for path in (
        ("host_ip",),
        ("hypervisor_type",),
        ("cpu_info",),
        ("stats", ""),
        ("pci_devices", 0, "label"),
        ("pci_devices", 0, "parent_addr"),
        ("pci_devices", 0, "tags", "physical_network"),
    )
]


@pytest.mark.parametrize(("method", "path"), EMPTY_TEXTS, ids=lambda each: str(each))
def test_text_that_a_driver_leaves_empty_is_taken(method: str, path: tuple[Any, ...]) -> None:
    arguments = arguments_of(method)
    put(arguments, path, "")
    sent = msgspec.to_builtins(decode(method, arguments))
    assert put(sent, path, None) == ""


def test_socket_that_a_host_does_not_tell_is_none() -> None:
    arguments = arguments_of("update_available_resource")
    put(arguments, ("resources", "numa_topology", "cells", 0, "socket"), -1)
    topology = decode_report(arguments).resources.numa_topology
    assert topology is not None
    assert topology.cells[0].socket is None


@pytest.mark.parametrize("field", ["vcpus_used", "memory_mb_used", "local_gb_used"])
@pytest.mark.parametrize("value", [-3, -0.5, 7, 1e9, None])
def test_hypervisors_own_usage_may_be_any_number(field: str, value: float | None) -> None:
    arguments = arguments_of("update_available_resource")
    put(arguments, ("resources", field), value)
    assert getattr(decode_report(arguments).resources, field) == value


def test_as_of_needs_the_origin_that_counts_it() -> None:
    arguments = arguments_of("update_available_resource")
    del arguments["origin"]
    assert "missing required field `origin`" in refusal("update_available_resource", arguments)
    del arguments["as_of"]
    assert decode("update_available_resource", arguments)


KEPT = {
    "hw:numa_nodes": "1",
    "hw_mem_page_size": "large",
    "resources:PCPU": "2",
    "trait:CUSTOM_GOLD": "required",
    "pci_passthrough:alias": "gpu:1",
}
IRRELEVANT = {"password": "secret", "os_require_quiesce": "yes", ":hw:x": "1", "HW:numa_nodes": "1"}


def maps_in(value: Any, names: tuple[str, ...], path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all maps of these names, at any depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path and path[-1] in names else []
    return found + [deep for key, one in inner for deep in maps_in(one, names, (*path, key))]


@pytest.mark.parametrize("method", METHODS)
def test_keys_that_no_rule_reads_are_dropped_wherever_they_are(method: str) -> None:
    """Promise 7: what is not kept cannot leak."""
    for path in maps_in(arguments_of(method), ("extra_specs", "image_properties")):
        arguments = arguments_of(method)
        put(arguments, path, KEPT | IRRELEVANT)
        sent = msgspec.to_builtins(decode(method, arguments))
        assert put(sent, path, None) == KEPT, path
