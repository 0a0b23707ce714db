# SPDX-License-Identifier: Apache-2.0
"""Runs the programs of tests/integration/clients: oslo.messaging's own clients, in other processes."""

import json
import os
import queue
import threading
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.daemon import PARTITIONS, write_options
from tests.integration.rabbit import SECONDS
from tests.servers import forkserver

CLIENTS = Path(__file__).with_name("clients")
EXMODS = ("tracker_worker.exceptions", "oslo_messaging.rpc.dispatcher")
DURABLE = {"amqp_durable_queues": True}

Json = dict[str, Any]


def server_of(node: str) -> str:
    """The server that a node's commands are sent to."""
    return f"p{zlib.crc32(node.encode()) % PARTITIONS}"


def raised(answer: Json) -> tuple[str, str]:
    """The exception that a caller would have to catch, and its text."""
    assert "error" in answer, answer
    return answer["kinds"][1], answer["error"]


class Program:
    """A client program on a transport URL; its lines of output are read as they come. Use it as a context.

    `rabbit` are options of [oslo_messaging_rabbit]. Its log is `log` in the directory.
    """

    def __init__(
        self, name: str, directory: Path, url: str, *arguments: str, rabbit: Json | None = None
    ) -> None:
        groups: dict[str, Json] = {
            "DEFAULT": {"transport_url": url},
            "oslo_messaging_rabbit": DURABLE | (rabbit or {}),
        }
        self._name = f"{name}-{zlib.crc32(repr((url, rabbit, arguments)).encode()):08x}"
        file = write_options(directory / f"{self._name}.conf", groups)
        self._log = directory / f"{self._name}.log"
        self.lines: list[str] = []
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        asked, ask = os.pipe()
        said, say = os.pipe()
        with open(asked) as stdin, open(say, "w") as stdout, self._log.open("wb") as log:
            self.process = forkserver.start_client(
                CLIENTS / f"{name}.py", file, *arguments, stdin=stdin, stdout=stdout, stderr=log
            )
        self._input, self._output = os.fdopen(ask, "w"), os.fdopen(said)
        self._reader = threading.Thread(target=self._read, name=self._name, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        """What it wrote to its standard error."""
        return self._log.read_text(errors="replace")

    def ask(self, line: str) -> str:
        """Send a line and return the next one."""
        self.tell(line)
        return self.answer()

    def tell(self, line: str) -> None:
        """Send a line."""
        self._input.write(f"{line}\n")
        self._input.flush()

    def answer(self, seconds: float = SECONDS) -> str:
        """Return the next line of its output."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"{self._name} said nothing in {seconds} s:\n{self.log}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._input.close()
            if kind is None:
                assert self.process.wait(SECONDS) == 0, self.log
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join()
            self._output.close()

    def _read(self) -> None:
        for line in self._output:
            self.lines.append(line)
            self._answers.put(line.strip())


class RPC(Program):
    """A client that does what it is told."""

    def __init__(self, directory: Path, url: str, rabbit: Json | None = None) -> None:
        super().__init__("rpc", directory, url, rabbit=rabbit)

    def send(self, method: str, node: str, /, exmods: tuple[str, ...] = EXMODS, **request: Any) -> Json:
        """Send a command; return {"result"} or {"error", "kinds"}.

        `args` of the command; how, server, version, namespace and time-outs: see the program.
        """
        self.begin(method, node, exmods, **request)
        return self.outcome()

    def begin(self, method: str, node: str, /, exmods: tuple[str, ...] = EXMODS, **request: Any) -> None:
        """Send a command as `send` does; `outcome` returns what came of it."""
        args = {"node": node, **request.pop("args", {})}
        request |= {"method": method, "args": args, "partitions": PARTITIONS, "exmods": exmods}
        self.tell(json.dumps(request))

    def outcome(self) -> Json:
        """Wait for what came of the command that was begun."""
        outcome: Json = json.loads(self.answer())
        return outcome

    def result(self, method: str, node: str, /, **args: Any) -> Json:
        """Call and return the reply."""
        answer = self.send(method, node, args=args)
        assert "result" in answer, answer
        result: Json = answer["result"]
        return result


class Listener(Program):
    """Listens to the worker's notifications."""

    def __init__(self, directory: Path, url: str, rabbit: Json | None = None) -> None:
        self._messages: list[Json] = []
        super().__init__("listener", directory, url, rabbit=rabbit)

    @property
    def messages(self) -> list[Json]:
        """What it has heard so far, in order."""
        self._messages += [json.loads(line) for line in self.lines[len(self._messages) :]]
        return self._messages.copy()


class Caster(Program):
    """Casts or calls lists of commands, a thread each; `done` waits for the end."""

    def __init__(
        self,
        directory: Path,
        url: str,
        threads: list[list[Json]],
        connections: int,
        rabbit: Json | None = None,
    ) -> None:
        plan = directory / f"plan-{zlib.crc32(json.dumps(threads).encode()):08x}.json"
        plan.write_text(
            json.dumps({"partitions": PARTITIONS, "connections": connections, "threads": threads})
        )
        super().__init__("caster", directory, url, str(plan), rabbit=rabbit)

    def done(self, seconds: float = SECONDS) -> Json:
        """Return {"sent", "seconds", "replies"} once everything was sent; an error of any thread fails."""
        said: Json = json.loads(self.answer(seconds))
        assert not said.pop("errors"), said
        return said
