# SPDX-License-Identifier: Apache-2.0
"""Instances and their moves as Nova's database has them, and the events that compute managers send.

This is no second ledger: it does not follow events. What an instance must count for on a node follows from
where the instance and its move are now, so that it is right even where events are lost, late or stale. How
much a flavor counts for is the ledger model's to say.
"""

import itertools
from dataclasses import dataclass, field

from tests import samples
from tests.ledger_model import Amounts, Json, amounts_of, total

NODES = ("node-1", "node-2", "node-3")
FLAVORS = (
    samples.a_flavor(1, 512, 1),
    samples.a_flavor(2, 2048, 20, ephemeral_gb=3, swap_mb=1),
    samples.a_flavor(4, 4096, 40, swap_mb=1500),
    samples.a_flavor(2, 2048, 0),
)
HARMLESS_TASKS = ("rebooting", "powering-off", "image_snapshot", None)


@dataclass
class Move:
    """A migration that is not over. Phases: claimed, started, finished, reverting."""

    uuid: str
    type: str
    source: str
    dest: str
    old_flavor: Json
    new_flavor: Json
    number: int
    phase: str = "claimed"

    @property
    def nodes(self) -> tuple[str, str]:
        return self.source, self.dest


@dataclass
class Vm:
    """An instance; `node` is where it runs, None when it is deleted, aborted or off-loaded."""

    uuid: str
    flavor: Json
    volume_backed: bool
    node: str | None = None
    vm_state: str = "building"
    task_state: str | None = "spawning"
    move: Move | None = None
    past: list[Move] = field(default_factory=list)
    version: int = 0

    @property
    def here(self) -> str:
        """The node where it runs."""
        assert self.node is not None
        return self.node

    @property
    def under_way(self) -> Move:
        """The move that it is in."""
        assert self.move is not None
        return self.move

    def expected(self, node: str) -> Amounts:
        """What it must count for on a node, by where it and its move are."""
        move = self.move
        if move is None:
            sizes = [self.flavor] if self.node == node else []
        else:
            arrived = move.phase in ("claimed", "started", "finished")
            sizes = [move.old_flavor] if node == move.source else []
            sizes += [move.new_flavor] if node == move.dest and arrived else []
        return total(amounts_of(size, self.volume_backed) for size in sizes)

    def json(self) -> Json:
        """The instance as its compute manager sends it."""
        return samples.an_instance(
            self.uuid,
            self.flavor,
            vm_state=self.vm_state,
            task_state=self.task_state,
            volume_backed=self.volume_backed,
        )

    def migration(self, move: Move, node: str, current: bool = True) -> Json:
        """A migration as an audit of a node lists it: with the instance when that is elsewhere."""
        return samples.a_migration(
            move.uuid,
            self.uuid,
            type=move.type,
            status={"finished": "finished", "reverting": "reverted"}.get(move.phase, "migrating"),
            source_node=move.source,
            dest_node=move.dest,
            old_flavor=move.old_flavor,
            new_flavor=move.new_flavor,
            current=current,
            updated_at=f"2026-11-22T12:00:00.{move.number:06}Z",
            **({} if self.node == node else {"instance": self.json()}),
        )


@dataclass(frozen=True)
class Event:
    """A command for a node. A call is answered, so it is never lost or late."""

    node: str
    method: str
    args: Json
    call: bool = False


@dataclass(frozen=True)
class Facts:
    """What an audit says of a node, and what each instance must count for by it."""

    instances: list[Json]
    migrations: list[Json]
    expected: dict[str, Amounts]
    versions: dict[str, int]


class Cloud:
    """The instances; an action changes one and returns the events that its compute managers send."""

    def __init__(self) -> None:
        self.vms: dict[str, Vm] = {}
        self._numbers = itertools.count(1)

    def facts(self, node: str, noise: int) -> Facts:
        """What the database has of a node; old migrations are listed too, by the bits of `noise`."""
        here = [vm for vm in self.vms.values() if vm.node == node]
        moving = {vm.uuid for vm in self.vms.values() if vm.move and node in vm.move.nodes}
        migrations = [self.vms[uuid].migration(self.vms[uuid].under_way, node) for uuid in sorted(moving)]
        old = [(vm, move) for vm in self.vms.values() if vm.node is not None for move in vm.past]
        for bit, (vm, move) in enumerate(old):
            # During another move elsewhere, this node cannot know from the instance that this move is over.
            contradicted = vm.move is not None and vm.uuid not in moving
            if noise >> bit & 1:
                migrations.append(vm.migration(move, node, bool(noise & 2) and not contradicted))
        return Facts(
            instances=[vm.json() for vm in here],
            migrations=migrations if noise & 1 else migrations[::-1],
            expected={uuid: vm.expected(node) for uuid, vm in self.vms.items()},
            versions={uuid: vm.version for uuid, vm in self.vms.items()},
        )

    def boot(self, node: str, flavor: Json, volume_backed: bool) -> tuple[Vm, list[Event]]:
        vm = Vm(f"vm-{next(self._numbers)}", flavor, volume_backed, node)
        self.vms[vm.uuid] = vm
        return vm, [Event(node, "instance_claim", {"instance": vm.json()}, call=True)]

    def actions(self, vm: Vm) -> list[str]:
        """What can be done with an instance now."""
        if vm.vm_state == "deleted":
            return []
        if vm.vm_state == "shelved_offloaded" and vm.node is None:
            return ["unshelve"]
        if vm.move is None and vm.vm_state != "active":
            return ["settle", "settle", "settle", "abort"]
        if vm.move is None:
            moves = ["resize", "resize", "resize", "migrate", "live", "evacuate"]
            return [*moves, "task", "offload", "delete"]
        if vm.move.type in ("live-migration", "evacuation"):
            return ["land", "land", "cancel"]
        return {
            "claimed": ["start", "start", "cancel"],
            "started": ["finish"],
            "finished": ["confirm", "revert"],
            "reverting": ["finish_revert"],
        }[vm.move.phase]

    def act(self, vm: Vm, action: str, node: str, flavor: Json) -> list[Event]:
        """Do something with an instance; return the events in the order in which they are sent."""
        vm.version += 1
        events: list[Event] = getattr(self, f"_{action}")(vm, node, flavor)
        return events

    def _usage(self, vm: Vm, node: str) -> Event:
        return Event(node, "update_usage", {"instance": vm.json()})

    def _ids(self, vm: Vm, node: str, method: str, move: Move) -> Event:
        return Event(node, method, {"instance_uuid": vm.uuid, "migration_uuid": move.uuid})

    def _settle(self, vm: Vm, *_: object) -> list[Event]:
        vm.vm_state, vm.task_state = "active", None
        return [self._usage(vm, vm.here)]

    def _task(self, vm: Vm, node: str, flavor: Json) -> list[Event]:
        vm.task_state = HARMLESS_TASKS[NODES.index(node) + (flavor is FLAVORS[0])]
        return [self._usage(vm, vm.here)]

    def _delete(self, vm: Vm, *_: object) -> list[Event]:
        node, vm.node = vm.here, None
        vm.vm_state, vm.task_state = "deleted", None
        return [self._usage(vm, node)]

    def _abort(self, vm: Vm, *_: object) -> list[Event]:
        node, vm.node = vm.here, None
        vm.vm_state = "deleted"
        return [Event(node, "abort_instance_claim", {"instance_uuid": vm.uuid})]

    def _offload(self, vm: Vm, *_: object) -> list[Event]:
        node, vm.node = vm.here, None
        vm.vm_state, vm.task_state = "shelved_offloaded", None
        return [self._usage(vm, node)]

    def _unshelve(self, vm: Vm, node: str, _flavor: Json) -> list[Event]:
        vm.node, vm.task_state = node, "spawning"
        return [Event(node, "instance_claim", {"instance": vm.json()}, call=True)]

    def _moving(self, vm: Vm, kind: str, dest: str, flavor: Json, task: str) -> Move:
        number = next(self._numbers)
        move = vm.move = Move(f"move-{number}", kind, vm.here, dest, vm.flavor, flavor, number)
        vm.task_state = task
        return move

    def _claim(self, vm: Vm, method: str, **more: Json) -> list[Event]:
        migration = vm.migration(vm.under_way, vm.here)
        args = {"instance": vm.json(), "migration": migration, **more}
        return [Event(vm.under_way.dest, method, args, call=True)]

    def _resize(self, vm: Vm, node: str, flavor: Json) -> list[Event]:
        self._moving(vm, "resize", node, flavor, "resize_prep")
        return self._claim(vm, "resize_claim", flavor=flavor)

    def _migrate(self, vm: Vm, node: str, _flavor: Json) -> list[Event]:
        self._moving(vm, "migration", elsewhere(vm.here, node), vm.flavor, "resize_prep")
        return self._claim(vm, "resize_claim", flavor=vm.flavor)

    def _live(self, vm: Vm, node: str, _flavor: Json) -> list[Event]:
        self._moving(vm, "live-migration", elsewhere(vm.here, node), vm.flavor, "migrating")
        return self._claim(vm, "live_migration_claim")

    def _evacuate(self, vm: Vm, node: str, _flavor: Json) -> list[Event]:
        self._moving(vm, "evacuation", elsewhere(vm.here, node), vm.flavor, "rebuilding")
        return self._claim(vm, "rebuild_claim")

    def _end(self, vm: Vm) -> Move:
        move, vm.move = vm.under_way, None
        vm.past.append(move)
        vm.vm_state, vm.task_state = "active", None
        return move

    def _cancel(self, vm: Vm, *_: object) -> list[Event]:
        move = self._end(vm)
        return [self._ids(vm, move.dest, "drop_move_claim", move)]

    def _start(self, vm: Vm, *_: object) -> list[Event]:
        move = vm.under_way
        move.phase, vm.task_state = "started", "resize_migrating"
        return [self._ids(vm, move.source, "start_move", move)]

    def _arrival(self, vm: Vm, method: str, move: Move) -> Event:
        return Event(vm.here, method, {"instance": vm.json(), "migration_uuid": move.uuid})

    def _finish(self, vm: Vm, *_: object) -> list[Event]:
        move = vm.under_way
        move.phase, vm.node, vm.flavor = "finished", move.dest, move.new_flavor
        vm.vm_state, vm.task_state = "resized", None
        return [self._arrival(vm, "finish_move", move)]

    def _land(self, vm: Vm, *_: object) -> list[Event]:
        move = self._end(vm)
        vm.node = move.dest
        left = self._ids(vm, move.source, "drop_move_claim_at_source", move)
        return [self._arrival(vm, "finish_move", move), left]

    def _confirm(self, vm: Vm, *_: object) -> list[Event]:
        move = self._end(vm)
        return [self._ids(vm, move.source, "drop_move_claim_at_source", move)]

    def _revert(self, vm: Vm, *_: object) -> list[Event]:
        move = vm.under_way
        move.phase, vm.task_state = "reverting", "resize_reverting"
        return [self._ids(vm, move.dest, "drop_move_claim_at_dest", move)]

    def _finish_revert(self, vm: Vm, *_: object) -> list[Event]:
        move = self._end(vm)
        vm.node, vm.flavor = move.source, move.old_flavor
        return [self._arrival(vm, "finish_revert_move", move)]


def elsewhere(node: str, wanted: str) -> str:
    """The wanted node, or the next one when the instance is there already."""
    return wanted if wanted != node else NODES[(NODES.index(node) + 1) % len(NODES)]
