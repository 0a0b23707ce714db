# SPDX-License-Identifier: Apache-2.0
"""What an operator can get wrong: each program says it in one line, with the right exit code, before it does
anything; tests/integration/test_mistakes.py has mistakes that need a server.
"""

import os
import signal
import socket
import sqlite3
from pathlib import Path

import pytest

import tracker_worker
from tests.servers import forkserver
from tests.servers.forkserver import HEEDS_SIGINT
from tracker_worker.cmd.bootstrap import embedded_engine
from tracker_worker.cmd.database import database_file
from tracker_worker.db import revisions

ROOT = Path(tracker_worker.__file__).parents[1]
TRACE = next((ROOT / "tracker_worker" / "traces").glob("*boot-abort-delete*"))
WITHOUT = "import sys; sys.modules[{!r}] = None; "
NEWER = "9999"


class Programs:
    """Runs programs in processes of their own, with a configuration file of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "tracker-worker.conf"
        self.state = directory / "state"
        self.configure()

    def configure(self, more: str = "") -> None:
        """Write the configuration; `more` begins in [DEFAULT]."""
        self.file.write_text(f"[DEFAULT]\nstate_path = {self.state}\n{more}")

    def start(
        self,
        program: str,
        *arguments: object,
        stdout: forkserver.Descriptor,
        stderr: forkserver.Descriptor,
        before: str = "",
    ) -> forkserver.Fork:
        """Start a program; `before` is Python that its process runs first."""
        return forkserver.start(
            program, *self._all(program, arguments), before=before, stdout=stdout, stderr=stderr
        )

    def run(
        self,
        program: str,
        *arguments: object,
        before: str = "",
        stdout: forkserver.Descriptor | None = None,
    ) -> tuple[int, str, str]:
        """Run a program to its end: exit code, standard output, standard error."""
        done = forkserver.run(program, *self._all(program, arguments), before=before, stdout=stdout)
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.returncode, done.stdout, done.stderr

    def _all(self, program: str, arguments: tuple[object, ...]) -> list[object]:
        if program == "replay" or (arguments and str(arguments[0]).startswith("--shell")):
            return list(arguments)
        return ["--config-file", self.file, *arguments]

    def mistake(self, program: str, *arguments: object, before: str = "") -> tuple[int, str]:
        """Run a program that cannot go on: exit code, and the one line that it says."""
        code, _, err = self.run(program, *arguments, before=before)
        (line,) = err.splitlines()
        return code, line


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--log-file", "/nowhere/worker.log"], "'/nowhere/worker.log'; see [DEFAULT] log_file"),
        (["--log-dir", "/nowhere"], ".log'; see [DEFAULT] log_file, log_dir"),
        (["--use-journal"], "use_journal"),
        (["--log-config-append", "/nowhere/logging.conf"], "log_config_append"),
        (["--log-config-append", "README.rst"], "log_config_append"),
        (["--syslog-log-facility", "LOG_NOPE", "--use-syslog"], "use_syslog"),
    ],
)
def test_log_that_cannot_be_written_is_named(programs: Programs, options: list[str], said: str) -> None:
    code, line = programs.mistake("worker", *options, before=WITHOUT.format("systemd"))
    assert code == 1
    assert line.startswith("tracker-worker: the log cannot be written: ")
    assert said in line
    assert not programs.state.exists()


LOGGING = """
[loggers]
keys = root
[handlers]
keys = one
[formatters]
keys =
[logger_root]
level = {level}
handlers = one
[handler_one]
class = {kind}
args = {args}
"""


@pytest.mark.parametrize(
    ("kind", "level", "args"),
    [
        ("NoSuchHandler", "INFO", "(sys.stderr,)"),
        ("StreamHandler", "FOO", "(sys.stderr,)"),
        ("StreamHandler", "INFO", "(sys.stdot,)"),
        ("StreamHandler", "INFO", "(sys.stderr,"),
    ],
)
def test_logging_file_that_python_cannot_use_is_a_line(
    programs: Programs, kind: str, level: str, args: str
) -> None:
    file = programs.directory / "logging.conf"
    file.write_text(LOGGING.format(kind=kind, level=level, args=args))
    code, line = programs.mistake("worker", "--log-config-append", file)
    assert (code, f"; see {file}, the file of [DEFAULT] log_config_append" in line) == (1, True)


@pytest.mark.parametrize(
    ("options", "said", "is_seen_by_the_check"),
    [
        ("default_log_levels = amqp", "default_log_levels", True),
        ("default_log_levels = amqp=FOO", "default_log_levels", True),
        ("logging_default_format_string = %(nope)s", "format_string", False),
        ("log_file = x\nlog_rotation_type = interval\nlog_rotate_interval = 0", "log_rotate_interval", True),
    ],
)
def test_option_of_the_log_that_cannot_be_used_is_a_line(
    programs: Programs, options: str, said: str, is_seen_by_the_check: bool
) -> None:
    """An interval of 0 made the standard library rotate for ever, deaf for TERM."""
    programs.configure(f"{options}\n")
    code, line = programs.mistake("worker")
    assert (code, said in line) == (1, True), line
    out = programs.run("status", "upgrade", "check", "--json")[1]
    assert (said in out) == is_seen_by_the_check


@pytest.mark.parametrize(
    ("program", "arguments", "code"),
    [("worker", [], 1), ("manage", ["queues", "list"], 1), ("manage", ["queues", "declare"], 1)],
)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://broker", "[DEFAULT] transport_url = kafka://broker cannot be used: "),
        ("rabbitmq://broker", "[DEFAULT] transport_url = rabbitmq://broker cannot be used: "),
        ("rabbit://broker:99999/", "[DEFAULT] transport_url: its port is no number up to 65535"),
        ("rabbit://broker:abc/", "[DEFAULT] transport_url: its port is no number up to 65535"),
        ("rabbit://bro ker/", "[DEFAULT] transport_url: its host is no host name"),
        ("amqp://broker/", "for RabbitMQ it begins with rabbit://"),
        ("http://broker/", "for RabbitMQ it begins with rabbit://"),
        (
            "rabbit://broker/?amqp_durable_queue=true",
            "[DEFAULT] transport_url: amqp_durable_queue behind the ? is no option of "
            "[oslo_messaging_rabbit]; did you mean amqp_durable_queues?",
        ),
        ("rabbit://broker/?ssl=maybe", "[DEFAULT] transport_url: the value of ssl behind the ? is not valid"),
        ("kombu://u:x@broker:5672/v", "for RabbitMQ it begins with rabbit://"),
        ("", "[DEFAULT] transport_url = a URL that cannot be read cannot be used: it is empty"),
    ],
)
def test_transport_that_cannot_be_used_is_named(
    programs: Programs, program: str, arguments: list[str], code: int, url: str, said: str
) -> None:
    programs.configure(f"transport_url = {url}\n")
    found, line = programs.mistake(program, *arguments, before=WITHOUT.format("confluent_kafka"))
    assert (found, said in line) == (code, True), line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--transport-url", "kafka://broker"], "--transport-url = kafka://broker cannot be used: "),
        (["--transport-url", "rabbit://x:planted-secret@127.0.0.1:1"], "; see --transport-url"),
        (["--database", "sqlite:////nowhere/file"], "its directory must exist"),
        (["--output", "/nowhere/out"], "--output /nowhere/out: No such file or directory; name a file"),
        (["--output", "/"], "--output /: Is a directory; name a file"),
    ],
)
def test_replay_ends_with_2_before_it_replays(programs: Programs, options: list[str], said: str) -> None:
    code, out, err = programs.run("replay", *options, TRACE, before=WITHOUT.format("confluent_kafka"))
    (line,) = err.splitlines()
    assert (code, out) == (2, "")
    assert line.startswith("tracker-worker-replay: ")
    assert said in line
    assert "planted-secret" not in line


MISSING = [
    ("worker", ["--config-file", "/nowhere/x"], "/nowhere/x; --config-file needs files that exist"),
    ("watch", ["--config-file", "/nowhere/x"], "/nowhere/x; --config-file needs files that exist"),
    ("manage", ["--config-dir", "/nowhere", "db", "version"], "/nowhere; --config-dir needs a directory"),
    (
        "manage",
        ["node", "fit", "n1", "--flavor", "/nowhere/f"],
        "a file with JSON, or JSON itself, is expected: No such file or directory",
    ),
    ("replay", ["/nowhere/trace.jsonl"], "/nowhere/trace.jsonl: No such file or directory; name a trace"),
    ("replay", ["/"], "/: Is a directory; name a trace"),
]


@pytest.mark.parametrize(("program", "arguments", "said"), MISSING)
def test_missing_file_of_the_command_line_says_the_way_out(
    programs: Programs, program: str, arguments: list[str], said: str
) -> None:
    code, line = programs.mistake(program, *arguments)
    assert (code, said in line) == (2 if program == "replay" else 1, True), line


MISSING_OF_OPTIONS = [
    (
        "[oslo_reports]\nfile_event_handler = /nowhere/x",
        "No such file or directory; create it: a change of it",
    ),
    ("[database]\nconnection = mysql://h/x?ssl_ca=/nowhere/x", "directory; a file that its URL names must"),
    (
        "transport_url = rabbit://h\n[oslo_messaging_rabbit]\nssl = true\nssl_ca_file = /nowhere/x",
        "ssl_ca_file = /nowhere/x cannot be used: No such file or directory; name a file that this user can",
    ),
]


@pytest.mark.parametrize(("options", "said"), MISSING_OF_OPTIONS)
def test_missing_file_of_an_option_says_the_way_out(programs: Programs, options: str, said: str) -> None:
    programs.configure(f"{options}\n")
    code, _, err = programs.run("worker")
    assert (code, said in err.splitlines()[-1]) == (1, True), err


@pytest.mark.parametrize(
    ("program", "arguments"), [("manage", ["node", "list"]), ("status", ["upgrade", "check"])]
)
def test_config_file_may_follow_the_command(programs: Programs, program: str, arguments: list[str]) -> None:
    embedded_engine(programs.state).dispose()
    last = programs.directory / "last.conf"
    last.write_text("[DEFAULT]\nstate_path = /nowhere\n")
    code, out, err = programs.run(program, *arguments, "--config-file", last)
    assert code == (2 if program == "status" else 1)
    assert "there is no database /nowhere" in out + err


@pytest.mark.parametrize("program", ["worker", "manage"])
def test_current_directory_that_was_removed_is_named(programs: Programs, program: str) -> None:
    gone = programs.directory / "gone"
    before = f"import os; os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); "
    code, line = programs.mistake(program, "--config-file", "x", before=before)
    assert (code, "the current directory was removed: change to another one" in line) == (1, True), line


OSLO_PROGRAMS = pytest.mark.parametrize("program", ["worker", "manage", "status", "watch"])


@OSLO_PROGRAMS
def test_help_has_an_example_and_no_option_that_does_not_work(programs: Programs, program: str) -> None:
    code, out, _ = programs.run(program, "--help")
    assert code == 0
    assert "xample" in out
    assert "--shell_completion" not in out


@OSLO_PROGRAMS
def test_shell_completion_of_oslo_config_leads_to_the_command(programs: Programs, program: str) -> None:
    gone = "from oslo_config import cfg; cfg.__file__ = '/nowhere/cfg.py'; "
    code, line = programs.mistake(program, "--shell_completion", "bash", before=gone)
    assert code == (2 if program == "status" else 1)
    assert "see 'tracker-worker-manage completion --help'" in line


@pytest.mark.parametrize(("program", "arguments"), [("worker", []), ("manage", ["db", "version"])])
def test_shell_completion_behind_another_option_starts_nothing(
    programs: Programs, program: str, arguments: list[str]
) -> None:
    code, _, err = programs.run(program, "--debug", "--shell_completion", "bash", *arguments)
    assert (code, "error: " in err) == (2, True)
    assert not programs.state.exists()


@pytest.mark.parametrize(
    ("program", "arguments", "code"),
    [("worker", [], 1), ("manage", ["db", "version"], 1), ("status", ["upgrade", "check"], 2)],
)
def test_value_that_is_wrong_on_the_command_line_too_is_a_failure(
    programs: Programs, program: str, arguments: list[str], code: int
) -> None:
    programs.configure("debug = perhaps\n")
    found, line = programs.mistake(program, *arguments)
    assert (found, "perhaps" in line) == (code, True)


def test_wrong_value_is_shown_with_its_file(programs: Programs) -> None:
    programs.configure("[worker]\nbatch_size = many\n")
    _, line = programs.mistake("worker")
    assert f"[worker] batch_size from {programs.file} is not valid" in line


def test_wrong_value_of_the_database_is_shown_with_its_group(programs: Programs) -> None:
    programs.configure("[database]\nmax_pool_size = many\n")
    code, line = programs.mistake("manage", "node", "list")
    said = f"[database] max_pool_size from {programs.file} is not valid: a whole number is needed, not 'many'"
    assert (code, line) == (1, f"tracker-worker-manage: {said}")


def test_wrong_value_of_the_environment_is_shown_with_its_group(programs: Programs) -> None:
    before = "import os; os.environ['OS_BUS__PARTITIONS'] = '0'; "
    code, line = programs.mistake("replay", TRACE, before=before)
    said = "[bus] partitions from OS_BUS__PARTITIONS is not valid: should be greater than or equal to 1"
    assert (code, line) == (2, f"tracker-worker-replay: {said}")


def test_all_wrong_values_are_shown_at_once_with_their_groups(programs: Programs) -> None:
    programs.configure("[worker]\npartitions = 7-0\nlanes = 99\n[database]\nmax_pool_size = many\n")
    code, out, err = programs.run("status", "upgrade", "check", "--json")
    assert (code, err) == (2, "")
    for name in ("[worker] partitions", "[worker] lanes", "[database] max_pool_size"):
        assert f"{name} from {programs.file} is not valid" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("log_file = /nowhere/worker.log", "there is no directory /nowhere"),
        ("log_dir = /nowhere", "there is no directory /nowhere"),
        ("log_file = /", "log_file: / is a directory"),
        (
            "log_config_append = /nowhere/logging.conf",
            "No such file or directory: '/nowhere/logging.conf'; name",
        ),
        (f"log_config_append = {ROOT}/README.rst", "log_config_append: File contains no section headers"),
        (f"log_config_append = {ROOT}/setup.cfg", "setup.cfg: it lacks [formatters], [handlers], [loggers]"),
        ("use_journal = true", "the Python package systemd-python is not installed"),
    ],
)
def test_check_sees_that_the_log_could_not_be_written(programs: Programs, options: str, said: str) -> None:
    programs.configure(f"{options}\n")
    code, out, _ = programs.run("status", "upgrade", "check", "--json", before=WITHOUT.format("systemd"))
    assert (code, said in out) == (2, True), out


def test_check_leaves_no_log_file_of_its_own(programs: Programs) -> None:
    log = programs.directory / "worker.log"
    programs.configure(f"log_file = {log}\n")
    programs.run("status", "upgrade", "check")
    assert not log.exists()


def test_misspelt_group_of_the_database_is_named_and_the_database_used_is_shown(programs: Programs) -> None:
    programs.configure("[databases]\nconnection = postgresql://tracker@10.0.0.1/tracker\n")
    code, out, err = programs.run("manage", "db", "sync")
    assert (code, f"sqlite:///{database_file(programs.state)}" in out) == (0, True)
    assert "the group [databases] is unknown and has no effect; did you mean database?" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this device")
@pytest.mark.parametrize(
    ("program", "arguments", "code"),
    [
        ("manage", ["db", "sync"], 1),
        ("manage", ["dead-letter", "summary"], 1),
        ("manage", ["dead-letter", "list", "--format", "json"], 1),
        ("status", ["upgrade", "check"], 2),
        ("replay", [TRACE], 2),
    ],
)
def test_results_that_cannot_be_written_are_a_line(
    programs: Programs, program: str, arguments: list[str | Path], code: int
) -> None:
    embedded_engine(programs.state).dispose()
    with open("/dev/full", "w") as full:
        found, _, err = programs.run(program, *arguments, stdout=full)
    assert found == code
    assert err.splitlines()[-1].endswith("the results cannot be written: No space left on device")


@pytest.mark.parametrize(
    ("program", "arguments", "code"),
    [
        ("manage", ["db", "version"], 0),
        ("manage", ["node", "list", "--format", "json"], 0),
        ("status", ["upgrade", "check"], 2),
        ("replay", [TRACE], 0),
    ],
)
def test_closed_standard_output_is_no_mistake(
    programs: Programs, program: str, arguments: list[str | Path], code: int
) -> None:
    embedded_engine(programs.state).dispose()
    closed = "import os, sys; os.close(1); sys.stdout = None"
    found, _, err = programs.run(program, *arguments, before=closed)
    assert found == code, err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this device")
def test_output_of_a_replay_that_cannot_be_written_ends_it_with_2(programs: Programs) -> None:
    code, _, err = programs.run("replay", "--output", "/dev/full", TRACE)
    assert (code, "the results cannot be written" in err) == (2, True)


DATABASES = [
    ("postgresql://u:planted-secret@127.0.0.1:1/x", "", "Connection refused"),
    ("mysql://u:planted-secret@127.0.0.1:1/x", "", "Connection refused"),
    ("mysql://u:planted-secret@host.invalid/x", "", "Can't connect to MySQL server on 'host.invalid'"),
    ("postgresql://u:planted-secret@host.invalid/x", "", "failed to resolve host 'host.invalid'"),
    ("postgresql://h/x", WITHOUT.format("psycopg"), "pip install 'tracker-worker[postgresql]'"),
    ("mysql://h/x", WITHOUT.format("pymysql"), "pip install 'tracker-worker[mariadb]'"),
    ("mysql+mysqldb://h/x", "", "supported are postgresql://, mysql:// (MariaDB too) and sqlite:///"),
    ("oracle://h/x", "", "supported are postgresql://, mysql:// (MariaDB too) and sqlite:///"),
    ("sqlite:////nowhere/file", "", "unable to open database file; its directory must exist"),
    (f"sqlite:///{ROOT}/README.rst", "", "file is not a database; name another file"),
]


@pytest.mark.parametrize(("program", "arguments"), [("worker", []), ("manage", ["db", "sync"])])
@pytest.mark.parametrize(("url", "before", "said"), DATABASES)
def test_database_that_cannot_be_used_says_why_and_the_way_out(
    programs: Programs, program: str, arguments: list[str], url: str, before: str, said: str
) -> None:
    programs.configure(f"[database]\nmax_retries = 1\nconnection = {url}\n")
    code, line = programs.mistake(program, *arguments, before=before)
    assert code == 1
    shown = url.replace("u:planted-secret@", "")
    assert f"[database] connection = {shown} cannot be used: " in line
    assert said in line
    assert "planted-secret" not in line


@pytest.fixture
def newer_schema(programs: Programs) -> None:
    embedded_engine(programs.state).dispose()
    with sqlite3.connect(database_file(programs.state)) as connection:
        connection.execute(f"UPDATE alembic_version SET version_num = '{NEWER}'")
    connection.close()


@pytest.mark.parametrize(
    ("program", "arguments"),
    [("worker", []), ("manage", ["db", "sync"]), ("manage", ["node", "list"]), ("replay", [])],
)
def test_schema_newer_than_the_code_is_not_sent_to_db_sync(
    programs: Programs, newer_schema: None, program: str, arguments: list[str]
) -> None:
    if program == "replay":
        arguments = ["--database", f"sqlite:///{database_file(programs.state)}", str(TRACE)]
    code, line = programs.mistake(program, *arguments)
    assert code == (2 if program == "replay" else 1)
    assert f"its schema is {NEWER}, newer than {revisions.head()}" in line
    assert "install the version that has made it" in line
    assert "run 'tracker-worker-manage db sync'" not in line


@pytest.mark.parametrize("revision", ["", "base", "heads", "0000", "0006:head"])
def test_sync_to_what_is_no_revision_says_so_and_makes_nothing(programs: Programs, revision: str) -> None:
    code, line = programs.mistake("manage", "db", "sync", "--version", revision)
    assert code == 1
    assert f"--version '{revision}': there is no such revision; the newest is {revisions.head()}" in line
    assert not programs.state.exists()


def test_sync_to_an_older_revision_says_that_nothing_is_done(programs: Programs) -> None:
    embedded_engine(programs.state).dispose()
    code, line = programs.mistake("manage", "db", "sync", "--version", "0003")
    assert code == 1
    assert f"--version 0003: the schema is {revisions.head()}, and a downgrade is not supported" in line


def test_reason_for_which_a_worker_does_not_start_is_in_its_log_file(
    programs: Programs, tmp_path: Path
) -> None:
    programs.configure("[database]\nmax_retries = 1\nconnection = postgresql://x@127.0.0.1:1/x\n")
    log = tmp_path / "worker.log"
    _, line = programs.mistake("worker", "--log-file", log)
    reason = line.removeprefix("tracker-worker: ")
    (logged,) = [line for line in log.read_text().splitlines() if " CRITICAL " in line]
    assert logged.endswith(f"Not started: {reason}")


def test_negative_pause_between_connects_is_named_before_any(programs: Programs) -> None:
    programs.configure(
        "[database]\nmax_retries = -1\nretry_interval = -1\nconnection = postgresql://x@127.0.0.1:1/x\n"
    )
    code, line = programs.mistake("worker")
    assert (code, "[database] retry_interval (-1) must not be negative" in line) == (1, True)


def test_debug_of_manage_is_on_standard_error(programs: Programs) -> None:
    embedded_engine(programs.state).dispose()
    code, out, err = programs.run("manage", "--debug", "db", "sync")
    assert (code, "alembic" in err) == (0, True)
    assert revisions.head() in out
    assert programs.run("manage", "db", "sync")[2] == ""


@pytest.mark.parametrize(
    ("program", "arguments"),
    [("manage", ["queues", "list"]), ("status", ["upgrade", "check"]), ("watch", ["--once"])],
)
def test_debug_of_the_file_is_the_daemon_s(programs: Programs, program: str, arguments: list[str]) -> None:
    """Found by a newcomer: debug in the file of the workers flooded the terminal."""
    programs.configure("debug = true\ntransport_url = rabbit://u:p@127.0.0.1:1/\n")
    assert "DEBUG" not in programs.run(program, *arguments)[2]
    assert "DEBUG" in programs.run(program, "--debug", *arguments)[2]


@pytest.mark.parametrize(
    ("program", "arguments"), [("manage", ["db", "version"]), ("status", ["upgrade", "check"])]
)
def test_interrupted_command_ends_with_130_and_a_line(
    programs: Programs, program: str, arguments: list[str], tmp_path: Path
) -> None:
    """The server takes the connection and says nothing: the command waits for it when it is interrupted."""
    said = tmp_path / "said"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(forkserver.SECONDS)
        url = f"postgresql://tracker:x@127.0.0.1:{server.getsockname()[1]}/tracker"
        programs.configure(f"[database]\nconnection = {url}\n")
        with said.open("w") as file:
            process = programs.start(program, *arguments, before=HEEDS_SIGINT, stdout=file, stderr=file)
        silent, _ = server.accept()
        with silent:
            process.send_signal(signal.SIGINT)
            code = process.wait()
    assert (code, said.read_text()) == (128 + signal.SIGINT, f"tracker-worker-{program}: interrupted\n")


@pytest.mark.parametrize(
    ("program", "arguments"),
    [("manage", ["node", "list", "--format", "json"]), ("status", ["upgrade", "check"])],
)
def test_reader_that_stops_reading_is_no_error(
    programs: Programs, program: str, arguments: list[str], tmp_path: Path
) -> None:
    embedded_engine(programs.state).dispose()
    read, written = os.pipe()
    with open(written, "wb") as stdout, (tmp_path / "err").open("w") as stderr:
        os.close(read)
        process = programs.start(program, *arguments, stdout=stdout, stderr=stderr)
    assert process.wait() in (0, 1, 2)
    assert (tmp_path / "err").read_text() == ""
