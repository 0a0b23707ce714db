# SPDX-License-Identifier: Apache-2.0
"""A program on a terminal of its own."""

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import forkserver

_STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """The output of a program, read while it runs."""

    def __init__(self, master: int, process: forkserver.Fork) -> None:
        self.master = master
        self.process = process
        self.raw = ""

    @property
    def text(self) -> str:
        """What was read so far, without styles."""
        return _STYLES.sub("", self.raw).replace("\r", "")

    def read_until(self, text: str, count: int = 1) -> str:
        """Read until a text was shown so many times; what was read so far, without styles."""
        while self.text.count(text) < count:
            assert self._read(), f"it ended without {text!r}:\n{self.text}"
        return self.text

    def read_all(self) -> str:
        """Read until the program ends."""
        while self._read():
            pass
        return self.text

    def _read(self) -> bool:
        try:
            data = os.read(self.master, 65536)
        except OSError:  # Linux says EIO when the last process has closed the terminal.
            return False
        self.raw += data.decode()
        return bool(data)


@contextmanager
def on_terminal(program: str, *arguments: str, before: str = "", columns: int = 80) -> Iterator[Terminal]:
    """Run a program of tracker_worker.cmd with its three streams on a terminal; end it with the block.

    `before` is Python that it runs first.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = forkserver.start(
        program,
        *arguments,
        before=before,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        environment=environment | {"TERM": "xterm"},
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)
