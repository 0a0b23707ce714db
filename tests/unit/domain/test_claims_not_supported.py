# SPDX-License-Identifier: Apache-2.0
"""Claims that ask for what is not accounted yet are refused: never granted as if it were free.

What a claim asks for is DESIGN section 6 (instance_claim) and section 7 (the claims of moves).
"""

from typing import Any

import pytest

from tests.builders import a_flavor, a_migration, a_node, an_instance, command, decided
from tracker_worker.domain.commands import Command
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.objects import GuestCell, GuestTopology, Instance, PciRequest

TOPOLOGY = GuestTopology([GuestCell(id=0, cpuset=[0, 1], pcpuset=[], memory=2048)])
PORT = PciRequest(count=1, spec=[{"physical_network": "net"}], source="neutron_port")
ALIAS = PciRequest(count=1, spec=[{"vendor_id": "8086"}], source="flavor_alias")
MOVES = ("resize_claim", "live_migration_claim", "rebuild_claim")

NUMA_SPECS = (
    "hw:numa_nodes",
    "hw:numa_cpus.0",
    "hw:numa_mem.0",
    "hw:cpu_policy",
    "hw:cpu_thread_policy",
    "hw:cpu_dedicated_mask",
    "hw:emulator_threads_policy",
    "hw:mem_page_size",
    "resources:PCPU",
)
NUMA_PROPERTIES = (
    "hw_numa_nodes",
    "hw_numa_cpus.0",
    "hw_cpu_policy",
    "hw_cpu_thread_policy",
    "hw_emulator_threads_policy",
    "hw_mem_page_size",
)
OTHER_SPECS = ("hw:watchdog_action", "resources:VGPU", "trait:CUSTOM_GOLD", "hw_video:ram_max_mb")


def boot(instance: Instance) -> Command:
    return command("instance_claim", instance=instance)


def a_move(method: str, flavor: Flavor | None = None, *, of: Any = None, **more: Any) -> Command:
    """The claim of a move whose flavor asks for something; a resize has it as its new flavor only."""
    size = flavor or a_flavor()
    resize = method == "resize_claim"
    instance = an_instance(flavor=None if resize else size, **(of or {}))
    if resize:
        more["flavor"] = size
    return command(method, instance=instance, migration=a_migration(), **more)


def reason_of(asked: Command) -> str:
    """Why a claim was refused, empty if it was granted; a refused one changes nothing."""
    before = a_node()
    node, decision = decided(before, asked)
    if decision.outcome == "granted":
        return ""
    assert (decision.outcome, node.claims) == ("refused", before.claims)
    return decision.reason or ""


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"numa_topology": TOPOLOGY}, "NUMA topology"),
        ({"pci_requests": [ALIAS]}, "PCI devices"),
        ({"pci_requests": [PORT]}, "PCI devices"),
        ({"numa_topology": TOPOLOGY, "pci_requests": [PORT]}, "NUMA topology and PCI devices"),
    ],
)
def test_boot_asks_by_what_its_instance_carries(wanted: dict[str, Any], named: str) -> None:
    assert reason_of(boot(an_instance(**wanted))) == f"not_supported: {named}"


@pytest.mark.parametrize("key", [*NUMA_SPECS, "pci_passthrough:alias"])
def test_boot_does_not_ask_by_its_flavor(key: str) -> None:
    assert reason_of(boot(an_instance(flavor=a_flavor(extra_specs={key: "2"})))) == ""


@pytest.mark.parametrize("method", MOVES)
@pytest.mark.parametrize("key", NUMA_SPECS)
def test_move_asks_for_a_topology_by_its_flavor(method: str, key: str) -> None:
    asked = a_move(method, a_flavor(extra_specs={key: "2"}))
    assert reason_of(asked) == "not_supported: NUMA topology"


@pytest.mark.parametrize("method", MOVES)
@pytest.mark.parametrize("key", NUMA_PROPERTIES)
def test_move_asks_for_a_topology_by_image_properties(method: str, key: str) -> None:
    sent = a_move(method, image_properties={key: "2"})
    instances = a_move(method, of={"image_properties": {key: "2"}})
    assert reason_of(sent) == reason_of(instances) == "not_supported: NUMA topology"


@pytest.mark.parametrize("method", MOVES)
def test_image_properties_sent_stand_in_for_the_instances(method: str) -> None:
    of = {"image_properties": {"hw_numa_nodes": "2"}}
    assert reason_of(a_move(method, of=of, image_properties={})) == ""


@pytest.mark.parametrize("method", MOVES)
@pytest.mark.parametrize("key", OTHER_SPECS)
def test_move_with_other_extra_specs_is_granted(method: str, key: str) -> None:
    assert reason_of(a_move(method, a_flavor(extra_specs={key: "2"}))) == ""


@pytest.mark.parametrize("method", MOVES)
@pytest.mark.parametrize(
    "asked",
    [
        {"flavor": a_flavor(extra_specs={"pci_passthrough:alias": "gpu:1"})},
        {"pci_requests": [ALIAS]},
        {"of": {"pci_requests": [PORT]}},
    ],
    ids=["alias in the flavor", "request sent", "port of the instance"],
)
def test_move_asks_for_devices(method: str, asked: dict[str, Any]) -> None:
    assert reason_of(a_move(method, **asked)) == "not_supported: PCI devices"


@pytest.mark.parametrize("method", MOVES)
def test_the_instances_old_alias_and_topology_do_not_move_along(method: str) -> None:
    """They are computed again from the new flavor; only the ports' requests stay the instance's."""
    of = {"pci_requests": [ALIAS], "numa_topology": TOPOLOGY}
    assert reason_of(a_move(method, of=of)) == ""


@pytest.mark.parametrize("method", MOVES)
def test_requests_sent_stand_in_for_the_instances_ports(method: str) -> None:
    """DESIGN section 7: `pci_requests`, else the instance's with source neutron_port."""
    assert reason_of(a_move(method, of={"pci_requests": [PORT]}, pci_requests=[])) == ""


def test_old_flavor_of_a_resize_asks_for_nothing() -> None:
    old = a_flavor(extra_specs={"hw:numa_nodes": "2", "pci_passthrough:alias": "gpu:1"})
    asked = command(
        "resize_claim",
        instance=an_instance(flavor=old),
        flavor=a_flavor(4),
        migration=a_migration(),
    )
    assert reason_of(asked) == ""
