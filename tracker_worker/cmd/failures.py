# SPDX-License-Identifier: Apache-2.0
"""How a program fails: what a user can correct is one line on standard error, without a traceback."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from oslo_config import cfg

from tracker_worker.cmd.bootstrap import configuration_text
from tracker_worker.core.terminal import escaped

_OUTPUT_ERRORS = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE])
WRONG_COMMAND_LINE = 2
"""What argparse ends a program with."""
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


class CommandFailed(Exception):
    """The command could not be done; the text is one line that names the thing and the way out."""


class OutputFailed(Exception):
    """The results cannot be written; the cause is the OSError, which is no error of a database."""


def exit_code_of(program: str, run: Callable[[], int], *, failed: int) -> int:
    """Run a program; return its exit code, `failed` where it says why it cannot go on."""
    _open_what_is_closed()
    try:
        code = run()
        sys.stdout.flush()  # Here whoever has stopped reading is noticed.
        return code
    except OutputFailed as output:
        error = output.__cause__
        assert isinstance(error, OSError)
        _complain_of_output(program, error)
    except (CommandFailed, cfg.Error) as error:
        complain(program, configuration_text(error))
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        _complain_of_output(program, error)
    except KeyboardInterrupt:
        complain(program, "interrupted")
        return INTERRUPTED
    except SystemExit as end:
        if end.code != 1:
            raise
        # oslo.config has said which option is wrong.
    return failed


def _open_what_is_closed() -> None:
    """Whoever starts a program with standard output or error closed wants to read neither."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _complain_of_output(program: str, error: OSError) -> None:
    # Python would complain when it flushes standard output at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):  # Whoever read the results has gone.
        complain(program, f"the results cannot be written: {error.strerror}")


@contextmanager
def reading_options(conf: cfg.ConfigOpts) -> Iterator[None]:
    """Refuse --shell_completion where oslo.config does not answer it. Raises CommandFailed."""
    try:
        yield
    except FileNotFoundError as error:
        raise CommandFailed(
            f"--shell_completion: oslo.config was installed without its template {error.filename}"
        ) from error
    if conf.shell_completion:
        raise CommandFailed("--shell_completion has to be the first option")


def complain(program: str, text: str) -> None:
    """Print one line on standard error."""
    line = escaped(" ".join(text.split()))
    print(f"{program}: {line}", file=sys.stderr)


def log_to_stderr(*, debug: bool) -> None:
    """Log on standard error with `debug`, else nothing: what a command has to say, it says itself."""
    # oslo.log has given the root logger a handler: without force nothing would be changed.
    logging.basicConfig(level=logging.DEBUG if debug else logging.CRITICAL, force=True)
