# SPDX-License-Identifier: Apache-2.0
"""Runs the scenario in a process of Nova's environment, while what it needs is killed."""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nova.cluster.backends import PARTITIONS, Backends
from tests.nova.cluster.faults import Faults
from tests.nova.environment import ROOT, Environment
from tests.nova.trial import NOVAS
from tests.servers.reaper import Reaper
from tests.servers.server import wait_until

MOST_SECONDS = 3600
TAIL = 6000
NO_LIMIT = {"OS_TEST_TIMEOUT": "0"}
"""Nova's tests end after so many seconds."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How many servers, the seed of what is random, and the seconds that a claim waits for a worker.

    `variables` of the environment come last. `keep` is a directory that gets the logs.
    """

    servers: int
    seed: int
    timeout: int
    variables: dict[str, str]
    keep: Path | None = None


class Failed(Exception):
    """The run did not come to its end: what it says of it."""


class Nova:
    """The process with the cloud; `with` ends it. `directory` has its log and its results."""

    def __init__(self, environment: Environment, settings: Settings, backends: Backends) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="nova-cluster-"))
        self._reaper = Reaper(self.directory)
        self._results = self.directory / "results.jsonl"
        self._results.touch()
        self._repaired = self.directory / "repaired"
        self._output = self.directory / "output"
        order = self.directory / "order.json"
        order.write_text(json.dumps(self._order(settings, backends)))
        path = os.pathsep.join([str(ROOT), str(environment.source)])
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [environment.python, "-W", "ignore", "-m", "tests.nova.cluster.run", order],
                cwd=environment.source,
                env={**os.environ, **NOVAS, **NO_LIMIT, "PYTHONPATH": path, **settings.variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._reaper.watch("KILL", self._process.pid)
        self._keep = settings.keep

    def _order(self, settings: Settings, backends: Backends) -> Json:
        return {
            "transport_url": backends.broker.client_url,
            "exchange": backends.broker.exchange,
            "partitions": PARTITIONS,
            "timeout": settings.timeout,
            "servers": settings.servers,
            "seed": settings.seed,
            "results": str(self._results),
            "repaired": str(self._repaired),
            "log": str(self.directory / "log"),
        }

    def __enter__(self) -> "Nova":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._keep:
            shutil.copytree(self.directory, self._keep, dirs_exist_ok=True)
        self._reaper.forget()
        self._reaper.close()

    @property
    def lines(self) -> list[Json]:
        """What it has said so far."""
        return [json.loads(line) for line in self._results.read_text().splitlines()]

    def wait_for(self, event: str) -> None:
        """Return once it has said that; raise Failed if it ends before."""

        def said() -> bool:
            return any(line.get("event") == event for line in self.lines)

        wait_until(lambda: self._process.poll() is not None or said(), event, MOST_SECONDS)
        if not said():
            raise Failed(self._output.read_text(errors="replace")[-TAIL:])

    def say_repaired(self) -> None:
        """Have it compare: all servers run again."""
        self._repaired.touch()


def run(environment: Environment, settings: Settings, *, faults: bool) -> tuple[list[Json], Faults]:
    """Return what Nova's half has said, and the faults. Raises Failed."""
    with Backends() as backends:
        causing = Faults(backends.faults() if faults else [], settings.seed)
        with Nova(environment, settings, backends) as nova, causing:
            nova.wait_for("started")
            causing.start()
            nova.wait_for("ended")
            causing.stop()
            nova.say_repaired()
            nova.wait_for("agreement")
            return nova.lines, causing
