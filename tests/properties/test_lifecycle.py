# SPDX-License-Identifier: Apache-2.0
"""Random lives of instances on three nodes, with everything that a bus and a compute manager get wrong.

Events are repeated, lost, late and stale; audits come at any point, some of them late. `cloud` knows what
each instance must count for. Where an event was lost, or a stale one came, the ledger may be wrong for that
instance on that node (it is in `doubt`) until an audit has corrected it.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests import ledger_model
from tests.builders import some_resources
from tests.ledger_model import Amounts, Json, total
from tests.properties.cloud import FLAVORS, NODES, Cloud, Event, Facts, Vm
from tests.properties.under_test import Rules, WholeLane, amounts, decided, held, read
from tracker_worker.domain.node import Node
from tracker_worker.domain.objects import Origin
from tracker_worker.domain.report import Owner

Ledger = Rules | WholeLane

SLOTS = 3
node_names = st.sampled_from(NODES)
fates = st.sampled_from(["sent", "sent", "sent", "same id twice", "new id twice", "lost", "late"])
steps = st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 35), node_names, st.integers(0, 3), fates)


@dataclass
class Client:
    """The compute manager of a node as rpcapi stamps it: a source, and a counter of its events."""

    source: str
    counter: int = 0

    def stamp(self) -> Json:
        self.counter += 1
        return {"source": self.source, "sequence": self.counter}


@dataclass(frozen=True)
class Snapshot:
    """An audit that was not delivered yet."""

    facts: Facts
    args: Json


@dataclass(frozen=True)
class Sent:
    """An event with its stamp."""

    event: Event
    args: Json

    @property
    def key(self) -> tuple[str, str]:
        args = self.args
        return self.event.node, args.get("instance_uuid") or args["instance"]["uuid"]


class Lifecycle(RuleBasedStateMachine):
    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.cloud = Cloud()
        self.slots: list[Vm | None] = [None] * SLOTS
        self.clients = {node: Client(f"client-of-{node}") for node in NODES}
        self.ids = itertools.count(1)
        self.history: list[Sent] = []
        self.late: dict[tuple[str, str], Sent] = {}
        self.doubt: set[tuple[str, str]] = set()
        self.origins: dict[str, Mapping[str, ledger_model.Origin]] = {node: {} for node in NODES}
        self.first: dict[str, Node] = {}

    def teardown(self) -> None:
        self.ledger.close()

    # Sending events.

    def stamped(self, event: Event, origin: Json | None = None) -> Sent:
        origin = origin or self.clients[event.node].stamp()
        stamp = {"event_id": f"event-{next(self.ids)}", "origin": origin, "node": event.node}
        return Sent(event, event.args | stamp)

    def report(self, node: str, **more: Any) -> Sent:
        resources = some_resources(uuid=f"uuid-of-{node}", host=f"host-of-{node}")
        args = {"resources": msgspec.to_builtins(resources), **more}
        return self.stamped(Event(node, "update_available_resource", args))

    def apply(self, sent: Sent) -> str:
        outcome = self.ledger.apply(sent.event.method, sent.args)
        if sent.event.method not in ("update_available_resource", "remove_node"):
            node, uuid = sent.key
            origin = sent.args["origin"]["source"], sent.args["origin"]["sequence"]
            self.origins[node] = ledger_model.with_origin(self.origins[node], uuid, origin)
        return outcome

    def arrive(self, key: tuple[str, str]) -> None:
        """A late event comes now, before anything newer of the same instance on the same node."""
        if key in self.late:
            self.apply(self.late.pop(key))

    def send(self, event: Event, fate: str) -> None:
        sent = self.stamped(event)
        self.history.append(sent)
        self.arrive(sent.key)
        if event.call and fate in ("lost", "late"):
            fate = "sent"
        if fate == "lost":
            self.doubt.add(sent.key)
        elif fate == "late":
            self.late[sent.key] = sent
        else:
            outcome = self.apply(sent)
            assert not event.call or outcome == "granted"
        if fate == "same id twice":
            before = self.ledger.node(event.node)
            assert self.apply(sent) == outcome
            assert self.ledger.node(event.node) == before
        elif fate == "new id twice":
            self.repeat(sent)

    def repeat(self, sent: Sent) -> None:
        """A client that got no answer sends the same command as a new event."""
        before = held(self.ledger.node(sent.event.node))
        self.apply(self.stamped(sent.event))
        if sent.key not in self.doubt:
            assert held(self.ledger.node(sent.event.node)) == before, "a repetition changes nothing"

    # The rules of the machine.

    @initialize()
    def every_node_is_reported(self) -> None:
        for node in NODES:
            assert self.apply(self.report(node)) == "applied"
            self.first[node] = self.ledger.node(node)

    @rule(steps=st.lists(steps, min_size=1, max_size=8))
    def instances_live(self, steps: list[tuple[int, int, str, int, str]]) -> None:
        for step in steps:
            self.an_instance_lives(*step)
            self.what_is_not_in_doubt_is_as_the_compute_managers_know_it()

    def an_instance_lives(self, slot: int, choice: int, node: str, size: int, fate: str) -> None:
        vm, flavor = self.slots[slot], FLAVORS[size]
        actions = self.cloud.actions(vm) if vm else []
        if vm is None or not actions:
            self.slots[slot], events = self.cloud.boot(node, flavor, volume_backed=choice % 2 == 1)
        else:
            events = self.cloud.act(vm, actions[choice % len(actions)], node, flavor)
        for event in events:
            self.send(event, fate)

    @rule(choice=st.integers(0, 1000))
    def what_is_late_arrives(self, choice: int) -> None:
        if self.late:
            self.arrive(sorted(self.late)[choice % len(self.late)])

    @rule(choice=st.integers(0, 1000))
    def something_stale_comes_again(self, choice: int) -> None:
        if self.history:
            sent = self.history[choice % len(self.history)]
            self.doubt.add(sent.key)
            self.apply(self.stamped(sent.event, sent.args["origin"]))

    @rule(node=node_names)
    def a_claim_finds_no_room(self, node: str) -> None:
        vm = Vm(f"refused-{next(self.ids)}", FLAVORS[0], False)
        args = {"instance": vm.json(), "limits": {"vcpu": 0}}
        before = self.ledger.ledger(node)
        assert self.apply(self.stamped(Event(node, "instance_claim", args))) == "refused"
        assert self.ledger.ledger(node) == before

    @rule(node=node_names)
    def a_node_is_removed_and_comes_back(self, node: str) -> None:
        removal = Event(node, "remove_node", {"force": True})
        assert self.apply(self.stamped(removal)) == "applied"
        assert self.apply(self.report(node)) == "applied"
        self.origins[node] = {}
        self.doubt |= {(node, uuid) for uuid in self.cloud.vms}

    @rule(node=node_names)
    def a_compute_manager_restarts(self, node: str) -> None:
        self.clients[node] = Client(f"client-{next(self.ids)}-of-{node}")

    @rule(node=node_names, noise=st.integers(0, 255), knows=st.booleans())
    def an_audit_comes_at_once(self, node: str, noise: int, knows: bool) -> None:
        self.audit(node, self.snapshot(node, noise, knows))

    @rule(node=node_names, noise=st.integers(0, 255), steps=st.lists(steps, max_size=6))
    def an_audit_is_overtaken(
        self, node: str, noise: int, steps: list[tuple[int, int, str, int, str]]
    ) -> None:
        """`as_of` is the last event that it covers; events that are sent before it arrives are newer."""
        snapshot = self.snapshot(node, noise, knows=True)
        for step in steps:
            self.an_instance_lives(*step)
        self.audit(node, snapshot)

    def snapshot(self, node: str, noise: int, knows: bool) -> Snapshot:
        """Facts as they are now; `knows`: with the number up to which all events have been cast."""
        facts = self.cloud.facts(node, noise)
        client = self.clients[node]
        waiting = [
            sent.args["origin"]["sequence"]
            for (where, _), sent in self.late.items()
            if where == node and sent.args["origin"]["source"] == client.source
        ]
        more: Json = {"instances": facts.instances, "migrations": facts.migrations}
        if knows:
            more["as_of"] = min([client.counter + 1, *waiting]) - 1
        return Snapshot(facts, self.report(node, **more).args)

    def audit(self, node: str, snapshot: Snapshot) -> None:
        facts, args = snapshot.facts, snapshot.args
        newer = ledger_model.newer_than(self.origins[node], args["origin"]["source"], args.get("as_of"))
        before = self.ledger.node(node)
        self.ledger.apply("update_available_resource", args)
        after = self.ledger.node(node)
        for uuid in {*self.cloud.vms, *before.claims, *after.claims}:
            wanted = held(before, uuid) if uuid in newer else facts.expected.get(uuid, Amounts())
            assert held(after, uuid) == wanted, f"{uuid} on {node}"
            if uuid not in newer:
                self.believe(node, uuid, facts)
        self.origins[node] = newer
        self.audit_again(node, args)

    def believe(self, node: str, uuid: str, facts: Facts) -> None:
        """End the doubt where the facts are still true and no late event can change the ledger again."""
        vm = self.cloud.vms.get(uuid)
        current = vm is not None and facts.versions.get(uuid) == vm.version
        if current and (node, uuid) not in self.late:
            self.doubt.discard((node, uuid))

    def audit_again(self, node: str, args: Json) -> None:
        before = self.ledger.ledger(node)
        for origin in (args["origin"], self.clients[node].stamp()):  # Late, and new.
            again = args | {"event_id": f"event-{next(self.ids)}", "origin": origin}
            assert self.ledger.apply("update_available_resource", again) == "ignored"
            assert self.ledger.ledger(node) == before

    # What always holds.

    @invariant()
    def usage_is_the_reserve_and_the_claims(self) -> None:
        for name in NODES if self.first else ():
            node = self.ledger.node(name)
            assert amounts(node.used) == total([amounts(node.reserve), held(node)])

    @invariant()
    def what_is_not_in_doubt_is_as_the_compute_managers_know_it(self) -> None:
        for name in NODES:
            node = self.ledger.node(name)
            for uuid, vm in self.cloud.vms.items():
                if not {(name, uuid)} & (self.doubt | self.late.keys()):
                    assert held(node, uuid) == vm.expected(name), f"{uuid} on {name}"

    @invariant()
    def releasing_everything_gives_the_node_as_at_first(self) -> None:
        for name, first in self.first.items():
            node = self.ledger.node(name)
            assert first.resources is not None
            owners = {first.resources.uuid: Owner(name, first.resources.host)}
            audit = read("update_available_resource", self.report(name, instances=[]).args)
            emptied, _ = decided(node, audit, owners)
            released = node
            for uuid in node.claims:
                vm = Vm(uuid, FLAVORS[0], False, vm_state="deleted", task_state=None)
                args = {"node": name, "instance": vm.json()}
                released, _ = decided(released, read("update_usage", args), owners)
            assert as_at_first(emptied) == as_at_first(released) == as_at_first(first)


def as_at_first(node: Node) -> Node:
    """The node without its sequences and origins."""
    never: dict[str, Origin] = {}
    return msgspec.structs.replace(
        node, sequence=0, commit_id="", usage_sequence=0, last_origins=never, sources={}
    )


STABLE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_random_lives_keep_the_ledger_right(examples: Callable[[int], int]) -> None:
    run_state_machine_as_test(
        cast(type[Lifecycle], lambda: Lifecycle(Rules())),  # Any factory will do.
        settings=settings(STABLE, max_examples=examples(300), stateful_step_count=40),
    )


def test_random_lives_through_lane_and_database_keep_the_ledger_right(
    empty_database: Path, examples: Callable[[int], int]
) -> None:
    run_state_machine_as_test(
        cast(type[Lifecycle], lambda: Lifecycle(WholeLane(empty_database))),
        settings=settings(STABLE, max_examples=examples(30), stateful_step_count=25),
    )
