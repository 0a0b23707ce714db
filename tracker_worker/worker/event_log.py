# SPDX-License-Identifier: Apache-2.0
"""The log lines of committed events: one at info for each outcome of a claim, for each correction and for a
removed node, one warning for each new fault of a report, one error for each dead letter; and one at debug for
every event.

A line has texts of the worker and checked names only, never the value of another field of the message.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from tracker_worker.core.decode import Event
from tracker_worker.core.event_counts import settled
from tracker_worker.core.records import DeadLetter
from tracker_worker.domain.audit import Correction
from tracker_worker.domain.decision import (
    Audited,
    ClaimRefused,
    Decision,
    NodeDeleted,
    ReportRefused,
    ReserveExceeded,
)
from tracker_worker.domain.flavors import Amounts
from tracker_worker.domain.node import amounts_text
from tracker_worker.domain.views import ClaimView

LOG = logging.getLogger(__name__)


def extra_of(event: Event) -> dict[str, Any]:
    """Return the `extra` of a log record about an event: its context.

    oslo.log adds the context's request id to the line, and with `use_json` the whole context.
    """
    cause = event.cause
    return _extra(cause.request_id, cause.event_id, cause.method, event.node, cause.instance_uuid)


def _extra(
    request_id: str | None, event_id: str, method: str | None, node: str | None, instance_uuid: str | None
) -> dict[str, Any]:
    return {
        "context": {
            "request_id": request_id,
            "event_id": event_id,
            "method": method,
            "node": node,
            "instance_uuid": instance_uuid,
        }
    }


def log_decisions(decisions: Iterable[tuple[Event, Decision]]) -> None:
    """Log the claims, the corrections and the doubtful reports of a batch that was committed."""
    if not LOG.isEnabledFor(logging.INFO):
        decisions = ((event, decision) for event, decision in decisions if decision.effects)
    for event, decision in decisions:
        if decision.claim is not None or decision.effects:
            _log_decision(event, decision)


def log_settled(
    events: Sequence[Event], decisions: Sequence[tuple[Event, Decision]], letters: Sequence[DeadLetter]
) -> None:
    """Log, at debug, what became of each event of a batch that was committed."""
    if not LOG.isEnabledFor(logging.DEBUG):
        return
    for each in settled(events, decisions, letters):
        event = each.event
        LOG.debug(
            "Event %s (%s) of node %s: %s",
            event.event_id, each.method or "unknown", event.node or "unknown",
            f"{each.outcome}, {each.reason}" if each.reason else each.outcome,
            extra=extra_of(event),
        )  # fmt: skip


def log_dead_letters(letters: Iterable[DeadLetter]) -> None:
    """Log the events that were parked."""
    for letter in letters:
        LOG.error(
            "Event %s (%s) of node %s is parked as dead letter %s: %s at %s: %s",
            letter.event_id, letter.method or "unknown", letter.node or "unknown", letter.id, letter.code,
            letter.path, letter.message,
            extra=_extra(letter.request_id, letter.event_id, letter.method, letter.node, None),
        )  # fmt: skip


def _log_decision(event: Event, decision: Decision) -> None:
    extra = extra_of(event)
    if (claim := decision.claim) is not None:
        LOG.info(
            "Node %s granted %s of instance %s: %s",
            event.node, event.method, claim.instance_uuid, amounts_text(claim.amounts), extra=extra,
        )  # fmt: skip
    for effect in decision.effects:
        match effect:
            case ClaimRefused(reason):
                LOG.info(
                    "Node %s refused %s of instance %s: %s",
                    event.node, event.method, event.cause.instance_uuid, reason, extra=extra,
                )  # fmt: skip
            case Audited(corrections):
                for correction in corrections:
                    _log_correction(event, correction, extra)
            case NodeDeleted(_, host):
                LOG.info("Node %s of host %s is removed", event.node, host, extra=extra)
            case ReportRefused(_, text) | ReserveExceeded(text):
                LOG.warning("Report of node %s: %s", event.node, text, extra=extra)
            case _:
                pass


def _log_correction(event: Event, correction: Correction, extra: dict[str, Any]) -> None:
    LOG.info(
        "Node %s corrected, %s: claim of instance %s %s, from %s to %s",
        event.node, correction.reason, correction.instance_uuid, correction.action,
        _claim_text(correction.old), _claim_text(correction.new), extra=extra,
    )  # fmt: skip


def _claim_text(claim: ClaimView | None) -> str:
    if claim is None:
        return "none"
    amounts = Amounts(claim.vcpus, claim.memory_mb, claim.disk_mb)
    return f"{claim.role} of {amounts_text(amounts)}"
