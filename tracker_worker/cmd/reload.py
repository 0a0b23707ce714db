# SPDX-License-Identifier: Apache-2.0
"""Reload of the configuration in a running program: all changes take effect, or none."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

from oslo_config import cfg
from oslo_log.log import LogConfigError

from tracker_worker.cmd.bootstrap import register_without_log, settings_of, transports
from tracker_worker.cmd.failures import configuration_text
from tracker_worker.cmd.unknown_options import unknown_options
from tracker_worker.private_apis.oslo_config import check_files, mutated_values, restore_mutated_values

LOG = logging.getLogger(__name__)


def reload_options(conf: cfg.ConfigOpts) -> None:
    """Read the files again, apply the mutable options and log which have changed.

    oslo.config logs a warning for each other option that has changed; such an option needs a restart. Its new
    value is checked as at a start, and a fault is logged. If the files cannot be read, the error is logged in
    one line, and all options and loggers keep their state. Never raises.
    """
    printed = io.StringIO()
    handlers = _handlers()
    try:
        # oslo.config prints the error of an option that the command line has too, and exits. Only this call
        # is redirected: a new logging configuration may create a handler on sys.stderr.
        with redirect_stderr(printed):
            check_files(conf)
        unknown = unknown_options(conf)
        with _all_or_nothing(conf):
            changed = _mutate(conf)
    except (Exception, SystemExit) as error:
        text = printed.getvalue().strip() or configuration_text(error)
    else:
        LOG.info("Options changed: %s", ", ".join(name for _, name in changed) or "none")
        if conf.log_config_append and _handlers() != handlers:
            LOG.info("Logging was read again from %s", conf.log_config_append)
        _, debug = changed.get((None, "debug"), (None, None))
        if debug is not None and conf.log_config_append:
            LOG.warning(
                "[DEFAULT] debug: overruled by log_config_append; set levels in %s", conf.log_config_append
            )
        for text in unknown:
            LOG.warning("%s", text)
        if fault := _fault_of_next_start(conf):
            LOG.error("The worker goes on, but will not start again with these files: %s", fault)
        return
    # Outside of the except clause: oslo.log appends an exception that is being handled to the line.
    LOG.error("The configuration was not read again, everything stays as it was: %s", text)


def _mutate(conf: cfg.ConfigOpts) -> dict[tuple[str | None, str], tuple[Any, Any]]:
    """Apply the mutable options, and read the file of log_config_append again if it has changed.

    Raises ValueError, which names that file, for what oslo.log raises no error of its own for.
    """
    try:
        changed: dict[tuple[str | None, str], tuple[Any, Any]] = conf.mutate_config_files()
        return changed
    except (cfg.Error, LogConfigError):
        raise
    except Exception as error:
        if not conf.log_config_append:
            raise
        raise ValueError(f"[DEFAULT] log_config_append = {conf.log_config_append}: {error}") from error


def _handlers() -> list[logging.Handler]:
    """Return the handlers of all loggers: a logging configuration that is read again makes new ones."""
    return [handler for logger in _loggers() for handler in logger.handlers]


def _fault_of_next_start(conf: cfg.ConfigOpts) -> str | None:
    """Return why a worker cannot start with the files as they are now; None if it can."""
    fresh = cfg.ConfigOpts()
    register_without_log(fresh)
    try:
        fresh([], default_config_files=conf.config_file, default_config_dirs=conf.config_dir)
        for transport in transports(fresh):
            transport.cleanup()
        settings_of(fresh)
    except Exception as error:  # Whatever it is, the next start raises it, and this worker goes on.
        return configuration_text(error)
    return None


@contextmanager
def _all_or_nothing(conf: cfg.ConfigOpts) -> Iterator[None]:
    """Restore the options and the loggers on an error.

    oslo.config applies the new values before it calls the mutate hooks. The hook of oslo.log removes all
    handlers before it parses the file of log_config_append.
    """
    values = mutated_values(conf)
    loggers = [
        (logger, logger.level, logger.handlers[:], logger.propagate, logger.disabled) for logger in _loggers()
    ]
    try:
        yield
    except BaseException:
        restore_mutated_values(conf, values)
        for logger, level, handlers, propagate, disabled in loggers:
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.propagate, logger.disabled = propagate, disabled
        raise


def _loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.values()
    return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]
