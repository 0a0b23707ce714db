# SPDX-License-Identifier: Apache-2.0
"""Compute managers: random casts, and the history that each node must have of them."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any
from zlib import crc32

from tests import samples
from tests.ledger_model import (
    DEFAULT_RESERVE,
    INCOMING,
    INSTANCE,
    OUTGOING,
    ROLES,
    Amounts,
    Claim,
    Json,
    Next,
    States,
)
from tests.simulation.bus import Message
from tests.simulation.faults import Rates
from tests.simulation.history import Entry, History

PARTITIONS = 2
NODES = ("node-1", "node-2", "node-3", "node-4")
INSTANCES = ("i-1", "i-2", "i-3", "i-4", "i-5")
TOTALS = Amounts(vcpus=8, memory_mb=16384, disk_mb=100 * 1024)
FLAVORS = (samples.a_flavor(1, 1024, 10), samples.a_flavor(2, 4096, 20), samples.a_flavor(4, 6144, 30))
BUILDING: States = ("building", "spawning")
ACTIVE: States = ("active", None)
STOPPED: States = ("stopped", None)
RESIZED: States = ("resized", None)
DELETED: States = ("deleted", None)
KILLS, RAISES, READ = "kills", "raises", "read"
"""Prefixes of event ids: the rules kill the process, or raise; the event is a get_node."""
REPLY_QUEUE = "reply_simulation"
NEAR = 12
"""A cast is repeated only while fewer casts than this came after it."""


class Clients:
    """Casts events of some nodes through `publish`; `histories` has the ledgers that must result.

    One client casts and numbers all events; sometimes it restarts under another name.
    """

    def __init__(self, chance: Random, rates: Rates, publish: Callable[[Message], None]) -> None:
        self._chance = chance
        self._rates = rates
        self._publish = publish
        self._numbers = 0
        self._numbered: dict[str, int] = {}
        self._recent: list[Message] = []
        self._forgotten: dict[str, int] = {}
        """How many of each node's first events have receipts that may be purged."""
        self.source = "client-1"
        self.histories = {node: History(node) for node in NODES}
        self.reads: dict[str, tuple[str, int]] = {}
        """Node and minimum sequence of each get_node that waits for its reply."""

    def cast(self) -> None:
        """Cast one more event, or one of the last ones again."""
        kind = self._chance.random()
        if self._recent and kind < self._rates.duplicate:
            self.repeat()
            return
        history = self.histories[self._chance.choice(NODES)]
        if not history.entries:
            self._send(history, "update_available_resource", (history.ledger, "applied"), **_report(history))
        elif kind > 1 - self._rates.poison:
            self._poison(history)
        elif self._chance.random() < 0.03:
            self.source = f"client-{self._new()}"
        else:
            self._chance.choice(self._events())(history)

    def repeat(self) -> None:
        """Cast one of the last events again, if there are any."""
        if self._recent:
            self._again(self._chance.choice(self._recent))

    def ask(self, committed: Callable[[str], int]) -> None:
        """Call get_node: its reply must be at least as new as what is committed now."""
        history = self.histories[self._chance.choice(NODES)]
        if history.entries:
            event_id = f"{READ}-{self._new()}"
            self.reads[event_id] = (history.node, committed(history.node))
            self._put(history.node, event_id, "get_node", {"node": history.node, "event_id": event_id}, True)

    def forget_recent(self) -> None:
        """Never again repeat a cast that was sent before now, nor reuse its id."""
        self._recent.clear()
        self._forgotten = {node: len(history.entries) for node, history in self.histories.items()}

    def roll_back(self, sequences: Mapping[str, int], has_seen: Callable[[str, str, int], bool]) -> None:
        """The database has lost each node's events above a sequence; they are not cast again."""
        self._recent.clear()
        for node, history in self.histories.items():
            history.roll_back(sequences[node], has_seen)
            self._forgotten[node] = min(self._forgotten.get(node, 0), sequences[node])

    def _events(self) -> list[Callable[[History], None]]:
        return [
            *[self._boot] * 6, self._states, self._states, self._delete, self._delete, self._abort,
            self._fail, self._resize, self._arrive, self._arrive, self._confirm, self._audit, self._audit,
        ]  # fmt: skip

    def _boot(self, history: History) -> None:
        uuid, flavor = self._instance(), self._flavor()
        after = history.ledger.claim(uuid, INSTANCE, Claim(flavor, None, BUILDING), TOTALS)
        self._send(history, "instance_claim", after, instance=_instance(uuid, flavor, BUILDING))

    def _states(self, history: History) -> None:
        uuid, states = self._instance(), self._chance.choice((ACTIVE, STOPPED))
        after = history.ledger.take_states(uuid, states)
        self._send(history, "update_usage", after, instance=_instance(uuid, FLAVORS[0], states))

    def _delete(self, history: History) -> None:
        uuid = self._instance()
        after = history.ledger.release(uuid, *ROLES)
        self._send(history, "update_usage", after, instance=_instance(uuid, FLAVORS[0], DELETED))

    def _abort(self, history: History) -> None:
        uuid = self._instance()
        after = history.ledger.release(uuid, INSTANCE)
        self._send(history, "abort_instance_claim", after, instance_uuid=uuid)

    def _fail(self, history: History) -> None:
        self._send(history, "build_failed", history.ledger.build_failed())

    def _resize(self, history: History) -> None:
        uuid, flavor = self._instance(), self._flavor()
        migration = f"m-{self._new()}"
        held = history.ledger.claims.get(uuid, INSTANCE)
        states = held.states if held is not None else ACTIVE
        after = history.ledger.claim(uuid, INCOMING, Claim(flavor, migration, states), TOTALS)
        instance = _instance(uuid, FLAVORS[0], states)
        move = samples.a_migration(migration, uuid, source_node=None, dest_node=None)
        self._send(history, "resize_claim", after, instance=instance, flavor=flavor, migration=move)

    def _arrive(self, history: History) -> None:
        """Finish or cancel a move to this node."""
        ledger, claims = history.ledger, history.ledger.claims
        coming = [u for u in INSTANCES if claims.get(u, INCOMING) and not claims.get(u, OUTGOING)]
        if not coming:
            self._boot(history)
            return
        uuid = self._chance.choice(coming)
        migration = claims.by_key[uuid, INCOMING].migration
        if self._chance.random() < 0.6:
            after = ledger.finish_move(uuid, RESIZED)
            instance = _instance(uuid, FLAVORS[0], RESIZED)
            self._send(history, "finish_move", after, instance=instance, migration_uuid=migration)
        else:
            after = ledger.release(uuid, INCOMING)
            self._send(history, "drop_move_claim", after, instance_uuid=uuid, migration_uuid=migration)

    def _confirm(self, history: History) -> None:
        ledger = history.ledger
        resized = [uuid for uuid in INSTANCES if ledger.claims.of(uuid).keys() == {INSTANCE, OUTGOING}]
        if not resized:
            self._fail(history)
            return
        uuid = self._chance.choice(resized)
        migration = ledger.claims.by_key[uuid, INSTANCE].migration or "m-unknown"
        after = ledger.release(uuid, OUTGOING)
        self._send(history, "drop_move_claim_at_source", after, instance_uuid=uuid, migration_uuid=migration)

    def _audit(self, history: History) -> None:
        """Cast an audit with an older snapshot: some of the last events are newer."""
        past = self._chance.choice([entry for entry in history.entries if entry.code is None][-5:])
        as_of = self._numbered[past.event_id]
        listed = {
            uuid: (held.flavor, held.states)
            for (uuid, role), held in past.ledger.claims.by_key.items()
            if role == INSTANCE and held.states != RESIZED
        }
        after = history.ledger.audit(listed, self.source, as_of)
        instances = [_instance(uuid, flavor, states) for uuid, (flavor, states) in listed.items()]
        self._send(
            history, "update_available_resource", after, **_report(history), instances=instances, as_of=as_of
        )

    def _poison(self, history: History) -> None:
        """Cast an event that must be parked, and no other with it."""
        event_id = f"e-{self._new()}"
        match self._chance.randrange(4):
            case 0:
                history.park(event_id, "build_failed", "unknown_argument")
                self._put(history.node, event_id, "build_failed", {"gpus": 1})
            case 1 if known := self._known(history):
                uuid = f"other-{event_id}"
                used = self._chance.choice(known)
                history.park(used.event_id, "drop_move_claim", "event_id_reused")
                self._put(history.node, used.event_id, "drop_move_claim", {"instance_uuid": uuid})
            case 2:
                history.park(f"{RAISES}-{event_id}", "build_failed", "internal_error")
                self._put(history.node, f"{RAISES}-{event_id}", "build_failed", {})
            case _:
                history.park(f"{KILLS}-{event_id}", "build_failed", "worker_died")
                self._put(history.node, f"{KILLS}-{event_id}", "build_failed", {})

    def _known(self, history: History) -> list[Entry]:
        """The events whose ids a worker must recognise."""
        fresh = history.entries[self._forgotten.get(history.node, 0) :]
        return [entry for entry in fresh if entry.code is None]

    def _send(self, history: History, method: str, after: Next, **args: Any) -> None:
        number = self._new()
        event_id = f"e-{number}"
        self._numbered[event_id] = number
        uuid = args.get("instance_uuid") or args.get("instance", {}).get("uuid")
        ledger = after[0] if uuid is None else after[0].record(uuid, (self.source, number))
        if method == "update_available_resource" and after[1] == "ignored":
            history.look(event_id, ledger, self.source, number)
        else:
            history.append(event_id, method, (ledger, after[1]))
        origin = {"source": self.source, "sequence": number}
        called = self._chance.random() < 0.2
        self._put(history.node, event_id, method, {"origin": origin, **args}, called)

    def _put(self, node: str, event_id: str, method: str, args: Json, called: bool = False) -> None:
        given = {"node": node, "event_id": event_id, **args}
        message = Message(_body(method, given, called), queue_of(node), node, event_id)
        self._recent = [*self._recent, message][-NEAR:]
        self._publish(message)

    def _again(self, first: Message) -> None:
        """Publish the same bytes once more, as a client that got no confirm does."""
        if first.event_id.startswith(READ):
            return
        self._publish(Message(first.body, first.queue, first.node, first.event_id))

    def _instance(self) -> str:
        return self._chance.choice(INSTANCES)

    def _flavor(self) -> Json:
        return FLAVORS[self._chance.randrange(len(FLAVORS))]

    def _new(self) -> int:
        self._numbers += 1
        return self._numbers


def queue_of(node: str) -> str:
    """The queue of a node's partition, by the rule that clients and workers share."""
    return f"tracker.p{crc32(node.encode()) % PARTITIONS}"


def _report(history: History) -> Json:
    ratios = {f"{kind}_allocation_ratio": 1.0 for kind in ("cpu", "ram", "disk")}
    return {
        "resources": samples.a_report(
            f"uuid-of-{history.node}",
            f"host-of-{history.node}",
            vcpus=TOTALS.vcpus,
            memory_mb=TOTALS.memory_mb,
            local_gb=TOTALS.disk_mb // 1024,
            reserved_host_memory_mb=DEFAULT_RESERVE.memory_mb,
            **ratios,
        )
    }


def _instance(uuid: str, flavor: Json, states: States) -> Json:
    vm_state, task_state = states
    return samples.an_instance(uuid, flavor, vm_state=vm_state, task_state=task_state)


def _body(method: str, args: Json, called: bool) -> bytes:
    """A message as oslo.messaging's driver makes it."""
    call = {"_msg_id": args["event_id"], "_reply_q": REPLY_QUEUE} if called else {}
    return samples.message(method, args, **call)
