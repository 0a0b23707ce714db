# SPDX-License-Identifier: Apache-2.0
"""Traces: reading, the order of steps, and the comparison with expectations."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tracker_worker.cmd.replay.trace import (
    Expect,
    Result,
    Step,
    differences,
    plain_reason,
    predecessors,
    read_trace,
)

HEADER = {"trace": "tracker-worker/1", "description": "d", "settings": {"capacity_check": "none"}}


def written(path: Path, *lines: Any) -> Path:
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def step(node: str, method: str = "build_failed", **args: Any) -> Step:
    return Step(method, {"node": node, **args})


def report(node: str, uuid: str) -> Step:
    return step(node, "update_available_resource", resources={"uuid": uuid})


@pytest.mark.parametrize("name", ["trace.jsonl", "trace.jsonl.gz"])
def test_a_trace_is_read(tmp_path: Path, name: str) -> None:
    line = {"method": "get_node", "args": {"node": "n"}, "at": 1.5, "expect": {"outcome": "ignored"}}
    trace = read_trace(written(tmp_path / name, HEADER, line))
    assert trace.header.settings == {"capacity_check": "none"}
    assert trace.steps == [Step("get_node", {"node": "n"}, 1.5, Expect(outcome="ignored"))]


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        ([], "line 1"),
        (["no json\n"], "line 1"),
        ([HEADER | {"trace": "tracker-worker/9"}], "line 1"),
        ([HEADER, {"method": "x"}], "line 2"),
        ([HEADER, {"method": "x", "args": {}}, "{\n"], "line 3"),
    ],
)
def test_invalid_trace_is_named_with_its_line(
    tmp_path: Path, lines: list[str | dict[str, Any]], where: str
) -> None:
    path = written(tmp_path / "bad.jsonl", *lines)
    with pytest.raises(ValueError, match=f"bad.jsonl, {where}"):
        read_trace(path)


def test_truncated_or_missing_file_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "cut.jsonl.gz", HEADER, *[HEADER] * 100)
    path.write_bytes(path.read_bytes()[:-20])
    for name in ("cut.jsonl.gz", "absent.jsonl"):
        with pytest.raises(ValueError, match=name):
            read_trace(tmp_path / name)


def test_a_step_waits_for_the_one_before_it_on_its_node() -> None:
    assert predecessors([step("a"), step("b"), step("a"), step("a"), step("b")]) == [
        set(), set(), {0}, {2}, {1},
    ]  # fmt: skip


def test_a_report_waits_for_the_last_step_of_its_uuid() -> None:
    steps = [report("a", "u"), step("a", "remove_node"), report("b", "u"), step("b")]
    assert predecessors(steps) == [set(), {0}, {1}, {2}]


@pytest.mark.parametrize(
    "text",
    ["Free vcpu 1", "Free vcpu 1.", "Insufficient compute resources: Free vcpu 1."],
)
def test_a_reason_is_compared_without_prefix_and_dot(text: str) -> None:
    assert plain_reason(text) == "Free vcpu 1"
    assert not list(differences(Expect(reason=text), Result("refused", "Free vcpu 1", {})))


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ({"vcpus_used": 1}, {"vcpus_used": 1, "more": 2}),
        ({"stats": {"num_instances": 0}}, {"stats": {}}),
        ({"claims": [1]}, {"claims": [1]}),
        ({}, None),
    ],
)
def test_only_the_keys_given_are_compared(wanted: dict[str, Any], got: dict[str, Any] | None) -> None:
    assert not list(differences(Expect(nodes={"n": wanted}), Result("applied", None, {"n": got or {}})))


def test_every_difference_is_named() -> None:
    expect = Expect("granted", "why", {"n": {"a": {"b": 1}, "c": 2}, "gone": {"a": 1}})
    found = list(differences(expect, Result("refused", "other", {"n": {"a": {"b": 3}, "c": 2}})))
    assert found == [
        "outcome: expected granted, got refused (other)",
        "reason: expected 'why', got 'other'",
        "n.a.b: expected 1, got 3",
        "gone: expected {'a': 1}, got None",
    ]


def found(wanted: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """The differences between an expected node view and the actual one."""
    return list(differences(Expect(nodes={"n": wanted}), Result("applied", None, {"n": got})))


CELLS = [
    {"id": 0, "cpu_usage": 1, "pinned_cpus": [2, 3], "mempages": [{"size_kb": 4, "used": 9, "total": 10}]},
    {"id": 1, "cpu_usage": 0, "pinned_cpus": [], "mempages": [{"size_kb": 4, "used": 0, "total": 10}]},
]


@pytest.mark.parametrize(
    ("cells", "differences"),
    [
        ([{"id": 1, "pinned_count": 0}, {"id": 0, "pinned_count": 2}], []),
        ([{"id": 0, "mempages": [{"size_kb": 4, "used": 9}, {"size_kb": 2048, "used": 0}]}], ["2048"]),
        ([{"id": 1, "pinned_count": 1}], ["n.numa_topology.cells[1].pinned_count: expected 1, got 0"]),
        ([{"id": 0, "mempages": [{"size_kb": 4, "used": 8}]}], ["cells[0].mempages[4].used"]),
        ([{"id": 7, "cpu_usage": 1}], ["n.numa_topology.cells[7]"]),
    ],
)
def test_cells_are_matched_by_id_and_pages_by_size(
    cells: list[dict[str, Any]], differences: list[str]
) -> None:
    lines = found({"numa_topology": {"cells": cells}}, {"numa_topology": {"cells": CELLS}})
    assert len(lines) == len(differences)
    assert all(part in line for part, line in zip(differences, lines, strict=True))


POOLS = [
    {"dev_type": "type-VF", "numa_node": 0, "tags": {"a": "b"}, "count": 2},
    {"dev_type": "type-VF", "numa_node": 0, "parent_addr": "pf", "count": 1},
    {"dev_type": "type-PF", "numa_node": 1, "count": 0},
]
VFS = {"dev_type": "type-VF", "numa_node": 0}


@pytest.mark.parametrize(
    ("pools", "differences"),
    [
        ([VFS | {"count": 3}], []),
        ([VFS | {"count": 1}, VFS | {"count": 2}], []),
        ([VFS | {"count": 3}, {"dev_type": "vdpa", "count": 0}], []),
        ([VFS | {"count": 2}], ["expected 2 of dev_type 'type-VF', numa_node 0, got 3"]),
        ([{"dev_type": "type-PF", "count": 0}], ["expected none, got", "expected none, got"]),
    ],
)
def test_pools_are_summed_over_the_keys_given(pools: list[dict[str, Any]], differences: list[str]) -> None:
    lines = found({"pci_device_pools": pools}, {"pci_device_pools": POOLS})
    assert len(lines) == len(differences)
    assert all(part in line for part, line in zip(differences, lines, strict=True))
