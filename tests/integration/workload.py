# SPDX-License-Identifier: Apache-2.0
"""Random days of compute nodes, and what a tracker has to make of them: nothing here is the project's.

A node's casts are boots, resizes on the node and across nodes, confirms, reverts, deletes, repetitions,
refusals and nonsense. The expected ledger is kept here, by the rules that the documentation states.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Any

VCPUS, MEMORY_MB, LOCAL_GB = 32, 65536, 800
RESERVED_MEMORY_MB = 512
LIMITS = {"vcpu": VCPUS, "memory_mb": MEMORY_MB, "disk_gb": LOCAL_GB}
FLAVORS = [
    {"vcpus": 1, "memory_mb": 1024, "root_gb": 10},
    {"vcpus": 2, "memory_mb": 4096, "root_gb": 20, "swap_mb": 100},
    {"vcpus": 4, "memory_mb": 8192, "root_gb": 40, "ephemeral_gb": 10},
    {"vcpus": 16, "memory_mb": 24576, "root_gb": 200},
]
BOOTED = {"vm_state": "building", "task_state": "spawning"}
STATES = [{"vm_state": name, "task_state": None} for name in ("active", "paused", "stopped", "resized")]
DELETED = {"vm_state": "deleted", "task_state": None}

Json = dict[str, Any]
Amounts = tuple[int, int, int]


def amounts_of(flavor: Json) -> Amounts:
    """vcpus, memory in MB, disk in MB."""
    disk_mb = (flavor["root_gb"] + flavor.get("ephemeral_gb", 0)) * 1024 + flavor.get("swap_mb", 0)
    return flavor["vcpus"], flavor["memory_mb"], disk_mb


@dataclass(frozen=True)
class Held:
    """A claim, and the states that its instance was last said to have."""

    flavor: Json
    migration: str | None
    states: Json


@dataclass
class Expected:
    """What is known of a node. Each method is a command: it takes its effect and returns the outcome."""

    claims: dict[tuple[str, str], Held] = field(default_factory=dict)

    def used(self) -> Amounts:
        """vcpus, memory in MB, disk in MB, with what is reserved."""
        sizes = [(0, RESERVED_MEMORY_MB, 0), *(amounts_of(held.flavor) for held in self.claims.values())]
        vcpus, memory_mb, disk_mb = (sum(column) for column in zip(*sizes, strict=True))
        return vcpus, memory_mb, disk_mb

    def roles(self, uuid: str) -> set[str]:
        return {role for instance, role in self.claims if instance == uuid}

    def claim(self, uuid: str, role: str, wanted: Held, limits: Json | None) -> str:
        """A claim that is there already is granted; the others have to fit below the limits sent."""
        if (uuid, role) in self.claims:
            assert self.claims[uuid, role].flavor == wanted.flavor
        elif limits:
            free = (limits["vcpu"], limits["memory_mb"], limits["disk_gb"] * 1024)
            after = zip(self.used(), amounts_of(wanted.flavor), free, strict=True)
            if any(used + asked > limit for used, asked, limit in after):
                return "refused"
        self.claims[uuid, role] = wanted
        return "granted"

    def release(self, uuid: str, *roles: str) -> str:
        found = [role for role in roles if self.claims.pop((uuid, role), None)]
        return "applied" if found else "ignored"

    def turn(self, uuid: str, role: str, to: str, states: Json | None = None) -> str:
        held = self.claims.pop((uuid, role))
        self.claims[uuid, to] = replace(held, states=states or held.states)
        return "applied"

    def take_states(self, uuid: str, states: Json) -> str:
        held = self.claims.get((uuid, "instance"))
        if held is None or held.states == states:
            return "ignored"
        self.claims[uuid, "instance"] = replace(held, states=states)
        return "applied"


@dataclass
class Receipt:
    """An event that the node's history has to show; the id of one that was used before is no longer its."""

    event_id: str | None
    outcome: str


class Day:
    """One node's day: `casts` in order, and what they should come to."""

    def __init__(self, node: str, chance: random.Random) -> None:
        self.node = node
        self.casts: list[Json] = []
        self.expected = Expected()
        self.history: list[Receipt] = []
        self.astray: list[str] = []
        """The ids of what went to another partition than the node's."""
        self._chance = chance
        self._numbers = 0
        self._once: list[Json] = []
        report = {"uuid": f"uuid-{node}", "host": node, "vcpus": VCPUS, "memory_mb": MEMORY_MB}
        self._cast("update_available_resource", "applied", resources=report | {"local_gb": LOCAL_GB})

    def ids(self, outcome: str) -> list[str | None]:
        """The ids of the events with this outcome."""
        return [receipt.event_id for receipt in self.history if receipt.outcome == outcome]

    def step(self) -> None:
        """Cast one more event."""
        kind = self._chance.random()
        if kind < 0.03:
            self._nonsense()
        elif kind < 0.06:
            self.casts.append(self._chance.choice(self._once))
        elif kind < 0.07:
            known = self._chance.choice(self._once)["args"]["event_id"]
            self._cast("drop_move_claim", "parked", event_id=known, instance_uuid=self._new("other"))
        else:
            self._life()

    def _life(self) -> None:
        uuids = sorted({uuid for uuid, _ in self.expected.claims})
        if not uuids or self._chance.random() < 0.25:
            self._begin()
            return
        uuid = self._chance.choice(uuids)
        situation = self.expected.roles(uuid)
        if "incoming" in situation:
            self._while_incoming(uuid)
        elif situation == {"instance"}:
            self._while_here(uuid)
        elif situation == {"outgoing"}:
            self._while_leaving(uuid)
        else:
            self._while_resized(uuid)

    def _begin(self) -> None:
        uuid, flavor = self._new("i"), self._chance.choice(FLAVORS)
        limits = self._chance.choice([LIMITS, LIMITS, None])
        if self._chance.random() < 0.2:
            self._claim_move(uuid, flavor, flavor, BOOTED, limits)
        else:
            self._boot(uuid, flavor, limits)

    def _boot(self, uuid: str, flavor: Json, limits: Json | None) -> None:
        outcome = self.expected.claim(uuid, "instance", Held(flavor, None, BOOTED), limits)
        given = {"limits": limits} if limits else {}
        self._cast("instance_claim", outcome, instance=an_instance(uuid, flavor, BOOTED), **given)

    def _claim_move(self, uuid: str, old: Json, new: Json, states: Json, limits: Json | None) -> None:
        migration = self._new("m")
        outcome = self.expected.claim(uuid, "incoming", Held(new, migration, states), limits)
        move = {"uuid": migration, "type": "resize", "status": "pre-migrating", "instance_uuid": uuid}
        args = {"instance": an_instance(uuid, old, states), "flavor": new, "migration": move}
        self._cast("resize_claim", outcome, **args, **({"limits": limits} if limits else {}))

    def _while_here(self, uuid: str) -> None:
        expected, held = self.expected, self.expected.claims[uuid, "instance"]
        match self._chance.choice(
            ["delete", "delete", "abort", "states", "resize", "resize", "leave", "again"]
        ):
            case "delete":
                self._delete(uuid, held)
            case "abort":
                outcome = expected.release(uuid, "instance")
                self._cast("abort_instance_claim", outcome, instance_uuid=uuid)
                if self._chance.random() < 0.3:
                    outcome = expected.release(uuid, "instance")
                    self._cast("abort_instance_claim", outcome, instance_uuid=uuid)
            case "states":
                states = self._chance.choice(STATES)
                outcome = expected.take_states(uuid, states)
                self._cast("update_usage", outcome, instance=an_instance(uuid, held.flavor, states))
            case "resize":
                limits = self._chance.choice([LIMITS, None])
                self._claim_move(uuid, held.flavor, self._chance.choice(FLAVORS), held.states, limits)
            case "leave":
                outcome = expected.turn(uuid, "instance", "outgoing")
                self._cast("start_move", outcome, instance_uuid=uuid, migration_uuid=self._new("m"))
            case "again" if held.migration:
                # A confirm that comes once more, of the move that brought the instance here.
                args = {"instance_uuid": uuid, "migration_uuid": held.migration}
                self._cast("drop_move_claim_at_source", "ignored", **args)
            case "again":
                self._boot(uuid, held.flavor, LIMITS)

    def _while_incoming(self, uuid: str) -> None:
        expected, held = self.expected, self.expected.claims[uuid, "incoming"]
        match self._chance.choice(["finish", "finish", "finish", "drop", "delete"]):
            case "finish":
                if "instance" in expected.roles(uuid):
                    expected.turn(uuid, "instance", "outgoing")
                states = STATES[-1]
                outcome = expected.turn(uuid, "incoming", "instance", states)
                instance = an_instance(uuid, held.flavor, states)
                self._cast("finish_move", outcome, instance=instance, migration_uuid=held.migration)
            case "drop":
                outcome = expected.release(uuid, "incoming")
                args = {"instance_uuid": uuid, "migration_uuid": held.migration}
                self._cast("drop_move_claim", outcome, **args)
            case "delete":
                self._delete(uuid, held)

    def _while_leaving(self, uuid: str) -> None:
        held = self.expected.claims[uuid, "outgoing"]
        migration = self._new("m")
        if self._chance.random() < 0.7:
            outcome = self.expected.release(uuid, "outgoing")
            self._cast("drop_move_claim_at_source", outcome, instance_uuid=uuid, migration_uuid=migration)
        else:
            outcome = self.expected.turn(uuid, "outgoing", "instance", STATES[0])
            instance = an_instance(uuid, held.flavor, STATES[0])
            self._cast("finish_revert_move", outcome, instance=instance, migration_uuid=migration)

    def _while_resized(self, uuid: str) -> None:
        """Resized on this node: the new size is here, the old one waits."""
        expected, held = self.expected, self.expected.claims[uuid, "instance"]
        args = {"instance_uuid": uuid, "migration_uuid": held.migration}
        match self._chance.choice(["confirm", "confirm", "revert", "delete", "again"]):
            case "confirm":
                self._cast("drop_move_claim_at_source", expected.release(uuid, "outgoing"), **args)
            case "revert":
                expected.release(uuid, "instance")
                self._cast("drop_move_claim_at_dest", expected.turn(uuid, "outgoing", "instance"), **args)
            case "delete":
                self._delete(uuid, held)
            case "again":
                outcome = expected.take_states(uuid, STATES[-1])
                instance = an_instance(uuid, held.flavor, STATES[-1])
                self._cast("finish_move", outcome, instance=instance, migration_uuid=held.migration)

    def _delete(self, uuid: str, held: Held) -> None:
        outcome = self.expected.release(uuid, "instance", "incoming", "outgoing")
        self._cast("update_usage", outcome, instance=an_instance(uuid, held.flavor, DELETED))

    def _nonsense(self) -> None:
        """Cast what has to be parked."""
        instance = an_instance(self._new("i"), FLAVORS[0], BOOTED)
        flavor = instance["flavor"]
        match self._chance.randrange(8):
            case 0:
                self._cast("instance_claim", "parked", instance=instance | {"flavor": flavor | {"gpus": 1}})
            case 1:
                wrong = instance | {"flavor": flavor | {"vcpus": "two"}}
                self._cast("instance_claim", "parked", instance=wrong)
            case 2:
                wrong = instance | {"flavor": flavor | {"memory_mb": -1}}
                self._cast("instance_claim", "parked", instance=wrong)
            case 3:
                self._cast("update_usage", "parked", instance=instance | {"vm_state": "flying"})
            case 4:
                self._cast("update_usage", "parked")
            case 5:
                self._cast("do_a_barrel_roll", "parked", instance=instance)
            case 6:
                self._cast("instance_claim", "parked", instance=instance)
                self.casts[-1]["version"] = "1.9"
            case 7:
                self._cast("build_failed", "parked")
                self.casts[-1]["server"] = None
                self.astray.append(self.history.pop().event_id)

    def _cast(self, method: str, outcome: str, event_id: str | None = None, **args: Any) -> None:
        known = event_id is not None
        event_id = event_id or self._new("e")
        cast = {"method": method, "args": {"node": self.node, "event_id": event_id, **args}}
        self.casts.append(cast)
        self.history.append(Receipt(None if known else event_id, outcome))
        if outcome != "parked":
            self._once.append(cast)

    def _new(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}-{self.node}-{self._numbers}"


def an_instance(uuid: str, flavor: Json, states: Json) -> Json:
    return {"uuid": uuid, "project_id": "p", "flavor": flavor, **states}


def days(nodes: int, casts: int, seed: int) -> list[Day]:
    """The days of so many nodes, with so many casts in all, give or take none."""
    chance = random.Random(seed)
    made = [Day(f"node-{number}", chance) for number in range(nodes)]
    total = nodes
    while total < casts:
        day = chance.choice(made)
        before = len(day.casts)
        day.step()
        total += len(day.casts) - before
    assert total == casts, "the last step cast two: take another seed"
    return made
