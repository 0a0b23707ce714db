# SPDX-License-Identifier: Apache-2.0
"""From stestr's subunit on stdin to lines of JSON on stdout, by the interpreter of Nova's environment."""

import json
import sys
from typing import Any

import subunit
from testtools import StreamToDict

IDS_ONLY = "exists"


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
    result = StreamToDict(write)
    result.startTestRun()
    subunit.ByteStreamToStreamResult(sys.stdin.buffer, non_subunit_name="stdout").run(result)
    result.stopTestRun()


if __name__ == "__main__":
    main()
