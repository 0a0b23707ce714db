# SPDX-License-Identifier: Apache-2.0
"""`node show` of a host with cells and devices: who has which cpu and which device."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.builders import INSTANCE, a_flavor, a_report, an_instance, command
from tests.functional.lanes import LaneBench
from tests.functional.manage import Manage
from tests.topologies import a_card, a_guest, a_host, a_request, host_resources
from tracker_worker.cmd.manage.hardware import ranges

PORT = a_request(request_id="port-1", dev_type="type-VF")


@pytest.fixture
def manage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Manage:
    return Manage(tmp_path, capsys)


@pytest.fixture
def shown(engine: sa.Engine, bench: LaneBench, manage: Manage) -> dict[str, list[list[str]]]:
    """The tables of a node with a pinned instance that has a device: rows of cells by title."""
    resources = host_resources(a_host(pages={4: 1_000_000, 2048: 100}), a_card(numa_node=0))
    bench.send(a_report(resources=resources))
    guest = a_guest(pagesize=2048, memory=64)
    wanted = an_instance(flavor=a_flavor(2, 64), numa_topology=guest, pci_requests=[PORT])
    assert bench.send(command("instance_claim", instance=wanted)).outcome == "granted"
    assert manage.run("node", "show", "node-1") == 0
    tables: dict[str, list[list[str]]] = {}
    for line in manage.out.splitlines():
        if line.endswith(":"):
            rows = tables.setdefault(line.removesuffix(":"), [])
        elif line:
            rows.append(re.split("  +", line.strip()))
    return {title: rows[1:] for title, rows in tables.items()}


def test_a_cell_shows_what_is_used_and_what_can_still_be_pinned(shown: dict[str, list[list[str]]]) -> None:
    assert shown["NUMA cells"] == [
        ["0", "0/2", "2/4", "4-5", "64/4096", "4K: 0/1000000, 2M: 32/100"],
        ["1", "0/2", "0/4", "12-15", "0/4096", "4K: 0/1000000, 2M: 0/100"],
    ]


def test_it_shows_which_instance_has_which_cpus(shown: dict[str, list[list[str]]]) -> None:
    assert shown["Instances on NUMA cells"] == [["0", INSTANCE, "instance", "2-3", "-", "64"]]


def test_it_shows_which_instance_has_which_device(shown: dict[str, list[list[str]]]) -> None:
    assert shown["PCI devices"] == [
        ["pf", "unavailable", "-"],
        ["vf1", "available", "-"],
        ["vf2", "allocated", INSTANCE],
    ]


def test_it_shows_how_many_devices_of_a_pool_are_free(shown: dict[str, list[list[str]]]) -> None:
    assert [row[2:] for row in shown["PCI pools"]] == [
        ["type-PF", "0", "-", "remote_managed=false", "0"],
        ["type-VF", "0", "pf", "remote_managed=false", "1"],
    ]


@pytest.mark.parametrize(
    ("cpus", "text"), [([], ""), ([3], "3"), ([1, 0, 2], "0-2"), ([0, 1, 4, 6, 7], "0-1,4,6-7")]
)
def test_cpus_are_shown_as_ranges(cpus: list[int], text: str) -> None:
    assert ranges(cpus) == text
