# SPDX-License-Identifier: Apache-2.0
"""What the servers have in common: a directory, ports, a log, a start that is waited for, a certain end."""

import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.servers.ports import LOOPBACK, Port
from tests.servers.reaper import Reaper


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Return when the condition holds; raise TimeoutError naming `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


class Server(ABC):
    """A server that has been installed as a package of its source; `with` closes it.

    `start`, `stop` and `kill` may be called again and again: ports, passwords and data stay until `close`.
    """

    package: str
    source = "Debian"
    host = LOOPBACK

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"{self.package}-"))
        self.log = self.directory / "log"
        self._ports: list[Port] = []
        self._reaper = Reaper(self.directory)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def program(cls) -> Path | None:
        """The server's executable; None where it is not installed."""

    @property
    def pid(self) -> int | None:
        """The server's process; None while it is down."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and wait until it answers; RuntimeError with the end of its log if it does not."""
        assert self._process is None, f"{self.package} runs already"
        process = self._process = self._launch()
        try:
            wait_until(lambda: process.poll() is not None or self._answers(), "an answer", 90)
        except TimeoutError as error:
            raise RuntimeError(self._failure()) from error
        if process.poll() is not None:
            self._gone()
            raise RuntimeError(self._failure())

    def start_again(self) -> None:
        """Start it if a test that failed has left it down: the tests after that one are not to fail, too."""
        if self._process is None:
            self.start()

    @abstractmethod
    def stop(self) -> None:
        """Stop the server as its service would be stopped, and wait for the end."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the server as a lack of memory would, and wait for the end."""

    def close(self) -> None:
        """End everything that was started and remove the data."""
        self._reaper.close()
        if self._process:
            self._process.wait(30)
            self._process = None
        for port in self._ports:
            port.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _launch(self) -> "subprocess.Popen[bytes]":
        """Start the process, and tell the reaper of it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether clients are served."""

    def _free_port(self) -> int:
        self._ports.append(Port())
        return self._ports[-1].number

    def _spawn(self, *arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process in a session of its own: a ctrl-C is for pytest, which then stops the servers."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
                **options,
            )

    def _signal_and_wait(self, signal: int) -> None:
        """Send a signal to the server and wait for its end."""
        assert self._process, f"{self.package} does not run"
        self._process.send_signal(signal)
        self._process.wait(60)
        self._gone()

    def _gone(self) -> None:
        self._process = None
        self._reaper.forget()

    def _failure(self) -> str:
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])
        return f"{self.package} does not start; its log ends with:\n{tail}"
