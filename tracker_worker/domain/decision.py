# SPDX-License-Identifier: Apache-2.0
"""What `decide` returns: the outcome of a command, the changes of the ledger, the effects to notify."""

from enum import StrEnum

from msgspec import Struct

from tracker_worker.domain.audit import Correction
from tracker_worker.domain.errors import Refusal
from tracker_worker.domain.held_claims import Claim
from tracker_worker.domain.node import ConflictNoted, LedgerChange, Mark


class Outcome(StrEnum):
    """The outcome of an event. A refusal is a normal outcome that is counted, not an error."""

    APPLIED = "applied"  #: the ledger has changed
    GRANTED = "granted"  #: the claim is held; `claim` contains it
    REFUSED = "refused"  #: nothing has changed; `reason` says why, `code` is the code of the exception
    IGNORED = "ignored"  #: nothing had to change; `reason` may say why


class ClaimRefused(Struct, frozen=True):
    """A claim was refused."""

    reason: str


class NodeCreated(Struct, frozen=True):
    """A node is tracked from now on."""


class NodeDeleted(Struct, frozen=True):
    """A node is no longer tracked; the uuid and host of its last report."""

    uuid: str
    host: str


class Audited(Struct, frozen=True):
    """An audit corrected the ledger, or a decided claim conflicts with it."""

    corrections: tuple[Correction, ...]
    migrations_without_instance: int


class ReportRefused(Struct, frozen=True):
    """A report was refused with node_conflict; notified once for each refused uuid."""

    uuid: str
    message: str


class ReserveExceeded(Struct, frozen=True):
    """A report was applied whose reserve exceeds the node; notified once for each part of the reserve."""

    message: str


Effect = ClaimRefused | NodeCreated | NodeDeleted | Audited | ReportRefused | ReserveExceeded


class Decision(Struct, frozen=True):
    """What a command does: its outcome, the ledger's changes, housekeeping marks, notifications to send.

    `refusal` is the code of a refusal, None with any other outcome. A usage notification covers `changes`;
    marks are internal to the worker. `recorded`: the event leaves a receipt, and advances the node's sequence
    if the node has a row.
    """

    outcome: Outcome
    reason: str | None = None
    refusal: Refusal | None = None
    claim: Claim | None = None
    changes: tuple[LedgerChange, ...] = ()
    marks: tuple[Mark, ...] = ()
    effects: tuple[Effect, ...] = ()
    recorded: bool = True

    @property
    def makes_row(self) -> bool:
        """Whether a node without a row gets one: it is tracked from now on, or has a conflict to show.

        Last origins alone need no row: audits read them, and a node that was never reported has no audits.
        """
        return bool(self.changes) or any(isinstance(mark, ConflictNoted) for mark in self.marks)
