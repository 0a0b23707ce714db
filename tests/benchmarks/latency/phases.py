# SPDX-License-Identifier: Apache-2.0
"""What goes on beside the claims, and what is measured. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

BASE, AUDITED, QUIET = "empty", "audited", "quiet"
KINDS: Mapping[str, str] = {
    BASE: "empty call, commit",
    AUDITED: "claim, audited",
    QUIET: "claim, quiet",
}

IDLE = "idle"


@dataclass(frozen=True)
class Phase:
    """`audits` are what the process `storm` sends: nothing, `spread` or `flood`."""

    title: str
    audits: str | None = None


PHASES: Mapping[str, Phase] = {
    IDLE: Phase("nothing else is going on"),
    "storm": Phase("each node is audited once a minute, at a time of its own", "spread"),
    "flood": Phase("one audit of each node is always under way: more than a worker can do", "flood"),
}
