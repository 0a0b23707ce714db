# SPDX-License-Identifier: Apache-2.0
"""Starts the project's programs by a fork of a process that has imported them: imports take most of a start.

What is forked has a process id, descriptors, signals and an exit of its own, as after an exec; tests of the
start itself, the order of the imports say, run the interpreter instead.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = tuple(f"tracker_worker.cmd.{name}" for name in ("worker", "manage", "status", "replay", "watch"))
CLIENTS = ("oslo_messaging", "oslo_messaging._drivers.impl_rabbit")
"""What programs import that know nothing of the project."""
HEEDS_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""To be run before a program: who runs the tests in the background lets their processes ignore SIGINT."""
SECONDS = 60
_MOST_BYTES = 1 << 20
"""Of a request: the environment takes most of it."""

Descriptor = int | IO[Any]


class Fork:
    """A program that runs; used like a subprocess.Popen whose streams its caller owns."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status
        self.returncode: int | None = None
        self.pid = self._receive(SECONDS)

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float = SECONDS) -> int:
        """Wait for the end; return the exit code, minus the signal that killed it.

        Raises subprocess.TimeoutExpired after so many seconds.
        """
        if self.returncode is None:
            self.returncode = self._receive(timeout)
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # It ends now: the fork server says so soon.
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _receive(self, timeout: float) -> int:
        self._status.settimeout(timeout)
        try:
            said = self._status.recv(_MOST_BYTES)
        except (TimeoutError, BlockingIOError):
            raise subprocess.TimeoutExpired("a forked program", timeout) from None
        assert said, "the fork server has ended"
        return int(said)


class ForkServer:
    """A process that has imported modules; `close` ends it, and so does the end of this process."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.forkserver", str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def start(
        self,
        program: str,
        *arguments: object,
        before: str,
        streams: list[int],
        environment: Mapping[str, str],
    ) -> Fork:
        """Fork a module's main, or a script if it is a file, onto standard input, output and error.

        `before` is Python that it executes first.
        """
        request = {
            "program": program,
            "arguments": [str(argument) for argument in arguments],
            "before": before,
            "environment": dict(environment),
        }
        status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._requests, [json.dumps(request).encode()], [*streams, theirs.fileno()])
        return Fork(status)

    def close(self) -> None:
        """End the process; what it has forked goes on."""
        self._requests.close()
        self._process.wait(SECONDS)


_servers: dict[tuple[str, ...], ForkServer] = {}


def fork_server(modules: tuple[str, ...] = PROGRAMS) -> ForkServer:
    """The fork server of this process that has imported these; the fixture `programs_forked` closes it."""
    if modules not in _servers:
        _servers[modules] = ForkServer(modules)
    return _servers[modules]


def close() -> None:
    """End this process' fork servers."""
    while _servers:
        _servers.popitem()[1].close()


def start(
    program: str,
    *arguments: object,
    before: str = "",
    stdin: Descriptor | None = None,
    stdout: Descriptor,
    stderr: Descriptor,
    environment: Mapping[str, str] | None = None,
) -> Fork:
    """Start a program of tracker_worker.cmd in the project's root; `before` is Python that it runs first.

    `environment` is that of this process by default; there is nothing on standard input.
    """
    with open(os.devnull, "rb") as nothing:
        given = (nothing if stdin is None else stdin, stdout, stderr)
        return fork_server().start(
            f"tracker_worker.cmd.{program}",
            *arguments,
            before=before,
            streams=[each if isinstance(each, int) else each.fileno() for each in given],
            environment=os.environ if environment is None else environment,
        )


def start_client(
    script: Path, *arguments: object, stdin: Descriptor, stdout: Descriptor, stderr: Descriptor
) -> Fork:
    """Start a script that is a client and knows nothing of the project."""
    given = [each if isinstance(each, int) else each.fileno() for each in (stdin, stdout, stderr)]
    server = fork_server(CLIENTS)
    return server.start(str(script), *arguments, before="", streams=given, environment=os.environ)


def run(
    program: str,
    *arguments: object,
    before: str = "",
    stdout: Descriptor | None = None,
    merged: bool = False,
    seconds: float = SECONDS,
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, its output in files unless `stdout` is given; `merged` has both in one."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = start(
            program, *arguments, before=before, stdout=stdout or out, stderr=out if merged else err
        )
        try:
            process.wait(seconds)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        command = [program, *map(str, arguments)]
        return subprocess.CompletedProcess(command, process.wait(), out.read(), err.read())


def _serve(requests: socket.socket) -> int:
    """Fork at each request, and wait; each fork returns what its program does. The main thread's."""
    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)  # A ctrl-C is for pytest, which then ends this.
    while True:
        said, descriptors, _, _ = socket.recv_fds(requests, _MOST_BYTES, 4)
        _bury()
        if not said:
            return 0
        if not os.fork():
            requests.close()
            break
        for each in descriptors:
            os.close(each)
    *streams, last = descriptors
    with socket.socket(fileno=last) as status:
        if child := os.fork():
            for each in streams:
                os.close(each)
            _tell_of(child, status)
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    signal.signal(signal.SIGINT, heeded)
    return _execute(json.loads(said))


def _bury() -> None:
    """Wait for those that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _tell_of(child: int, status: socket.socket) -> NoReturn:
    """Say the process id of a child, wait for its end, say its exit code, and end."""
    with contextlib.suppress(BrokenPipeError):  # Who has asked may be gone.
        status.send(str(child).encode())
        status.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
    os._exit(0)


def _execute(request: dict[str, Any]) -> int:
    """Become a program as the interpreter would run it."""
    os.environ.clear()
    os.environ.update(request["environment"])
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [each for each in path if each and each not in sys.path]
    if isinstance(sys.stdout, io.TextIOWrapper):  # As the interpreter decides when it starts.
        sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    program: str = request["program"]
    sys.argv[:] = [program if program.endswith(".py") else "-c", *request["arguments"]]
    exec(request["before"], {"__name__": "before"})
    try:
        code = _run(program)
    except SystemExit as ended:
        if not isinstance(ended.code, int):
            raise
        code = ended.code
    _exit_unless_threads_run(code)
    return code


def _run(program: str) -> int:
    """Run a module's main, or a script; return its exit code."""
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
        return 0
    code: int = importlib.import_module(program).main()
    return code


def _exit_unless_threads_run(code: int) -> None:
    """Exit as the interpreter does, but for its last step, which frees all objects.

    That writes to all memory, which the fork shares with its server until then: copying it takes three
    quarters of a short program's time. Returns, so that the interpreter does all of it, where threads still
    run, which that step may disturb, and where the last output cannot be written.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    if threading.active_count() > 1:
        return
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        return
    os._exit(code)


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
