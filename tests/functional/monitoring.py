# SPDX-License-Identifier: Apache-2.0
"""What a monitoring system asks the port of a worker, and reads in its answers."""

import json
import urllib.error
import urllib.request
from typing import Any

from tests.servers.ports import LOOPBACK

SECONDS = 30


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """The status and the body of an answer."""
    request = urllib.request.Request(f"http://{LOOPBACK}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def checks(body: str) -> dict[str, Any]:
    """The checks in the body of /livez or /readyz, by name."""
    return {check["name"]: check for check in json.loads(body)["checks"]}
