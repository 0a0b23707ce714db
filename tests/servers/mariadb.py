# SPDX-License-Identifier: Apache-2.0
"""A MariaDB of the tests' own: a data directory that no service of the machine knows."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from tests.servers.server import Server

SBIN = Path("/usr/sbin")  # not in everybody's PATH
ACCOUNT = "mysql"  # mariadbd refuses root

# Each commit is flushed: what it promises is what the tests are about. The socket's name is relative to the
# data directory, for its path would have to be short.
SETTINGS = {
    "bind-address": "127.0.0.1",
    "socket": "socket",
    "skip-name-resolve": "ON",
    "innodb-flush-log-at-trx-commit": "1",
    "innodb-buffer-pool-size": "64M",
    "innodb-log-file-size": "32M",
    # Tables in files of their own would make a test's database four times as dear.
    "innodb-file-per-table": "OFF",
}
# What the documentation says that a worker needs; the operator may do everything.
RIGHTS = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX"


class MariaDB(Server):
    """A database server; `start` makes it listen. The user of the URLs has the rights of a worker's."""

    package = "mariadb-server"
    username = "tracker"
    operator = "operator"

    def __init__(self) -> None:
        super().__init__()
        self.password = f"mariadb-secret-{secrets.token_hex(8)}"
        self.port = self._free_port()
        self._data = self.directory / "data"
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self.directory, ACCOUNT, ACCOUNT)
            self._account = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}

    @classmethod
    def program(cls) -> Path | None:
        found = shutil.which("mariadbd", path=os.pathsep.join([os.environ.get("PATH", ""), str(SBIN)]))
        return Path(found) if found else None

    def url(self, database: str) -> str:
        """The `[database] connection` of a database."""
        return f"mysql://{self.username}:{self.password}@{self.host}:{self.port}/{database}"

    def operator_url(self, url: str) -> str:
        """The URL of the same database for somebody who may do everything."""
        return url.replace(f"//{self.username}:", f"//{self.operator}:")

    def new_database(self, template: str | None = None) -> str:
        """Make a database, with the tables and the revision of the one with the URL `template` if given.

        Return its URL. The template's other rows are not copied.
        """
        name = f"test_{secrets.token_hex(6)}"
        statements = [f"CREATE DATABASE {name}"]
        if template:
            source = template.rpartition("/")[2]
            for (table,) in self.execute(f"SHOW TABLES FROM {source}"):
                statements.append(f"CREATE TABLE {name}.{table} LIKE {source}.{table}")
            statements.append(f"INSERT INTO {name}.alembic_version SELECT * FROM {source}.alembic_version")
        self.execute("; ".join(statements))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database; connections to it are closed."""
        name = url.rpartition("/")[2]
        sessions = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
        for (session,) in self.execute(sessions):
            with contextlib.suppress(pymysql.OperationalError):  # It has just gone by itself.
                self.execute(f"KILL {session}")
        self.execute(f"DROP DATABASE {name}")

    def execute(self, sql: str) -> tuple[Any, ...]:
        """Execute statements as the operator, each in a transaction of its own; return the first's rows."""
        with pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.operator,
            password=self.password,
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
            ssl_disabled=True,  # Else PyMySQL reads all certificates of the machine first: 20 ms.
        ) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            rows: tuple[Any, ...] = cursor.fetchall()
            while cursor.nextset():
                pass
            return rows

    def stop(self) -> None:
        self._signal_and_wait(signal.SIGTERM)

    def kill(self) -> None:
        self._signal_and_wait(signal.SIGKILL)

    def _launch(self) -> "subprocess.Popen[bytes]":
        program = self.program()
        assert program, "look for program() first"
        if not self._data.exists():
            self._initialise()
        settings = SETTINGS | {
            "datadir": self._data,
            # A server that starts deletes the tables of others from a directory that they share.
            "tmpdir": self.directory,
            "port": self.port,
            "init-file": self.directory / "accounts",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        process = self._spawn(program, "--no-defaults", *options, **self._account)
        self._reaper.watch("KILL", process.pid)
        return process

    def _initialise(self) -> None:
        # Each line is executed at every start. No password, no way in: root has only the socket.
        accounts = self.directory / "accounts"
        accounts.write_text(
            f"CREATE USER IF NOT EXISTS {self.operator} IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO {self.operator} WITH GRANT OPTION;\n"
            f"CREATE USER IF NOT EXISTS {self.username} IDENTIFIED BY '{self.password}';\n"
            f"GRANT {RIGHTS} ON `test\\_%`.* TO {self.username};\n"
            f"GRANT TRIGGER ON `test\\_%`.* TO {self.username};\n"  # what tests do with their own engine
        )
        accounts.chmod(0o600)
        if self._account:
            shutil.chown(accounts, ACCOUNT)
        install = self._spawn(
            shutil.which("mariadb-install-db") or "mariadb-install-db",
            "--no-defaults",
            f"--datadir={self._data}",
            "--skip-test-db",
            "--innodb-log-file-size=32M",
            **self._account,
        )
        if install.wait(60):
            raise RuntimeError(self._failure())

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True
