# SPDX-License-Identifier: Apache-2.0
"""The requests that pass a proxy in front of Placement. Pure."""

import re
from collections import Counter

from tests.servers.sql_traffic import Commit, Traffic

_PROVIDER = re.compile(r"^/resource_providers(?=[/?]|$)|[/=][0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CUSTOM = re.compile(r"CUSTOM_\w+")


def kind_of(method: str, target: str, status: str) -> str:
    """The method, and what follows the provider in the path: `PUT traits`, `GET in_tree`, `POST`.

    The status is part of it unless it is that of a success.
    """
    path = _CUSTOM.sub("{name}", _PROVIDER.sub("", target)).lstrip("/?")
    return f"{method} {path}".rstrip() + ("" if status.startswith("2") else f" ({status})")


class RequestLog:
    """The answered requests by their kind. One thread adds to it, others read."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def connection(self) -> Traffic:
        """Return what follows one connection: the factory that a Proxy takes."""
        return _Connection(self._found)

    def position(self) -> int:
        """The number of requests so far."""
        return len(self._found)

    def since(self, position: int) -> dict[str, int]:
        """The requests after the first `position` ones, the most frequent first."""
        return dict(Counter(self._found[position:]).most_common())


class _Connection(Traffic):
    """A client that waits for each answer."""

    def __init__(self, found: list[str]) -> None:
        self._found = found
        self._asked = ("", "")

    def asked(self, data: bytes) -> None:
        line = data.partition(b"\r\n")[0].decode(errors="replace").split(" ")
        if len(line) == 3 and line[2] == "HTTP/1.1":
            self._asked = line[0], line[1]

    def answered(self, data: bytes) -> Commit | None:
        if data.startswith(b"HTTP/1.1 "):
            self._found.append(kind_of(*self._asked, data[9:12].decode()))
        return None
