# SPDX-License-Identifier: Apache-2.0
"""Failures of the programs: an error that a user can correct is one line on standard error, no traceback."""

import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from oslo_config import cfg
from oslo_config.iniparser import ParseError

from tracker_worker.core.terminal import escaped

_OUTPUT_ERRORS = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE])
WRONG_COMMAND_LINE = 2
"""Exit code of argparse."""
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""
_LOCATION = re.compile(r"LocationInfo\(location=.*?, detail='(.*?)'\)")
"""The location of a value in the texts of oslo.config's errors."""

_WAYS_OUT: dict[type[BaseException], str] = {
    cfg.ConfigFilesNotFoundError: "--config-file needs files that exist",
    cfg.ConfigFilesPermissionDeniedError: "this user must be able to read them",
    cfg.ConfigDirNotFoundError: "--config-dir needs a directory that exists",
}
"""How to correct those errors of oslo.config whose texts do not say so."""


class CommandFailed(Exception):
    """The command failed; the text is one line that says what is wrong and how to correct it."""


class OutputFailed(Exception):
    """The results cannot be written to standard output; the cause is the OSError.

    Commands convert other OSErrors to errors of the database, but not this one.
    """


def exit_code_of(program: str, run: Callable[[], int], *, failed: int) -> int:
    """Run a program; return its exit code, or `failed` after an error that was printed."""
    _open_closed_streams()
    try:
        code = run()
        sys.stdout.flush()  # Raises BrokenPipeError if the reader has closed the pipe.
        return code
    except OutputFailed as output:
        error = output.__cause__
        assert isinstance(error, OSError)
        _fail_output(program, error)
    except (CommandFailed, cfg.Error) as error:
        print_diagnostic(program, configuration_text(error))
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        _fail_output(program, error)
    except KeyboardInterrupt:
        print_diagnostic(program, "interrupted")
        return INTERRUPTED
    except SystemExit as end:
        if end.code != 1:
            raise
        # oslo.config has printed which option is wrong.
    return failed


def _open_closed_streams() -> None:
    """Redirect standard output and error to /dev/null if the program was started with them closed."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _fail_output(program: str, error: OSError) -> None:
    """Print why the results cannot be written, unless the reader has closed the pipe."""
    # Python flushes standard output at exit, and would print the same error again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        print_diagnostic(program, f"the results cannot be written: {error.strerror}")


@contextmanager
def reading_options(conf: cfg.ConfigOpts) -> Iterator[None]:
    """Refuse what oslo.config raises no error of its own for. Raises CommandFailed.

    Its option --shell_completion is no option of the programs: oslo.config's wheels lack the template of that
    script.
    """
    if "shell_completion" in conf:
        conf.unregister_opt(cfg.StrOpt("shell_completion"))
    try:
        yield
    except FileNotFoundError as error:
        if error.filename is None:  # os.getcwd() names no file.
            raise CommandFailed("the current directory was removed: change to another one") from error
        raise CommandFailed(
            "--shell_completion is not supported: see 'tracker-worker-manage completion --help'"
        ) from error


def configuration_text(error: BaseException) -> str:
    """Return the text of a configuration error, in one line.

    A file that cannot be parsed is named with the number of the line only: the line may contain a password.
    """
    cause = error.__context__
    if isinstance(error, cfg.ConfigFileParseError) and isinstance(cause, ParseError):
        return f"{error.config_file}, line {cause.lineno}: {cause.msg}"
    text = _LOCATION.sub(r"\1", " ".join(str(error).split()))
    way_out = _WAYS_OUT.get(type(error))
    return f"{text}; {way_out}" if way_out else text


def print_diagnostic(program: str, text: str) -> None:
    """Print a message as one line on standard error."""
    line = escaped(" ".join(text.split()))
    print(f"{program}: {line}", file=sys.stderr)


def log_to_stderr(*, debug: bool) -> None:
    """Log to standard error with `debug`, else not at all: a command prints its results and errors itself."""
    # oslo.log has added a handler to the root logger: without force basicConfig has no effect.
    logging.basicConfig(level=logging.DEBUG if debug else logging.CRITICAL, force=True)
