# SPDX-License-Identifier: Apache-2.0
"""What goes over a database's connection, as far as one has to know it to see a commit. Pure.

PostgreSQL's answers name what was done, whether the statement was sent or only named (drivers prepare what
they send often); those of MariaDB do not, but PyMySQL sends each statement as it is.
"""

from typing import NamedTuple


class Commit(NamedTuple):
    """A committed transaction: the first words of its statements."""

    verbs: frozenset[str]

    def wrote(self, verb: str) -> bool:
        """Whether it has such a statement."""
        return verb in self.verbs


class Traffic:
    """What one connection has said so far; this one is of no database. Belongs to one thread."""

    def asked(self, data: bytes) -> None:
        """Take in what the client sent."""

    def answered(self, data: bytes) -> Commit | None:
        """Take in what the server sent; tell when that is the answer to a successful COMMIT."""
        return None


class PostgreSQLTraffic(Traffic):
    """The frontend/backend protocol, version 3: after the start, a byte for the type, then the length."""

    def __init__(self) -> None:
        self._unread = b""
        self._started = False
        self._verbs: set[str] = set()

    def answered(self, data: bytes) -> Commit | None:
        self._unread += data
        if not self._started:
            # One letter alone refuses encryption: the client goes on without.
            self._unread = self._unread.removeprefix(b"N")
            self._started = bool(self._unread)
        commit = None
        while len(self._unread) >= 5:
            end = 1 + int.from_bytes(self._unread[1:5])
            if len(self._unread) < end:
                break
            kind, body, self._unread = self._unread[:1], self._unread[5:end], self._unread[end:]
            if kind == b"Z" and body == b"I":  # out of any transaction
                self._verbs.clear()
            elif kind == b"C":
                commit = self._done(body.rstrip(b"\0").decode()) or commit
        return commit

    def _done(self, tag: str) -> Commit | None:
        verb = tag.split(" ")[0]
        if verb not in ("BEGIN", "COMMIT", "ROLLBACK"):
            self._verbs.add(verb)
            return None
        verbs, self._verbs = frozenset(self._verbs), set()
        return Commit(verbs) if verb == "COMMIT" else None


class MariaDBTraffic(Traffic):
    """The client/server protocol: three bytes for the length, one for the number, then the packet."""

    _QUERY = 0x03
    _OK = 0x00

    def __init__(self) -> None:
        self._unread = b""
        self._verbs: set[str] = set()
        self._committing = False

    def asked(self, data: bytes) -> None:
        self._unread += data
        while len(self._unread) >= 5:
            end = 4 + int.from_bytes(self._unread[:3], "little")
            if len(self._unread) < end:
                break
            number, body, self._unread = self._unread[3], self._unread[4:end], self._unread[end:]
            if number == 0 and body[:1] == bytes([self._QUERY]):
                self._execute(body[1:].split(None, 1)[0].decode(errors="replace").upper())

    def answered(self, data: bytes) -> Commit | None:
        if not self._committing or len(data) < 5:
            return None
        self._committing = False
        verbs, self._verbs = frozenset(self._verbs), set()
        return Commit(verbs) if data[4] == self._OK else None

    def _execute(self, verb: str) -> None:
        if verb == "ROLLBACK":
            self._verbs.clear()
        elif verb == "COMMIT":
            self._committing = True
        else:
            self._verbs.add(verb)
