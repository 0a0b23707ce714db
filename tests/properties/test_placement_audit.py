# SPDX-License-Identifier: Apache-2.0
"""Random lives of instances, whose allocations Nova makes by its rules: the audit finds what is wrong."""

import itertools
from collections.abc import Callable, Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import some_resources
from tests.ledger_model import Json
from tests.properties.cloud import FLAVORS, NODES, Cloud, Event, Move, Vm
from tests.properties.under_test import Rules
from tracker_worker.domain.claim_places import ClaimPlace
from tracker_worker.placement.audit import Finding, FindingKind, Held, compare, questions

SLOTS = 3
Allocations = dict[str, dict[str, dict[str, int]]]
"""Amounts by node, consumer and resource class."""
Step = tuple[int, int, str, int, bool]
steps = st.lists(
    st.tuples(
        st.integers(0, SLOTS - 1),
        st.integers(0, 35),
        st.sampled_from(NODES),
        st.integers(0, len(FLAVORS) - 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)
STABLE = settings(derandomize=True, database=None, deadline=None)


class Nova:
    """A cloud whose events all come, in order, and whose allocations are as Nova makes them."""

    def __init__(self) -> None:
        self.cloud = Cloud()
        self.ledger = Rules()
        self._slots: list[Vm | None] = [None] * SLOTS
        self._ids = itertools.count(1)
        for node in NODES:
            self._report(node)

    def live(self, step: Step) -> None:
        """Let an instance do something; then a node may be audited."""
        slot, choice, node, size, audited = step
        vm, flavor = self._slots[slot], FLAVORS[size]
        actions = self.cloud.actions(vm) if vm else []
        if vm is None or not actions:
            self._slots[slot], events = self.cloud.boot(node, flavor, choice % 2 == 1)
        else:
            events = self.cloud.act(vm, actions[choice % len(actions)], node, flavor)
        for event in events:
            self._send(event)
        if audited:
            facts = self.cloud.facts(node, 0)
            self._report(node, instances=facts.instances, migrations=facts.migrations)

    def allocations(self) -> Allocations:
        """What Placement has now."""
        made: Allocations = {node: {} for node in NODES}
        for vm in self.cloud.vms.values():
            for node, consumer, flavor in consumers(vm):
                made[node][consumer] = resources_of(flavor, vm.volume_backed)
        return made

    def audit(self, allocations: Allocations) -> list[Finding]:
        """The findings on all nodes."""
        nodes = [self.ledger.node(name) for name in NODES]
        places = [
            ClaimPlace(node.name, claim.instance_uuid, claim.role, claim.migration_uuid, claim.task_state)
            for node in nodes
            for claim in node.held()
        ]
        found = []
        for node in nodes:
            held = Held(("provider",), allocations[node.name])
            asked = questions(node, held)
            answers = [each for each in places if {each.instance_uuid, each.migration_uuid} & asked]
            found += compare(node, held, answers)
        return found

    def _report(self, node: str, **more: list[Json]) -> None:
        resources = some_resources(uuid=f"uuid-of-{node}", host=f"host-of-{node}")
        self._send(
            Event(node, "update_available_resource", {"resources": msgspec.to_builtins(resources), **more})
        )

    def _send(self, event: Event) -> None:
        self.ledger.apply(
            event.method, {**event.args, "node": event.node, "event_id": f"event-{next(self._ids)}"}
        )


def consumers(vm: Vm) -> Iterator[tuple[str, str, Json]]:
    """The node, consumer and flavor of each allocation of an instance."""
    move = vm.move
    if move is None:
        if vm.node is not None:
            yield vm.node, vm.uuid, vm.flavor
        return
    yield move.source, vm.uuid if move.type == "evacuation" else move.uuid, move.old_flavor
    if move.phase != "reverting":
        yield move.dest, vm.uuid, move.new_flavor


def resources_of(flavor: Json, volume_backed: bool) -> dict[str, int]:
    """What the scheduler asks Placement for."""
    swap_gb = (flavor.get("swap_mb", 0) + 1023) // 1024
    disk = flavor.get("ephemeral_gb", 0) + swap_gb + (0 if volume_backed else flavor["root_gb"])
    asked = {"VCPU": flavor["vcpus"], "MEMORY_MB": flavor["memory_mb"], "DISK_GB": disk}
    return {name: amount for name, amount in asked.items() if amount}


def test_allocations_that_nova_makes_are_no_findings(examples: Callable[[int], int]) -> None:
    @settings(STABLE, max_examples=examples(300))
    @given(steps)
    def never_found(life: list[Step]) -> None:
        nova = Nova()
        for step in life:
            nova.live(step)
            assert nova.audit(nova.allocations()) == []

    never_found()


def test_each_fault_is_found_and_nothing_else(examples: Callable[[int], int]) -> None:
    @settings(STABLE, max_examples=examples(150))
    @given(steps, st.sampled_from(NODES))
    def found(life: list[Step], node: str) -> None:
        nova = Nova()
        for step in life:
            nova.live(step)
        right = nova.allocations()
        staying = [vm for vm in nova.cloud.vms.values() if vm.node is not None and vm.move is None]
        for vm in staying:
            size = right[vm.here][vm.uuid]
            faults: list[tuple[str, dict[str, dict[str, int]], FindingKind]] = [
                (vm.here, {vm.uuid: {**size, "VCPU": 9}}, FindingKind.SIZE),
                (node, {"stranger": size}, FindingKind.ORPHANED),
            ]
            if node != vm.here:
                faults.append((node, {vm.uuid: size}, FindingKind.DOUBLE))
            faults += [(move.source, {move.uuid: size}, FindingKind.DOUBLE) for move in landed(nova, vm)]
            for where, wrong, kind in faults:
                allocations = {**right, where: {**right[where], **wrong}}
                assert kinds(nova.audit(allocations)) == [(where, kind)]
            without = {uuid: held for uuid, held in right[vm.here].items() if uuid != vm.uuid}
            assert kinds(nova.audit({**right, vm.here: without})) == [(vm.here, FindingKind.MISSING)]

    found()


def landed(nova: Nova, vm: Vm) -> Iterator[Move]:
    """The move that has brought an instance to where it is, if the ledger has it."""
    labels = {claim.migration_uuid for claim in nova.ledger.node(vm.here).claims.get(vm.uuid, ())}
    yield from (move for move in vm.past if move.uuid in labels)


def kinds(findings: list[Finding]) -> list[tuple[str, FindingKind]]:
    return [(finding.node, finding.kind) for finding in findings]
