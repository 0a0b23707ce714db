# SPDX-License-Identifier: Apache-2.0
"""The samples for systemd, logrotate and containers do what they say."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.programs.test_daemon import ROOT, SECONDS, Daemon, a_daemon, environment, forked  # noqa: F401
from tests.servers.ports import Port

ADaemon = Callable[..., Daemon]
ETC = ROOT / "etc" / "tracker-worker"
UNIT = ETC / "tracker-worker@.service"
MOST_EXPOSURE = 20
"""Tenths, as `systemd-analyze security` rates a unit: 0 is safe, 100 is not."""


@pytest.fixture
def port() -> Iterator[int]:
    held = Port()
    yield held.number
    held.release()


def installed(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"not installed: {program}")
    return found


def run(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_unit_is_valid_and_confines_the_worker(tmp_path: Path) -> None:
    analyze = installed("systemd-analyze")
    unit = tmp_path / UNIT.name.replace("@", "@1")
    # It is verified that the program exists.
    unit.write_text(UNIT.read_text().replace("/usr/bin/tracker-worker", sys.executable))
    run(analyze, "verify", "--man=no", unit)
    run(analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", unit)


def test_worker_goes_on_in_its_log_after_logrotate(a_daemon: ADaemon, tmp_path: Path) -> None:  # noqa: F811
    logrotate = installed("logrotate")
    logs = tmp_path / "log"
    logs.mkdir(mode=0o750)
    sample = (ETC / "logrotate.conf").read_text().replace("/var/log/tracker-worker", str(logs))
    configuration = tmp_path / "logrotate.conf"
    configuration.write_text(re.sub(r"(?m)^ *su .*$", "", sample).replace("delaycompress", ""))
    configuration.chmod(0o600)
    daemon = a_daemon(f"state_path = {tmp_path}/state\nlog_file = {logs}/worker.log\n")
    daemon.wait_for(b"Started")
    run(logrotate, "--force", "--state", tmp_path / "state-of-logrotate", configuration)
    assert daemon.end(signal.SIGTERM) == 0
    (rotated,) = logs.glob("worker.log.1*")
    assert b"Started" in gzip.decompress(rotated.read_bytes())
    after = (logs / "worker.log").read_bytes()
    assert b"Stopped" in after and b"Started" not in after
    assert b"\0" not in after, "the worker writes at the end of the file"


def test_containers_health_check_asks_a_worker_that_its_variables_configure(
    a_daemon: ADaemon,  # noqa: F811
    tmp_path: Path,
    port: int,
) -> None:
    file = (ROOT / "Containerfile").read_text()
    (check,) = re.findall(r"(?m)^HEALTHCHECK .*\n +CMD (\[.*\])$", file)
    variables = {"OS_HEALTH__PORT": str(port), "OS_HEALTH__HOST": "0.0.0.0"}
    assert all(name in file for name in variables)
    command = [sys.executable, *json.loads(check)[1:]]
    told = os.environ | variables
    assert subprocess.run(command, env=told, capture_output=True, timeout=SECONDS).returncode == 1
    daemon = a_daemon(
        f"state_path = {tmp_path}/state\n",
        lambda environment, file, log: forked(environment | variables, file, log),  # noqa: F811
    )
    daemon.wait_for(b"Started")
    subprocess.run(command, env=told, check=True, timeout=SECONDS)
