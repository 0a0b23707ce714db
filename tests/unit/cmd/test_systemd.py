# SPDX-License-Identifier: Apache-2.0
"""What systemd is told, on a socket like its own."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracker_worker.cmd.systemd import Notifier

SECONDS = 20


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(SECONDS)
        yield listener


def test_states_are_sent_as_datagrams(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "30000000"})
    notifier.ready()
    notifier.reloading(12.5)
    notifier.alive()
    notifier.stopping()
    assert [systemd.recv(999) for _ in range(4)] == [
        b"READY=1",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")  # Linux chooses an abstract name.
        listener.settimeout(SECONDS)
        name = listener.getsockname().decode().replace("\0", "@", 1)
        Notifier({"NOTIFY_SOCKET": name}).ready()
        assert listener.recv(999) == b"READY=1"


def test_watchdog_is_not_notified_where_the_unit_has_none(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.alive()
    notifier.stopping()
    assert systemd.recv(999) == b"STOPPING=1"


def test_process_without_systemd_sends_nothing() -> None:
    Notifier({}).ready()


def test_systemd_that_is_gone_is_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nothing")}).ready()
    (line,) = caplog.messages
    assert line.startswith("systemd was not notified of READY=1: ")
