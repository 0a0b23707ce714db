# SPDX-License-Identifier: Apache-2.0
"""URLs of the configuration and the command line. Before a URL is used it is checked, and its secrets are
hidden from all logs.
"""

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
    """Return the URL of an option after checking it; None or "" if the option is not set.

    `option` is the name of the option in errors, by default "[group] name". Raises URLRefused.
    """
    option = option or f"[{group}] {name}"
    try:
        url: str | None = (conf if group == "DEFAULT" else conf[group])[name]
    except cfg.Error:  # oslo.config substitutes $name, and its error quotes the name, a part of the URL.
        raise URLRefused(f"{option}: write $ as $$") from None
    return url and checked_url(option, url, check)


def checked_url(option: str, url: str, check: Check) -> str:
    """Hide the secrets of a URL, check it and return it. Raises URLRefused."""
    hide_secrets(secrets_of(url))
    check(option, url)
    return url


def hide_secrets(secrets: frozenset[str]) -> None:
    """Redact these texts in all log records and tracebacks of this process from now on.

    It is the last line of defence, for libraries that log a URL: the program itself logs no secrets.
    """
    records: Any = logging.getLogRecordFactory()
    if not isinstance(records, _RedactedRecords):
        records = _RedactedRecords(records)
        # Not a filter of a handler: a reloaded logging configuration creates new handlers.
        logging.setLogRecordFactory(records)
        if sys.excepthook is sys.__excepthook__:  # oslo.log's hook logs: the record is redacted.
            sys.excepthook = records.print_error
    records.secrets |= secrets


def without_secrets(text: str) -> str:
    """Return a text without the texts that are hidden in log records."""
    records = logging.getLogRecordFactory()
    return redacted(text, records.secrets) if isinstance(records, _RedactedRecords) else text


class RedactedError(Exception):
    """Replaces an error in a log record if its traceback has secrets; the text is the redacted traceback."""


class _RedactedRecords:
    """The factory of the process's log records. Any thread."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make
        self.secrets: frozenset[str] = frozenset()

    def __call__(self, *args: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*args, **more)
        message = _message_of(record)
        if (printable := self._printable(message)) != message:
            record.msg, record.args = printable, ()
        # oslo.log appends an exception that is being handled to each record.
        error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
        if error is not None:
            trace = "".join(traceback.format_exception(error))
            if (printable := self._printable(trace)) != trace:
                record.exc_info = (RedactedError, RedactedError(printable.rstrip()), None)
        return record

    def print_error(
        self, _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        """Print the traceback of an error that ends the program (sys.excepthook)."""
        print(self._printable("".join(traceback.format_exception(error))), end="", file=sys.stderr)

    def _printable(self, text: str) -> str:
        """Return a text with its secrets redacted and its control characters escaped."""
        return escaped_lines(redacted(text, self.secrets))


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # The arguments do not match the format: logging prints both on standard error.
        return f"{record.msg} {record.args}"
