# SPDX-License-Identifier: Apache-2.0
"""Commands in any order, many decided elsewhere: their cpus and devices overlap or do not exist.

No command raises, usage is the sum of the claims, a claim of what is not free is corrected as a conflict, a
repeated audit is ignored, and the release of all claims leaves the node as it was at first.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

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

from tests import samples
from tests.builders import NODE
from tests.properties import hardware
from tests.properties.hosts import HUGE, ORDINARY, SMALL, aliased, hosts, requests, tracker_settings
from tests.properties.lives import Ask, applied, asks, bytes_of, emptied, unnumbered
from tracker_worker.domain.audit import Correction
from tracker_worker.domain.decision import Audited, Decision, Outcome
from tracker_worker.domain.node import Node
from tracker_worker.domain.views import claim_view, node_view

Json = dict[str, Any]

INSTANCES = ("guest-1", "guest-2", "guest-3")
MOVES = ("move-1", "move-2")
ADDRESSES = tuple(f"0000:{card:02x}:00.{function}" for card in range(5) for function in range(3))
CHOICES = 5
CLAIMED, ATTACHED = range(9), range(10, 19)
"""The numbers of requests that are part of a claim, and of those that are attached later."""
METHODS = (
    *("instance_claim", "resize_claim", "rebuild_claim", "live_migration_claim") * 3,
    *("abort_instance_claim", "drop_move_claim", "start_move", "finish_move", "finish_move"),
    *("drop_move_claim_at_source", "drop_move_claim_at_dest", "finish_revert_move", "update_usage"),
    *("claim_pci_devices", "claim_pci_devices", "allocate_pci_devices", "unclaim_pci_devices"),
    *("update_available_resource", "audit", "audit", "audit", "remove_node"),
)
STATES = (
    ("active", None),
    ("active", "resize_prep"),
    ("resized", None),
    ("active", "migrating"),
    ("deleted", None),
)


def placed(
    id: int, pins: list[int], policy: str, threads: str | None, pages: int | None, emulator: int | None
) -> Json:
    """A guest cell as another tracker has placed it."""
    cell = {
        "id": id,
        "cpuset": [7] if policy == "mixed" else [],
        "pcpuset": list(range(len(pins))),
        "memory": 333,
        "pagesize": pages,
        "cpu_policy": policy,
        "cpu_thread_policy": threads,
        "cpu_pinning": {str(vcpu): cpu for vcpu, cpu in enumerate(pins)},
        "cpuset_reserved": None if emulator is None else [emulator],
    }
    return {key: value for key, value in cell.items() if value is not None}


cpus = st.integers(0, 12)
cells = st.builds(
    placed,
    id=st.sampled_from([0, 0, 0, 1, 2, 9]),
    pins=st.lists(cpus, max_size=3),
    policy=st.sampled_from(["dedicated", "dedicated", "mixed", "shared"]),
    threads=st.sampled_from([None, "isolate"]),
    pages=st.sampled_from([None, None, SMALL, ORDINARY, HUGE]),
    emulator=st.none() | cpus,
)
topologies = st.none() | st.lists(cells, max_size=2).map(lambda cells: {"cells": cells})
devices = st.none() | st.lists(st.sampled_from(ADDRESSES), max_size=3)


@dataclass(frozen=True)
class Told:
    """What a command says of an instance."""

    topology: Json | None
    devices: list[str] | None
    states: tuple[str, str | None]
    to_here: bool
    from_here: bool
    current: bool


tellings = st.builds(
    Told,
    topologies,
    devices,
    st.sampled_from(STATES),
    st.booleans(),
    st.booleans(),
    st.sampled_from([True, True, False]),
)
steps = st.tuples(
    st.integers(0, len(METHODS) - 1),
    st.integers(0, 255),
    st.integers(0, CHOICES - 1),
    st.integers(0, CHOICES - 1),
)


class DecidedElsewhere(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.node = self.empty = Node(NODE)
        self.settings = tracker_settings(pack=False)

    @initialize(
        reports=st.lists(hosts, min_size=2, max_size=2),
        asks=st.lists(asks, min_size=CHOICES, max_size=CHOICES),
        tellings=st.lists(tellings, min_size=CHOICES, max_size=CHOICES),
    )
    def a_host_is_reported(self, reports: list[Json], asks: list[Ask], tellings: list[Told]) -> None:
        self.reports, self.asks, self.tellings = reports, asks, tellings
        self.update_available_resource(0)

    # Commands.

    def instance(self, uuid: str, ask: Ask, told: Told) -> Json:
        vm_state, task_state = told.states
        return samples.an_instance(
            uuid,
            ask.wish.flavor(),
            vm_state=vm_state,
            task_state=task_state,
            volume_backed=ask.volume_backed,
            numa_topology=told.topology,
            pci_devices=told.devices,
            pci_requests=requests(ask.ports, iter(CLAIMED)),
        )

    def migration(self, uuid: str, move: str, ask: Ask, told: Told, **more: Any) -> Json:
        return samples.a_migration(
            move,
            uuid,
            type=("resize", "live-migration", "evacuation")[len(ask.ports)],
            source_node=NODE if told.from_here else "elsewhere",
            dest_node=NODE if told.to_here else "elsewhere",
            old_flavor=self.asks[0].wish.flavor(),
            new_flavor=ask.wish.flavor(),
            old_numa_topology=self.tellings[0].topology,
            new_numa_topology=told.topology,
            old_pci_devices=self.tellings[0].devices,
            new_pci_devices=told.devices,
            current=told.current,
            **more,
        )

    @rule(steps=st.lists(steps, min_size=1, max_size=16))
    def things_happen(self, steps: list[tuple[int, int, int, int]]) -> None:
        for index, choice, ask, told in steps:
            method = METHODS[index]
            uuid, move = INSTANCES[choice % len(INSTANCES)], MOVES[choice // 7 % len(MOVES)]
            if method in ("update_available_resource", "audit", "remove_node"):
                getattr(self, method)(choice)
            elif method.endswith("_claim") and method not in ("abort_instance_claim", "drop_move_claim"):
                self.claim(method, uuid, move, self.asks[ask], self.tellings[told], decided=choice % 2 == 0)
            else:
                self.event(method, uuid, move, self.asks[ask], self.tellings[told])
            self.everything_adds_up()

    def send(self, method: str, args: Json) -> Decision:
        before = set(map(id, self.node.held()))
        self.node, decision = applied(self.node, method, args, self.settings)
        reported = {device["address"] for device in self.reported["pci_devices"]}
        for claim in self.node.held():
            if id(claim) not in before:
                assert not reported & {held.address for held in claim.pci_devices if held.device is None}
        return decision

    def event(self, method: str, uuid: str, move: str, ask: Ask, told: Told) -> None:
        args: Json = {"instance_uuid": uuid, "migration_uuid": move}
        if method == "claim_pci_devices":
            args = {"instance_uuid": uuid, "pci_requests": requests(ask.ports, iter(ATTACHED))}
        elif method in ("allocate_pci_devices", "unclaim_pci_devices"):
            args = {"instance_uuid": uuid, "addresses": told.devices}
        elif method == "update_usage":
            args = {"instance": self.instance(uuid, ask, told)}
        elif method in ("finish_move", "finish_revert_move"):
            args = {"instance": self.instance(uuid, ask, told), "migration_uuid": move}
        elif method == "abort_instance_claim":
            args = {"instance_uuid": uuid}
        self.send(method, args)

    def claim(self, method: str, uuid: str, move: str, ask: Ask, told: Told, decided: bool) -> None:
        args: Json = {"instance": self.instance(uuid, ask, told), "decided": decided}
        if method != "instance_claim":
            args["migration"] = self.migration(uuid, move, ask, told)
        if method == "resize_claim":
            args["flavor"] = ask.wish.flavor()
        if not decided:
            args["instance"] |= {"numa_topology": None, "pci_devices": None}
        before = self.node
        decision = self.send(method, args)
        if decision.claim is None or not decision.changes:
            return
        claim = msgspec.to_builtins(claim_view(decision.claim))
        held = {owner(c): c for c in node_view(before)["claims"]}.get(owner(claim))
        if decided:
            assert conflicts(decision) == (not self.is_free(claim))
        elif held is None or has(held) != has(claim):
            assert not conflicts(decision)
            hardware.topology_is_as_asked(claim, ask.wish.topology(), self.reported)
            kept = [device for device in held["pci_devices"] if is_attached(device)] if held else []
            if method == "live_migration_claim":
                kept = claim["pci_devices"]
            self.granted_here(claim, ask, kept, taken=method != "live_migration_claim")

    def granted_here(self, claim: Json, ask: Ask, kept: list[Json], taken: bool) -> None:
        """A claim that is decided here takes only what is free. Attached devices stay, and come first."""
        got = claim["pci_devices"]
        assert got[: len(kept)] == kept
        assert self.is_free({**claim, "pci_devices": got[len(kept) :]})
        wanted = [*aliased(ask.wish), *requests(ask.ports, iter(CLAIMED))] if taken else []
        cells = {cell["id"] for cell in hardware.cells_of(claim)}
        known = self.devices(owner(claim))
        hardware.devices_are_as_asked(got[len(kept) :], wanted, cells, known, self.reported, "allocated")

    def is_free(self, claim: Json) -> bool:
        others = [other for other in node_view(self.node)["claims"] if owner(other) != owner(claim)]
        return hardware.is_free(self.reported, claim, others, self.devices(owner(claim)))

    def update_available_resource(self, choice: int, **more: Any) -> None:
        """Report one of the two hosts, which may be the other one than before."""
        self.reported = self.reports[choice // 3 % 2]
        bare = {"resources": self.reported}
        self.send("update_available_resource", {**bare, **more})
        self.empty, _ = applied(self.empty, "update_available_resource", bare, self.settings)

    def audit(self, choice: int) -> None:
        instances, migrations = [], []
        for number, uuid in enumerate(INSTANCES):
            at = (choice + number) % CHOICES
            ask, told = self.asks[at], self.tellings[at]
            instance = self.instance(uuid, ask, told)
            here = choice >> number & 1
            if here:
                instances.append(instance)
            if choice >> number & 8:
                more = {} if here else {"instance": instance}
                migrations.append(self.migration(uuid, MOVES[choice % 2], ask, told, **more))
        facts = {"instances": instances, "migrations": migrations}
        self.update_available_resource(choice // 5, **facts)
        args = {"resources": self.reported, **facts}
        again, decision = applied(self.node, "update_available_resource", args, self.settings)
        assert decision.outcome is Outcome.IGNORED
        assert unnumbered(again) == unnumbered(self.node)

    def remove_node(self, choice: int) -> None:
        self.send("remove_node", {"force": True})
        self.empty, _ = applied(self.empty, "remove_node", {"force": True}, self.settings)
        self.update_available_resource(choice)

    # What always holds.

    def devices(self, *without: tuple[str, str]) -> hardware.Devices:
        """All devices; a claimed one is shown as it was when its first owner got it."""
        devices: hardware.Devices = {d["address"]: hardware.known(d) for d in self.reported["pci_devices"]}
        kept: Json = {}
        for claim in self.node.held():
            if (claim.instance_uuid, claim.role.value) in without:
                continue
            for held in claim.pci_devices:
                devices.setdefault(held.address, None)
                if held.device is not None:
                    kept.setdefault(held.address, hardware.known(msgspec.to_builtins(held.device)))
        return {**devices, **kept}

    @invariant()
    def everything_adds_up(self) -> None:
        view = node_view(self.node)
        claims = view["claims"]
        hardware.sums_are_right(view, self.reported, claims)
        hardware.cells_are_right(view, self.reported, claims)
        hardware.devices_are_right(view, claims, self.devices())

    @invariant()
    def releasing_everything_gives_the_node_as_at_first(self) -> None:
        uuids = list(self.node.claims)
        for order in (uuids, uuids[::-1]):
            assert bytes_of(emptied(self.node, order, self.settings)) == bytes_of(self.empty)


def is_attached(device: Json) -> bool:
    return device.get("request_id") in {f"port-{number}" for number in ATTACHED}


def owner(claim: Json) -> tuple[str, str]:
    return claim["instance_uuid"], claim["role"]


def has(claim: Json) -> tuple[Any, Any]:
    return claim["numa_topology"], claim["pci_devices"]


def conflicts(decision: Decision) -> bool:
    corrections: Iterable[Correction] = (
        correction
        for effect in decision.effects
        if isinstance(effect, Audited)
        for correction in effect.corrections
    )
    return any(correction.reason == "conflict" for correction in corrections)


def test_what_was_decided_elsewhere_adds_up_and_is_told_from_what_is_free(
    examples: Callable[[int], int],
) -> None:
    run_state_machine_as_test(
        DecidedElsewhere,
        settings=settings(
            max_examples=examples(150),
            stateful_step_count=12,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
