# SPDX-License-Identifier: Apache-2.0
"""How a program fails: what a user can mend is one line on standard error, without a traceback."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from oslo_config import cfg

from tracker_worker.cmd.embedded import configuration_text
from tracker_worker.core.terminal import escaped

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


class CommandFailed(Exception):
    """The command could not be done; the text is one line that names the thing and the way out."""


def exit_code_of(program: str, run: Callable[[], int], *, failed: int) -> int:
    """Run a program; return its exit code, `failed` where it says why it cannot go on."""
    try:
        code = run()
        sys.stdout.flush()  # Here whoever has stopped reading is noticed.
        return code
    except (CommandFailed, cfg.Error) as error:
        complain(program, configuration_text(error))
    except BrokenPipeError:
        # Whoever read the results has gone. Python would complain when it flushes them at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        complain(program, "interrupted")
        return INTERRUPTED
    except SystemExit as end:
        if end.code != 1:
            raise
        # oslo.config has said which option is wrong.
    return failed


@contextmanager
def reading_options() -> Iterator[None]:
    """Raise CommandFailed where oslo.config lacks a file, such as its templates for --shell_completion."""
    try:
        yield
    except BrokenPipeError:  # oslo.upgradecheck reads the options and prints the results in one call.
        raise
    except OSError as error:
        raise CommandFailed(str(error)) from error


def complain(program: str, text: str) -> None:
    """Print one line on standard error."""
    line = escaped(" ".join(text.split()))
    print(f"{program}: {line}", file=sys.stderr)


def log_to_stderr(*, debug: bool) -> None:
    """Log on standard error with `debug`, else nothing: what a command has to say, it says itself."""
    # oslo.log has given the root logger a handler: without force nothing would be changed.
    logging.basicConfig(level=logging.DEBUG if debug else logging.CRITICAL, force=True)
