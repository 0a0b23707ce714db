# SPDX-License-Identifier: Apache-2.0
"""Guests on one node as their compute manager knows them, and the books: the claims that each was granted.

The books are the ledger model's claims, with cpus and devices as they were granted. A guest knows in which
phase of its life it is: what an audit says of it follows from that, and which roles its claims get by it.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests import samples
from tests.builders import NODE
from tests.ledger_model import INCOMING, INSTANCE, OUTGOING, ROLES, Amounts, Claims, Json, Key, amounts_of
from tests.properties.hardware import Devices, amounts_shown, known, shown_device
from tests.properties.hosts import FLOATING, Wish

TRUE, SHUFFLED, SILENT, FALSE = "true", "shuffled", "silent", "false"
"""How an audit speaks of cpus and devices."""


@dataclass(frozen=True)
class Entry:
    """A claim as it must be shown, its devices as they were when it got them, and its `own` requests.

    The worker guessed the `guessed` devices, Placement may have chosen others. The `adopted` ones are known
    to be Placement's.
    """

    view: Json
    devices: dict[str, Json]
    guessed: frozenset[str] = frozenset()
    adopted: frozenset[str] = frozenset()
    own: frozenset[str | None] = frozenset()

    @property
    def amounts(self) -> Amounts:
        return amounts_shown(self.view)

    @property
    def addresses(self) -> list[str]:
        return [device["address"] for device in self.view["pci_devices"]]

    @property
    def request_ids(self) -> set[str]:
        """The requests that its devices were taken for, as far as they have ids."""
        return {each["request_id"] for each in self.view["pci_devices"] if "request_id" in each}

    def missing(self, wanted: Iterable[Json]) -> list[Json]:
        """What is left of requests by the devices that were taken for them."""
        had = Counter(each.get("request_id") for each in self.view["pci_devices"])
        left = [
            {**request, "count": request["count"] - (had[id] if (id := request.get("request_id")) else 0)}
            for request in wanted
        ]
        return [request for request in left if request["count"] > 0]

    @property
    def firm(self) -> bool:
        """Whether the worker chose its devices, so that no audit may replace them."""
        return bool(self.devices) and not (self.guessed or self.adopted)

    def with_devices(self, held: list[Json], devices: dict[str, Json], guessed: frozenset[str]) -> "Entry":
        """The same claim with other devices."""
        view = {**self.view, "pci_devices": held}
        kept = self.adopted & devices.keys()
        return replace(self, view=view, devices=devices, guessed=guessed & devices.keys(), adopted=kept)

    def of(self, some: Iterable[Json]) -> "Entry":
        """The same claim with some of its devices."""
        held = list(some)
        devices = {device["address"]: self.devices[device["address"]] for device in held}
        return self.with_devices(held, devices, self.guessed)

    def with_another(self, address: str, device: Json) -> "Entry":
        """The same claim with one guessed device replaced by another for the same request."""
        (guess,) = (each for each in self.view["pci_devices"] if each["address"] == address)
        held = [each for each in self.view["pci_devices"] if each["address"] != address]
        devices = {key: each for key, each in self.devices.items() if key != address}
        other = device["address"]
        held.append(shown_device(device, "allocated", guess.get("request_id")))
        changed = self.with_devices(held, {**devices, other: device}, self.guessed)
        return replace(changed, adopted=changed.adopted | {other})


class Books:
    """The claims that were granted and not released yet, and what the hypervisor reports."""

    def __init__(self, report: Json) -> None:
        self.report = report
        self.claims: Claims[Entry] = Claims()

    @property
    def entries(self) -> Mapping[Key, Entry]:
        """The claims by instance and role."""
        return self.claims.by_key

    def of(self, uuid: str) -> dict[str, Entry]:
        """The claims of an instance by role."""
        return self.claims.of(uuid)

    def shown(self) -> list[Json]:
        """All claims as the node must show them."""
        return [{**entry.view, "role": role} for (_, role), entry in self.entries.items()]

    def reported(self) -> dict[str, Json]:
        return {device["address"]: known(device) for device in self.report["pci_devices"]}

    def devices(self) -> Devices:
        """All devices; a claimed one is shown as it was when it was claimed."""
        held = (entry.devices for entry in self.entries.values())
        return {**self.reported(), **dict(itertools.chain.from_iterable(each.items() for each in held))}

    def put(self, uuid: str, role: str, entry: Entry) -> None:
        """Note a claim that was granted or changed."""
        self.claims = self.claims.put(uuid, role, entry)

    def drop(self, uuid: str, *roles: str) -> None:
        """Note that an instance's claims in these roles are released."""
        self.claims = self.claims.drop(uuid, *roles)


@dataclass
class Guest:
    """An instance, seen from the node; `new_wish` is the flavor to which `move` brings it."""

    uuid: str
    phase: str = "nowhere"
    wish: Wish = FLOATING
    ports: list[Json] = field(default_factory=list)
    volume_backed: bool = False
    vm_state: str = "building"
    move: str | None = None
    kind: str = ""
    new_wish: Wish | None = None
    carried: Json | None = None
    attached: list[Json] = field(default_factory=list)

    @property
    def task_state(self) -> str | None:
        return {
            "building": "spawning",
            "resizing": "resize_prep",
            "handed over": "resize_migrating",
            "leaving": "resize_migrating",
            "reverting": "resize_reverting",
            "coming": {"live-migration": "migrating", "evacuation": "rebuilding"}.get(
                self.kind, "resize_prep"
            ),
            "expected": "migrating",
        }.get(self.phase)

    def json(self, wish: Wish | None = None, **more: Any) -> Json:
        """The instance as its compute manager sends it."""
        resized = self.phase in ("resized", "came", "left", "reverting")
        if wish is None:
            wish = self.new_wish if resized and self.new_wish else self.wish
        return samples.an_instance(
            self.uuid,
            wish.flavor(),
            vm_state="resized" if resized else self.vm_state,
            task_state=self.task_state,
            volume_backed=self.volume_backed,
            pci_requests=self.ports,
            **more,
        )

    def migration(self, **more: Any) -> Json:
        """The guest's current move."""
        here = (
            self.phase in ("resizing", "handed over", "resized", "reverting") and self.kind == "resize here"
        )
        to_here = here or self.phase in ("coming", "came", "expected")
        assert self.move is not None
        return samples.a_migration(
            self.move,
            self.uuid,
            type="resize" if here else self.kind,
            status="reverted" if self.phase == "reverting" else "migrating",
            source_node="elsewhere" if to_here and not here else NODE,
            dest_node=NODE if to_here else "elsewhere",
            old_flavor=self.wish.flavor(),
            new_flavor=(self.new_wish or self.wish).flavor(),
            **more,
        )

    def split(self, books: Books) -> tuple[Entry | None, Entry | None]:
        """The claim that was here before the move, and the one that the move brings."""
        entries = list(books.of(self.uuid).values())
        if self.phase == "expected":
            return None, entries[0]
        brought = [self.move is not None and e.view["migration_uuid"] == self.move for e in entries]
        old = next((e for e, new in zip(entries, brought, strict=True) if not new), None)
        return old, next((e for e, new in zip(entries, brought, strict=True) if new), None)

    def facts(self, books: Books, how: str) -> tuple[list[Json], list[Json]]:
        """What an audit says of it: itself when it is here, and its move."""
        old, new = self.split(books)
        has_new = self.phase in ("resized", "came")
        own = told(new if has_new else old, how, "numa_topology", "pci_devices")
        here = self.phase in AT_HOME
        instance = self.json(**own)
        if self.phase not in MOVING:
            return [instance] if here else [], []
        moves = {
            **told(old, how, "old_numa_topology", "old_pci_devices"),
            **told(new, how, "new_numa_topology", "new_pci_devices"),
        }
        instances = [instance] if here else []
        return instances, [self.migration(**moves, **({} if here else {"instance": instance}))]

    def was_audited(self, books: Books) -> None:
        """Give its claims the roles that an audit by Nova's rules gives them."""
        old_role, new_role = RIGHTLY.get(self.phase, (None, None))
        if self.phase == "expected":
            self.was_adopted(books)
            self.phase = "coming"
            return
        old, new = self.split(books)
        books.drop(self.uuid, *ROLES)
        for role, entry in ((old_role, old), (new_role, new)):
            if entry is not None and role is not None:
                books.put(self.uuid, role, entry)

    def was_adopted(self, books: Books) -> None:
        """A claim of devices alone becomes the claim of its move."""
        entry = books.entries[self.uuid, INCOMING]
        books.put(self.uuid, INCOMING, replace(entry, view={**entry.view, **self.sizes}))

    def taking(self, books: Books) -> tuple[str, Entry]:
        """The role and claim that get its next devices; without a claim, one of devices alone."""
        entries = books.of(self.uuid)
        for role in (INCOMING, INSTANCE):
            if role in entries:
                return role, entries[role]
        nothing: Json = {**Amounts()._asdict(), "numa_topology": None, "pci_devices": []}
        view = {"instance_uuid": self.uuid, "role": INCOMING, "migration_uuid": None, **nothing}
        return INCOMING, Entry(view, {})

    @property
    def sizes(self) -> Json:
        """What a claim of its new flavor shows, and of its move."""
        flavor = (self.new_wish or self.wish).flavor()
        amounts = amounts_of(flavor, self.volume_backed)
        return {"instance_uuid": self.uuid, "migration_uuid": self.move, **amounts._asdict()}


AT_HOME = ("building", "active", "resizing", "handed over", "resized", "reverting", "came", "leaving")
MOVING = ("resizing", "handed over", "resized", "reverting", "came", "leaving", "left", "coming", "expected")
RIGHTLY = {
    "building": (INSTANCE, None),
    "active": (INSTANCE, None),
    "resizing": (INSTANCE, INCOMING),
    "handed over": (INSTANCE, INCOMING),
    "resized": (OUTGOING, INSTANCE),
    "reverting": (OUTGOING, None),
    "coming": (None, INCOMING),
    "came": (None, INSTANCE),
    "leaving": (INSTANCE, None),
    "left": (OUTGOING, None),
}
"""By phase: the roles, after an audit, of the claim that was here and of the one that the move brings."""


def told(entry: Entry | None, how: str, topology: str, devices: str) -> Json:
    """What an audit says of a claim's cpus and devices; the truth where the worker has to believe it."""
    if how == SILENT:
        return {}
    if entry is None:
        return {topology: None, devices: []}
    got, addresses = entry.view["numa_topology"], entry.addresses
    if how == SHUFFLED:
        addresses = addresses[::-1]
    if how == FALSE and entry.firm:
        addresses = ["0000:00:00.0"]
    return {topology: elsewhere(got) if how == FALSE and got else got, devices: addresses}


def elsewhere(topology: Json) -> Json:
    """Pins of another host: the first cpus of its first cells."""
    numbers: Iterator[int] = itertools.count()
    return {
        "cells": [
            {**cell, "id": id, "cpu_policy": "dedicated", "cpu_pinning": {"0": next(numbers)}}
            for id, cell in enumerate(topology["cells"])
        ]
    }
