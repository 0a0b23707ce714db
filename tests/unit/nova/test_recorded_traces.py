# SPDX-License-Identifier: Apache-2.0
"""The comparison of casts with recorded traces (tests/nova/recorded.py) finds what differs."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.nova import normal_forms, recorded

RESIZE = "test_servers.ServerMovingTests.test_resize_revert"
NUMA = "libvirt.test_numa_live_migration.NUMALiveMigrationPositiveTests.test_bug_1843639"
DEVICES = "libvirt.test_pci_sriov_servers.RemoteManagedServersTest.test_evacuate_server_with_neutron"

Json = dict[str, Any]


def as_cast(trace: list[Json]) -> list[Json]:
    """Return what a tap casts for a trace."""
    commands = normal_forms.without_refused(trace)
    for form in normal_forms.OF_RECORDED:
        commands = [form(each) for each in commands]
    return [{"method": each["method"], "args": deepcopy(each["args"])} for each in commands]


def first(commands: list[Json], method: str) -> Json:
    args: Json = next(each["args"] for each in commands if each["method"] == method)
    return args


@pytest.mark.parametrize("test", recorded.tests())
def test_trace_equals_itself(test: str) -> None:
    trace = recorded.trace(test)
    assert recorded.differences(trace, as_cast(trace)) == []


def other_pins(commands: list[Json]) -> None:
    (cell,) = first(commands, "live_migration_claim")["migration"]["new_numa_topology"]["cells"]
    cell["cpu_pinning"] = {"0": 3, "1": 2}


def another_migration(commands: list[Json]) -> None:
    first(commands, "finish_move")["migration_uuid"] = "00000000-0000-4000-8000-000000000000"


def another_device(commands: list[Json]) -> None:
    first(commands, "rebuild_claim")["migration"]["new_pci_devices"] = ["0000:80:00.5"]


def no_request(commands: list[Json]) -> None:
    first(commands, "rebuild_claim")["pci_requests"] = []


def another_state(commands: list[Json]) -> None:
    first(commands, "update_usage")["instance"]["vm_state"] = "active"


def another_node(commands: list[Json]) -> None:
    migration = first(commands, "resize_claim")["migration"]
    migration["dest_node"] = migration["source_node"]


def one_less(commands: list[Json]) -> None:
    commands.remove(next(each for each in commands if each["method"] == "start_move"))


def other_order(commands: list[Json]) -> None:
    places = [number for number, each in enumerate(commands) if each["args"]["node"].startswith("host2")]
    one, other = places[1], places[2]
    commands[one], commands[other] = commands[other], commands[one]


def service_disabled(commands: list[Json]) -> None:
    first(commands, "update_available_resource")["disabled"] = True


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        (NUMA, other_pins),
        (NUMA, another_migration),
        (DEVICES, another_device),
        (DEVICES, no_request),
        (RESIZE, another_state),
        (RESIZE, another_node),
        (RESIZE, one_less),
        (RESIZE, other_order),
        (RESIZE, service_disabled),
    ],
)
def test_cast_with_a_fault_differs(test: str, fault: Callable[[list[Json]], None]) -> None:
    trace = recorded.trace(test)
    commands = as_cast(trace)
    fault(commands)
    assert recorded.differences(trace, commands) != []


def test_other_hosts_and_ids_are_the_same() -> None:
    trace = recorded.trace(RESIZE)
    names = {"host1": "host2", "host2": "host1"}
    text = re.sub("|".join(names), lambda found: names[found[0]], json.dumps(as_cast(trace)))
    instance = trace[2]["args"]["instance"]["uuid"]
    commands = json.loads(text.replace(instance, "00000000-0000-4000-8000-000000000000"))
    assert recorded.differences(trace, commands) == []


def test_one_id_for_two_differs() -> None:
    trace = recorded.trace(NUMA)
    one, other = (each["args"]["instance"]["uuid"] for each in trace if each["method"] == "instance_claim")
    commands = json.loads(json.dumps(as_cast(trace)).replace(one, other))
    assert recorded.differences(trace, commands) != []
