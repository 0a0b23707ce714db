# SPDX-License-Identifier: Apache-2.0
"""Converts a stored reply into the answer to a call: a value or an exception. Pure.

`bus.reply_errors` has the two exceptions that are oslo.messaging's own. doc/source/user/commands.rst
describes values and exceptions.
"""

from typing import Any

from msgspec import to_builtins

from tracker_worker import exceptions
from tracker_worker.core.delivery import Answer
from tracker_worker.core.records import PARKED
from tracker_worker.domain.commands import CLAIM_METHODS
from tracker_worker.domain.decision import Decision, Outcome
from tracker_worker.domain.errors import BadMessage, ErrorCode, Refusal
from tracker_worker.domain.views import claim_view

PONG = "pong"
"""The answer to a ping, the same as that of oslo.messaging's RPC servers."""

_PARKED_AS: dict[str, type[exceptions.TrackerWorkerException]] = {
    ErrorCode.WRONG_PARTITION: exceptions.WrongPartition,
    ErrorCode.EVENT_ID_REUSED: exceptions.EventIdReused,
    ErrorCode.DEAD_LETTERED: exceptions.EventParked,
    ErrorCode.WORKER_DIED: exceptions.EventParked,
    ErrorCode.DATABASE_REJECTS: exceptions.EventParked,
    ErrorCode.INTERNAL_ERROR: exceptions.EventParked,
}


_ONLY_REFUSAL = dict.fromkeys(CLAIM_METHODS, Refusal.NO_ROOM) | {
    "update_available_resource": Refusal.NODE_CONFLICT
}
"""For replies that were stored before refusals had a code: these methods had one kind of refusal each."""


class UnknownMethod(Exception):
    """No command has the name of the method."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.method = method


class UnknownVersion(Exception):
    """The worker does not support the version of the command."""

    def __init__(self, version: str, method: str) -> None:
        super().__init__(version, method)
        self.version = version
        self.method = method


WORKER_FAULTS = frozenset(code for code, kind in _PARKED_AS.items() if kind is exceptions.EventParked)
"""Codes of faults of the worker, its broker or its database, which a sender cannot correct."""


def decided_reply(decision: Decision, sequence: int) -> dict[str, Any]:
    """Return the reply that is stored for a decided event; `sequence` is the node's after it."""
    reply: dict[str, Any] = {"outcome": decision.outcome.value, "sequence": sequence}
    if decision.reason is not None:
        reply["reason"] = decision.reason
    if decision.refusal is not None:
        reply["code"] = decision.refusal.value
    if decision.claim is not None:
        reply["claim"] = to_builtins(claim_view(decision.claim))
    return reply


def parked_reply(bad: BadMessage) -> dict[str, Any]:
    """Return the reply that is stored for a parked event."""
    return {"outcome": PARKED, "code": bad.code.value, "path": bad.path, "message": bad.message}


def answer_to(method: str | None, version: str, reply: dict[str, Any]) -> Answer:
    """Return the answer to a call of `method` from the stored reply: the reply, or an exception if the event
    was refused or parked. A redelivery gets the same answer.
    """
    if reply["outcome"] == PARKED:
        return _parked(method or "", version, reply)
    if reply["outcome"] == Outcome.REFUSED:
        return _refused(method or "", reply)
    return reply


def question_error(method: str, version: str, bad: BadMessage) -> Exception:
    """Return the exception for an invalid question, of which no dead letter is kept."""
    error = _parked(method, version, parked_reply(bad))
    return exceptions.TrackerWorkerException(str(error)) if bad.code in WORKER_FAULTS else error


def _parked(method: str, version: str, reply: dict[str, Any]) -> Exception:
    code = reply["code"]
    if code == ErrorCode.UNKNOWN_METHOD:
        return UnknownMethod(method)
    if code == ErrorCode.UNSUPPORTED_VERSION:
        return UnknownVersion(version, method)
    kind = _PARKED_AS.get(code, exceptions.InvalidCommand)
    return kind(f"{code} at {reply['path']}: {reply['message']}")


def _refused(method: str, reply: dict[str, Any]) -> Exception:
    reason = reply.get("reason", "")
    code = reply.get("code") or _ONLY_REFUSAL.get(method, Refusal.OTHER)
    if code == Refusal.NO_ROOM:
        return exceptions.ComputeResourcesUnavailable(f"Insufficient compute resources: {reason}.")
    if code == Refusal.NODE_CONFLICT:
        return exceptions.NodeConflict(reason)
    return exceptions.CommandRefused(reason)
