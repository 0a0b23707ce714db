# SPDX-License-Identifier: Apache-2.0
"""What the compute managers know: a small model of instances and their moves, without the worker's rules.

It knows what each instance should count for on each node, which it works out from where the instance and its
move are, and nothing else.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

from tests.properties.ledgers import counted, total

Json = dict[str, Any]

NODES = ("node-1", "node-2", "node-3")
FLAVORS: tuple[Json, ...] = (
    {"vcpus": 1, "memory_mb": 512, "root_gb": 1, "ephemeral_gb": 0, "swap_mb": 0},
    {"vcpus": 2, "memory_mb": 2048, "root_gb": 20, "ephemeral_gb": 3, "swap_mb": 1},
    {"vcpus": 4, "memory_mb": 4096, "root_gb": 40, "ephemeral_gb": 0, "swap_mb": 1500},
    {"vcpus": 2, "memory_mb": 2048, "root_gb": 0, "ephemeral_gb": 0, "swap_mb": 0},
)
HARMLESS_TASKS = ("rebooting", "powering-off", "image_snapshot", None)


@dataclass
class Move:
    """A migration under way. Phases: claimed, started, finished, reverting."""

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

    def expected(self, node: str) -> tuple[int, int, int]:
        """What it should count for on a node, by where it and its move are."""
        move = self.move
        if move is None:
            sizes = [self.flavor] if self.node == node else []
        else:
            arrived = move.phase in ("claimed", "started", "finished")
            sizes = [move.old_flavor] if node == move.source else []
            sizes += [move.new_flavor] if node == move.dest and arrived else []
        return total(counted(size, self.volume_backed) for size in sizes)

    def json(self) -> Json:
        """The instance as its compute manager sends it."""
        return {
            "uuid": self.uuid,
            "project_id": "project",
            "vm_state": self.vm_state,
            "task_state": self.task_state,
            "flavor": self.flavor,
            "volume_backed": self.volume_backed,
        }

    def migration(self, move: Move, node: str, current: bool = True) -> Json:
        """A migration as an audit of a node lists it: with the instance when that is elsewhere."""
        status = {"finished": "finished", "reverting": "reverted"}.get(move.phase, "migrating")
        return {
            "uuid": move.uuid,
            "type": move.type,
            "status": status,
            "instance_uuid": self.uuid,
            "source_node": move.source,
            "dest_node": move.dest,
            "old_flavor": move.old_flavor,
            "new_flavor": move.new_flavor,
            "current": current,
            "updated_at": f"2026-11-22T12:00:00.{move.number:06}Z",
            **({} if self.node == node else {"instance": self.json()}),
        }


@dataclass(frozen=True)
class Event:
    """A command for a node. A call is answered, so that it can be neither lost nor late."""

    node: str
    method: str
    args: Json
    call: bool = False


@dataclass(frozen=True)
class Facts:
    """What an audit says of a node, and what should be there by it."""

    instances: list[Json]
    migrations: list[Json]
    expected: dict[str, tuple[int, int, int]]
    versions: dict[str, int]


class World:
    """The instances; each action changes one and yields the events that its compute managers send."""

    def __init__(self) -> None:
        self.vms: dict[str, Vm] = {}
        self._numbers = itertools.count(1)

    def facts(self, node: str, noise: int) -> Facts:
        """What the database has of a node; old migrations are listed too, by the bits of `noise`."""
        here = [vm for vm in self.vms.values() if vm.node == node]
        moving = {vm.uuid for vm in self.vms.values() if vm.move and node in vm.move.nodes}
        migrations = [self.vms[uuid].migration(self.vms[uuid].move, node) for uuid in sorted(moving)]
        old = [(vm, move) for vm in self.vms.values() if vm.node is not None for move in vm.past]
        for bit, (vm, move) in enumerate(old):
            # While another move is under way elsewhere only its context tells that this one is over.
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
        return getattr(self, f"_{action}")(vm, node, flavor)

    def _usage(self, vm: Vm, node: str) -> Event:
        return Event(node, "update_usage", {"instance": vm.json()})

    def _ids(self, vm: Vm, node: str, method: str, move: Move) -> Event:
        return Event(node, method, {"instance_uuid": vm.uuid, "migration_uuid": move.uuid})

    def _settle(self, vm: Vm, *_: object) -> list[Event]:
        vm.vm_state, vm.task_state = "active", None
        return [self._usage(vm, vm.node)]

    def _task(self, vm: Vm, node: str, flavor: Json) -> list[Event]:
        vm.task_state = HARMLESS_TASKS[NODES.index(node) + (flavor is FLAVORS[0])]
        return [self._usage(vm, vm.node)]

    def _delete(self, vm: Vm, *_: object) -> list[Event]:
        node, vm.node = vm.node, None
        vm.vm_state, vm.task_state = "deleted", None
        return [self._usage(vm, node)]

    def _abort(self, vm: Vm, *_: object) -> list[Event]:
        node, vm.node = vm.node, None
        vm.vm_state = "deleted"
        return [Event(node, "abort_instance_claim", {"instance_uuid": vm.uuid})]

    def _offload(self, vm: Vm, *_: object) -> list[Event]:
        node, vm.node = vm.node, None
        vm.vm_state, vm.task_state = "shelved_offloaded", None
        return [self._usage(vm, node)]

    def _unshelve(self, vm: Vm, node: str, _flavor: Json) -> list[Event]:
        vm.node, vm.task_state = node, "spawning"
        return [Event(node, "instance_claim", {"instance": vm.json()}, call=True)]

    def _moving(self, vm: Vm, kind: str, dest: str, flavor: Json, task: str) -> Move:
        number = next(self._numbers)
        vm.move = Move(f"move-{number}", kind, vm.node, dest, vm.flavor, flavor, number)
        vm.task_state = task
        return vm.move

    def _claim(self, vm: Vm, method: str, **more: Json) -> list[Event]:
        migration = vm.migration(vm.move, vm.node)
        args = {"instance": vm.json(), "migration": migration, **more}
        return [Event(vm.move.dest, method, args, call=True)]

    def _resize(self, vm: Vm, node: str, flavor: Json) -> list[Event]:
        self._moving(vm, "resize", node, flavor, "resize_prep")
        return self._claim(vm, "resize_claim", flavor=flavor)

    def _migrate(self, vm: Vm, node: str, _flavor: Json) -> list[Event]:
        self._moving(vm, "migration", elsewhere(vm.node, node), vm.flavor, "resize_prep")
        return self._claim(vm, "resize_claim", flavor=vm.flavor)

    def _live(self, vm: Vm, node: str, _flavor: Json) -> list[Event]:
        self._moving(vm, "live-migration", elsewhere(vm.node, node), vm.flavor, "migrating")
        return self._claim(vm, "live_migration_claim")

    def _evacuate(self, vm: Vm, node: str, _flavor: Json) -> list[Event]:
        self._moving(vm, "evacuation", elsewhere(vm.node, node), vm.flavor, "rebuilding")
        return self._claim(vm, "rebuild_claim")

    def _end(self, vm: Vm) -> Move:
        move, vm.move = vm.move, None
        vm.past.append(move)
        vm.vm_state, vm.task_state = "active", None
        return move

    def _cancel(self, vm: Vm, *_: object) -> list[Event]:
        move = self._end(vm)
        return [self._ids(vm, move.dest, "drop_move_claim", move)]

    def _start(self, vm: Vm, *_: object) -> list[Event]:
        vm.move.phase, vm.task_state = "started", "resize_migrating"
        return [self._ids(vm, vm.move.source, "start_move", vm.move)]

    def _arrival(self, vm: Vm, method: str, move: Move) -> Event:
        return Event(vm.node, method, {"instance": vm.json(), "migration_uuid": move.uuid})

    def _finish(self, vm: Vm, *_: object) -> list[Event]:
        move = vm.move
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
        vm.move.phase, vm.task_state = "reverting", "resize_reverting"
        return [self._ids(vm, vm.move.dest, "drop_move_claim_at_dest", vm.move)]

    def _finish_revert(self, vm: Vm, *_: object) -> list[Event]:
        move = self._end(vm)
        vm.node, vm.flavor = move.source, move.old_flavor
        return [self._arrival(vm, "finish_revert_move", move)]


def elsewhere(node: str, wanted: str) -> str:
    """The wanted node, or the next one when the instance is there already."""
    return wanted if wanted != node else NODES[(NODES.index(node) + 1) % len(NODES)]
