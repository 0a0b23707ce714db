# SPDX-License-Identifier: Apache-2.0
"""Earlier states of a node, computed from its present state by undoing deltas, the newest first."""

from collections.abc import Iterator

from msgspec import Struct

from tracker_worker.domain.deltas import Delta, HeldCell, Holding, Totals, holding_of, totals_of
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.held_claims import Role
from tracker_worker.domain.node import Node, sum_of
from tracker_worker.domain.numa.topology import pages_of

Key = tuple[str, Role]
"""Instance and role of a claim."""


class HeldOfCell(Struct, frozen=True):
    """What the claims hold of a host cell: memory in MB, shared CPUs, pinned CPUs, pages by size in KiB."""

    memory_usage: int
    cpu_usage: int
    pinned_cpus: list[int]
    pages: dict[int, int]


class State:
    """A node after one of its events, at first after its newest. `undo` turns it into the one before.

    `sequence` is the event's; `totals` is None while the node is not tracked; `claimed` is the sum of
    `claims`. Topologies and devices of the host are not kept, only what the claims hold of them. Belongs to
    one thread.
    """

    def __init__(self, node: Node) -> None:
        self.sequence = node.sequence
        self.totals: Totals | None = totals_of(node)
        self.claims: dict[Key, Holding] = {
            (claim.instance_uuid, claim.role): holding_of(node, claim) for claim in node.held()
        }
        self.claimed = sum_of(node)

    @property
    def used(self) -> Amounts:
        """Reserve plus claims."""
        total = self.totals or _NO_TOTALS
        reserve = Amounts(total.reserved_vcpus, total.reserved_memory_mb, total.reserved_disk_mb)
        return self.claimed.plus(reserve)

    def undo(self, delta: Delta, instance_uuid: str | None) -> None:
        """Undo the event of this state. `instance_uuid` is the event's instance. Cannot fail."""
        for key, old, _ in changes_of(delta, instance_uuid):
            if (held := self.claims.pop(key, None)) is not None:
                self.claimed = self.claimed.minus(held.amounts)
            if old is not None:
                self.claims[key] = old
                self.claimed = self.claimed.plus(old.amounts)
        if delta.totals is not None:
            self.totals = delta.totals[0]
        self.sequence -= 1

    def difference(self, delta: Delta, instance_uuid: str | None) -> str | None:
        """Return a text if this state is not what its event has left behind: then rows were changed since."""
        for (uuid, role), _, new in changes_of(delta, instance_uuid):
            held = self.claims.get((uuid, role))
            if (held and held.amounts) != (new and new.amounts):
                return f"the claim of instance {uuid} in role {role} is not what this event has left"
        if delta.totals is not None and delta.totals[1] != self.totals:
            return "the totals are not what this event has left"
        return None


_NO_TOTALS = Totals(0, 0, 0, 0, 0, 0, 1.0, 1.0, 1.0)


def changes_of(
    delta: Delta, instance_uuid: str | None
) -> Iterator[tuple[Key, Holding | None, Holding | None]]:
    """Yield the claims that an event changed, with what each held before and after it."""
    for each in delta.claims:
        yield (each.instance_uuid or instance_uuid or "", each.role), each.old, each.new


def held_cells(state: State) -> dict[int, HeldOfCell]:
    """Return what the claims hold of each host cell that one of them is on, by the id of the cell."""
    by_cell: dict[int, list[HeldCell]] = {}
    for holding in state.claims.values():
        for cell in holding.cells:
            by_cell.setdefault(cell.id, []).append(cell)
    return {number: _held(by_cell[number]) for number in sorted(by_cell)}


def _held(cells: list[HeldCell]) -> HeldOfCell:
    pages: dict[int, int] = {}
    for cell in cells:
        if cell.page_kb is not None:
            pages[cell.page_kb] = pages.get(cell.page_kb, 0) + pages_of(cell.memory_mb, cell.page_kb)
    return HeldOfCell(
        sum(cell.memory_mb for cell in cells),
        sum(cell.shared_cpus for cell in cells),
        sorted({cpu for cell in cells for cpu in cell.pinned_cpus}),
        pages,
    )
