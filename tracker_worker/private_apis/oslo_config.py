# SPDX-License-Identifier: Apache-2.0
"""What is private to oslo.config and used here. Read in oslo.config 10.7.0."""

from typing import Any

from oslo_config import cfg


def check_files(conf: cfg.ConfigOpts) -> None:
    """Read the configuration files and check every option, and change nothing.

    Private: `_reload_config_files`. The public `reload_config_files` logs what is wrong in words of its own,
    and changes the options that must not change while a program runs. Raises cfg.Error, and SystemExit for
    a wrong value of an option that the command line has too.
    """
    conf._reload_config_files()


def mutated_values(conf: cfg.ConfigOpts) -> Any:
    """Return what `mutate_config_files` read last, for `restore_mutated_values`; None before the first time.

    Private: `_mutable_ns`. oslo.config can apply new values and cannot go back to the former ones.
    """
    return conf._mutable_ns


def restore_mutated_values(conf: cfg.ConfigOpts, values: Any) -> None:
    """Have the mutable options the values again that `mutated_values` returned."""
    conf._mutable_ns = values
    conf.register_opts([])  # Forgets the newer values that were looked up.
