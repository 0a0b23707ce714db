# SPDX-License-Identifier: Apache-2.0
"""No log record and no traceback contains a secret, even if a library logs one."""

import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_log import formatters, log

from tracker_worker.cmd.urls import checked_url, hide_secrets, url_of
from tracker_worker.core.urls import URLRefused, check_url, secrets_of

SECRET = "planted-secret"


@pytest.fixture(autouse=True)
def kept_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the hooks that are set for the whole process."""
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)  # Programs that ran in this process have set their own.
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    yield
    logging.setLogRecordFactory(factory)


class Logger(logging.Logger):
    """A logger that knows what it wrote."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__("driver")
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(formatter)
        self.addHandler(handler)

    def text(self) -> str:
        return self._stream.getvalue()


@pytest.fixture(params=["stock", "oslo", "json"])
def logger(request: pytest.FixtureRequest) -> Logger:
    """A logger with each of the formatters that an operator may configure."""
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    conf([])
    kinds: dict[str, Callable[[], logging.Formatter]] = {
        "stock": logging.Formatter,
        "oslo": lambda: formatters.ContextFormatter(config=conf),
        "json": formatters.JSONFormatter,
    }
    logger = Logger(kinds[request.param]())
    hide_secrets(secrets_of(f"rabbit://user:{SECRET}@host/v"))
    return logger


def test_message_and_arguments_are_logged_without_secret(logger: Logger) -> None:
    logger.warning("connecting to %s (%d)", f"host '{SECRET}@host'", 7)
    assert "host '***@host'" in logger.text() and "(7)" in logger.text()
    assert SECRET not in logger.text()


def test_arguments_that_do_not_match_the_format_are_logged_without_secret(
    logger: Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.warning("connecting %d", SECRET)
    assert SECRET not in logger.text() + capsys.readouterr().err


def test_traceback_is_logged_without_secret(logger: Logger) -> None:
    try:
        try:
            raise OSError(f"cannot resolve {SECRET}")
        except OSError as error:
            raise RuntimeError("no connection") from error
    except RuntimeError:
        logger.exception("lost")
    assert "cannot resolve ***" in logger.text() and "no connection" in logger.text()
    assert SECRET not in logger.text()


def test_error_that_is_being_handled_is_logged_without_secret(logger: Logger) -> None:
    """oslo.log appends it to the line."""
    try:
        raise OSError(f"cannot resolve {SECRET}")
    except OSError:
        logger.warning("again in 1 s")
    assert "again in 1 s" in logger.text()
    assert SECRET not in logger.text()


def test_control_characters_are_logged_escaped(logger: Logger) -> None:
    try:
        raise ValueError("\x9b31m")
    except ValueError:
        logger.exception("host %s\nand more", "\u202e")
    assert "\u202e" not in logger.text() and "\x9b" not in logger.text()
    assert "u202e" in logger.text() and "x9b31m" in logger.text()
    assert "u000a" not in logger.text()


def test_other_records_are_logged_unchanged(logger: Logger) -> None:
    try:
        raise OSError("no route")
    except OSError:
        logger.exception("lost %s", "host")
    assert "lost host" in logger.text() and "no route" in logger.text()


def test_error_that_ends_a_program_is_printed_without_secret(capsys: pytest.CaptureFixture[str]) -> None:
    hide_secrets(frozenset([SECRET]))
    try:
        raise OSError(f"cannot resolve {SECRET}")
    except OSError as error:
        sys.excepthook(OSError, error, error.__traceback__)
    assert "OSError: cannot resolve ***" in capsys.readouterr().err


def test_url_is_hidden_before_it_is_checked(logger: Logger) -> None:
    with pytest.raises(URLRefused):
        checked_url("[database] connection", "postgresql://user:other@more/secret@host/v", check_url)
    logger.warning("cannot resolve more/secret@host")
    assert "secret" not in logger.text()


def test_option_with_an_unescaped_dollar_is_named_without_its_value(tmp_path: Path) -> None:
    file = tmp_path / "conf"
    file.write_text(f"[database]\nconnection = postgresql://user:a${SECRET}@host/v\n")
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt("connection"), group="database")
    conf(["--config-file", str(file)])
    with pytest.raises(URLRefused, match=r"^\[database\] connection: write \$ as \$\$$"):
        url_of(conf, "database", "connection", check_url)
