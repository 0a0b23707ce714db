# SPDX-License-Identifier: Apache-2.0
"""The events of nodes whose ledger is broken: held in order, not applied nor parked, until it is whole."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from tracker_worker.core.decode import Event
from tracker_worker.core.delivery import Delivery
from tracker_worker.domain.commands import GetNode, UpdateAvailableResource


class HeldEvent(Struct, frozen=True):
    """An event as it is held: its bytes alone, for what is decoded takes many times as much.

    `repairs` tells of an audit with `startup`.
    """

    delivery: Delivery
    repairs: bool


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

    def admit(self, events: Iterable[Event]) -> tuple[list[Event], list[Event], list[Event]]:
        """Hold the events whose node is held; return them, the reads of such nodes, and all others."""
        held: list[Event] = []
        reads: list[Event] = []
        others: list[Event] = []
        for event in events:
            if not event.belongs_here or event.node is None or event.node not in self._events:
                others.append(event)
            elif isinstance(event.command, GetNode):
                reads.append(event)
            else:
                held.append(event)
                self._events[event.node].append(HeldEvent(event.delivery, repairs(event)))
        return held, reads, others

    def release(self, node: str) -> list[Delivery]:
        """Hold a node no more; return its events, without those that the broker hands out again."""
        return [event.delivery for event in self._events.pop(node, ()) if event.delivery.live]

    def drop_dead(self) -> None:
        """Forget the events that the broker hands out again."""
        for events in self._events.values():
            events[:] = [event for event in events if event.delivery.live]

    def repairable(self) -> list[str]:
        """Return the nodes for which an audit with `startup` waits: it repairs them."""
        return [node for node, events in self._events.items() if any(event.repairs for event in events)]


def repairs(event: Event) -> bool:
    """Tell whether an event is an audit with `startup`, which repairs the ledger of its node."""
    command = event.command
    return isinstance(command, UpdateAvailableResource) and command.startup and command.instances is not None
