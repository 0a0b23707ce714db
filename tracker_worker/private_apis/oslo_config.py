# SPDX-License-Identifier: Apache-2.0
"""The uses of oslo.config's private API. Checked against the source of oslo.config 10.7.0."""

from typing import Any

from oslo_config import cfg


def check_files(conf: cfg.ConfigOpts) -> None:
    """Read the configuration files and check every option, without changing any.

    Private: `_reload_config_files`. The public `reload_config_files` logs an error with its own text, and
    changes options that are not mutable. Raises cfg.Error, and SystemExit for an invalid value of an option
    that is a command-line option too.
    """
    conf._reload_config_files()


def mutated_values(conf: cfg.ConfigOpts) -> Any:
    """Return the values of the last `mutate_config_files`, for `restore_mutated_values`; None before any.

    Private: `_mutable_ns`. oslo.config can apply new values, but cannot restore the former ones.
    """
    return conf._mutable_ns


def restore_mutated_values(conf: cfg.ConfigOpts, values: Any) -> None:
    """Restore the values of the mutable options that `mutated_values` returned."""
    conf._mutable_ns = values
    conf.register_opts([])  # Clears the cache of looked-up values.
