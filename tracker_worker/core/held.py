# SPDX-License-Identifier: Apache-2.0
"""Held events: those of a broken node wait in order, neither applied nor parked, until it is repaired."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from tracker_worker.core.decode import Event
from tracker_worker.core.delivery import Delivery
from tracker_worker.domain.commands import GetNode, UpdateAvailableResource


class HeldEvent(Struct, frozen=True):
    """A held event: only its delivery, because a decoded command takes many times the memory.

    `repairs`: the event is an audit with `startup`.
    """

    delivery: Delivery
    repairs: bool


class HeldEvents:
    """The held events by node. Belongs to the lane's thread. Prefetch and memory_budget bound them."""

    def __init__(self) -> None:
        self._events: dict[str, list[HeldEvent]] = {}

    def __bool__(self) -> bool:
        return bool(self._events)

    @property
    def nodes(self) -> Sequence[str]:
        """The names of the nodes. Any thread."""
        return list(self._events)

    def hold(self, nodes: Iterable[str]) -> None:
        """Hold the events of these nodes from now on."""
        for name in nodes:
            self._events.setdefault(name, [])

    def admit(self, events: Iterable[Event]) -> tuple[list[Event], list[Event], list[Event]]:
        """Hold the events of held nodes; return these, the reads of held nodes, and all other events."""
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
        """Stop holding a node; return its deliveries, without those that the broker will redeliver."""
        return [event.delivery for event in self._events.pop(node, ()) if event.delivery.live]

    def drop_dead(self) -> None:
        """Drop the held events that the broker will redeliver."""
        for events in self._events.values():
            events[:] = [event for event in events if event.delivery.live]

    def repairable(self) -> list[str]:
        """Return the nodes that have a held audit with `startup`, which repairs their ledgers."""
        return [node for node, events in self._events.items() if any(event.repairs for event in events)]


def repairs(event: Event) -> bool:
    """Tell whether an event is an audit with `startup`, which repairs the ledger of its node."""
    command = event.command
    return isinstance(command, UpdateAvailableResource) and command.startup and command.instances is not None
