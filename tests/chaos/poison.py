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

from tracker_worker.cmd.worker import main
from tracker_worker.core import batch, decode


class Poisoned(Exception):
    """An unexpected error of the rules."""


def poison(order: dict[str, Any]) -> None:
    """Patch the functions that decode and decide an event."""
    decide, open_envelope = batch.decide, decode.open_envelope

    def die_of(event_id: str) -> None:
        with Path(order["deaths"]).open("a") as file:
            file.write(f"{event_id}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def poisoned_decide(node: Any, command: Any, *rest: Any) -> Any:
        if command.event_id in order["raise"]:
            raise Poisoned("with what the payload says")
        if command.event_id in order["kill"]:
            die_of(command.event_id)
        return decide(node, command, *rest)

    def poisoned_open_envelope(body: bytes) -> Any:
        for event_id in order["kill_decoding"]:
            if f'\\"{event_id}\\"'.encode() in body:
                die_of(event_id)
        return open_envelope(body)

    batch.decide, decode.open_envelope = poisoned_decide, poisoned_open_envelope


if __name__ == "__main__":
    poison(json.loads(sys.stdin.readline()))
    sys.exit(main())
