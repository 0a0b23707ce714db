# SPDX-License-Identifier: Apache-2.0
"""Options in configuration files that no code reads: oslo.config accepts them silently."""

from collections.abc import Mapping

from oslo_config import cfg

from tracker_worker import option_errors
from tracker_worker.conf import opts

_GROUPS_OF_MESSAGING = ("oslo_messaging_",)


def unknown_options(conf: cfg.ConfigOpts) -> list[str]:
    """Return a line for each option in the configuration files that no code reads, with its file.

    No line contains a value. Raises cfg.Error for a file that cannot be read.
    """
    return option_errors.unknown_options(conf, opts.known_options(conf))


def unknown_options_of_commands(conf: cfg.ConfigOpts) -> list[str]:
    """Return what `unknown_options` returns, without the lines about groups of oslo.messaging.

    Workers check those. A command imports oslo.messaging only to see whether another option is one of its.
    """
    if not _lines_of_commands(conf, opts.options_of_commands(conf)):
        return []
    return _lines_of_commands(conf, opts.known_options(conf))


def _lines_of_commands(conf: cfg.ConfigOpts, known: Mapping[str, set[str]]) -> list[str]:
    return option_errors.unknown_options(conf, known, ignored=_GROUPS_OF_MESSAGING)
