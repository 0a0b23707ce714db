# SPDX-License-Identifier: Apache-2.0
"""Actions of the guests of a node, and the claims that result, kept in the books.

Each action sends a command through the rules. A repeated command changes nothing, a refused one claims
nothing, and a granted claim has everything that was requested.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import strategies as st

from tests.builders import NODE, decided
from tests.ledger_model import INCOMING, INSTANCE, OUTGOING, ROLES
from tests.properties import hardware
from tests.properties.guests import FALSE, Books, Entry, Guest, told
from tests.properties.hosts import (
    FLOATING,
    HUGE,
    ORDINARY,
    Wish,
    aliased,
    limits,
    port,
    requests,
    tracker_settings,
    wishes,
)
from tests.properties.under_test import read
from tracker_worker.domain.decision import Decision, Outcome
from tracker_worker.domain.node import Node, assert_sum
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.domain.views import claim_view, node_view

Json = dict[str, Any]

SLOTS = 4
ASKS = 6
DELETED = {"vm_state": "deleted", "task_state": None}


@dataclass(frozen=True)
class Ask:
    """Everything that a claim may ask for."""

    wish: Wish
    ports: list[tuple[int, list[Json], str | None]]
    limits: Json | None
    volume_backed: bool

    def easier(self) -> Iterator["Ask"]:
        """The same request, then one that is small enough for a cell, then one without devices."""
        yield self
        wish = dataclasses.replace(self.wish, cells=min(self.wish.cells, 1), cpus=2).sensible()
        if wish.alias or self.ports:
            yield dataclasses.replace(self, wish=wish, limits=None)
        yield dataclasses.replace(self, wish=dataclasses.replace(wish, alias=None), ports=[], limits=None)


asks = st.builds(Ask, wishes, st.just([]) | st.lists(port, min_size=1, max_size=2), limits, st.booleans())
ACTIONS = {
    "nowhere": "boot boot boot boot_with_topology resize_in resize_in migrate_in evacuate_in expect",
    "offloaded": "unshelve",
    "building": "settle settle settle abort replace delete",
    "active": "resize resize leave leave_for_good attach attach allocate detach touch offload replace delete",
    "coming": "land land land cancel relabel reclaim attach attach allocate detach delete",
    "expected": "land claim_late attach allocate detach delete",
    "resizing": "start start land cancel relabel reclaim attach attach detach delete",
    "handed over": "land land land delete",
    "resized": "confirm confirm revert revert attach detach delete",
    "reverting": "come_back come_back delete",
    "came": "settle settle revert delete",
    "leaving": "go go come_back delete",
    "left": "confirm come_back delete",
}


def applied(node: Node, method: str, args: Json, how: TrackerSettings) -> tuple[Node, Decision]:
    """The node after a command, which changes nothing if it is refused or ignored, and the decision."""
    after, decision = decided(node, read(method, {"node": NODE, **args}), how)
    assert_sum(after)
    if decision.outcome in (Outcome.REFUSED, Outcome.IGNORED):
        assert unnumbered(after) == unnumbered(node)
    return after, decision


def claimed(decision: Decision) -> Json:
    """The claim that a command has got, as it is shown."""
    assert decision.claim is not None
    view: Json = msgspec.to_builtins(claim_view(decision.claim))
    return view


def unnumbered(node: Node) -> Node:
    """The node without its sequences and origins."""
    return msgspec.structs.replace(node, sequence=0, usage_sequence=0, last_origins={})


def bytes_of(node: Node) -> tuple[bytes, bytes]:
    """The whole node, and its view."""
    whole = msgspec.json.encode(
        unnumbered(node), enc_hook=lambda held: {uuid: held[uuid] for uuid in sorted(held)}
    )
    return whole, msgspec.json.encode({**node_view(node), "sequence": 0})


def emptied(node: Node, uuids: Iterable[str], how: TrackerSettings) -> Node:
    """The node after these instances were deleted, in this order."""
    for uuid in uuids:
        instance = {**Guest(uuid).json(), **DELETED}
        node, _ = applied(node, "update_usage", {"instance": instance}, how)
    return node


class Lives:
    """A node, its guests, and the books."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = itertools.count(1)
        self.node = self.empty = Node(NODE)

    def begin(self, report: Json, asks: list[Ask], pack: bool) -> None:
        """Report a host without guests."""
        self.asks = asks
        self.settings = tracker_settings(pack)
        self.guests = [self.a_new_guest() for _ in range(SLOTS)]
        self.books = Books(report)
        self.report(report["pci_devices"])

    def a_new_guest(self) -> Guest:
        return Guest(f"guest-{next(self.ids)}")

    # Sending commands.

    def send(self, method: str, **args: Any) -> Decision:
        """Apply a command, and check that its repetition changes nothing."""
        self.node, decision = applied(self.node, method, args, self.settings)
        again, repeated = applied(self.node, method, args, self.settings)
        assert unnumbered(again) == unnumbered(self.node)
        assert repeated.claim == decision.claim
        assert repeated.reason == decision.reason
        if decision.outcome is Outcome.APPLIED:
            assert repeated.outcome is Outcome.IGNORED
        else:
            assert repeated.outcome is decision.outcome
        return decision

    def report(self, devices: list[Json], **more: Any) -> Decision:
        self.books.report = {**self.books.report, "pci_devices": devices}
        bare = {"resources": self.books.report}
        self.empty, _ = applied(self.empty, "update_available_resource", bare, self.settings)
        return self.send("update_available_resource", **bare, **more)

    def claim(
        self, guest: Guest, role: str, method: str, wanted: list[Json], asked: Json | None, args: Json
    ) -> bool:
        """Claim, with the `wanted` devices. A granted claim is checked and goes into the books."""
        decision = self.send(method, **args)
        if decision.outcome is Outcome.REFUSED:
            assert asked or wanted or args.get("limits"), decision.reason
            return False
        view = claimed(decision)
        assert view == {**view, **guest.sizes, "role": role}
        hardware.topology_is_as_asked(view, asked, self.books.report)
        kept = self.kept(guest, role, method)
        kept = dataclasses.replace(kept, own=frozenset(request.get("request_id") for request in wanted))
        missing = kept.missing(wanted)
        chosen = [] if method == "live_migration_claim" else missing
        self.books.drop(guest.uuid, role)
        self.books.put(guest.uuid, role, self.granted(view, chosen, kept))
        hardware.limits_hold(view, args.get("limits"), node_view(self.node), self.books.report)
        if missing == wanted or method == "live_migration_claim":
            self.it_is_granted_in_its_own_place(method, args, view)
        if not wanted and method != "live_migration_claim":
            _, alone = applied(self.empty, method, args, self.settings)
            assert alone.outcome is Outcome.GRANTED, alone.reason
        return True

    def kept(self, guest: Guest, role: str, method: str) -> Entry:
        """The devices that stay when a claim is replaced: those that were attached to it.

        For a live migration all stay, because its claim takes no devices by itself.
        """
        held = self.books.entries.get((guest.uuid, role), Entry({"pci_devices": []}, {}))
        if method == "live_migration_claim":
            return held
        own = {None, *held.own}
        return held.of(device for device in held.view["pci_devices"] if device.get("request_id") not in own)

    def granted(self, view: Json, wanted: list[Json], kept: Entry) -> Entry:
        """The entry of a granted claim, whose devices are the kept ones and then the wanted ones."""
        devices, cells = self.books.reported(), {cell["id"] for cell in hardware.cells_of(view)}
        had, got = kept.view["pci_devices"], view["pci_devices"][len(kept.devices) :]
        assert view["pci_devices"] == [*had, *got]
        hardware.devices_are_as_asked(got, wanted, cells, devices, self.books.report, "allocated")
        chosen = {device["address"]: devices[device["address"]] for device in got}
        return dataclasses.replace(
            kept,
            view=view,
            devices={**kept.devices, **chosen},
            guessed=kept.guessed | hardware.guessed(got, wanted),
        )

    def it_is_granted_in_its_own_place(self, method: str, args: Json, view: Json) -> None:
        """A claim that replaces another may use its cpus and devices."""
        instance = args["instance"]
        other = {**instance, "volume_backed": not instance["volume_backed"]}
        _, decision = applied(self.node, method, {**args, "instance": other}, self.settings)
        assert decision.outcome is Outcome.GRANTED, decision.reason
        replaced = claimed(decision)
        assert replaced == {**view, "disk_mb": replaced["disk_mb"]}
        if method == "instance_claim" and view["numa_topology"]:
            landed = {**instance, "numa_topology": view["numa_topology"]}
            after, _ = applied(self.node, method, {**args, "instance": landed}, self.settings)
            assert unnumbered(after) == unnumbered(self.node)

    # Actions of guests.

    def a_guest_lives(self, slot: int, choice: int, ask: Ask) -> None:
        guest = self.guests[slot]
        actions = ACTIONS[guest.phase].split()
        act = getattr(self, actions[choice % len(actions)])
        act(guest, ask, choice // len(actions))
        if guest.phase == "gone":
            self.guests[slot] = self.a_new_guest()

    def boots(self, guest: Guest, ask: Ask, **more: Any) -> bool:
        guest.wish, guest.volume_backed = ask.wish, ask.volume_backed
        guest.ports, guest.phase = requests(ask.ports, self.ids), "building"
        wanted = [*aliased(guest.wish), *guest.ports]
        sent = {"instance": guest.json(**more), "limits": ask.limits}
        if self.claim(guest, INSTANCE, "instance_claim", wanted, ask.wish.topology(), sent):
            return True
        guest.phase = "gone"
        return False

    def boot(self, guest: Guest, ask: Ask, _: int) -> None:
        any(self.boots(guest, each) for each in ask.easier())

    def boot_with_topology(self, guest: Guest, ask: Ask, _: int) -> None:
        """A request may be a topology that still has the pins of another host."""
        asked = ask.wish.topology()
        if asked is not None:
            junk = {"id": 7, "cpu_pinning": {"0": 0}, "cpuset_reserved": [1]}
            asked["cells"] = [{**cell, **junk} for cell in asked["cells"]]
        self.boots(guest, ask, numa_topology=asked)

    def unshelve(self, guest: Guest, *_: Any) -> None:
        """It requests the topology and the page sizes that it had before."""
        guest.phase = "building"
        wanted = [*aliased(guest.wish), *guest.ports]
        sent = {"instance": guest.json(numa_topology=guest.carried)}
        asked = guest.carried or guest.wish.topology()
        if not self.claim(guest, INSTANCE, "instance_claim", wanted, asked, sent):
            guest.phase = "offloaded"

    def replace(self, guest: Guest, ask: Ask, choice: int) -> None:
        """It requests another flavor, devices or cpus; if refused, it keeps what it has."""
        other = dataclasses.replace(guest, move=None)
        match choice % (3 if hardware.host_cells(self.books.report) else 2):
            case 0:
                other.wish = dataclasses.replace(ask.wish, disk_gb=next(self.ids) + 100)
                other.ports, other.volume_backed = requests(ask.ports, self.ids), ask.volume_backed
            case 1:
                other.ports = [*guest.ports, *requests([(1, [{"dev_type": "type-VF"}], None)], self.ids)]
            case _:
                policy = "shared" if guest.wish.policy == "dedicated" else "dedicated"
                other.wish = dataclasses.replace(guest.wish, policy=policy).sensible()
        wanted, limits = [*aliased(other.wish), *other.ports], ask.limits if choice % 2 else None
        sent = {"instance": other.json(), "limits": limits}
        if self.claim(other, INSTANCE, "instance_claim", wanted, other.wish.topology(), sent):
            guest.wish, guest.ports, guest.volume_backed = other.wish, other.ports, other.volume_backed

    def settle(self, guest: Guest, *_: Any) -> None:
        self.is_home(guest, guest.new_wish)
        self.send("update_usage", instance=guest.json())

    @staticmethod
    def is_home(guest: Guest, wish: Wish | None = None) -> None:
        guest.phase, guest.vm_state, guest.wish = "active", "active", wish or guest.wish
        guest.move = guest.new_wish = None

    def touch(self, guest: Guest, _ask: Ask, choice: int) -> None:
        guest.vm_state = "active" if choice % 2 else "stopped"
        self.send("update_usage", instance=guest.json())

    def abort(self, guest: Guest, *_: Any) -> None:
        self.send("abort_instance_claim", instance_uuid=guest.uuid)
        self.books.drop(guest.uuid, INSTANCE)
        guest.phase = "gone"

    def delete(self, guest: Guest, *_: Any) -> None:
        self.send("update_usage", instance={**guest.json(), **DELETED})
        self.books.drop(guest.uuid, *ROLES)
        guest.phase = "gone"

    def offload(self, guest: Guest, *_: Any) -> None:
        guest.carried = self.books.entries[guest.uuid, INSTANCE].view["numa_topology"]
        guest.phase, guest.vm_state = "offloaded", "shelved_offloaded"
        self.send("update_usage", instance=guest.json())
        self.books.drop(guest.uuid, *ROLES)

    # Moves to here.

    def moves_in(self, guest: Guest, method: str, limits: Json | None, **current: Any) -> bool:
        """A move claims for a guest that is elsewhere, or that is resized here."""
        size = guest.new_wish or guest.wish
        wanted = [*aliased(size), *guest.ports]
        sent = {
            "instance": guest.json(guest.wish, **current),
            "migration": guest.migration(),
            "limits": limits,
        }
        if method == "resize_claim":
            sent["flavor"] = size.flavor()
        return self.claim(guest, INCOMING, method, wanted, size.topology(), sent)

    def comes(self, guest: Guest, ask: Ask, kind: str) -> None:
        guest.wish, guest.volume_backed, guest.kind = ask.wish, ask.volume_backed, kind
        guest.ports, guest.move = requests(ask.ports, self.ids), f"move-{next(self.ids)}"
        guest.phase, guest.vm_state = "coming", "active"

    def resize_in(self, guest: Guest, ask: Ask, choice: int) -> None:
        before = self.asks[choice % ASKS]
        for each in ask.easier():
            self.comes(guest, before, "resize")
            guest.ports, guest.new_wish = requests(each.ports, self.ids), each.wish
            if self.moves_in(guest, "resize_claim", each.limits):
                return
        guest.phase = "gone"

    def evacuate_in(self, guest: Guest, ask: Ask, _: int) -> None:
        for each in ask.easier():
            self.comes(guest, each, "evacuation")
            if self.moves_in(guest, "rebuild_claim", each.limits):
                return
        guest.phase = "gone"

    def migrate_in(self, guest: Guest, ask: Ask, choice: int) -> None:
        """Its memory keeps the page size that it has on the source."""
        self.comes(guest, ask, "live-migration")
        topology = ask.wish.topology()
        pages = (ORDINARY, HUGE)[choice % 2]
        if topology is not None and ask.wish.pages is not None:
            topology["cells"] = [{**cell, "pagesize": pages} for cell in topology["cells"]]
        current = {"numa_topology": topology} if choice % 3 else {}
        if not self.moves_in(guest, "live_migration_claim", ask.limits, **current):
            guest.phase = "gone"
            return
        got = self.books.entries[guest.uuid, INCOMING].view["numa_topology"]
        if current and topology and got:
            assert got["cells"][0].get("pagesize") == topology["cells"][0].get("pagesize")

    def expect(self, guest: Guest, ask: Ask, choice: int) -> None:
        """The devices of a live migration may be claimed before the migration itself."""
        self.comes(guest, dataclasses.replace(ask, wish=FLOATING, ports=[]), "live-migration")
        guest.phase = "expected"
        self.attach(guest, ask, choice)
        if not self.books.of(guest.uuid):
            guest.phase = "gone"

    def claim_late(self, guest: Guest, _ask: Ask, choice: int) -> None:
        """A move may request devices that were claimed for it already."""
        guest.kind, guest.phase = ("live-migration", "evacuation")[choice % 2], "coming"
        if choice // 2 % 2:
            had = self.books.entries[guest.uuid, INCOMING].request_ids
            guest.ports = [port for port in guest.attached if port["request_id"] in had]
        assert self.moves_in(guest, self.METHODS[guest.kind], None)

    def resize(self, guest: Guest, ask: Ask, _: int) -> None:
        """On the same node, beside its current claim."""
        guest.kind, guest.phase = "resize here", "resizing"
        for each in ask.easier():
            guest.move, guest.new_wish = f"move-{next(self.ids)}", each.wish
            if self.moves_in(guest, "resize_claim", each.limits):
                return
        self.is_home(guest)

    METHODS = {"live-migration": "live_migration_claim", "evacuation": "rebuild_claim"}

    def relabel(self, guest: Guest, *_: Any) -> None:
        """A second migration of the same size gets the same cpus and devices."""
        entry = self.books.entries[guest.uuid, INCOMING]
        size = guest.new_wish or guest.wish
        if entry.view["numa_topology"] is None and size.topology() and hardware.host_cells(self.books.report):
            return
        method = self.METHODS.get(guest.kind, "resize_claim")
        wanted = sum(request["count"] for request in [*aliased(size), *guest.ports])
        if method != "live_migration_claim" and len(entry.devices) < wanted:
            return  # It has released some, and would get others.
        guest.move = f"move-{next(self.ids)}"
        sent = {"instance": guest.json(guest.wish), "migration": guest.migration()}
        if method == "resize_claim":
            sent["flavor"] = size.flavor()
        decision = self.send(method, **sent)
        assert decision.outcome is Outcome.GRANTED
        relabelled = dataclasses.replace(entry, view={**entry.view, "migration_uuid": guest.move})
        self.books.put(guest.uuid, INCOMING, relabelled)

    def reclaim(self, guest: Guest, ask: Ask, _: int) -> None:
        """The same move requests another flavor; if refused, it keeps what it has."""
        if guest.kind not in ("resize", "resize here"):
            return
        before, guest.new_wish = guest.new_wish, dataclasses.replace(ask.wish, disk_gb=next(self.ids) + 100)
        if not self.moves_in(guest, "resize_claim", ask.limits):
            guest.new_wish = before

    def start(self, guest: Guest, *_: Any) -> None:
        self.send("start_move", instance_uuid=guest.uuid, migration_uuid=guest.move)
        self.books.claims = self.books.claims.start_move(guest.uuid)
        guest.phase = "handed over"

    def land(self, guest: Guest, *_: Any) -> None:
        """The instance still reports the cpus of the source then."""
        move, landing = guest.move, guest.phase
        if landing == "expected":
            guest.was_adopted(self.books)
            self.is_home(guest)
            sent = guest.json()
        else:
            if landing == "coming" and guest.kind != "resize":
                self.is_home(guest)
            else:
                guest.phase = "came" if landing == "coming" else "resized"
            entry = self.books.entries[guest.uuid, INCOMING]
            sent = guest.json(**told(entry, FALSE, "numa_topology", "pci_devices"))
        self.send("finish_move", instance=sent, migration_uuid=move)
        self.books.claims = self.books.claims.finish_move(guest.uuid)

    def cancel(self, guest: Guest, _ask: Ask, choice: int) -> None:
        move = guest.move if choice % 2 else None
        self.send("drop_move_claim", instance_uuid=guest.uuid, migration_uuid=move)
        self.books.drop(guest.uuid, INCOMING)
        if guest.phase == "coming":
            guest.phase = "gone"
        else:
            self.is_home(guest)

    def confirm(self, guest: Guest, *_: Any) -> None:
        self.send("drop_move_claim_at_source", instance_uuid=guest.uuid, migration_uuid=guest.move)
        if guest.phase == "left":
            self.books.drop(guest.uuid, INSTANCE, OUTGOING)
            guest.phase = "gone"
        else:
            self.books.drop(guest.uuid, OUTGOING)
            self.is_home(guest, guest.new_wish)

    def revert(self, guest: Guest, *_: Any) -> None:
        self.send("drop_move_claim_at_dest", instance_uuid=guest.uuid, migration_uuid=guest.move)
        self.books.claims = self.books.claims.drop_move_claim_at_dest(guest.uuid)
        guest.phase = "reverting" if guest.phase == "resized" else "gone"

    def come_back(self, guest: Guest, *_: Any) -> None:
        move = guest.move
        self.is_home(guest)
        self.send("finish_revert_move", instance=guest.json(), migration_uuid=move)
        self.books.claims = self.books.claims.finish_revert_move(guest.uuid)

    # Moves from here.

    def leave(self, guest: Guest, ask: Ask, _: int) -> None:
        guest.kind, guest.phase = "resize", "leaving"
        guest.move, guest.new_wish = f"move-{next(self.ids)}", ask.wish
        self.send("start_move", instance_uuid=guest.uuid, migration_uuid=guest.move)
        self.books.claims = self.books.claims.start_move(guest.uuid)

    @staticmethod
    def go(guest: Guest, *_: Any) -> None:
        """It has landed elsewhere; the node that it left gets no event of that."""
        guest.phase = "left"

    def leave_for_good(self, guest: Guest, *_: Any) -> None:
        move = f"move-{next(self.ids)}"
        self.send("drop_move_claim_at_source", instance_uuid=guest.uuid, migration_uuid=move)
        self.books.drop(guest.uuid, INSTANCE)
        guest.phase = "gone"

    # Attaching and detaching devices.

    def attach(self, guest: Guest, ask: Ask, choice: int) -> None:
        """Claim the devices of ports; a port that has its devices gets no second ones."""
        role, entry = guest.taking(self.books)
        again = [port for port in guest.attached if port["request_id"] in entry.request_ids][: choice % 2]
        new = requests(ask.ports, self.ids) or requests([(1, [{}], None)], self.ids)
        near = hardware.cells_of(entry.view)
        sent: Json = {"instance_uuid": guest.uuid, "pci_requests": [*again, *new]}
        if choice % 3 == 0:
            near = [{"id": choice % 4, "cpuset": [], "pcpuset": [], "memory": 0}]
            sent["numa_topology"] = {"cells": near}
        decision = self.send("claim_pci_devices", **sent)
        if decision.outcome is Outcome.REFUSED:
            return
        guest.attached += new
        view = claimed(decision)
        kept, taken = entry.view["pci_devices"], view["pci_devices"][len(entry.view["pci_devices"]) :]
        assert view == {**entry.view, "role": role, "pci_devices": [*kept, *taken]}
        devices, cells = self.books.reported(), {cell["id"] for cell in near}
        missing = [*entry.missing(again), *new]
        hardware.devices_are_as_asked(taken, missing, cells, devices, self.books.report, "claimed")
        snapshots = {device["address"]: devices[device["address"]] for device in taken}
        guesses = entry.guessed | hardware.guessed(taken, missing)
        attached = entry.with_devices(view["pci_devices"], {**entry.devices, **snapshots}, guesses)
        self.books.put(guest.uuid, role, attached)

    def some_addresses(self, guest: Guest, choice: int) -> list[str] | None:
        """Some addresses of its devices here, or None for all."""
        held = [address for entry in self.books.of(guest.uuid).values() for address in entry.addresses]
        return None if choice % 3 == 0 else held[choice % 2 : 2]

    def allocate(self, guest: Guest, _ask: Ask, choice: int) -> None:
        addresses = self.some_addresses(guest, choice)
        self.send("allocate_pci_devices", instance_uuid=guest.uuid, addresses=addresses)
        for role, entry in self.books.of(guest.uuid).items():
            held = [
                {**device, "status": "allocated"}
                if addresses is None or device["address"] in addresses
                else device
                for device in entry.view["pci_devices"]
            ]
            self.books.put(guest.uuid, role, entry.with_devices(held, entry.devices, entry.guessed))

    def detach(self, guest: Guest, _ask: Ask, choice: int) -> None:
        addresses = self.some_addresses(guest, choice)
        self.send("unclaim_pci_devices", instance_uuid=guest.uuid, addresses=addresses)
        for role, entry in self.books.of(guest.uuid).items():
            gone = set(entry.addresses if addresses is None else addresses)
            kept = entry.of(each for each in entry.view["pci_devices"] if each["address"] not in gone)
            self.books.put(guest.uuid, role, kept)
        if guest.phase == "expected" and not self.books.entries[guest.uuid, INCOMING].devices:
            self.books.drop(guest.uuid, INCOMING)
            guest.phase = "gone"
