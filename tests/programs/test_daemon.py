# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process of its own: it starts, says so, and drains on TERM."""

import importlib.metadata
import json
import os
import re
import selectors
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Protocol

import pytest
from oslo_config import cfg
from oslo_log import log

import tracker_worker
from tests.servers import forkserver
from tracker_worker.cmd.database import database_file
from tracker_worker.conf import opts
from tracker_worker.db import store
from tracker_worker.db.engine import create_engine

SECONDS = 30
ROOT = Path(tracker_worker.__file__).parents[1]
LOGGING_SAMPLE = ROOT / "etc" / "tracker-worker" / "logging.conf.sample"
PROGRAM = "import sys; from tracker_worker.cmd.worker import main; sys.exit(main())"


class Process(Protocol):
    """What a Daemon needs of a process."""

    def send_signal(self, number: int, /) -> None: ...
    def wait(self, timeout: float) -> int: ...
    def kill(self) -> None: ...


Start = Callable[[dict[str, str], str, int], Process]
"""Starts a worker with an environment and a configuration file; its standard error is a descriptor."""


def forked(environment: dict[str, str], file: str, stderr: int) -> Process:
    """Start a worker at once."""
    with open(os.devnull, "wb") as nothing:
        return forkserver.start(
            "worker", "--config-file", file, stdout=nothing, stderr=stderr, environment=environment
        )


def executed(environment: dict[str, str], file: str, stderr: int) -> Process:
    """Start a worker as an operator does."""
    command = [sys.executable, "-c", PROGRAM, "--config-file", file]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)


class Daemon:
    """A process whose log is read line by line."""

    def __init__(self, start: Callable[[int], Process]) -> None:
        self._log, written = os.pipe()
        try:
            self.process = start(written)
        finally:
            os.close(written)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._log, selectors.EVENT_READ)
        self.log = b""

    def wait_for(self, text: bytes) -> None:
        """Read until the text has come; fails when the process ends or the time is over."""
        deadline = time.monotonic() + SECONDS
        while text not in self.log:
            ready = self._selector.select(max(deadline - time.monotonic(), 0))
            assert ready, f"no {text!r} within {SECONDS} s:\n{self.log.decode()}"
            found = os.read(self._log, 65536)
            assert found, f"ended without {text!r}:\n{self.log.decode()}"
            self.log += found

    def end(self, number: int) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        while self._selector.select(SECONDS) and (rest := os.read(self._log, 65536)):
            self.log += rest
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        self._selector.close()
        os.close(self._log)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The process finds the package; where it is not installed, something that knows its version too."""
    path = [str(ROOT)]
    try:
        importlib.metadata.version("tracker-worker")
    except importlib.metadata.PackageNotFoundError:
        metadata = tmp_path / "site" / "tracker_worker-0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text("Metadata-Version: 2.1\nName: tracker-worker\nVersion: 0\n")
        path.append(str(tmp_path / "site"))
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


@pytest.fixture
def a_daemon(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons with a configuration file; each is gone at the end, whatever happened."""
    started: list[Daemon] = []

    def make(configuration: str, start: Start = forked) -> Daemon:
        file = tmp_path / "tracker-worker.conf"
        file.write_text(f"[DEFAULT]\nuse_stderr = true\n{configuration}")
        started.append(Daemon(lambda stderr: start(environment, str(file), stderr)))
        return started[-1]

    yield make
    for daemon in started:
        daemon.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_and_ends_with_0_when_it_is_told_to(
    a_daemon: Callable[..., Daemon], tmp_path: Path, number: signal.Signals
) -> None:
    options = f"state_path = {tmp_path}/state\n[bus]\npartitions = 2\n[worker]\npartitions = 1\n"
    daemon = a_daemon(options, executed)
    daemon.wait_for(b"Started, partitions: 2")
    daemon.wait_for(b"Partitions 1 are consumed at once")
    assert daemon.end(number) == 0, daemon.log.decode()
    assert b"Stopped" in daemon.log
    assert b"Traceback" not in daemon.log


def test_it_makes_its_database_and_finds_it_again(a_daemon: Callable[[str], Daemon], tmp_path: Path) -> None:
    for _ in range(2):
        daemon = a_daemon(f"state_path = {tmp_path}/deep/state\n")
        daemon.wait_for(b"Started")
        assert daemon.end(signal.SIGTERM) == 0
    engine = create_engine(f"sqlite:///{database_file(tmp_path / 'deep' / 'state')}")
    with engine.connect() as connection:
        assert store.names(connection) == []
    engine.dispose()


def test_database_is_for_its_user_alone_and_the_log_for_its_group_too(
    a_daemon: Callable[[str], Daemon], tmp_path: Path
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\nlog_file = {tmp_path}/worker.log\n")
    daemon.wait_for(b"Started")
    found = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "state", *(tmp_path / "state").iterdir(), tmp_path / "worker.log")
    }
    assert daemon.end(signal.SIGTERM) == 0
    assert (found.pop("state"), found.pop("worker.log")) == (0o750, 0o640)
    assert set(found.values()) == {0o600}, found


def test_a_state_path_that_cannot_be_used_is_named(a_daemon: Callable[[str], Daemon], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    daemon = a_daemon(f"state_path = {tmp_path}/file\n")
    daemon.wait_for(b"state_path")
    assert daemon.process.wait(SECONDS) == 1
    assert b"Traceback" not in daemon.log


def test_options_that_exclude_each_other_are_named(a_daemon: Callable[[str], Daemon], tmp_path: Path) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}\n[worker]\nlanes = 2\n")
    daemon.wait_for(b"[worker] lanes (2) must be 1 on SQLite")
    assert daemon.process.wait(SECONDS) == 1
    assert b"Traceback" not in daemon.log


def test_unknown_options_and_a_missing_transport_are_named_at_the_start_and_after_a_reload(
    a_daemon: Callable[[str], Daemon], tmp_path: Path
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\n[worker]\nbatch_sise = 3\n")
    daemon.wait_for(b"Started")
    assert b"option batch_sise of [worker] is unknown and has no effect" in daemon.log
    assert b"[DEFAULT] transport_url is not set" in daemon.log
    file = tmp_path / "tracker-worker.conf"
    file.write_text(file.read_text().replace("[DEFAULT]\n", "[DEFAULT]\ndebugx = true\n"))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(b"option debugx of [DEFAULT] is unknown and has no effect; did you mean debug?")
    assert daemon.end(signal.SIGTERM) == 0


def test_hup_names_what_needs_a_restart_and_what_the_restart_would_refuse(
    a_daemon: Callable[[str], Daemon], tmp_path: Path
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\n")
    daemon.wait_for(b"Started")
    file = tmp_path / "tracker-worker.conf"
    file.write_text(f"{file.read_text()}debug = true\n[worker]\nlanes = 2\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(b"will not start again with these files: [worker] lanes (2) must be 1 on SQLite")
    assert b"Options changed: debug" in daemon.log
    assert b" WARNING oslo_config.cfg [-] Ignoring change to immutable option worker.lanes" in daemon.log
    file.write_text(file.read_text().replace("lanes = 2", "batch_size = 2"))
    daemon.log = b""
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(b"immutable option worker.batch_size")
    assert daemon.end(signal.SIGTERM) == 0
    assert b"will not start again" not in daemon.log


def test_logging_sample_works_as_it_is_and_with_json_after_a_reload(
    a_daemon: Callable[[str], Daemon], tmp_path: Path
) -> None:
    file = tmp_path / "logging.conf"
    file.write_text(LOGGING_SAMPLE.read_text())
    daemon = a_daemon(f"state_path = {tmp_path}/state\nlog_config_append = {file}\n")
    daemon.wait_for(b"INFO tracker_worker.cmd.worker [-] Started")
    assert b" DEBUG " not in daemon.log and b"alembic" not in daemon.log
    assert re.match(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d+ [A-Z]+ ", daemon.log)
    file.write_text(file.read_text().replace("formatter = context", "formatter = json"))
    os.utime(file, (0, 0))  # oslo.log reads a file again whose time has changed.
    daemon.log = b""
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(b"Logging was read again")
    assert daemon.end(signal.SIGTERM) == 0
    records = [json.loads(line) for line in daemon.log.splitlines() if line.startswith(b"{")]
    messages = [record["message"] for record in records]
    assert {"Options changed: none", f"Logging was read again from {file}"} <= set(messages)
    assert {record["message"]: record["levelname"] for record in records}["Stopped"] == "INFO"


def test_reload_of_a_logging_file_with_an_unknown_level_names_the_file(
    a_daemon: Callable[[str], Daemon], tmp_path: Path
) -> None:
    """Found by a newcomer: the file has fifteen levels, and the error named none of its sections, nor it."""
    file = tmp_path / "logging.conf"
    file.write_text(LOGGING_SAMPLE.read_text())
    daemon = a_daemon(f"state_path = {tmp_path}/state\nlog_config_append = {file}\n")
    daemon.wait_for(b"Started")
    file.write_text(file.read_text().replace("level = INFO", "level = INFOO", 1))
    os.utime(file, (0, 0))  # oslo.log reads a file again whose time has changed.
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(f"[DEFAULT] log_config_append = {file}: Unknown level: 'INFOO'".encode())
    file.write_text(LOGGING_SAMPLE.read_text())
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(f"Logging was read again from {file}".encode())
    assert daemon.end(signal.SIGTERM) == 0
    assert b"stays as it was" in daemon.log


def test_reload_of_debug_under_log_config_append_says_that_it_is_overruled(
    a_daemon: Callable[[str], Daemon], tmp_path: Path
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\nlog_config_append = {LOGGING_SAMPLE}\n")
    daemon.wait_for(b"Started")
    file = tmp_path / "tracker-worker.conf"
    file.write_text(f"{file.read_text()}debug = true\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(
        f"[DEFAULT] debug: overruled by log_config_append; set levels in {LOGGING_SAMPLE}".encode()
    )
    assert b"Options changed: debug" in daemon.log
    assert daemon.end(signal.SIGTERM) == 0


def test_use_json_writes_one_document_a_line(a_daemon: Callable[[str], Daemon], tmp_path: Path) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\nuse_json = true\n")
    daemon.wait_for(b"Started")
    assert daemon.end(signal.SIGTERM) == 0
    messages = [json.loads(line)["message"] for line in daemon.log.splitlines()]
    assert messages[-1] == "Stopped"


def test_logging_sample_has_the_levels_of_a_worker_without_it() -> None:
    sample = ConfigParser(interpolation=None)
    sample.read(LOGGING_SAMPLE)
    sections = [sample[name] for name in sample.sections() if name.startswith("logger_")]
    levels = {section.get("qualname", "root"): section["level"] for section in sections}
    own = {"root": "INFO", "tracker_worker": "INFO", "oslo_config": "INFO"}
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    opts.set_defaults()
    conf([])
    assert levels == own | dict(pair.split("=") for pair in conf.default_log_levels)


def test_descending_range_of_partitions_ends_the_worker(
    a_daemon: Callable[[str], Daemon], tmp_path: Path
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}\n[worker]\npartitions = 7-0\n")
    daemon.wait_for(b"write 0-7")
    assert daemon.process.wait(SECONDS) == 1


BAD_LOGGING = "[loggers]\nkeys = root\n[handlers]\nkeys = none\n[formatters]\nkeys =\n"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("log_config_append = /nonexistent", b"/nonexistent"),
        ("log_config_append = {}/logging.conf", b"logging.conf"),
        ("debug = perhaps", b"perhaps"),
        ("  debug = true", b", line "),
    ],
    ids=[
        "missing logging file",
        "logging file that cannot be used",
        "wrong value",
        "file that cannot be parsed",
    ],
)
def test_hup_that_fails_is_one_line_and_changes_nothing(
    a_daemon: Callable[[str], Daemon], tmp_path: Path, more: str, reason: bytes
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\n")
    daemon.wait_for(b"Started")
    (tmp_path / "logging.conf").write_text(BAD_LOGGING)
    file = tmp_path / "tracker-worker.conf"
    right = file.read_text()
    debug = "" if "debug" in more else "debug = true\n"
    file.write_text(right.replace("[DEFAULT]\n", f"[DEFAULT]\n{debug}{more.format(tmp_path)}\n"))
    before = len(daemon.log)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(b"everything stays as it was")
    daemon.process.send_signal(signal.SIGUSR1)
    daemon.wait_for(b"SIGUSR1")
    (line,) = [line for line in daemon.log[before:].splitlines() if b" ERROR " in line]
    assert reason in line
    assert b" DEBUG " not in daemon.log[before:]
    file.write_text(right + "debug = true\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(b"Options changed: debug")
    assert daemon.end(signal.SIGTERM) == 0
    assert b"Stopped" in daemon.log and b"Traceback" not in daemon.log


def test_usr1_is_one_line_and_changes_nothing(a_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\n")
    daemon.wait_for(b"Started")
    daemon.process.send_signal(signal.SIGUSR1)
    daemon.wait_for(b"SIGUSR1 is ignored: USR2 writes a report")
    assert daemon.end(signal.SIGTERM) == 0


WAITING = "[database]\nmax_retries = -1\nretry_interval = 300\nconnection = {}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_that_waits_for_its_database_reacts_to_signals(
    a_daemon: Callable[..., Daemon], tmp_path: Path, number: signal.Signals
) -> None:
    daemon = a_daemon(WAITING.format("postgresql://tracker:x@127.0.0.1:1/tracker"))
    daemon.wait_for(b"cannot be used yet")
    file = tmp_path / "tracker-worker.conf"
    file.write_text(file.read_text().replace("[DEFAULT]\n", "[DEFAULT]\ndebug = true\n"))
    for each, answer in (
        (signal.SIGUSR1, b"SIGUSR1 is ignored"),
        (signal.SIGHUP, b"Options changed: debug"),
    ):
        daemon.process.send_signal(each)
        daemon.wait_for(answer)
    assert daemon.end(number) == 0
    assert b"Stopped before the database was reached" in daemon.log
    assert b"Traceback" not in daemon.log


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_worker_whose_database_does_not_answer_ends_while_it_connects(
    a_daemon: Callable[[str], Daemon], scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        port = server.getsockname()[1]
        daemon = a_daemon(
            WAITING.format(
                f"{scheme}://tracker:x@127.0.0.1:{port}/tracker?connect_timeout=300"
                + ("&read_timeout=300" if scheme == "mysql" else "")
            )
        )
        silent, _ = server.accept()
        with silent:
            assert daemon.end(signal.SIGTERM) == 0, daemon.log.decode()


def test_hup_applies_what_may_change_and_stops_nothing(
    a_daemon: Callable[[str], Daemon], tmp_path: Path
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\n")
    daemon.wait_for(b"Started")
    file = tmp_path / "tracker-worker.conf"
    right = file.read_text()
    for text, answer in ((right + "debug = true\n", b"Options changed: debug"), ("[", b"not read again")):
        file.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for(answer)
    assert daemon.end(signal.SIGTERM) == 0
