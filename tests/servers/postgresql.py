# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of the tests' own: a cluster that no registry of the machine knows."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from tests.servers.server import Server

DEBIAN = Path("/usr/lib/postgresql")  # <version>/bin, which is not in PATH
ACCOUNT = "postgres"  # initdb and postgres refuse root

# fsync stays on: what a commit promises is what the tests are about. No Unix socket: its path would have to
# be short.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",
}


# What a worker wants of every session behind a pooler, where it cannot set up its own.
LIMITS = {
    "idle_in_transaction_session_timeout": "10s",
    "lock_timeout": "15s",
    "statement_timeout": "30s",
}


class PostgreSQL(Server):
    """A database server; `start` makes it listen. The user of the URLs is its superuser."""

    package = "postgresql"
    username = "tracker"

    def __init__(self) -> None:
        super().__init__()
        self.password = f"postgresql-secret-{secrets.token_hex(8)}"
        self.port = self._free_port()
        self._data = self.directory / "data"
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self.directory, ACCOUNT, ACCOUNT)
            self._account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}

    @classmethod
    def program(cls) -> Path | None:
        newest = max(DEBIAN.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]), default=None)
        found = shutil.which("postgres")
        return newest or (Path(found) if found else None)

    def url(self, database: str) -> str:
        """The `[database] connection` of a database."""
        return f"postgresql://{self.username}:{self.password}@{self.host}:{self.port}/{database}"

    def new_database(self, template: str | None = None) -> str:
        """Make a database, a copy of the one with the URL `template` if given, and return its URL.

        Nobody may be connected to the template.
        """
        name = f"test_{secrets.token_hex(6)}"
        source = template.rpartition("/")[2] if template else "template1"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, source)
        return self.url(name)

    def limit_sessions(self, url: str) -> None:
        """Have the sessions of a database begin with LIMITS."""
        for name, value in LIMITS.items():
            self._execute("ALTER DATABASE {} SET {} = {}", url.rpartition("/")[2], name, value)

    def drop_database(self, url: str) -> None:
        """Drop a database; connections to it are closed."""
        self._execute("DROP DATABASE {} WITH (FORCE)", url.rpartition("/")[2])

    def stop(self) -> None:
        """Stop without a checkpoint: the next start recovers from the log, as after a loss of power."""
        self._signal_and_wait(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill the postmaster and its backends: any that lived on would keep the next one from starting."""
        assert self._process, f"{self.package} does not run"
        postmaster = psutil.Process(self._process.pid)
        postmaster.suspend()  # it starts no more
        backends = postmaster.children(recursive=True)
        self._signal_and_wait(signal.SIGKILL)
        for backend in backends:
            with contextlib.suppress(psutil.NoSuchProcess):
                backend.kill()
        psutil.wait_procs(backends, timeout=30)

    def _launch(self) -> "subprocess.Popen[bytes]":
        program = self.program()
        assert program, "look for program() first"
        if not self._data.exists():
            self._initialise(program)
        settings = SETTINGS | {"port": str(self.port)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        process = self._spawn(program, "-D", self._data, *options, **self._account)
        self._reaper.watch("QUIT", process.pid)
        return process

    def _initialise(self, program: Path) -> None:
        password = self.directory / "password"
        password.write_text(self.password)
        if self._account:
            shutil.chown(password, ACCOUNT)
        initdb = self._spawn(
            program.with_name("initdb"),
            f"--pgdata={self._data}",
            f"--username={self.username}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",  # an empty cluster need not survive a crash of the machine
            **self._account,
        )
        if initdb.wait(60):
            raise RuntimeError(self._failure())

    def _answers(self) -> bool:
        try:
            self._execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
