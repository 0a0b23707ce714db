# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-watch as a process of its own, on a pseudo-terminal or with a pipe, and what it receives."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import tempfile
import termios
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import amqp
from kombu.connection import Connection

from tests.integration.daemon import Options, write_options
from tests.integration.rabbit import EXCHANGE, SECONDS, TOPIC, until
from tests.sent_notifications import Json, body_of
from tests.servers import forkserver
from tests.servers.forkserver import HEEDS_SIGINT
from tests.servers.reaper import Reaper

LINES, COLUMNS = 30, 120
OWNS_TERMINAL = "import fcntl, os, termios; os.setsid(); fcntl.ioctl(1, termios.TIOCSCTTY, 0); "
_SEQUENCES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[78=>])")
_HOME = "\x1b[H"
SHOWS_CURSOR = "\x1b[?25h"
LEAVES_SCREEN = "\x1b[?1049l"


def declare_exchange(connection: Connection, durable: bool = True) -> None:
    """Declare the exchange as a notifier with amqp_durable_queues does."""
    with connection.channel() as channel:
        channel.exchange_declare(EXCHANGE, "topic", durable=durable, auto_delete=False)


def publish(connection: Connection, messages: Iterable[Json], *, confirm: bool = True) -> None:
    """Publish notifications as the relay does; with `confirm` wait for each of the broker's confirms."""
    with connection.channel() as channel:
        send = channel.basic_publish_confirm if confirm else channel.basic_publish
        for message in messages:
            send(
                amqp.Message(body_of(message), content_type="application/json", delivery_mode=2),
                exchange=EXCHANGE,
                routing_key=f"{TOPIC}.{message['priority'].lower()}",
            )


class Watching:
    """A running watch; without `terminal` its standard output is a pipe. Use it as a context.

    At the end it is killed if it still runs, and must have kept the broker's password to itself.
    """

    def __init__(self, url: str, *arguments: object, terminal: bool = False, **groups: Json) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tracker-worker-"))
        self._reaper = Reaper(self.directory)
        options: Options = {
            "DEFAULT": {"transport_url": url, "state_path": self.directory / "state"},
            "oslo_messaging_rabbit": {"amqp_durable_queues": True, "rabbit_interval_max": 1},
            **groups,
        }
        file = write_options(self.directory / "watch.conf", options)
        self._errors = self.directory / "errors"
        self.output, theirs = pty.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
        with self._errors.open("wb") as errors:
            self.process = forkserver.start(
                "watch",
                "--config-file",
                file,
                *arguments,
                before=HEEDS_SIGINT + (OWNS_TERMINAL if terminal else ""),
                stdout=theirs,
                stderr=errors,
                environment=environment | {"TERM": "xterm-256color", "PYTHONPATH": str(forkserver.ROOT)},
            )
        os.close(theirs)
        self._reaper.watch("KILL", self.process.pid)
        self._read = b""

    @property
    def text(self) -> str:
        """All that it has written to standard output so far."""
        while select.select([self.output], [], [], 0)[0]:
            try:
                data = os.read(self.output, 1 << 16)
            except OSError:  # The other end of a terminal is closed.
                data = b""
            if not data:
                break
            self._read += data
        return self._read.decode(errors="replace")

    @property
    def screen(self) -> str:
        """The last picture on the terminal, without escape sequences."""
        return _SEQUENCES.sub("", self.text.rpartition(_HOME)[2])

    @property
    def lines(self) -> list[str]:
        """The complete lines of standard output."""
        return self.text.splitlines() if self.text.endswith("\n") else self.text.splitlines()[:-1]

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self._errors.read_text()

    def wait_for(self, holds: Callable[[], Any]) -> Any:
        """Wait until something holds while it runs, and return it."""

        def look() -> Any:
            ended = self.process.poll() is not None  # Before the look, which then sees all that it wrote.
            found = holds()
            assert found or not ended, f"it ended: {self.errors}\n{self.text[-2000:]}"
            return found

        try:
            return until(look)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.errors}\n{self.text[-3000:]}") from None

    def wait_for_screen(self, *texts: str) -> str:
        """Wait until the picture has all these texts; return the picture."""
        return str(self.wait_for(lambda: found if all(t in (found := self.screen) for t in texts) else ""))

    def press(self, key: bytes) -> None:
        """Press a key on the terminal."""
        os.write(self.output, key)

    def wait(self) -> int:
        """Read on until its end; return the exit code."""
        self.wait_for(lambda: self.text is not None and self.process.poll() is not None)
        return self.process.wait(SECONDS)

    def close_output(self) -> None:
        """Close the reading end of its standard output."""
        os.close(self.output)
        self.output = os.open(os.devnull, os.O_RDONLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        try:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(SECONDS)
            assert "rabbit-secret" not in self.errors + self._read.decode(errors="replace")
            assert "Traceback" not in self.errors, self.errors
        finally:
            os.close(self.output)
            self._reaper.forget()
            self._reaper.close()
