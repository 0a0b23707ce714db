# SPDX-License-Identifier: Apache-2.0
"""A Placement of the tests' own, in a virtual environment that is made once, without Keystone."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from tests.servers.server import Server

ROOT = Path(__file__).resolve().parents[2]
VERSION = "16.0.0"
ENVIRONMENT = ROOT / ".tox" / f"placement-{VERSION}"
PACKAGES = (f"openstack-placement=={VERSION}", "gunicorn>=23", "psycopg2-binary")
PIP_SECONDS = 240
"""A test may take five minutes, and the first one that wants the server installs it."""
EMPTY = ENVIRONMENT / "empty.sqlite"
"""A database with the schema, the standard resource classes and the traits: to make one takes a second."""
APPLICATION = "placement.wsgi.api:application"
MAKE_APPLICATION = f"import {APPLICATION.partition(':')[0]}"
CONFIGURATION = """\
[api]
auth_strategy = noauth2
[placement_database]
connection = {database}
sync_on_startup = true
"""
MICROVERSION = "placement 1.39"


class Placement(Server):
    """A server whose database is an SQLite file of its own, or the PostgreSQL database with the given URL.

    A request with the token ADMIN may do everything, one with another token nothing.
    """

    package = "openstack-placement"
    source = "PyPI"
    admin = "admin"

    def __init__(self, database: str | None = None) -> None:
        super().__init__()
        self.port = self._free_port()
        self.url = f"http://{self.host}:{self.port}"
        if database is None:
            database = f"sqlite:///{shutil.copy(EMPTY, self.directory / 'placement.sqlite')}"
        _configure(self.directory, database.replace("postgresql:", "postgresql+psycopg2:"))

    @classmethod
    def program(cls) -> Path | None:
        """The server that serves it, installed if it is not there: half a minute, once."""
        return ENVIRONMENT / "bin" / "gunicorn" if _is_installed() else None

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Make a request as it stands; return the answer's JSON, None if it has none. Raises HTTPError."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "X-Auth-Token": self.admin,
                "OpenStack-API-Version": MICROVERSION,
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    def allocate(self, provider: str, resources: Mapping[str, int]) -> str:
        """Allocate for a consumer that is new, as the scheduler does; return its uuid."""
        consumer = str(uuid.uuid4())
        body = {
            "allocations": {provider: {"resources": dict(resources)}},
            "consumer_generation": None,
            "consumer_type": "INSTANCE",
            "project_id": str(uuid.uuid4()),
            "user_id": str(uuid.uuid4()),
        }
        self.request("PUT", f"/allocations/{consumer}", body)
        return consumer

    def stop(self) -> None:
        self._signal_and_wait(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the master and its process that serves: that one would go on for a second."""
        assert self._process, f"{self.package} does not run"
        master = psutil.Process(self._process.pid)
        master.suspend()  # It starts no other.
        serving = master.children(recursive=True)
        self._signal_and_wait(signal.SIGKILL)
        for process in serving:
            process.kill()
        psutil.wait_procs(serving, timeout=30)

    def _launch(self) -> "subprocess.Popen[bytes]":
        program = self.program()
        assert program, "look for program() first"
        process = self._spawn(
            program,
            APPLICATION,
            f"--bind={self.host}:{self.port}",
            "--workers=1",
            "--worker-class=gthread",
            "--threads=4",
            "--keep-alive=60",
            "--no-control-socket",
            env=_variables(self.directory),
        )
        self._reaper.watch("QUIT", process.pid)
        return process

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5):
                return True
        except OSError:
            return False


@cache
def _is_installed() -> bool:
    """Tell whether the environment is there, after making it: one process does, the others wait."""
    ENVIRONMENT.parent.mkdir(exist_ok=True)
    with ENVIRONMENT.with_name(f"{ENVIRONMENT.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not EMPTY.exists():
            try:
                _install()
            except subprocess.SubprocessError as error:
                print(f"{ENVIRONMENT}: {error}", file=sys.stderr)
                return False
    return True


def _install() -> None:
    """Make the environment, and the empty database last: who sees that sees all."""
    python = ENVIRONMENT / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--retries=1", "-qq", "install"]
    subprocess.run([*pip, *PACKAGES], check=True, timeout=PIP_SECONDS)
    partial = EMPTY.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    _configure(ENVIRONMENT, f"sqlite:///{partial}")
    subprocess.run([python, "-c", MAKE_APPLICATION], env=_variables(ENVIRONMENT), check=True, timeout=60)
    partial.rename(EMPTY)


def _configure(directory: Path, database: str) -> None:
    file = directory / "placement.conf"
    file.write_text(CONFIGURATION.format(database=database))
    file.chmod(0o600)


def _variables(directory: Path) -> dict[str, str]:
    return {"OS_PLACEMENT_CONFIG_DIR": str(directory), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
