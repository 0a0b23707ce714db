# SPDX-License-Identifier: Apache-2.0
"""What audits find, on a node with two cells and five devices or elsewhere, and what they make of it."""

from typing import Any

from tests.builders import a_flavor, a_migration, a_report, decided
from tests.topologies import a_device, a_numa_node, a_pinned_guest, host_resources
from tracker_worker.domain.audit import Correction
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.decision import Audited, Decision
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Instance, Migration

OLD = a_flavor(2, 2048, 20, id="1")
NEW = a_flavor(4, 4096, 40, id="2")
DEVICES = [a_device(f"d{number}") for number in range(5)]
PINS, OTHER_PINS = a_pinned_guest({0: [2, 3]}), a_pinned_guest({1: [12, 13]})
NEW_PINS = a_pinned_guest({1: [12, 13, 14, 15]})


def a_move(**more: Any) -> Migration:
    """A resize from OLD to NEW, from elsewhere to here unless told."""
    return a_migration(**{"old_flavor": OLD, "new_flavor": NEW, **more})


def corrections(decision: Decision) -> tuple[Correction, ...]:
    """The corrections that a decision tells; it tells nothing without one."""
    told = [effect for effect in decision.effects if isinstance(effect, Audited)]
    if not told:
        return ()
    (one,) = told
    assert one.corrections
    return one.corrections


def reasons(decision: Decision) -> list[tuple[str, str]]:
    """The corrections as (action, reason)."""
    return [(correction.action, correction.reason) for correction in corrections(decision)]


def the_audit(instances: list[Instance], migrations: list[Migration] | None = None) -> AnyCommand:
    """An audit of the node with devices."""
    resources = host_resources(devices=DEVICES)
    return a_report(instances, migrations or [], resources=resources)


def a_node_of(*claims: Claim) -> Node:
    """The node with devices, and who has claims there."""
    return a_numa_node(*claims, devices=DEVICES)


def audited(node: Node, *facts: Any) -> tuple[Node, Decision]:
    """What an audit makes of a node; a second one of the same facts finds nothing more."""
    after, decision = decided(node, the_audit(*facts))
    again, second = decided(after, the_audit(*facts))
    assert (second.outcome, second.changes, second.effects) == ("ignored", (), ())
    assert again.claims == after.claims
    return after, decision
