# SPDX-License-Identifier: Apache-2.0
"""The transition table: which claims an instance holds on a node before and after each command.

`moves` applies this table, and doc/source/user/lifecycle.rst shows it. I, N and O are the claims of role
instance, incoming and outgoing. M is the migration that the command names.
"""

from enum import Flag, StrEnum, auto
from itertools import product

from msgspec import Struct


class Action(StrEnum):
    """A command for an instance, by its method. Claims of moves share one; two commands have two actions."""

    INSTANCE_CLAIM = "instance_claim"
    MOVE_CLAIM = "resize_claim, live_migration_claim, rebuild_claim"
    ABORT_INSTANCE_CLAIM = "abort_instance_claim"
    DROP_MOVE_CLAIM = "drop_move_claim"
    DROP_ANY_MOVE_CLAIM = "drop_move_claim without migration_uuid"
    START_MOVE = "start_move"
    FINISH_MOVE = "finish_move"
    DROP_MOVE_CLAIM_AT_SOURCE = "drop_move_claim_at_source"
    DROP_MOVE_CLAIM_AT_DEST = "drop_move_claim_at_dest"
    FINISH_REVERT_MOVE = "finish_revert_move"
    UPDATE_USAGE = "update_usage"
    REMOVE = "update_usage of a removable instance"
    CLAIM_PCI_DEVICES = "claim_pci_devices"
    ALLOCATE_PCI_DEVICES = "allocate_pci_devices"
    UNCLAIM_PCI_DEVICES = "unclaim_pci_devices"


class Label(Flag):
    """The claim of one role, compared with the migration M of a command."""

    NONE = auto()
    """There is no claim."""
    M = auto()
    """The claim's migration_uuid is M: it brought the instance here, or is bringing it. For a command without
    a migration: the claim has none.
    """
    OTHER = auto()
    """The claim's migration_uuid is another, or, if the command has one, none."""
    DEVICES = auto()
    """An incoming claim of devices only, for a move that has not claimed yet."""


class Source(StrEnum):
    """The source of a role's claim after the command: a claim held before it, or a new one."""

    NONE = "none"
    I = "I"  # noqa: E741
    N = "N"
    O = "O"  # noqa: E741
    ARRIVED = "arrived"
    """Adopted without a test, in the size that the instance reports, labelled with M."""
    RETURNED = "returned"
    """Adopted without a test, in the size that the instance reports, labelled with no migration."""
    RESIZED = "resized"
    """I in the size that the instance reports, labelled with M; in the same size it keeps assignments."""
    CLAIMED = "claimed"
    """The requested claim. A repeated one is kept, another is tested without the claim that it replaces."""


State = tuple[Label, Label, Label]
"""The claims of an instance: the labels of I, N and O."""


class Transition(Struct, frozen=True):
    """One row: `before` are the labels of I, N and O that it applies to, `after` is the source of each.

    A claim that is the source of no role is released. `states`: I takes the instance's states and project.
    `devices`: I takes the devices of N. `why` explains a row that is not obvious.
    """

    before: State
    after: tuple[Source, Source, Source]
    why: str = ""
    states: bool = False
    devices: bool = False


_NONE, _M, _OTHER, _DEVICES = Label
_HELD = _M | _OTHER | _DEVICES
_ANY = _NONE | _HELD
_NOT_M = _NONE | _OTHER | _DEVICES
_GONE, _I, _N, _O, _ARRIVED, _RETURNED, _RESIZED, _CLAIMED = Source
STAY = (_I, _N, _O)
"""Each role keeps its claim."""
_Row = Transition

# fmt: off
TABLE: dict[Action, tuple[Transition, ...]] = {
    Action.INSTANCE_CLAIM: (
        _Row((_NONE,  _ANY,   _ANY),  (_CLAIMED, _N, _O)),
        _Row((_HELD,  _ANY,   _ANY),  (_CLAIMED, _N, _O), "a repeated claim, or another size"),
    ),
    Action.MOVE_CLAIM: (
        _Row((_ANY,   _NONE,  _ANY),  (_I, _CLAIMED, _O)),
        _Row((_ANY,   _HELD,  _ANY),  (_I, _CLAIMED, _O), "a repeated claim, or another move"),
    ),
    Action.ABORT_INSTANCE_CLAIM: (
        _Row((_HELD,  _ANY,   _ANY),  (_GONE, _N, _O), "the boot failed"),
        _Row((_NONE,  _ANY,   _ANY),  STAY),
    ),
    Action.DROP_MOVE_CLAIM: (
        _Row((_ANY,   _M,     _ANY),  (_I, _GONE, _O), "the move to here was aborted or rolled back"),
        _Row((_ANY,   _NOT_M, _ANY),  STAY),
    ),
    Action.DROP_ANY_MOVE_CLAIM: (
        _Row((_ANY,   _HELD,  _ANY),  (_I, _GONE, _O), "without a migration any incoming claim is meant"),
        _Row((_ANY,   _NONE,  _ANY),  STAY),
    ),
    Action.START_MOVE: (
        _Row((_OTHER, _NONE,  _NONE), (_GONE, _N, _I), "handed over: the room is kept for a revert"),
        _Row((_HELD,  _HELD,  _NONE), (_GONE, _N, _I), "a move within the node"),
        _Row((_M,     _NONE,  _NONE), STAY, "the event is late: M has brought the instance here"),
        _Row((_HELD,  _ANY,   _HELD), STAY, "the instance is leaving already"),
        _Row((_NONE,  _ANY,   _ANY),  STAY),
    ),
    Action.FINISH_MOVE: (
        _Row((_NONE,  _M,     _ANY),  (_N, _GONE, _O), "the instance has landed", states=True),
        _Row((_HELD,  _M,     _ANY),  (_N, _GONE, _I), "a move within the node has landed", states=True),
        _Row((_NONE,  _NONE | _OTHER, _ANY),   (_ARRIVED, _N, _O), "no claim of M is here"),
        _Row((_M,     _NONE | _OTHER, _ANY),   STAY, "M has landed already", states=True),
        _Row((_OTHER, _NONE | _OTHER, _HELD),  STAY, "the landing is late", states=True),
        _Row((_OTHER, _NONE | _OTHER, _NONE),  (_RESIZED, _N, _O), "the instance was seen before it landed"),
        _Row((_NONE,  _DEVICES, _ANY),  (_ARRIVED, _GONE, _O), "devices came first", devices=True),
        _Row((_M,     _DEVICES, _ANY),  (_I, _GONE, _O), "devices came first", states=True, devices=True),
        _Row((_OTHER, _DEVICES, _HELD), (_I, _GONE, _O), "devices came first", states=True, devices=True),
        _Row((_OTHER, _DEVICES, _NONE), (_RESIZED, _GONE, _O), "devices came first", devices=True),
    ),
    Action.DROP_MOVE_CLAIM_AT_SOURCE: (
        _Row((_ANY,   _M,     _ANY),  (_N, _GONE, _GONE), "confirmed where M was still on its way"),
        _Row((_ANY,   _NOT_M, _HELD), (_I, _N, _GONE), "confirmed"),
        _Row((_OTHER, _NOT_M, _NONE), (_GONE, _N, _O), "the instance has left without a start_move"),
        _Row((_M,     _NOT_M, _NONE), STAY, "a repeat: M has brought the instance here"),
        _Row((_NONE,  _NOT_M, _NONE), STAY),
    ),
    Action.DROP_MOVE_CLAIM_AT_DEST: (
        _Row((_HELD,  _M,     _ANY),  (_I, _GONE, _O), "reverted before it landed"),
        _Row((_NONE,  _M,     _HELD), (_O, _GONE, _GONE), "reverted within the node, before it landed"),
        _Row((_NONE,  _M,     _NONE), (_GONE, _GONE, _GONE), "reverted before it landed"),
        _Row((_M,     _NONE,  _HELD), (_O, _GONE, _GONE), "reverted within the node"),
        _Row((_M,     _NONE,  _NONE), (_GONE, _GONE, _GONE), "reverted"),
        _Row((_NONE,  _NONE,  _HELD), (_O, _GONE, _GONE), "reverted within the node"),
        _Row((_OTHER, _NONE,  _ANY),  STAY, "M has not brought the instance here"),
        _Row((_ANY,   _OTHER | _DEVICES, _ANY), STAY, "another move is on its way to here"),
        _Row((_NONE,  _NONE,  _NONE), STAY),
    ),
    Action.FINISH_REVERT_MOVE: (
        _Row((_NONE,  _NOT_M, _NONE), (_RETURNED, _N, _O), "no claim is here"),
        _Row((_NONE,  _M,     _NONE), (_RETURNED, _GONE, _O), "no claim of its own is here"),
        _Row((_HELD,  _NOT_M, _NONE), STAY, "the instance is back already", states=True),
        _Row((_HELD,  _M,     _NONE), (_I, _GONE, _O), "reverted before start_move", states=True),
        _Row((_NONE | _M, _NOT_M, _HELD), (_O, _N, _GONE), "the instance is back", states=True),
        _Row((_NONE | _M, _M,     _HELD), (_O, _GONE, _GONE), "the instance is back", states=True),
        _Row((_OTHER, _NOT_M, _HELD), (_I, _N, _GONE), "the instance is back already", states=True),
        _Row((_OTHER, _M,     _HELD), (_I, _GONE, _GONE), "the instance is back already", states=True),
    ),
    Action.UPDATE_USAGE: (
        _Row((_HELD,  _ANY,   _ANY),  STAY, states=True),
        _Row((_NONE,  _ANY,   _ANY),  STAY),
    ),
    Action.REMOVE: (
        _Row((_ANY,   _ANY,   _ANY),  (_GONE, _GONE, _GONE), "deleted, or shelved and offloaded"),
    ),
    Action.CLAIM_PCI_DEVICES: (
        _Row((_ANY,   _HELD,  _ANY),  (_I, _CLAIMED, _O), "devices for the move to here"),
        _Row((_HELD,  _NONE,  _ANY),  (_CLAIMED, _N, _O), "an attachment"),
        _Row((_NONE,  _NONE,  _ANY),  (_I, _CLAIMED, _O), "devices alone, for a move that is to come"),
    ),
    Action.ALLOCATE_PCI_DEVICES: (
        _Row((_ANY,   _ANY,   _ANY),  STAY),
    ),
    Action.UNCLAIM_PCI_DEVICES: (
        _Row((_ANY,   _NONE | _M | _OTHER, _ANY), STAY),
        _Row((_ANY,   _DEVICES, _ANY), (_I, _GONE, _O), "devices alone go with the last of them"),
    ),
}
# fmt: on
"""Exactly one row applies to each command and state."""

STATES: tuple[State, ...] = tuple(product((_NONE, _M, _OTHER), Label, (_NONE, _M, _OTHER)))
"""All states that an instance can have on a node."""


def rows_of(action: Action, state: State) -> list[Transition]:
    """Return the rows of a command that apply to a state."""
    return [
        row
        for row in TABLE[action]
        if all(label in wanted for label, wanted in zip(state, row.before, strict=True))
    ]


_ROWS = {(action, state): rows_of(action, state)[0] for action in TABLE for state in STATES}


def transition(action: Action, state: State) -> Transition:
    """Return the row of a command that applies to a state."""
    return _ROWS[action, state]
