# SPDX-License-Identifier: Apache-2.0
"""What goes over a connection of HTTP, as far as one has to know it to see that a request was done. Pure."""

from tests.servers.sql_traffic import Commit, Traffic


class HTTPTraffic(Traffic):
    """A client that waits for each answer: a 2xx commits the method of its request."""

    def __init__(self) -> None:
        self._method = ""

    def asked(self, data: bytes) -> None:
        line = data.partition(b"\r\n")[0].split(b" ")
        if line[-1] == b"HTTP/1.1":
            self._method = line[0].decode()

    def answered(self, data: bytes) -> Commit | None:
        return Commit(frozenset([self._method])) if data.startswith(b"HTTP/1.1 2") else None
