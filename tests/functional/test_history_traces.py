# SPDX-License-Identifier: Apache-2.0
"""Traces through a lane: the receipts of each node lead back to every view that the node has had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tracker_worker
from tests.functional.lanes import LaneBench
from tracker_worker.cmd.replay import settings_of
from tracker_worker.cmd.replay.trace import read_trace
from tracker_worker.core.envelope import encode
from tracker_worker.db import receipt_queries, store
from tracker_worker.domain.node import Node
from tracker_worker.domain.rewind import State, held_cells
from tracker_worker.domain.views import node_view

TRACES = sorted((Path(tracker_worker.__file__).parent / "traces").glob("*.jsonl.gz"))
ABSENT: Any = (0, 0, [], {})


def in_view(node: Node) -> Any:
    """The claims, the usage and the held cells and devices, as the node view has them."""
    if not node.tracked:
        return None
    view = node_view(node)
    claims = {
        (claim["instance_uuid"], claim["role"], claim["migration_uuid"]): (
            (claim["vcpus"], claim["memory_mb"], claim["disk_mb"]),
            [device["address"] for device in claim["pci_devices"]],
        )
        for claim in view["claims"]
    }
    cells = {
        cell["id"]: (
            cell["memory_usage"],
            cell["cpu_usage"],
            cell["pinned_cpus"],
            {page["size_kb"]: page["used"] for page in cell["mempages"] if page["used"]},
        )
        for cell in (view["numa_topology"] or {"cells": []})["cells"]
    }
    used = (view["vcpus_used"], view["memory_mb_used"], view["local_gb_used"])
    totals = (view["vcpus"], view["memory_mb"], view["local_gb"])
    ratios = tuple(view[f"{name}_allocation_ratio"] for name in ("cpu", "ram", "disk"))
    return claims, used, totals, ratios, {id: cell for id, cell in cells.items() if cell != ABSENT}


def in_state(state: State) -> Any:
    """The same of a state that was computed from receipts."""
    total = state.totals
    if total is None:
        return None
    claims = {
        (uuid, role.value, held.migration): (
            (held.amounts.vcpus, held.amounts.memory_mb, held.amounts.disk_mb),
            list(held.devices),
        )
        for (uuid, role), held in state.claims.items()
    }
    cells = {
        id: (cell.memory_usage, cell.cpu_usage, cell.pinned_cpus, cell.pages)
        for id, cell in held_cells(state).items()
    }
    used = (state.used.vcpus, state.used.memory_mb, state.used.disk_mb // 1024)
    totals = (total.vcpus, total.memory_mb, total.local_gb)
    return claims, used, totals, (total.cpu_ratio, total.ram_ratio, total.disk_ratio), cells


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All traces, with --quick one in six of them."""
    paths = TRACES[:: 6 if metafunc.config.getoption("--quick") else 1]
    metafunc.parametrize("path", paths, ids=[path.name.removesuffix(".jsonl.gz") for path in paths])


def test_history_leads_back_to_every_view(a_bench: Callable[..., LaneBench], path: Path) -> None:
    trace = read_trace(path)
    bench = a_bench(tracker=settings_of(trace))
    views: dict[tuple[str, int], Any] = {}
    nodes: dict[str, Node] = {}
    for number, step in enumerate(trace.steps):
        name = step.args["node"]
        bench.deliver_body(encode(step.method, {**step.args, "event_id": f"event-{number}"}), name)
        bench.run()
        with bench.engine.connect() as connection:
            nodes[name] = store.load_ledgers(connection, [name])[name]
        views[name, nodes[name].sequence] = in_view(nodes[name])
    for name, node in nodes.items():
        state = State(node)
        with bench.engine.connect() as connection:
            for event in receipt_queries.sequenced(connection, name):
                assert event.sequence == state.sequence
                assert event.delta is not None
                assert in_state(state) == views[name, state.sequence], event
                assert state.difference(event.delta, event.instance_uuid) is None
                state.undo(event.delta, event.instance_uuid)
        assert (state.sequence, state.claims, state.totals) == (0, {}, None)
