# SPDX-License-Identifier: Apache-2.0
"""From stestr's subunit on stdin to lines of JSON on stdout, by the interpreter of Nova's environment."""

import json
import signal
import sys
from contextlib import suppress
from typing import Any

import subunit
from testtools import StreamToDict

IDS_ONLY = "exists"
SECONDS_WITHOUT_NEWS = 400
"""Longer than Nova lets a test run."""


class Stalled(Exception):
    """Nothing came for SECONDS_WITHOUT_NEWS: a test hangs, and is an outcome that is in progress."""


class Outcomes(StreamToDict):  # type: ignore[misc]
    def status(self, *args: Any, **kwargs: Any) -> None:
        signal.alarm(SECONDS_WITHOUT_NEWS)
        super().status(*args, **kwargs)


def write(test: dict[str, Any]) -> None:
    if test["status"] == IDS_ONLY:
        return
    began, ended = test["timestamps"]
    outcome = {
        "test": test["id"],
        "status": test["status"],
        "seconds": (ended - began).total_seconds() if began and ended else None,
        "text": "\n".join(
            content.as_text()
            for name, content in test["details"].items()
            if "traceback" in name or name == "reason"
        ),
    }
    print(json.dumps(outcome), flush=True)


def main() -> None:
    signal.signal(signal.SIGALRM, stalled)
    result = Outcomes(write)
    result.startTestRun()
    with suppress(Stalled):
        subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(result)
    result.stopTestRun()


def stalled(*_: object) -> None:
    raise Stalled


if __name__ == "__main__":
    main()
