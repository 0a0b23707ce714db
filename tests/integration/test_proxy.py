# SPDX-License-Identifier: Apache-2.0
"""The proxy of the fault tests does what it says: a fault that did not happen would prove nothing."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.servers.postgresql import PostgreSQL
from tests.servers.proxy import CHUNK, MOST_WAITING, Proxy
from tests.servers.server import wait_until
from tests.servers.sql_traffic import Commit, MariaDBTraffic, PostgreSQLTraffic, Traffic

SECONDS = 10


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says what it is told."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            while data := peer.recv(CHUNK):
                peer.sendall(data)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class Caller:
    """A client of the echo."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SECONDS)

    def says(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hears(self, count: int, seconds: float = SECONDS) -> bytes:
        """So many bytes; fewer when the other side ends. Raises OSError when it does not come or is cut."""
        self.socket.settimeout(seconds)
        found = b""
        while len(found) < count and (data := self.socket.recv(count - len(found))):
            found += data
        return found

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def test_it_passes_on_as_much_as_there_is_and_both_ends(echo: int) -> None:
    sent = bytes(range(256)) * (3 * MOST_WAITING * CHUNK // 256)
    with Proxy(echo) as proxy, Caller(proxy.port) as one, Caller(proxy.port) as two:
        writer = threading.Thread(target=one.says, args=[sent])
        writer.start()
        two.says(b"not held up by one")
        assert two.hears(18) == b"not held up by one"
        assert one.hears(len(sent)) == sent
        writer.join(SECONDS)
        one.socket.shutdown(socket.SHUT_WR)
        assert one.hears(1) == b""
        wait_until(lambda: proxy.connections() == 1, "the end of a connection")


def test_what_is_sent_to_a_frozen_one_arrives_after_the_thaw(echo: int) -> None:
    with Proxy(echo) as proxy, Caller(proxy.port) as old:
        proxy.freeze()
        old.says(b"1")
        with Caller(proxy.port) as new:
            new.says(b"2")
            for caller in (old, new):
                with pytest.raises(TimeoutError):
                    caller.hears(1, 0.05)
            proxy.thaw()
            assert (old.hears(1), new.hears(1)) == (b"1", b"2")


def test_a_frozen_one_ends(echo: int) -> None:
    with Proxy(echo) as proxy, Caller(proxy.port):
        proxy.freeze()


def test_it_cuts_what_there_is_and_takes_what_comes(echo: int) -> None:
    with Proxy(echo) as proxy, Caller(proxy.port) as old:
        old.says(b"1")
        assert old.hears(1) == b"1"
        assert (proxy.cut(), proxy.connections()) == (1, 0)
        with pytest.raises(ConnectionResetError):
            old.hears(1)
        with Caller(proxy.port) as new:
            new.says(b"2")
            assert new.hears(1) == b"2"


def test_a_black_hole_acknowledges_nothing_and_new_connections_work(echo: int) -> None:
    with Proxy(echo) as proxy, Caller(proxy.port) as old:
        old.says(b"1")
        assert old.hears(1) == b"1"
        assert proxy.black_hole() == 1
        old.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 200)
        old.says(b"1")
        with pytest.raises(TimeoutError):
            old.hears(1)
        assert proxy.connections() == 1
        with Caller(proxy.port) as new:
            new.says(b"2")
            assert new.hears(1) == b"2"
        assert proxy.cut() >= 1


def test_a_server_that_is_away_is_no_end_of_the_proxy(echo: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Proxy(port) as proxy, pytest.raises(ConnectionError), Caller(proxy.port) as caller:
        caller.hears(1)


def test_answers_come_later_in_order_and_others_are_not_held_up(echo: int) -> None:
    with Proxy(echo) as proxy, Caller(proxy.port) as slow, Caller(proxy.port) as other:
        proxy.delay(2)
        slow.says(b"1")
        with pytest.raises(TimeoutError):
            slow.hears(1, 0.1)
        proxy.delay(0)
        slow.says(b"2")
        other.says(b"3")
        assert other.hears(1) == b"3"
        with pytest.raises(TimeoutError):
            slow.hears(1, 0.01)
        assert slow.hears(2) == b"12"


def connected(proxy: Proxy, url: str) -> psycopg.Connection:
    return psycopg.connect(proxy.through(url))


def test_a_connection_is_cut_when_only_the_server_knows_that_it_committed(
    postgresql: PostgreSQL, database_url: str
) -> None:
    with psycopg.connect(database_url) as look, Proxy(postgresql.port, PostgreSQLTraffic) as proxy:
        look.execute("CREATE TABLE rows (number int)")
        look.commit()
        proxy.cut_after_commit(lambda commit: commit.wrote("INSERT"))
        with connected(proxy, database_url) as client:
            for _ in range(10):  # until the driver prepares it
                client.execute("SELECT number FROM rows WHERE number = %s", [1])
            client.commit()
            client.execute("INSERT INTO rows VALUES (%s)", [0])
            client.rollback()
            client.execute("SELECT 1")
            client.commit()
            assert (proxy.commits, proxy.cuts) == (2, 0)
            client.execute("INSERT INTO rows VALUES (%s)", [1])
            with pytest.raises(psycopg.OperationalError):
                client.commit()
        assert proxy.cuts == 1
        assert look.execute("SELECT number FROM rows").fetchall() == [(1,)]
        with connected(proxy, database_url) as client:
            client.execute("INSERT INTO rows VALUES (2)")
        assert (proxy.commits, proxy.cuts) == (4, 1)


def test_a_slow_commit_leaves_the_rest_fast(postgresql: PostgreSQL, database_url: str) -> None:
    with Proxy(postgresql.port, PostgreSQLTraffic) as proxy, connected(proxy, database_url) as client:
        proxy.delay(3600, commits_only=True)
        client.execute("SELECT 1")
        proxy.delay(0.3, commits_only=True)
        client.commit()
        proxy.delay(3600, commits_only=True)
        client.execute("SELECT 1")
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(client.commit)
            wait_until(lambda: proxy.commits == 2, "the server's answer to the commit")
            with connected(proxy, database_url) as other:
                assert other.execute("SELECT 1").fetchone() == (1,)
                other.rollback()
            assert not late.done()
            proxy.cut()
            with pytest.raises(psycopg.OperationalError):
                late.result(SECONDS)


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


OK, ERROR = packet(1, b"\0\0\0\2\0\0\0"), packet(1, b"\xff\x15\x04#28000no")


def test_commits_are_seen_in_what_pymysql_says() -> None:
    seen = MariaDBTraffic()
    commits = []
    for question, answer in [
        (packet(1, b"\x85\xa6\xff\x01 the client's part of the handshake"), OK),
        (packet(0, b"\x03select 1"), OK),
        (packet(0, b"\x03 INSERT INTO rows VALUES (1)"), OK),
        (packet(0, b"\x03COMMIT"), ERROR),
        (packet(0, b"\x03DELETE FROM rows"), OK),
        (packet(0, b"\x03ROLLBACK"), OK),
        (packet(0, b"\x03UPDATE rows SET number = 2"), OK),
        (packet(0, b"\x03COMMIT"), OK),
    ]:
        seen.asked(question[:3])
        seen.asked(question[3:])
        commits.append(seen.answered(answer))
    assert commits == [None] * 7 + [Commit(frozenset({"UPDATE"}))]


def test_no_commit_is_seen_where_nobody_looks() -> None:
    assert Traffic().answered(OK) is None
