# SPDX-License-Identifier: Apache-2.0
"""A bad network between a client and a server of this machine: a TCP proxy on loopback.

It stands still, cuts, loses packets without a word, is slow, or breaks a database's connection at the one
moment when only the server knows that a transaction is committed.
"""

import contextlib
import ctypes
import queue
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from tests.servers.ports import LOOPBACK
from tests.servers.sql_traffic import Commit, Traffic

T = TypeVar("T")

SECONDS = 10
CHUNK = 65536
MOST_WAITING = 16
"""Chunks that wait for a slow reader before no more is read for it."""
SO_ATTACH_FILTER = 26
DROP = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A program of the kernel's packet filter: let none of a packet's bytes through."""


class Proxy:
    """Passes bytes to a port of this machine, until it is told otherwise; `with` starts and ends it.

    With a database's `traffic` it knows the commits: `commits` counts those that it has seen, `cuts` the
    connections that it broke right after one.
    """

    def __init__(self, port: int, traffic: Callable[[], Traffic] = Traffic) -> None:
        self._target = port
        self._traffic = traffic
        self._listener = socket.create_server((LOOPBACK, 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._orders: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._waker, self._woken = socket.socketpair()
        self._connections: set[_Connection] = set()
        self._frozen = self._closing = False
        self._wanted: Callable[[Commit], bool] | None = None
        self._delay = self._commit_delay = 0.0
        self.commits = 0
        self.cuts = 0
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def through(self, url: str) -> str:
        """The URL of a server, with this proxy in between."""
        assert f":{self._target}" in url, "that is another server's URL"
        return url.replace(f":{self._target}", f":{self.port}")

    def connections(self) -> int:
        """How many connections there are, those in a black hole included."""
        return self._do(lambda: len(self._connections))

    def freeze(self) -> None:
        """Pass nothing on, and take no connection: what is sent meanwhile arrives after the thaw."""
        self._do(lambda: self._set_frozen(True))

    def thaw(self) -> None:
        """Go on."""
        self._do(lambda: self._set_frozen(False))

    def cut(self) -> int:
        """Reset all connections, those in a black hole too; return how many there were."""
        return self._do(self._cut_all)

    def cut_after_commit(self, wanted: Callable[[Commit], bool] = bool) -> None:
        """Reset the next connection whose server answers that such a transaction is committed.

        The answer is dropped: the transaction is certainly committed, and its client cannot know.
        """
        self._do(lambda: setattr(self, "_wanted", wanted))

    def black_hole(self) -> int:
        """Lose every packet of the connections there are, those of the kernel too: neither end hears of the
        other again, nobody closes anything. New connections work. Returns how many there are.
        """
        return self._do(lambda: sum(connection.lose_everything() for connection in self._connections))

    def delay(self, seconds: float, *, commits_only: bool = False) -> None:
        """Let each answer of the server, or each that tells of a commit, come so much later."""
        self._do(lambda: self._set_delay(0.0 if commits_only else seconds, seconds))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(lambda: setattr(self, "_closing", True))
        self._thread.join(SECONDS)
        for end in (self._listener, self._waker, self._woken):
            end.close()

    def _do(self, action: Callable[[], T]) -> T:
        """Have the proxy's thread do something, between one chunk of bytes and the next."""
        done: Future[T] = Future()
        self._orders.put((action, done))
        self._waker.send(b"!")
        return done.result(SECONDS)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._closing:
                self._turn(selector)
        self._cut_all()

    def _turn(self, selector: selectors.BaseSelector) -> None:
        ready = {} if self._frozen else self._watched()
        for end in selector.get_map().keys() - {self._woken.fileno()}:
            selector.unregister(end)
        for end, mask in ready.items():
            selector.register(end, mask)
        happened = {key.fileobj: mask for key, mask in selector.select(None if self._frozen else self._due())}
        if self._woken in happened:
            self._obey()
        elif not self._frozen:
            if self._listener in happened:
                self._accept()
            for connection in list(self._connections):
                self._serve(connection, happened)

    def _obey(self) -> None:
        self._woken.recv(1)
        action, done = self._orders.get()
        done.set_result(action())

    def _watched(self) -> dict[Any, int]:
        watched: dict[Any, int] = {self._listener: selectors.EVENT_READ}
        now = time.monotonic()
        for connection in self._connections:
            watched |= connection.watched(now)
        return watched

    def _due(self) -> float | None:
        """Seconds until something that was delayed may go on."""
        now = time.monotonic()
        later = [at - now for connection in self._connections for at in connection.times() if at > now]
        return min(later, default=None)

    def _accept(self) -> None:
        here, _ = self._listener.accept()
        try:
            there = socket.create_connection((LOOPBACK, self._target))
        except OSError:
            reset(here)
            return
        for end in (here, there):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(_Connection(here, there, self._traffic()))

    def _serve(self, connection: "_Connection", happened: Mapping[Any, int]) -> None:
        try:
            if happened.get(connection.client, 0) & selectors.EVENT_READ:
                connection.from_client()
            if happened.get(connection.server, 0) & selectors.EVENT_READ:
                data, commit = connection.from_server()
                if commit is not None and self._is_cut(commit):
                    self._cut_one(connection)
                    return
                wait = self._delay if commit is None else self._commit_delay
                connection.answer(data, time.monotonic() + wait)
            connection.write(time.monotonic())
        except OSError:
            self._cut_one(connection)

    def _is_cut(self, commit: Commit) -> bool:
        self.commits += 1
        if self._wanted is None or not self._wanted(commit):
            return False
        self._wanted = None
        self.cuts += 1
        return True

    def _set_frozen(self, frozen: bool) -> None:
        self._frozen = frozen

    def _set_delay(self, any_answer: float, commit: float) -> None:
        self._delay, self._commit_delay = any_answer, commit

    def _cut_all(self) -> int:
        cut = len(self._connections)
        for connection in list(self._connections):
            self._cut_one(connection)
        return cut

    def _cut_one(self, connection: "_Connection") -> None:
        self._connections.remove(connection)
        reset(connection.client)
        reset(connection.server)


class _Connection:
    """A client's socket and the one to its server, and what waits to be written to each: (from when, bytes).

    No bytes stand for the end of what the other side sends.
    """

    def __init__(self, client: socket.socket, server: socket.socket, traffic: Traffic) -> None:
        self.client = client
        self.server = server
        self._traffic = traffic
        self._to_client: deque[tuple[float, bytes]] = deque()
        self._to_server: deque[tuple[float, bytes]] = deque()
        self._ended: set[socket.socket] = set()
        self._lost = False

    def lose_everything(self) -> bool:
        """Drop whatever comes and send nothing more, not even an acknowledgement of TCP."""
        program = ctypes.create_string_buffer(DROP)
        for end in (self.client, self.server):
            end.setsockopt(
                socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HxxxxxxP", 1, ctypes.addressof(program))
            )
        self._lost = True
        return True

    def watched(self, now: float) -> dict[socket.socket, int]:
        """What to wait for: bytes to read where there is room for them, room where bytes are due."""
        watched: dict[socket.socket, int] = {}
        if self._lost:
            return watched
        for source, sink, waiting in self._directions():
            if source not in self._ended and len(waiting) < MOST_WAITING:
                watched[source] = watched.get(source, 0) | selectors.EVENT_READ
            if waiting and waiting[0][0] <= now:
                watched[sink] = watched.get(sink, 0) | selectors.EVENT_WRITE
        return watched

    def times(self) -> list[float]:
        """From when on the first bytes of each direction may be written."""
        return [] if self._lost else [waiting[0][0] for _, _, waiting in self._directions() if waiting]

    def from_client(self) -> None:
        """Read what the client says."""
        data = self._read(self.client)
        self._traffic.asked(data)
        self._to_server.append((0.0, data))

    def from_server(self) -> tuple[bytes, Commit | None]:
        """Read what the server says, and whether it tells of a commit."""
        data = self._read(self.server)
        return data, self._traffic.answered(data)

    def answer(self, data: bytes, at: float) -> None:
        """Write to the client, from a moment on; nothing overtakes what was to be written before."""
        self._to_client.append((max(at, self._to_client[-1][0] if self._to_client else 0.0), data))

    def write(self, now: float) -> None:
        """Write what is due, as far as it is taken. Raises OSError when the connection is over."""
        for _, sink, waiting in self._directions():
            with contextlib.suppress(BlockingIOError):
                while waiting and waiting[0][0] <= now:
                    at, data = waiting[0]
                    if not data:
                        sink.shutdown(socket.SHUT_WR)
                    sent = sink.send(data) if data else 0
                    waiting.popleft()
                    if sent < len(data):
                        waiting.appendleft((at, data[sent:]))
        if len(self._ended) == 2 and not (self._to_client or self._to_server):
            raise ConnectionError("both sides have ended")

    def _directions(self) -> tuple[tuple[socket.socket, socket.socket, deque[tuple[float, bytes]]], ...]:
        return (self.client, self.server, self._to_server), (self.server, self.client, self._to_client)

    def _read(self, end: socket.socket) -> bytes:
        data = end.recv(CHUNK)
        if not data:
            self._ended.add(end)
        return data


def reset(end: socket.socket) -> None:
    """Close a socket so that the other side is told at once, whatever it was about to do."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
