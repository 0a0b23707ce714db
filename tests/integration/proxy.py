# SPDX-License-Identifier: Apache-2.0
"""A network that stands still: a TCP proxy on loopback that stops passing anything on, and says nothing."""

import selectors
import socket
import threading
from typing import Self


class Frozen:
    """Passes bytes to a port of this machine until it is told to freeze; `with` ends it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._moving = threading.Event()
        self._moving.set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def freeze(self) -> None:
        """Pass nothing on, and take no connection."""
        self._moving.clear()

    def thaw(self) -> None:
        """Go on."""
        self._moving.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._moving.set()
        self._thread.join(10)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            for key, _ in self._selector.select(0.1):
                self._moving.wait()
                if key.data is None:
                    self._accept()
                else:
                    self._pass_on(key.fileobj, key.data)

    def _accept(self) -> None:
        here, _ = self._listener.accept()
        there = socket.create_connection(("127.0.0.1", self._target))
        self._selector.register(here, selectors.EVENT_READ, there)
        self._selector.register(there, selectors.EVENT_READ, here)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            data = source.recv(65536)
            sink.sendall(data)
        except OSError:
            data = b""
        if not data:
            for end in (source, sink):
                if end.fileno() >= 0:
                    self._selector.unregister(end)
                    end.close()
