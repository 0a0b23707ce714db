# SPDX-License-Identifier: Apache-2.0
"""The URLs that a program is given. Each is checked, and hidden from all logs, before anything uses it."""

import logging
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from oslo_config import cfg

from tracker_worker.core.terminal import escaped_lines
from tracker_worker.core.urls import URLRefused, redacted, secrets_of

Check = Callable[[str, str], None]


def url_of(conf: cfg.ConfigOpts, group: str, name: str, check: Check, option: str = "") -> str | None:
    """Return the URL that an option holds, checked, None where it holds none.

    `option` is what an error calls it, by default "[group] name". Raises URLRefused.
    """
    option = option or f"[{group}] {name}"
    try:
        url: str | None = (conf if group == "DEFAULT" else conf[group])[name]
    except cfg.Error:  # oslo.config looks for an option of the name behind a $, and its errors say that name.
        raise URLRefused(f"{option}: write $ as $$") from None
    return url and checked_url(option, url, check)


def checked_url(option: str, url: str, check: Check) -> str:
    """Return a URL that `check` lets pass, its secrets hidden. Raises URLRefused."""
    hide_secrets(secrets_of(url))
    check(option, url)
    return url


def hide_secrets(secrets: frozenset[str]) -> None:
    """Show these texts in no log record and no traceback of this process from now on.

    The last line of defence, for what a library may say of a URL: the program's own texts have no secrets.
    """
    records: Any = logging.getLogRecordFactory()
    if not isinstance(records, _RedactedRecords):
        records = _RedactedRecords(records)
        # Not a filter of a handler: a logging configuration that is read again has new handlers.
        logging.setLogRecordFactory(records)
        if sys.excepthook is sys.__excepthook__:  # oslo.log's makes a log record.
            sys.excepthook = records.print_error
    records.secrets |= secrets


class RedactedError(Exception):
    """Stands in a log record for an error whose traceback must not be shown as it is; its text is what may be
    shown of it.
    """


class _RedactedRecords:
    """Makes the log records of the process. Any thread."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make
        self.secrets: frozenset[str] = frozenset()

    def __call__(self, *args: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*args, **more)
        message = _message_of(record)
        if (shown := self._shown(message)) != message:
            record.msg, record.args = shown, ()
        # oslo.log adds the error that is being handled to what is logged meanwhile.
        error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        if (shown := self._shown(trace)) != trace:
            record.exc_info = (RedactedError, RedactedError(shown.rstrip()), None)
        return record

    def print_error(
        self, _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        """Print the traceback of an error that ends the program (sys.excepthook)."""
        print(self._shown("".join(traceback.format_exception(error))), end="", file=sys.stderr)

    def _shown(self, text: str) -> str:
        """Return a text without secrets, and without what drives the terminal of whoever reads the log."""
        return escaped_lines(redacted(text, self.secrets))


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # The arguments do not fit: logging prints both on standard error.
        return f"{record.msg} {record.args}"
