# SPDX-License-Identifier: Apache-2.0
"""Random days of compute nodes, and the ledger that each must end with. Nothing of the worker is imported.

A node's casts are boots, resizes on the node and across nodes, confirms, reverts, deletes, repetitions,
refusals and invalid messages. The expected ledger is the ledger model's.
"""

import random
from dataclasses import dataclass
from typing import Any

from tests import samples
from tests.ledger_model import INCOMING, INSTANCE, OUTGOING, ROLES, Amounts, Claim, Ledger, Next, States

VCPUS, MEMORY_MB, LOCAL_GB = 32, 65536, 800
LIMITS = {"vcpu": VCPUS, "memory_mb": MEMORY_MB, "disk_gb": LOCAL_GB}
FLAVORS = [
    samples.a_flavor(1, 1024, 10),
    samples.a_flavor(2, 4096, 20, swap_mb=100),
    samples.a_flavor(4, 8192, 40, ephemeral_gb=10),
    samples.a_flavor(16, 24576, 200),
]
BOOTED: States = ("building", "spawning")
STATES: list[States] = [(name, None) for name in ("active", "paused", "stopped", "resized")]
DELETED: States = ("deleted", None)

Json = dict[str, Any]


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
        self.expected = Ledger()
        self.history: list[Receipt] = []
        self.astray: list[str] = []
        """The ids of what went to another partition than the node's."""
        self._chance = chance
        self._numbers = 0
        self._once: list[Json] = []
        size = {"vcpus": VCPUS, "memory_mb": MEMORY_MB, "local_gb": LOCAL_GB}
        report = samples.a_report(f"uuid-{node}", node, **size)
        self._cast("update_available_resource", "applied", resources=report)

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
        uuids = sorted({uuid for uuid, _ in self.expected.claims.by_key})
        if not uuids or self._chance.random() < 0.25:
            self._begin()
            return
        uuid = self._chance.choice(uuids)
        situation = self.expected.claims.of(uuid).keys()
        if INCOMING in situation:
            self._while_incoming(uuid)
        elif situation == {INSTANCE}:
            self._while_here(uuid)
        elif situation == {OUTGOING}:
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
        outcome = self._claimed(uuid, INSTANCE, Claim(flavor, None, BOOTED), limits)
        given: Json = {"limits": limits} if limits else {}
        self._cast("instance_claim", outcome, instance=an_instance(uuid, flavor, BOOTED), **given)

    def _claim_move(self, uuid: str, old: Json, new: Json, states: States, limits: Json | None) -> None:
        migration = self._new("m")
        outcome = self._claimed(uuid, INCOMING, Claim(new, migration, states), limits)
        move = samples.a_migration(migration, uuid, dest_node=self.node)
        given: Json = {"instance": an_instance(uuid, old, states), "flavor": new, "migration": move}
        given |= {"limits": limits} if limits else {}
        self._cast("resize_claim", outcome, **given)

    def _while_here(self, uuid: str) -> None:
        expected, held = self.expected, self.expected.claims.by_key[uuid, INSTANCE]
        match self._chance.choice(
            ["delete", "delete", "abort", "states", "resize", "resize", "leave", "again"]
        ):
            case "delete":
                self._delete(uuid, held)
            case "abort":
                outcome = self._becomes(expected.release(uuid, INSTANCE))
                self._cast("abort_instance_claim", outcome, instance_uuid=uuid)
                if self._chance.random() < 0.3:
                    outcome = self._becomes(self.expected.release(uuid, INSTANCE))
                    self._cast("abort_instance_claim", outcome, instance_uuid=uuid)
            case "states":
                states = self._chance.choice(STATES)
                outcome = self._becomes(expected.take_states(uuid, states))
                self._cast("update_usage", outcome, instance=an_instance(uuid, held.flavor, states))
            case "resize":
                limits = self._chance.choice([LIMITS, None])
                self._claim_move(uuid, held.flavor, self._chance.choice(FLAVORS), held.states, limits)
            case "leave":
                outcome = self._becomes(expected.start_move(uuid))
                self._cast("start_move", outcome, instance_uuid=uuid, migration_uuid=self._new("m"))
            case "again" if held.migration:
                # A confirm that comes once more, of the move that brought the instance here.
                args = {"instance_uuid": uuid, "migration_uuid": held.migration}
                self._cast("drop_move_claim_at_source", "ignored", **args)
            case "again":
                self._boot(uuid, held.flavor, LIMITS)

    def _while_incoming(self, uuid: str) -> None:
        expected, held = self.expected, self.expected.claims.by_key[uuid, INCOMING]
        match self._chance.choice(["finish", "finish", "finish", "drop", "delete"]):
            case "finish":
                states = STATES[-1]
                outcome = self._becomes(expected.finish_move(uuid, states))
                instance = an_instance(uuid, held.flavor, states)
                self._cast("finish_move", outcome, instance=instance, migration_uuid=held.migration)
            case "drop":
                outcome = self._becomes(expected.release(uuid, INCOMING))
                args = {"instance_uuid": uuid, "migration_uuid": held.migration}
                self._cast("drop_move_claim", outcome, **args)
            case "delete":
                self._delete(uuid, held)

    def _while_leaving(self, uuid: str) -> None:
        expected, held = self.expected, self.expected.claims.by_key[uuid, OUTGOING]
        migration = self._new("m")
        if self._chance.random() < 0.7:
            outcome = self._becomes(expected.release(uuid, OUTGOING))
            self._cast("drop_move_claim_at_source", outcome, instance_uuid=uuid, migration_uuid=migration)
        else:
            outcome = self._becomes(expected.finish_revert_move(uuid, STATES[0]))
            instance = an_instance(uuid, held.flavor, STATES[0])
            self._cast("finish_revert_move", outcome, instance=instance, migration_uuid=migration)

    def _while_resized(self, uuid: str) -> None:
        """Resized on this node: the instance has its new size, and the old one is still counted."""
        expected, held = self.expected, self.expected.claims.by_key[uuid, INSTANCE]
        args = {"instance_uuid": uuid, "migration_uuid": held.migration}
        match self._chance.choice(["confirm", "confirm", "revert", "delete", "again"]):
            case "confirm":
                outcome = self._becomes(expected.release(uuid, OUTGOING))
                self._cast("drop_move_claim_at_source", outcome, **args)
            case "revert":
                outcome = self._becomes(expected.drop_move_claim_at_dest(uuid))
                self._cast("drop_move_claim_at_dest", outcome, **args)
            case "delete":
                self._delete(uuid, held)
            case "again":
                outcome = self._becomes(expected.take_states(uuid, STATES[-1]))
                instance = an_instance(uuid, held.flavor, STATES[-1])
                self._cast("finish_move", outcome, instance=instance, migration_uuid=held.migration)

    def _claimed(self, uuid: str, role: str, wanted: Claim, limits: Json | None) -> str:
        """Let a claim take its effect below the limits that were sent with it; return the outcome."""
        most = Amounts(limits["vcpu"], limits["memory_mb"], limits["disk_gb"] * 1024) if limits else None
        return self._becomes(self.expected.claim(uuid, role, wanted, most))

    def _becomes(self, after: Next) -> str:
        """Let an event take its effect; return the outcome."""
        self.expected, outcome = after
        return outcome

    def _delete(self, uuid: str, held: Claim) -> None:
        outcome = self._becomes(self.expected.release(uuid, *ROLES))
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
                event_id = self.history.pop().event_id
                assert event_id is not None
                self.astray.append(event_id)

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


def an_instance(uuid: str, flavor: Json, states: States) -> Json:
    vm_state, task_state = states
    return samples.an_instance(uuid, flavor, vm_state=vm_state, task_state=task_state)


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
