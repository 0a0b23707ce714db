# SPDX-License-Identifier: Apache-2.0
"""How claims are asked for, and what has to be true of a granted and of a refused one."""

from typing import Any

from tests.builders import (
    INSTANCE,
    MOVE,
    a_flavor,
    a_migration,
    an_instance,
    claims_of,
    command,
    decided,
)
from tests.topologies import DEDICATED, WITH_ALIASES, a_port
from tracker_worker.domain.commands import AnyCommand
from tracker_worker.domain.decision import ClaimRefused
from tracker_worker.domain.flavors import Flavor
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import Node, assert_sum
from tracker_worker.domain.objects import Instance, Limits, PciRequest
from tracker_worker.domain.settings import TrackerSettings

MOVE_CLAIMS = ("resize_claim", "live_migration_claim", "rebuild_claim")
EVERY_CLAIM = ("instance_claim", *MOVE_CLAIMS)
PINNED = a_flavor(2, 1024, extra_specs=DEDICATED)

NUMA = "Requested instance NUMA topology cannot fit the given host NUMA topology"
NUMA_AND_PCI = (
    "Requested instance NUMA topology together with requested PCI devices cannot fit the given host NUMA "
    "topology"
)
PCI = "Claim pci failed"

NOTHING_PASSES = Limits(memory_mb=0, disk_gb=0, vcpu=0)
TIGHT = Limits(memory_mb=1024, disk_gb=10, vcpu=1)
SHORT = (
    "Free memory 512.00 MB < requested 1024 MB; Free disk 10.00 GB < requested 20 GB; "
    "Free vcpu 1.00 VCPU < requested 2 VCPU"
)
"""Why TIGHT refuses 2 vcpus, 1024 MB and 20 GB on a node that has nothing but its reserve."""


def asks(method: str, flavor: Flavor = PINNED, instance: Instance | None = None, **more: Any) -> AnyCommand:
    """A claim of any kind for what a flavor asks for."""
    arguments: dict[str, Any] = {"instance": instance or an_instance(flavor=flavor), **more}
    if method in MOVE_CLAIMS:
        arguments.setdefault("migration", a_migration())
    if method == "resize_claim":
        arguments.setdefault("flavor", flavor)
    return command(method, **arguments)


def boot(flavor: Flavor = PINNED, *, limits: Limits | None = None, **of: Any) -> AnyCommand:
    """The claim of a boot; `of` is what else the instance has."""
    return asks("instance_claim", instance=an_instance(flavor=flavor, **of), limits=limits)


def attach(*requests: PciRequest, **more: Any) -> AnyCommand:
    """A claim of devices alone, by default for one port."""
    asked = list(requests or [a_port()])
    return command("claim_pci_devices", instance_uuid=INSTANCE, pci_requests=asked, **more)


def role_of(method: str) -> tuple[str, str | None]:
    """The role of a method's claim, and the migration that it is of."""
    return ("instance", None) if method == "instance_claim" else ("incoming", MOVE)


def the_claim(node: Node) -> Claim:
    """The only claim of the instance."""
    (claim,) = claims_of(node).values()
    return claim


def granted(node: Node, *claims: AnyCommand, settings: TrackerSettings = WITH_ALIASES) -> Node:
    """The node after claims that have to be granted, each recorded as it was answered."""
    for asked in claims:
        node, decision = decided(node, asked, settings)
        assert (decision.outcome, decision.reason) == ("granted", None)
        assert decision.claim in node.claims[INSTANCE]
        assert_sum(node)
    return node


def refused(node: Node, asked: AnyCommand, settings: TrackerSettings = WITH_ALIASES) -> str:
    """Why a claim was refused; a refused one changes nothing."""
    after, decision = decided(node, asked, settings)
    assert (decision.outcome, decision.changes, decision.claim) == ("refused", (), None)
    assert decision.effects == (ClaimRefused(decision.reason or ""),)
    assert (after.claims, after.used) == (node.claims, node.used)
    return decision.reason or ""
