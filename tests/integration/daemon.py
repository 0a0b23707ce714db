# SPDX-License-Identifier: Apache-2.0
"""tracker-worker as a process of its own, with a configuration file, against real servers."""

import importlib.metadata
import os
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from kombu.connection import Connection

import tracker_worker
from tests.integration.rabbit import SECONDS, connected, until
from tests.servers import forkserver
from tests.servers.reaper import Reaper

PARTITIONS = 4
ROOT = Path(tracker_worker.__file__).parents[1]
SECRETS = ("rabbit-secret", "postgresql-secret", "mariadb-secret")
"""What the passwords of the tests' servers begin with."""

Options = dict[str, dict[str, Any]]


def write_options(file: Path, groups: Options) -> Path:
    """Write a configuration file of oslo.config."""
    lines = []
    for group, options in groups.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in options.items())]
    file.write_text("\n".join(lines) + "\n")
    return file


class Daemon:
    """A worker on a transport URL; without `database` on a SQLite file of its own.

    Use it as a context: what is left of it at the end is stopped, has to end with 0 and to have kept the
    servers' passwords out of its log. `groups` are options, by group, on top of those here; `before` is
    Python that it runs first; `environment` is added to that of this process.
    """

    def __init__(
        self,
        url: str,
        database: str | None = None,
        environment: Mapping[str, str] = {},
        *,
        before: str = "",
        **groups: dict[str, Any],
    ) -> None:
        self.url = url
        self._before = before
        self._more = dict(environment)
        self.directory = Path(tempfile.mkdtemp(prefix="tracker-worker-"))
        self._reaper = Reaper(self.directory)
        self._log = self.directory / "log"
        state = {"connection": database} if database else {}
        options: Options = {
            "DEFAULT": {"transport_url": url, "state_path": self.directory, "use_stderr": True},
            "database": state,
            "bus": {"partitions": PARTITIONS},
            "oslo_messaging_rabbit": {"amqp_durable_queues": True, "rabbit_interval_max": 1},
        }
        for group, more in groups.items():
            options[group] = options.get(group, {}) | more
        self.file = write_options(self.directory / "tracker-worker.conf", options)
        self.process = self._launch()

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def wait_until_it_consumes(self, url: str | None = None, exchange: str = "tracker") -> None:
        """Return once it takes commands; `url` where the broker is asked, by default its own."""
        with connected(url or self.url) as connection:
            # The last queue that a worker consumes.
            self.wait_for(lambda: consumers(connection, f"{exchange}.dead"), "consumes nothing")

    def wait_for(self, holds: Any, otherwise: str) -> None:
        """Wait until something holds while it runs."""

        def look() -> Any:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            return holds()

        try:
            until(look, otherwise)
        except AssertionError as error:
            raise AssertionError(f"{error}; its log:\n{self.log}") from None

    def wait_for_line(self, text: str, count: int = 1) -> list[str]:
        """Return the lines with a text once there are so many, whether it runs or has ended."""
        return until(
            lambda: found if len(found := [x for x in self.log.splitlines() if text in x]) >= count else [],
            f"{count} times {text!r}",
        )

    def stop(self) -> int:
        """Tell it to end; return its exit code. Nothing if it has ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(SECONDS)

    def suspend(self) -> None:
        """Stop its clock, as a machine without a processor to spare would."""
        psutil.Process(self.process.pid).suspend()

    def resume(self) -> None:
        """Let it go on."""
        psutil.Process(self.process.pid).resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self.process.poll() is None:
                assert self.stop() == 0, self.log
            for secret in SECRETS:
                assert secret not in self.log
            # oslo.db logs one of each error of the database, unless it is told not to.
            own = [line for line in self.log.splitlines() if "oslo_db.sqlalchemy.exc_filters" not in line]
            assert not any("Traceback" in line for line in own), self.log
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reaper.forget()
            self._reaper.close()

    def _launch(self) -> forkserver.Fork:
        with self._log.open("wb") as log:
            process = forkserver.start(
                "worker",
                "--config-file",
                self.file,
                before=self._before,
                stdout=log,
                stderr=log,
                environment=self._environment(),
            )
        self._reaper.watch("KILL", process.pid)
        return process

    def _environment(self) -> dict[str, str]:
        """It finds the package; where it is not installed, something that knows its version too."""
        path = [str(ROOT)]
        try:
            importlib.metadata.version("tracker-worker")
        except importlib.metadata.PackageNotFoundError:
            metadata = self.directory / "site" / "tracker_worker-0.dist-info" / "METADATA"
            metadata.parent.mkdir(parents=True)
            metadata.write_text("Metadata-Version: 2.1\nName: tracker-worker\nVersion: 0\n")
            path.append(str(self.directory / "site"))
        return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | self._more


def consumers(connection: Connection, queue: str) -> int:
    """How many consume a queue; none when it is not there."""
    try:
        with connection.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).consumer_count)
    except connection.channel_errors:
        return 0
