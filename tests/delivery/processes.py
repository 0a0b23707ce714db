# SPDX-License-Identifier: Apache-2.0
"""The processes of a trial: servers that are killed and started again, clients that cast or call.

All run this interpreter in the project's root with a directory of the trial's own, and end with the trial.
"""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from tests.servers.reaper import Reaper

ROOT = Path(__file__).resolve().parents[2]
WORKER = "import sys; from tracker_worker.cmd.worker import main; sys.exit(main())"
SECONDS = 60

Options = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Broker:
    """The destination of commands: a transport URL, an exchange and the kind of its queues."""

    url: str
    exchange: str = "tracker"
    quorum: bool = False

    @property
    def queues(self) -> str:
        """The option of [oslo_messaging_rabbit] that all its clients must share."""
        return "rabbit_quorum_queue" if self.quorum else "amqp_durable_queues"

    @property
    def client_url(self) -> str:
        """The URL of a client that takes its options from there."""
        return f"{self.url}?{self.queues}=true"


class Processes:
    """Starts processes; leaving the `with` block ends all of them."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="delivery-"))
        self._reaper = Reaper(self.directory)
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self._running):
            self.kill(process)
        self._reaper.close()

    def start(self, order: object, *arguments: str, log: str) -> "subprocess.Popen[bytes]":
        """Start Python with these arguments and give it a line of JSON; it logs to the file `log`."""
        with (self.directory / log).open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
        self._running.append(process)
        self._watch()
        self.tell(process, order)
        return process

    def start_consumer(self, order: object, module: str, log: str) -> "subprocess.Popen[bytes]":
        """Start a module with a line of JSON; return once it has written `consuming`."""
        process = self.start(order, "-m", module, log=log)
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready = selector.select(SECONDS)
        line = process.stdout.readline() if ready else b""
        assert line == b"consuming\n", self.tail(log)
        return process

    def tell(self, process: "subprocess.Popen[bytes]", order: object) -> None:
        """Send it another line of JSON."""
        assert process.stdin
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        """SIGKILL it, if it still runs, and wait for its end."""
        process.kill()
        self._forget(process)

    def stop(self, process: "subprocess.Popen[bytes]", log: str) -> None:
        """SIGTERM it; it must end by itself and return 0."""
        process.terminate()
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended in {SECONDS} s:\n{self.tail(log)}") from None
        assert code == 0, f"it ended with {code}:\n{self.tail(log)}"
        self._forget(process)

    def _forget(self, process: "subprocess.Popen[bytes]") -> None:
        process.wait(SECONDS)
        for pipe in (process.stdin, process.stdout):
            assert pipe
            pipe.close()
        self._running.remove(process)
        self._watch()

    def result(self, process: "subprocess.Popen[bytes]", log: str, seconds: float = SECONDS) -> Any:
        """The line of JSON that a client writes when its input ends."""
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not done in {seconds:.0f} s:\n{self.tail(log)}") from None
        assert process.returncode == 0, self.tail(log)
        return json.loads(output)

    def tail(self, log: str) -> str:
        """The end of a log."""
        return (self.directory / log).read_text(errors="replace")[-4000:]

    def _watch(self) -> None:
        if self._running:
            self._reaper.watch("KILL", *(process.pid for process in self._running))
        else:
            self._reaper.forget()


class TrackerWorker:
    """tracker-worker as its operators run it, on one database. `options`, by group, win over those here."""

    name = "tracker-worker"

    def __init__(
        self,
        processes: Processes,
        broker: Broker,
        database: str,
        options: Options | None = None,
        name: str = name,
    ) -> None:
        self._processes = processes
        self.log = f"{name}.log"
        self._file = processes.directory / f"{name}.conf"
        groups: Options = {
            "DEFAULT": {"transport_url": broker.url, "use_stderr": True},
            "bus": {"exchange": broker.exchange},
            "oslo_messaging_rabbit": {broker.queues: True},
            "database": {"connection": database},
        }
        for group, more in (options or {}).items():
            groups[group] = groups.get(group, {}) | more
        lines = []
        for group, given in groups.items():
            lines += [f"[{group}]", *(f"{option} = {value}" for option, value in given.items())]
        self._file.write_text("\n".join(lines) + "\n")

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it and return once it consumes."""
        log = self._processes.directory / self.log
        log.touch()
        with log.open("rb") as written:
            written.seek(0, os.SEEK_END)
            process = self._processes.start(
                None, "-c", WORKER, "--config-file", str(self._file), log=self.log
            )
            self._wait_for(b"Consuming from", written, process)
        return process

    def _wait_for(self, text: bytes, log: IO[bytes], process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + SECONDS
        found = b""
        while text not in found:
            assert process.poll() is None, f"it ended:\n{self._processes.tail(self.log)}"
            assert time.monotonic() < deadline, f"no {text!r}:\n{self._processes.tail(self.log)}"
            time.sleep(0.01)
            found += log.read()


class StockServer:
    """An RPC server as oslo.messaging makes it, with so many threads (64 is its default)."""

    log = "stock.log"
    server = "stock"

    def __init__(self, processes: Processes, broker: Broker, database: str, threads: int) -> None:
        self._processes = processes
        self.name = f"oslo.messaging, {threads} thread{'s' * (threads > 1)}"
        self._order = {
            "url": broker.client_url,
            "exchange": broker.exchange,
            "server": self.server,
            "database": database,
            "threads": threads,
        }

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it and return once it consumes."""
        return self._processes.start_consumer(self._order, "tests.delivery.stock_server", self.log)
