# SPDX-License-Identifier: Apache-2.0
"""Random lives of guests with cpus, pages and devices of their own on random hosts.

This worker decides everything, so that no cpu and no device may ever be given twice. The books have what each
guest was granted; `hardware` computes what the node must show of it.
"""

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.properties import hardware
from tests.properties.guests import FALSE, SHUFFLED, SILENT, TRUE, Guest
from tests.properties.hosts import changed, hosts
from tests.properties.lives import ASKS, SLOTS, Ask, Lives, applied, asks, bytes_of, emptied, unnumbered
from tracker_worker.domain.decision import Audited, Outcome
from tracker_worker.domain.views import node_view

Json = dict[str, Any]

steps = st.tuples(st.integers(0, SLOTS), st.integers(0, 16383), st.integers(0, ASKS - 1))
"""Slot of the guest (the last one is the host), action, and request."""
WAYS = (TRUE, FALSE, SHUFFLED, SILENT, FALSE)


class Topologies(Lives, RuleBasedStateMachine):
    @initialize(report=hosts, asks=st.lists(asks, min_size=ASKS, max_size=ASKS), pack=st.booleans())
    def a_host_is_reported(self, report: Json, asks: list[Ask], pack: bool) -> None:
        self.ever_reported = report["pci_devices"]
        self.begin(report, asks, pack)

    @rule(steps=st.lists(steps, min_size=1, max_size=24))
    def things_happen(self, steps: list[tuple[int, int, int]]) -> None:
        for slot, choice, ask in steps:
            if slot < SLOTS:
                self.a_guest_lives(slot, choice, self.asks[ask])
            else:
                self.the_host_is_reported(choice)
            self.everything_is_shown()

    # Reports of the host.

    def the_host_is_reported(self, choice: int) -> None:
        """Report the host, perhaps with a device added, removed or changed, and perhaps as an audit."""
        devices = self.books.report["pci_devices"]
        if choice % 3:
            used = [address for entry in self.books.entries.values() for address in entry.addresses]
            devices = changed(devices, self.ever_reported, used, choice // 3)
        if choice % 4:
            ways = [WAYS[choice // 5**number % len(WAYS)] for number in range(SLOTS)]
            self.placement_has_chosen_another_device(choice)
            assert {*self.audit(devices, ways)} <= {"role_changed", "size_changed"}
        else:
            self.report(devices)
            self.a_stranger_is_named(choice)

    def audit(self, devices: list[Json], ways: list[str]) -> list[str]:
        """Audit with the current facts; return the reasons of the corrections."""
        decision = self.report(devices, **self.facts(ways))
        for guest in self.guests:
            guest.was_audited(self.books)
        audits = [effect for effect in decision.effects if isinstance(effect, Audited)]
        return [correction.reason for audit in audits for correction in audit.corrections]

    def facts(self, ways: list[str]) -> Json:
        facts = [guest.facts(self.books, how) for guest, how in zip(self.guests, ways, strict=True)]
        return {
            "instances": [instance for some, _ in facts for instance in some],
            "migrations": [migration for _, some in facts for migration in some],
        }

    def placement_has_chosen_another_device(self, choice: int) -> None:
        """An audit takes the device over from the instance, and changes nothing else."""
        shown = node_view(self.node)["pci_devices"]
        free = [device["address"] for device in shown if device["status"] == "available"]
        guessed = [(key, old) for key, entry in self.books.entries.items() for old in sorted(entry.guessed)]
        if free and guessed:
            (key, old), new = guessed[choice % len(guessed)], free[choice // 7 % len(free)]
            self.books.put(*key, self.books.entries[key].with_another(old, self.books.reported()[new]))
            assert self.audit(self.books.report["pci_devices"], [TRUE] * SLOTS), "a correction tells it"
            self.everything_is_shown()

    def a_stranger_is_named(self, choice: int) -> None:
        uuid: Json = {"instance_uuid": "stranger"}
        move: Json = {**uuid, "migration_uuid": "move-0"}
        named = [
            ("abort_instance_claim", uuid), ("drop_move_claim", uuid), ("start_move", move),
            ("drop_move_claim_at_source", move), ("drop_move_claim_at_dest", move),
            ("allocate_pci_devices", uuid), ("unclaim_pci_devices", uuid),
            ("update_usage", {"instance": Guest("stranger").json()}),
        ]  # fmt: skip
        method, args = named[choice % len(named)]
        assert self.send(method, **args).outcome is Outcome.IGNORED

    # What always holds.

    @invariant()
    def everything_is_shown(self) -> None:
        view, claims = node_view(self.node), self.books.shown()
        assert in_order(view["claims"]) == in_order(claims)
        report, devices = self.books.report, self.books.devices()
        hardware.sums_are_right(view, report, claims)
        hardware.cells_are_right(view, report, claims)
        hardware.devices_are_right(view, claims, devices)
        hardware.cpus_are_pinned_once(report, claims)
        hardware.memory_suffices(report, claims)
        hardware.devices_are_owned_once(claims, devices)

    @invariant()
    def releasing_everything_gives_the_node_as_at_first(self) -> None:
        uuids = list(self.node.claims)
        for order in (uuids, uuids[::-1]):
            assert bytes_of(emptied(self.node, order, self.settings)) == bytes_of(self.empty)

    @invariant()
    def a_true_audit_is_believed_once(self) -> None:
        args = {"resources": self.books.report, **self.facts([TRUE] * SLOTS)}
        audited, _ = applied(self.node, "update_available_resource", args, self.settings)
        again, decision = applied(audited, "update_available_resource", args, self.settings)
        assert decision.outcome is Outcome.IGNORED
        assert unnumbered(again) == unnumbered(audited)


def in_order(claims: list[Json]) -> list[Json]:
    """Claims by instance and role, the devices of each by address."""
    ordered = [
        {**claim, "pci_devices": sorted(claim["pci_devices"], key=lambda device: device["address"])}
        for claim in claims
    ]
    return sorted(ordered, key=lambda claim: (claim["instance_uuid"], claim["role"]))


def test_random_lives_never_take_anything_twice(examples: Callable[[int], int]) -> None:
    run_state_machine_as_test(
        Topologies,
        settings=settings(
            max_examples=examples(180),
            stateful_step_count=15,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
