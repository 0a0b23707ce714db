# SPDX-License-Identifier: Apache-2.0
"""What is no valid command is refused with a stable code and the path of the field, never with a value."""

import hashlib
import json
from typing import Any

import pytest

from tests.json_paths import at, field_path, positions, structs, with_value
from tests.samples import EXAMPLES, body, message
from tracker_worker.core.delivery import BodyDigest
from tracker_worker.core.envelope import MAX_BODY_BYTES, names_of, open_envelope, read_command
from tracker_worker.domain.commands import METHODS
from tracker_worker.domain.errors import BadMessage, ErrorCode

SECRET = "hunter2"
NODE_ONLY = {"node": "n"}


def refusal(raw: bytes | BodyDigest) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        read_command(open_envelope(raw))
    return caught.value


def refused(method: str, path: tuple[str | int, ...], new: str | float | list[str | int]) -> BadMessage:
    return refusal(message(method, with_value(EXAMPLES[method], path, new)))


def without(method: str, path: tuple[str | int, ...]) -> BadMessage:
    args = json.loads(json.dumps(EXAMPLES[method]))
    del at(args, path[:-1])[path[-1]]
    return refusal(message(method, args))


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_argument_is_named_at_any_depth(method: str) -> None:
    for path in structs(EXAMPLES[method]):
        bad = refused(method, (*path, "surplus"), SECRET)
        assert bad.code is ErrorCode.UNKNOWN_ARGUMENT
        assert bad.path == field_path(path) + ".surplus"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get_node", ("node",)),
        ("start_move", ("migration_uuid",)),
        ("get_node", ("origin", "source")),
        ("set_service_status", ("disabled",)),
        ("instance_claim", ("instance",)),
        ("instance_claim", ("instance", "flavor", "vcpus")),
        ("instance_claim", ("instance", "numa_topology", "cells", 0, "memory")),
        ("resize_claim", ("flavor", "root_gb")),
        ("resize_claim", ("migration", "instance", "flavor", "memory_mb")),
        ("update_available_resource", ("resources", "host")),
        ("update_available_resource", ("resources", "pci_devices", 0, "dev_type")),
        ("update_available_resource", ("migrations", 0, "status")),
        ("update_available_resource", ("origin",)),
    ],
)
def test_a_missing_argument_is_named(method: str, path: tuple[str | int, ...]) -> None:
    bad = without(method, path)
    assert (bad.code, bad.path) == (ErrorCode.MISSING_ARGUMENT, field_path(path))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("new", [{"k": SECRET}, [SECRET], 3.5, True, None], ids=repr)
def test_a_value_of_another_type_is_named(
    method: str, new: dict[str, str] | list[str] | float | bool | None
) -> None:
    """Whatever is not taken there is refused at exactly that path, or below it."""
    found = 0
    for path in positions(EXAMPLES[method]):
        try:
            read_command(open_envelope(message(method, with_value(EXAMPLES[method], path, new))))
        except BadMessage as bad:
            found += 1
            assert bad.path.startswith(field_path(path)), path
            assert bad.code in {
                ErrorCode.WRONG_TYPE,
                ErrorCode.UNKNOWN_ARGUMENT,
                ErrorCode.MISSING_ARGUMENT,
                ErrorCode.OUT_OF_RANGE,
            }
    assert found


@pytest.mark.parametrize("method", METHODS)
def test_no_value_appears_in_the_refusal(method: str) -> None:
    for path in positions(EXAMPLES[method]):
        for new in (SECRET, [SECRET], {"k": SECRET}, f"\x00{SECRET}", f"\ud800{SECRET}"):
            raw = message(method, with_value(EXAMPLES[method], path, new))
            try:
                read_command(open_envelope(raw))
            except BadMessage as bad:
                assert SECRET not in f"{bad} {bad.message} {bad.path}", path


@pytest.mark.parametrize(
    "raw",
    [
        message(f"{SECRET}!", NODE_ONLY),  # An identifier is shown: it may be a newer client's method.
        message("get_node", NODE_ONLY, version=SECRET),
        message("get_node", NODE_ONLY, namespace=SECRET),
        message("get_node", NODE_ONLY, _context_request_id=[SECRET]),
        message("get_node", NODE_ONLY)[:-3] + SECRET.encode(),
        body(f'{{"method": "{SECRET}'),
        body({"method": [SECRET]}),
        json.dumps({"oslo.version": SECRET, "oslo.message": "{}"}).encode(),
        json.dumps({"oslo.version": "2.0", "oslo.message": [SECRET]}).encode(),
        SECRET.encode(),
    ],
)
def test_no_part_of_a_bad_envelope_appears_in_the_refusal(raw: bytes) -> None:
    assert SECRET not in str(refusal(raw))


VCPUS = ("instance", "flavor", "vcpus")
REPORT = "update_available_resource"


@pytest.mark.parametrize(
    ("method", "path", "new"),
    [
        ("instance_claim", VCPUS, -1),
        ("instance_claim", VCPUS, 2**31),
        ("instance_claim", VCPUS, 2**63),
        ("instance_claim", VCPUS, 2**64),
        ("instance_claim", VCPUS, 10**400),
        ("instance_claim", ("limits", "numa_topology", "ram_allocation_ratio"), -0.5),
        ("instance_claim", ("limits", "numa_topology", "ram_allocation_ratio"), 10**400),
        ("instance_claim", ("instance", "numa_topology", "cells", 0, "pagesize"), -4),
        ("instance_claim", ("instance", "numa_topology", "cells", 0, "cpuset", 0), -1),
        ("instance_claim", ("instance", "project_id"), "x" * 256),
        ("instance_claim", ("instance", "uuid"), "x" * 37),
        ("instance_claim", ("instance", "image_properties", "hw_cpu_sockets"), "x" * 2**20),
        ("instance_claim", ("instance", "flavor", "extra_specs", "hw:cpu_policy"), "x" * 2**20),
        ("get_node", ("node",), "x" * 256),
        ("get_node", ("node",), "x" * 2**20),
        ("get_node", ("event_id",), "x" * 65),
        ("get_node", ("origin", "sequence"), 2**63),
        ("get_node", ("origin", "sequence"), -1),
        (REPORT, ("resources", "memory_mb"), -0.5),
        (REPORT, ("resources", "memory_mb"), 1e300),
        (REPORT, ("resources", "disk_available_least"), 2**60),
        (REPORT, ("resources", "pci_devices", 0, "numa_node"), -2),
        (REPORT, ("resources", "stats", "uptime"), "x" * 2**20),
        (REPORT, ("resources", "traits"), ["CUSTOM"] * 4097),
        (REPORT, ("resources", "providers", 1, "name"), "x" * 201),
        (REPORT, ("resources", "providers", 1, "traits"), ["CUSTOM"] * 4097),
        (REPORT, ("resources", "providers", 1, "aggregates"), ["x"] * 4097),
        (REPORT, ("resources", "numa_topology", "cells", 0, "cpuset"), [1] * 4097),
    ],
)
def test_a_value_out_of_range_is_named(
    method: str, path: tuple[str | int, ...], new: float | str | list[str | int]
) -> None:
    bad = refused(method, path, new)
    assert (bad.code, bad.path) == (ErrorCode.OUT_OF_RANGE, field_path(path))


@pytest.mark.parametrize(
    ("method", "path", "new"),
    [
        ("update_usage", ("instance", "vm_state"), "hibernated"),
        ("update_usage", ("instance", "vm_state"), ""),
        ("update_usage", ("instance", "task_state"), "ACTIVE"),
        ("resize_claim", ("migration", "type"), "teleport"),
        ("resize_claim", ("pci_requests", 0, "numa_policy"), "maybe"),
        ("resize_claim", ("migration", "updated_at"), "yesterday"),
        (REPORT, ("resources", "pci_devices", 0, "dev_type"), "type-XX"),
        ("get_node", ("node",), ""),
        ("get_node", ("event_id",), ""),
    ],
)
def test_a_value_that_is_none_of_the_allowed_is_named(
    method: str, path: tuple[str | int, ...], new: str
) -> None:
    bad = refused(method, path, new)
    assert (bad.code, bad.path) == (ErrorCode.INVALID_VALUE, field_path(path))


PROVIDERS = ("resources", "providers")


@pytest.mark.parametrize(
    ("method", "path", "new", "message"),
    [
        (
            "resize_claim",
            ("migration", "instance", "uuid"),
            "x",
            "it is not the instance_uuid of the migration",
        ),
        (REPORT, (*PROVIDERS, 1, "name"), "node-1_pci_0000_81_00_0", "providers[0] has the same name"),
        (REPORT, (*PROVIDERS, 1, "parent"), "node-1_NUMA_0", "it is below the provider itself"),
        (
            REPORT,
            (*PROVIDERS, 0, "parent"),
            "node-1_NUMA_7",
            "no provider of the report has this name; a child of the node has no parent",
        ),
    ],
)
def test_a_value_that_contradicts_another_is_named_with_the_reason(
    method: str, path: tuple[str | int, ...], new: str, message: str
) -> None:
    bad = refused(method, path, new)
    assert (bad.code, bad.path, bad.message) == (ErrorCode.INVALID_VALUE, field_path(path), message)


def test_a_provider_with_the_name_of_the_node_is_refused() -> None:
    bad = refused(REPORT, ("node",), "node-1_NUMA_0")
    assert (bad.code, bad.path) == (ErrorCode.INVALID_VALUE, "$.resources.providers[1].name")
    assert bad.message.startswith("it is the name of the node")


NAMES = [
    ("get_node", ("node",)),
    ("get_node", ("event_id",)),
    ("get_node", ("origin", "source")),
    ("start_move", ("instance_uuid",)),
    ("start_move", ("migration_uuid",)),
    ("remove_node", ("host",)),
    ("update_usage", ("instance", "project_id")),
    ("update_usage", ("instance", "os_type")),
    (REPORT, ("resources", "uuid")),
    (REPORT, ("resources", "pci_devices", 0, "address")),
]


@pytest.mark.parametrize("name", ["a\nb", "\x00", "a\x1b[0m", "a\x7f", "\ta", "a\r", "a\n"])
@pytest.mark.parametrize(("method", "path"), NAMES, ids=lambda value: str(value))
def test_a_control_character_in_a_name_is_refused(
    method: str, path: tuple[str | int, ...], name: str
) -> None:
    bad = refused(method, path, name)
    assert (bad.code, bad.path) == (ErrorCode.INVALID_VALUE, field_path(path))


UNSEEN = {
    "C1 control": "a\x9b31m",
    "bidi override": "a\u202eb",
    "bidi isolate": "a\u2066b",
    "Arabic letter mark": "a\u061cb",
    "zero-width space": "a\u200bb",
    "zero-width joiner": "a\u200db",
    "word joiner": "a\u2060b",
    "byte order mark": "\ufeffa",
    "soft hyphen": "a\xadb",
    "no-break space": "a\xa0b",
    "Hangul filler": "a\u3164",
    "variation selector": "a\ufe0f",
    "tag": "a\U000e0041",
    "line separator": "a\u2028b",
    "trailing blank": "a ",
    "leading blank": " a",
}


@pytest.mark.parametrize("name", UNSEEN.values(), ids=UNSEEN)
@pytest.mark.parametrize(("method", "path"), [each for each in NAMES if "os_type" not in each[1]])
def test_a_name_that_looks_like_another_is_refused(
    method: str, path: tuple[str | int, ...], name: str
) -> None:
    bad = refused(method, path, name)
    assert (bad.code, bad.path) == (ErrorCode.INVALID_VALUE, field_path(path))
    assert bad.message.startswith("a host name has" if path[-1] in ("node", "host") else "a name has")


@pytest.mark.parametrize("name", UNSEEN.values(), ids=UNSEEN)
def test_a_text_of_a_tenant_or_a_driver_parks_no_command(name: str) -> None:
    """Nobody evades being counted by what an image is named."""
    for method, path in (
        ("update_usage", ("instance", "os_type")),
        ("update_usage", ("instance", "flavor", "name")),
        ("update_usage", ("instance", "image_properties")),
        (REPORT, ("resources", "stats")),
    ):
        value = {name: "x"} if path[-1] in ("image_properties", "stats") else name
        read_command(open_envelope(message(method, with_value(EXAMPLES[method], path, value))))


@pytest.mark.parametrize(
    "name", ["compute-1.example.org", "d2a4f3c8-0000-4000-8000-000000000000", "domain-c7(a).b_1", "::1"]
)
def test_what_drivers_name_their_nodes_is_taken(name: str) -> None:
    read_command(open_envelope(message("get_node", {"node": name})))


@pytest.mark.parametrize("name", ["n\u043ede-1", "gr\xf6\xdfe", "two words", "\U0001f600"])
@pytest.mark.parametrize(
    ("method", "path"), [("get_node", ("node",)), (REPORT, ("resources", "host")), ("remove_node", ("host",))]
)
def test_a_host_name_beyond_visible_ascii_is_refused(method: str, path: tuple[str, ...], name: str) -> None:
    """A Cyrillic letter makes another node that looks the same."""
    bad = refused(method, path, name)
    assert (bad.code, bad.path) == (ErrorCode.INVALID_VALUE, field_path(path))
    assert bad.message == "a host name has visible ASCII characters only, and no blank"


@pytest.mark.parametrize("args", [[], "x", 1, None, True], ids=repr)
def test_arguments_that_are_no_object_are_refused(args: Any) -> None:
    bad = refusal(message("get_node", args))
    assert (bad.code, bad.path) == (ErrorCode.WRONG_TYPE, "$")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e", "01", "0x1"])
def test_a_number_that_json_does_not_know_is_malformed(number: str) -> None:
    raw = body(f'{{"method": "get_node", "args": {{"node": {number}}}}}')
    bad = refusal(raw)
    assert (bad.code, bad.path) == (ErrorCode.MALFORMED_JSON, "$")


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d"'])
def test_a_lone_surrogate_is_malformed(text: str) -> None:
    bad = refusal(body(f'{{"method": "get_node", "args": {{"node": {text}}}}}'))
    assert (bad.code, bad.path) == (ErrorCode.MALFORMED_JSON, "$")


def test_a_truncated_body_is_malformed_wherever_it_is_cut() -> None:
    raw = message("get_node", NODE_ONLY)
    assert {refusal(raw[:end]).code for end in range(len(raw))} == {ErrorCode.MALFORMED_JSON}


def test_a_truncated_inner_message_is_malformed_wherever_it_is_cut() -> None:
    inner = json.dumps({"method": "get_node", "args": NODE_ONLY})
    codes = {refusal(body(inner[:end])).code for end in range(len(inner))}
    assert codes == {ErrorCode.MALFORMED_JSON}


@pytest.mark.parametrize("raw", [b"\xff\xfe", b'{"oslo.version": "2.0", "oslo.message": "\xff"}'])
def test_bytes_that_are_not_utf_8_are_malformed(raw: bytes) -> None:
    assert refusal(raw).code is ErrorCode.MALFORMED_JSON


@pytest.mark.parametrize("shape", ["[" * 100_000, '{"a":' * 100_000, "[" * 90_000 + "]" * 90_000])
def test_a_depth_bomb_is_refused(shape: str) -> None:
    bad = refusal(body(f'{{"method": "get_node", "args": {shape}}}'))
    assert bad.code is ErrorCode.TOO_DEEP
    assert refusal(shape.encode()).code in {ErrorCode.TOO_DEEP, ErrorCode.BAD_ENVELOPE}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (body({"method": "get_node", "args": NODE_ONLY}, version="3.0"), "$"),
        (body({"method": "get_node", "args": NODE_ONLY}, version="1.0"), "$"),
        (body({"method": "get_node", "args": NODE_ONLY}, version=""), "$"),
        (b"[]", "$"),
        (b"null", "$"),
        (json.dumps({"method": "get_node", "args": NODE_ONLY}).encode(), "$"),
        (b'{"oslo.version": "2.0"}', "$"),
        (b'{"oslo.version": 2.0, "oslo.message": "{}"}', "$.oslo.version"),
        (b'{"oslo.version": "2.0", "oslo.message": {}}', "$.oslo.message"),
        (body("[]"), "$"),
        (body({}), "$.method"),
        (body({"method": 5}), "$.method"),
        (body({"method": "get_node", "version": 1.0}), "$.version"),
        (body({"method": "get_node", "_unique_id": {}}), "$._unique_id"),
    ],
)
def test_another_envelope_is_refused(raw: bytes, path: str) -> None:
    bad = refusal(raw)
    assert (bad.code, bad.path) == (ErrorCode.BAD_ENVELOPE, path)


def test_a_body_above_the_limit_is_refused_unread() -> None:
    largest = message("get_node", NODE_ONLY).ljust(MAX_BODY_BYTES)
    assert MAX_BODY_BYTES == 8 * 1024 * 1024
    assert read_command(open_envelope(largest)).node == "n"
    bad = refusal(largest + b" ")
    assert (bad.code, bad.path) == (ErrorCode.MESSAGE_TOO_LARGE, "$")


def test_digest_of_a_body_is_refused_under_the_id_of_the_body_itself() -> None:
    raw = b" " * 100
    digest = BodyDigest(len(raw), hashlib.sha256(raw).hexdigest())
    assert refusal(digest).code == ErrorCode.MESSAGE_TOO_LARGE
    assert names_of(digest, None) == names_of(raw, None)


def test_the_path_fits_its_column() -> None:
    bad = refused("get_node", ("x" * 500,), 1)
    assert len(bad.path) <= 255
