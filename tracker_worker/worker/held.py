# SPDX-License-Identifier: Apache-2.0
"""The events of nodes whose ledger is broken: held in order, not applied nor parked, until it is whole."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from tracker_worker.bus.delivery import Delivery
from tracker_worker.domain.commands import GetNode, UpdateAvailableResource
from tracker_worker.domain.errors import BadMessage
from tracker_worker.worker.events import Event


class HeldEvent(Struct, frozen=True):
    """An event as it is held: its bytes alone, for what is decoded takes many times as much.

    `repairs` tells of an audit with `startup`; `bad` is why it is to be parked, when that is decided.
    """

    delivery: Delivery
    repairs: bool
    bad: BadMessage | None


class HeldEvents:
    """What waits for each broken node. Belongs to the lane's thread. Prefetch and memory_budget bound it."""

    def __init__(self) -> None:
        self._events: dict[str, list[HeldEvent]] = {}

    def __bool__(self) -> bool:
        return bool(self._events)

    @property
    def nodes(self) -> Sequence[str]:
        """The names of the nodes."""
        return list(self._events)

    def hold(self, nodes: Iterable[str]) -> None:
        """Hold the events of these nodes from now on."""
        for name in nodes:
            self._events.setdefault(name, [])

    def admit(self, events: Iterable[Event]) -> tuple[list[Event], list[Event]]:
        """Hold the events whose node is held; return these, and the others. A read is returned, not kept."""
        held, others = [], []
        for event in events:
            if event.owned and event.node is not None and event.node in self._events:
                held.append(event)
                if not isinstance(event.command, GetNode):
                    kept = HeldEvent(event.delivery, _is_startup_audit(event), event.bad)
                    self._events[event.node].append(kept)
            else:
                others.append(event)
        return held, others

    def release(self, node: str) -> list[HeldEvent]:
        """Hold a node no more; return its events, without those that the broker hands out again."""
        return [event for event in self._events.pop(node, ()) if event.delivery.live]

    def drop_dead(self) -> None:
        """Forget the events that the broker hands out again."""
        for events in self._events.values():
            events[:] = [event for event in events if event.delivery.live]

    def repairable(self) -> list[str]:
        """Return the nodes for which an audit with `startup` waits: it repairs them."""
        return [node for node, events in self._events.items() if any(event.repairs for event in events)]


def _is_startup_audit(event: Event) -> bool:
    command = event.command
    return isinstance(command, UpdateAvailableResource) and command.startup and command.instances is not None
