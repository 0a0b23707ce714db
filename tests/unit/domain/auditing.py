# SPDX-License-Identifier: Apache-2.0
"""A resize as an audit finds it, and the corrections that a decision tells."""

from typing import Any

from tests.builders import a_flavor, a_migration
from tracker_worker.domain.audit import Correction
from tracker_worker.domain.node import Audited, Decision
from tracker_worker.domain.objects import Migration

OLD = a_flavor(2, 2048, 20, id="1")
NEW = a_flavor(4, 4096, 40, id="2")


def a_move(**more: Any) -> Migration:
    """A resize from OLD to NEW, from elsewhere to here unless told."""
    return a_migration(**{"old_flavor": OLD, "new_flavor": NEW, **more})


def corrections(decision: Decision) -> tuple[Correction, ...]:
    """The corrections that a decision tells; it tells nothing without one."""
    told = [effect for effect in decision.effects if isinstance(effect, Audited)]
    if not told:
        return ()
    (one,) = told
    assert one.corrections
    return one.corrections


def reasons(decision: Decision) -> list[tuple[str, str]]:
    """The corrections as (action, reason)."""
    return [(correction.action, correction.reason) for correction in corrections(decision)]
