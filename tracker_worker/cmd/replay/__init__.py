# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-replay: replays recorded traces through rpcapi to an embedded worker; prints a report."""

import argparse
import itertools
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import oslo_messaging
import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import replace
from oslo_config import cfg
from oslo_log import log
from rich.console import Console

from tracker_worker.cmd import bootstrap
from tracker_worker.cmd.broker import connected
from tracker_worker.cmd.database import database_file
from tracker_worker.cmd.failures import CommandFailed, exit_code_of
from tracker_worker.cmd.progress import progress_bar
from tracker_worker.cmd.replay.report import print_summary
from tracker_worker.cmd.replay.runner import TraceReplay, delete_queues, embedded_worker
from tracker_worker.cmd.replay.trace import Result, Trace, differences, read_trace
from tracker_worker.core.terminal import escaped
from tracker_worker.db.engine import create_engine
from tracker_worker.domain.numa.pages import parse_reserved_pages
from tracker_worker.domain.pci.specs import parse_aliases, parse_device_specs
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.option_errors import wrong_values
from tracker_worker.worker.configuration import settings_from
from tracker_worker.worker.service import Worker

PROGRAM = "tracker-worker-replay"
MAX_CONCURRENT_TRACES = 4
PARTITIONS = 4
LAST_NOTIFICATION_SECONDS = 10.0
RESERVED = "reserved_huge_pages"


_EPILOG = """\
examples:
  # replay two traces, and print their outcomes and the nodes
  tracker-worker-replay boots.jsonl.gz resizes.jsonl.gz
  # compare with what the traces expect
  tracker-worker-replay --check boots.jsonl.gz

exit status:
  0    success
  1    --check found a difference
  2    the command line or a trace is wrong, or a service cannot be used
  130  interrupted
"""


class ReplayedTrace(Struct, frozen=True):
    """A trace with the result of each step, the duration of the replay, and views of its fullest nodes."""

    trace: Trace
    results: list[Result]
    seconds: float
    fullest: list[dict[str, Any]]


class Listener:
    """Counts the notifications that it receives, and the corrections in those of audits.

    oslo.messaging calls the endpoints on one thread.
    """

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()
        self.corrections: Counter[tuple[str, str]] = Counter()
        self._expected = 0
        self._complete = threading.Event()

    def info(self, *message: Any) -> None:
        """Count a notification of priority INFO (the signature of an endpoint of oslo.messaging)."""
        _context, _publisher, event_type, payload, _metadata = message
        self.types[event_type] += 1
        for correction in payload["nova_object.data"].get("corrections", ()):
            data = correction["nova_object.data"]
            self.corrections[data["action"], data["reason"]] += 1
        if self.types.total() == self._expected:
            self._complete.set()

    error = info

    def wait_for(self, count: int, timeout: float) -> bool:
        """Wait for `count` notifications in all; tells whether `timeout` seconds were enough."""
        self._expected = count
        return self.types.total() >= count or self._complete.wait(timeout)


class Session:
    """The configuration, transports, databases and notification listener of one run, shared by its traces.

    Exchanges and queues have names that are unique to the run, so that other commands and notifications on
    the broker are not affected. Raises ValueError or CommandFailed, with a text for the user, for a transport
    or a database that cannot be used.
    """

    def __init__(self, directory: Path, transport_url: str | None, database: str | None) -> None:
        conf = cfg.CONF
        bootstrap.register(conf)
        conf([], project="tracker-worker", default_config_files=[])
        if wrong := wrong_values(conf):  # Of the environment.
            raise CommandFailed("; ".join(wrong))
        conf.set_override("use_stderr", True)  # Standard output is for the results.
        log.setup(conf, PROGRAM)
        self._name = f"replay-{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count(1)
        self._rpc, self._notifications = bootstrap.transports(conf, transport_url)
        self._settings = replace(
            settings_from(conf),
            host="replay",
            partitions=PARTITIONS,
            notification_exchange=self._name,
            notification_topic=self._name,
        )
        if self._settings.broker is not None:
            with connected(self._settings.broker, "replay", "--transport-url"):
                pass  # oslo.messaging would retry for ever: fail here if the broker cannot be used.
        self._databases = Databases(directory, database)
        self._workers: list[Worker] = []
        self.listener = Listener()
        target = oslo_messaging.Target(exchange=self._name, topic=self._name)
        self._server = oslo_messaging.get_notification_listener(
            self._notifications, [target], [self.listener]
        )
        self._server.start(override_pool_size=1)

    def replay(self, trace: Trace, advance: Callable[[int], None]) -> ReplayedTrace:
        """Replay one trace to an embedded worker of its own; `advance` gets the number of steps done."""
        exchange = f"{self._name}-{next(self._numbers)}"
        settings = replace(self._settings, tracker=settings_of(trace), exchange=exchange)
        with (
            self._databases.empty_database() as engine,
            embedded_worker(settings, engine, self._rpc, self._notifications, _print_failure) as embedded,
        ):
            api, reader, worker = embedded
            started = time.monotonic()
            results = TraceReplay(trace, api, reader).run(advance)
            seconds = time.monotonic() - started
            fullest = reader.fullest(10)
        self._workers.append(worker)
        return ReplayedTrace(trace, results, seconds, fullest)

    def close(self) -> None:
        """Wait for the last notifications, stop the listener and delete its queues."""
        self.listener.wait_for(self.published, LAST_NOTIFICATION_SECONDS)
        self._server.stop()
        self._server.wait()
        if self._settings.notification_broker is not None:
            queues = [f"{self._name}.{priority}" for priority in ("info", "error")]
            delete_queues(self._settings.notification_broker, self._name, queues)

    @property
    def published(self) -> int:
        """The notifications that the workers of all traces have published."""
        return sum(worker.stats.published_notifications for worker in self._workers)


class Databases:
    """A new SQLite database in a directory for each trace, or the database of --database."""

    def __init__(self, directory: Path, given: str | None) -> None:
        self._directory = directory
        self._given = None if given is None else bootstrap.empty_engine(given)
        if given is None:
            # A template that is copied for each trace, because alembic cannot run concurrently.
            bootstrap.embedded_engine(directory).dispose()

    @contextmanager
    def empty_database(self) -> Iterator[sa.Engine]:
        """Yield the engine of an empty database, and dispose of it afterwards."""
        if self._given is not None:
            yield self._given
            return
        with tempfile.TemporaryDirectory(dir=self._directory) as own:
            copy = shutil.copyfile(database_file(self._directory), database_file(Path(own)))
            engine = create_engine(f"sqlite:///{copy}")
            yield engine
            engine.dispose()


def _print_failure() -> None:
    print(
        "A thread of the embedded worker ended by an unexpected error: it is logged above",
        file=sys.stderr,
        flush=True,
    )


def settings_of(trace: Trace) -> TrackerSettings:
    """Return the settings in the header of a trace. Raises ValueError for unknown and invalid ones."""
    given = dict(trace.header.settings)
    try:
        reserved = [{key: str(value) for key, value in each.items()} for each in given.pop(RESERVED, ())]
        parsed = {
            RESERVED: parse_reserved_pages(reserved),
            "device_specs": parse_device_specs(_texts(given.pop("pci.device_spec", ()))),
            "aliases": parse_aliases(_texts(given.pop("pci.alias", ()))),
        }
        own = {key: value for key, value in given.items() if "." not in key}
        if unknown := own.keys() - set(TrackerSettings.__struct_fields__):
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        return replace(msgspec.convert(own, TrackerSettings), **parsed)
    except ValueError as error:
        raise ValueError(f"{trace.path}: settings: {error}") from error


def _texts(values: Iterable[Any]) -> Iterator[str]:
    """Yield the values of a JSON option as texts, as they stand in a configuration file."""
    return (value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Replay recorded traces to an embedded worker, by default on fake:// and SQLite.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", nargs="+", type=Path, help=".jsonl or .jsonl.gz file")
    parser.add_argument(
        "--check", action="store_true", help="compare with the trace's expectations; exit 1 on a difference"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write a JSON line for each command to FILE"
    )
    parser.add_argument(
        "--transport-url", metavar="URL", help="the RabbitMQ to use: rabbit://user:password@host:port/vhost"
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="the empty database to use, for one trace; it keeps the result",
    )
    return parser.parse_args(arguments)


def write_output(file: BinaryIO, replayed: list[ReplayedTrace]) -> None:
    """Write a JSON line for each command: index, method, node, outcome and reason.

    If the trace has an expectation for node views, the line has the view of the command's node, too.
    """
    for one in replayed:
        for index, (step, result) in enumerate(zip(one.trace.steps, one.results, strict=True)):
            node = step.args.get("node")
            line: dict[str, Any] = {
                "i": index,
                "method": step.method,
                "node": node,
                "outcome": result.outcome,
                "reason": result.reason,
            }
            if step.expect.nodes:
                line["view"] = result.views.get(str(node))
            file.write(msgspec.json.encode(line) + b"\n")


def failed_expectations(replayed: list[ReplayedTrace]) -> list[str]:
    """Return a line for each difference from the expectations of the traces."""
    return [
        f"{one.trace.path.name}, command {index} ({step.method} {step.args.get('node')}): {difference}"
        for one in replayed
        for index, (step, result) in enumerate(zip(one.trace.steps, one.results, strict=True))
        for difference in differences(step.expect, result)
    ]


def main() -> int:
    """Replay traces; exit code 0 success, 1 differences found by --check, 2 failure, 130 interrupted."""
    options = parse_arguments(sys.argv[1:])
    return exit_code_of(PROGRAM, lambda: _run(options), failed=2)


def _run(options: argparse.Namespace) -> int:
    """Replay the traces of the command line. Raises CommandFailed before the first command is sent."""
    if options.database and len(options.trace) > 1:
        raise CommandFailed("--database takes one trace: the database must be empty")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="tracker-worker-"))
        try:
            traces = [read_trace(path) for path in options.trace]
            for trace in traces:
                settings_of(trace)
            output = options.output and stack.enter_context(_open_output(options.output))
            session = Session(Path(directory), options.transport_url, options.database)
        except ValueError as error:
            raise CommandFailed(str(error)) from error
        return _replay_all(session, traces, output, check=options.check)


def _open_output(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise CommandFailed(f"--output {path}: {error.strerror}; name a file that can be written") from error


def _replay_all(session: Session, traces: list[Trace], output: BinaryIO | None, *, check: bool) -> int:
    console = Console()
    started = time.monotonic()
    total = sum(len(trace.steps) for trace in traces)
    progress = progress_bar(total, "replaying", "commands")
    with progress as advance, ThreadPoolExecutor(MAX_CONCURRENT_TRACES) as pool:
        replayed = list(pool.map(lambda trace: session.replay(trace, advance), traces))
    session.close()
    seconds = time.monotonic() - started
    print_summary(console, replayed, session.listener, session.published, seconds)
    if output is not None:
        write_output(output, replayed)
    if not check:
        return 0
    failed = failed_expectations(replayed)
    for line in failed:
        print(escaped(line))
    print(f"{len(replayed)} traces, {total} commands, {len(failed)} differences")
    return 1 if failed else 0
