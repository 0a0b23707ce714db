# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server that slow or hostile clients cannot hold up: its connections are few and short.

wsgiref from the standard library answers in a thread for each connection. A connection that is older than
REQUEST_SECONDS is closed, whatever its client does, and the oldest one when there are too many.
"""

import logging
import socket
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

LOG = logging.getLogger(__name__)

REQUEST_SECONDS = 5.0
MOST_CONNECTIONS = 16
POLL_SECONDS = 0.5
"""Interval at which overdue connections are closed, and a stop is noticed."""


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        LOG.debug(f"%s: {format}", self.address_string(), *args)

    def address_string(self) -> str:
        return str(self.client_address[0])


class HttpServer(ThreadingMixIn, WSGIServer):
    """Serves a WSGI application; `serve` is the body of its thread, which `stop` ends.

    Listens once it is made. Raises OSError if it cannot. `monotonic` is a clock in seconds that is never set
    back.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, app: Callable[..., Any], monotonic: Callable[[], float]) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self._monotonic = monotonic
        self._began: dict[socket.socket, float] = {}
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind without a reverse look-up of the host's name, which may wait for DNS."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def serve(self) -> None:
        """Answer requests until `stop`."""
        self.serve_forever(POLL_SECONDS)
        self.server_close()

    def stop(self) -> None:
        """End `serve`, which must be running. Any other thread."""
        self.shutdown()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own."""
        # A list, because the connections' threads remove theirs meanwhile.
        for oldest in list(self._began)[: -(MOST_CONNECTIONS - 1)]:
            self._began.pop(oldest, None)
            _hang_up(oldest)
        self._began[request] = self._monotonic()
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close the connections that are overdue: reads and writes in their threads end."""
        now = self._monotonic()
        for request, began in list(self._began.items()):
            if now - began > REQUEST_SECONDS:
                _hang_up(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, in its thread."""
        self._began.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the error of a request: the client has usually gone."""
        LOG.debug("A request of %s has failed", client_address[0], exc_info=True)


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # Its thread is closing it.
