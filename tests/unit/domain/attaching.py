# SPDX-License-Identifier: Apache-2.0
"""How devices are allocated and freed by themselves, and who has them then."""

from tests.builders import INSTANCE, MOVE, a_claim, claims_of, command, decided
from tests.topologies import a_card, addresses_of, statuses_of
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.node import Node, assert_sum

CARD = a_card("pf", ("vf1", "vf2", "vf3"))
HERE = a_claim()
COMING = a_claim("incoming", MOVE)
LEAVING = a_claim("outgoing")


def allocate(*addresses: str) -> AnyCommand:
    """Devices of the instance become allocated; without addresses all that it has."""
    return command("allocate_pci_devices", instance_uuid=INSTANCE, addresses=list(addresses) or None)


def free(*addresses: str) -> AnyCommand:
    """Devices of the instance are given back; without addresses all that it has."""
    return command("unclaim_pci_devices", instance_uuid=INSTANCE, addresses=list(addresses) or None)


def applied(node: Node, *commands: AnyCommand) -> Node:
    """The node after commands that are no claims, each of which has to change it."""
    for each in commands:
        node, decision = decided(node, each)
        assert (decision.outcome, decision.reason) == ("applied", None)
        assert_sum(node)
    return node


def devices_by_role(node: Node) -> dict[str, list[str]]:
    """The addresses that each claim of the instance has."""
    return {role: addresses_of(claim) for role, claim in claims_of(node).items()}


def allocated_in(node: Node) -> list[str]:
    """The addresses of the node's allocated devices."""
    return sorted(address for address, status in statuses_of(node).items() if status == "allocated")
