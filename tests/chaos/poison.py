# SPDX-License-Identifier: Apache-2.0
"""tracker-worker with poison messages: the program, patched from outside.

Reads a line of JSON from its standard input: lists of event ids by what they do, `raise`, `kill` (while it is
decided) and `kill_decoding`, and `deaths`, the file to which each killer appends its id before it kills.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tracker_worker.cmd.worker import main
from tracker_worker.core import batch, decode
from tracker_worker.core.delivery import BodyDigest
from tracker_worker.core.envelope import Envelope, open_envelope
from tracker_worker.domain.decide import decide
from tracker_worker.domain.decision import Decision


class Poisoned(Exception):
    """An unexpected error of the rules."""


def poison(order: dict[str, Any]) -> None:
    """Patch the functions that decode and decide an event."""

    def die_of(event_id: str) -> None:
        with Path(order["deaths"]).open("a") as file:
            file.write(f"{event_id}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def poisoned_decide(node: Any, command: Any, *rest: Any) -> Decision:
        if command.event_id in order["raise"]:
            raise Poisoned("with what the payload says")
        if command.event_id in order["kill"]:
            die_of(command.event_id)
        return decide(node, command, *rest)

    def poisoned_open_envelope(body: bytes | BodyDigest) -> Envelope:
        for event_id in order["kill_decoding"]:
            if isinstance(body, bytes) and f'\\"{event_id}\\"'.encode() in body:
                die_of(event_id)
        return open_envelope(body)

    patch = pytest.MonkeyPatch()
    patch.setattr(batch, "decide", poisoned_decide)
    patch.setattr(decode, "open_envelope", poisoned_open_envelope)


if __name__ == "__main__":
    poison(json.loads(sys.stdin.readline()))
    sys.exit(main())
