# SPDX-License-Identifier: Apache-2.0
"""A PgBouncer of the tests' own, in front of their PostgreSQL."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg
import sqlalchemy as sa

from tests.servers.postgresql import PostgreSQL
from tests.servers.server import Server

SBIN = Path("/usr/sbin")  # not in everybody's PATH
ACCOUNT = "postgres"  # pgbouncer refuses root

# Few sessions for many clients, in turn, so that each client gets another's all the time.
SETTINGS = {
    "listen_addr": "127.0.0.1",
    "unix_socket_dir": "",
    "auth_type": "scram-sha-256",
    "default_pool_size": "3",
    "server_round_robin": "1",
    "server_login_retry": "1",  # seconds until a server that was away is tried again, 15 by default
}


class PgBouncer(Server):
    """A pooler of a server's sessions; `start` makes it listen, whether the server runs or not."""

    package = "pgbouncer"

    def __init__(self, server: PostgreSQL, pool_mode: str = "transaction") -> None:
        super().__init__()
        self.port = self._free_port()
        self._server = server
        self._settings = SETTINGS | {"listen_port": str(self.port), "pool_mode": pool_mode}
        self._account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._account:
            shutil.chown(self.directory, ACCOUNT, ACCOUNT)

    @classmethod
    def program(cls) -> Path | None:
        found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), str(SBIN)]))
        return Path(found) if found else None

    def through(self, url: str) -> str:
        """The URL of the same database behind the pooler."""
        return sa.make_url(url).set(port=self.port).render_as_string(hide_password=False)

    def execute(self, command: str) -> list[tuple[object, ...]]:
        """Execute a command of the pooler's console; return the rows of a SHOW."""
        url = self.through(self._server.url("pgbouncer"))
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as console:
            cursor = console.execute(command)
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        self._signal_and_wait(signal.SIGTERM)

    def kill(self) -> None:
        self._signal_and_wait(signal.SIGKILL)

    def _launch(self) -> "subprocess.Popen[bytes]":
        program = self.program()
        assert program, "look for program() first"
        users = self._write("users", f'"{self._server.username}" "{self._server.password}"\n')
        settings = self._settings | {"auth_file": users, "admin_users": self._server.username}
        lines = [f"* = host={self._server.host} port={self._server.port}", "", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        file = self._write("pgbouncer.ini", "\n".join(["[databases]", *lines, ""]))
        process = self._spawn(program, file, **self._account)
        self._reaper.watch("KILL", process.pid)
        return process

    def _write(self, name: str, text: str) -> Path:
        file = self.directory / name
        file.write_text(text)
        file.chmod(0o600)
        if self._account:
            shutil.chown(file, ACCOUNT)
        return file

    def _answers(self) -> bool:
        try:
            self.execute("SHOW VERSION")
        except psycopg.OperationalError:
            return False
        return True
