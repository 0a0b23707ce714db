# SPDX-License-Identifier: Apache-2.0
"""Reading the configuration again while the program runs: all of it takes effect, or nothing."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from oslo_config import cfg

from tracker_worker.cmd.bootstrap import configuration_text
from tracker_worker.cmd.misconfiguration import unknown_options
from tracker_worker.private_apis.oslo_config import check_files, mutated_values, restore_mutated_values

LOG = logging.getLogger(__name__)


def reload_options(conf: cfg.ConfigOpts) -> None:
    """Apply the mutable options of the files as they are now, and log what has changed.

    Whatever goes wrong is one line of the log; options and loggers stay as they were. Never raises.
    """
    said = io.StringIO()
    try:
        # oslo.config prints what is wrong with an option that the command line has too, and exits. Only the
        # reading is redirected: a new logging configuration may take sys.stderr for a handler.
        with redirect_stderr(said):
            check_files(conf)
        unknown = unknown_options(conf)
        with _all_or_nothing(conf):
            changed = conf.mutate_config_files()
    except (Exception, SystemExit) as error:
        text = said.getvalue().strip() or configuration_text(error)
    else:
        LOG.info("Options changed: %s", ", ".join(name for _, name in changed) or "none")
        for text in unknown:
            LOG.warning("%s", text)
        return
    # Out here: oslo.log adds the error that is being handled.
    LOG.error("The configuration was not read again, everything stays as it was: %s", text)


@contextmanager
def _all_or_nothing(conf: cfg.ConfigOpts) -> Iterator[None]:
    """On an error put back what oslo.config and oslo.log change before they find it.

    oslo.config takes the new values before it calls its hooks. That of oslo.log takes all handlers away
    before it parses the file of log_config_append.
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
