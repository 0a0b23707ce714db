# SPDX-License-Identifier: Apache-2.0
"""Error messages in one line, without SQL statements, their values, or secrets."""

from collections.abc import Iterable

from tracker_worker.core.urls import redacted


def error_text(error: BaseException | None, secrets: Iterable[str] = ()) -> str:
    """Return the type of an error and the first line of its message, without secrets; "" for no error."""
    if error is None:
        return ""
    return redacted(f"{type(error).__name__}: {_said(error)}", secrets)


def driver_text(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """Return the first line of a server's or driver's message, without secrets; the type if it is empty."""
    return redacted(_said(error) or type(error).__name__, secrets)


def driver_error(error: BaseException) -> BaseException:
    """Unwrap the driver's error from those of SQLAlchemy and oslo.db, whose texts quote the statement."""
    while (inner := getattr(error, "orig", None) or getattr(error, "inner_exception", None)) is not None:
        error = inner
    return error


def _said(error: BaseException) -> str:
    """Return the first line of the driver's message, without its full stop, since the advice follows.

    `str` of py-amqp's and PyMySQL's errors adds numbers.
    """
    said = driver_error(error)
    match said.args:
        case (int(number), str(text)) if not isinstance(said, OSError):
            text = f"{text} ({number})"
        case _:
            text = getattr(said, "reply_text", None) or str(said)
    return next(iter(text.splitlines()), "").removesuffix(".")
