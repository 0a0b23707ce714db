# SPDX-License-Identifier: Apache-2.0
"""A probe is answered whatever other clients do."""

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tracker_worker.worker import http
from tracker_worker.worker.http import HttpServer

SECONDS = 20


def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(http, "POLL_SECONDS", 0.01)
    server = HttpServer("127.0.0.1", 0, app, time.monotonic)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server.server_port
    server.stop()
    thread.join(SECONDS)
    assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), SECONDS)


def answer(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=SECONDS) as response:
        body: bytes = response.read()
        return body


def test_request_is_answered(port: int) -> None:
    assert answer(port) == b"fine"


def test_client_that_sends_byte_by_byte_is_hung_up_on(port: int) -> None:
    """A timeout of each read would not end it."""
    with connect(port) as slow:
        slow.setblocking(False)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                slow.send(b"G")
                if slow.recv(1) == b"":
                    return
            except BlockingIOError:
                threading.Event().wait(0.01)
            except ConnectionError:
                return
    raise AssertionError("the connection is still open")


def test_probe_is_answered_while_more_silent_clients_than_allowed_are_connected(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_SECONDS", float(SECONDS))
    clients = [connect(port) for _ in range(http.MOST_CONNECTIONS + 4)]
    try:
        assert answer(port) == b"fine"
        ended = [client for client in clients if is_closed(client)]
        assert ended == clients[: len(ended)]
        assert len(ended) >= 4
    finally:
        for client in clients:
            client.close()


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def test_port_that_is_taken_is_an_error(port: int) -> None:
    with pytest.raises(OSError):
        HttpServer("127.0.0.1", port, app, time.monotonic)


def test_server_listens_on_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    server = HttpServer("::1", 0, app, time.monotonic)
    assert server.socket.family is socket.AF_INET6
    server.server_close()
