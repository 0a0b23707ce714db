# SPDX-License-Identifier: Apache-2.0
"""Outages of Placement: it is killed, and its port refuses, is silent, or answers 503."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.benchmarks.placement.figures import UP
from tests.servers.placement import Placement

BACKLOG = 128
"""Connections that the silent port accepts: more than a worker opens during an outage."""


class _Unavailable(BaseHTTPRequestHandler):
    """Answers every request with 503, as a load balancer does, and ends the connection: one that was kept
    would be answered so after the outage.
    """

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextlib.contextmanager
def unavailable(host: str, port: int) -> Iterator[None]:
    """A server there that answers 503."""
    with ThreadingHTTPServer((host, port), _Unavailable) as server:
        threading.Thread(target=server.serve_forever, name="unavailable", daemon=True).start()
        yield
        server.shutdown()


def hanging(host: str, port: int) -> AbstractContextManager[Any]:
    """A port there whose connections are accepted by the kernel, and answered by no program."""
    return socket.create_server((host, port), backlog=BACKLOG)


OUTAGES: dict[str, Callable[[str, int], AbstractContextManager[Any]]] = {
    "down": lambda _host, _port: contextlib.nullcontext(),
    "hanging": hanging,
    "unavailable": unavailable,
}


@contextlib.contextmanager
def outage(placement: Placement, phase: str) -> Iterator[None]:
    """Have Placement in the phase's state; at the end it answers again."""
    if phase == UP:
        yield
        return
    placement.kill()
    try:
        with OUTAGES[phase](placement.host, placement.port):
            yield
    finally:
        placement.start()
