# SPDX-License-Identifier: Apache-2.0
"""`config show`."""

from collections.abc import Container, Iterator
from typing import Any

from msgspec import Struct
from oslo_config import cfg

from tracker_worker.cmd.failures import configuration_text
from tracker_worker.cmd.manage.formatting import TABLE, print_diagnostic, print_document, print_rows
from tracker_worker.conf import opts
from tracker_worker.core.urls import MASK, printable_parameters, printable_url_with_users

_DEFAULT = "default"
_SECRET_WORDS = ("password", "secret", "token")
"""Words in names of options that libraries do not declare as secret."""

_URLS = ("url", "connection", "endpoint_override")
"""Ends of the names of the options whose values are URLs: libraries declare the whole URL as secret."""

_RABBIT = "oslo_messaging_rabbit"
"""The group whose options the query of a transport_url may have."""


class Setting(Struct, frozen=True):
    """The effective value of an option, and the file or the environment variable that it comes from.

    Secrets are masked. `value` is None for an option without a value.
    """

    option: str
    value: Any
    source: str


def show(conf: cfg.ConfigOpts, args: Any) -> int:
    """Show the options of a worker with this configuration; exit code 1 if a value is invalid."""
    worker = _configuration_of_worker(conf)
    invalid: list[str] = []
    found = [
        setting
        for group, options in (*opts.options_of_workers(), *opts.options_of_plugins(worker))
        for setting in _settings(worker, group, options, invalid)
        if args.all_options or setting.source != _DEFAULT
    ]
    if args.format != TABLE:
        print_document(found, args.format)
    else:
        print_rows(Setting.__struct_fields__, map(_row, found))
    for text in invalid:
        print_diagnostic(text)
    return int(bool(invalid))


def _row(setting: Setting) -> tuple[Any, ...]:
    """Return a row whose value is a text, as in a configuration file: not a number, which is aligned."""
    value = setting.value
    if isinstance(value, bool | int | float):
        value = str(value).lower()
    return setting.option, value, setting.source


def _configuration_of_worker(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    """Return the configuration that a worker would have: a command registers few of its options."""
    opts.set_defaults()
    worker = cfg.ConfigOpts()
    for group, options in opts.options_of_workers():
        worker.register_opts(options, group=None if group == "DEFAULT" else group)
    files = {"default_config_files": conf.config_file, "default_config_dirs": conf.config_dir}
    worker([], project="tracker-worker", **files)
    for group, options in opts.options_of_plugins(worker):
        worker.register_opts(options, group=group)
    return worker


def _settings(
    worker: cfg.ConfigOpts, group: str, options: list[cfg.Opt], invalid: list[str]
) -> Iterator[Setting]:
    parameters = frozenset(worker[_RABBIT])
    values = worker if group == "DEFAULT" else worker[group]
    for option in options:
        name = f"[{group}] {option.dest}"
        try:
            value = values[option.dest]
        except (cfg.NoSuchOptError, cfg.TemplateSubstitutionError):
            # The error quotes what follows the $, which may be of a password in whatever option.
            invalid.append(f"{name}: write $ as $$")
            continue
        except (cfg.Error, ValueError) as error:
            invalid.append(f"{name}: {MASK if option.secret else configuration_text(error)}")
            continue
        yield Setting(name, _printable(option, value, parameters), _source(worker, group, option))


def _source(worker: cfg.ConfigOpts, group: str, option: cfg.Opt) -> str:
    place = worker.get_location(option.dest, None if group == "DEFAULT" else group)
    if place is None or not place.location.is_user_controlled:
        return _DEFAULT
    return str(place.detail)


def _printable(option: cfg.Opt, value: Any, parameters: Container[str]) -> Any:
    """Return a value without its secrets: of a URL, the password and most of what is behind the ?."""
    is_text = isinstance(value, str)
    if value and is_text and (option.secret and option.dest.endswith(_URLS)):
        return printable_url_with_users(value, parameters)
    if value and (option.secret or any(word in option.dest for word in _SECRET_WORDS)):
        return MASK
    if is_text and option.dest == "connection_parameters":
        return printable_parameters(value)
    # A URL in the wrong option has its password, too.
    return printable_url_with_users(value, parameters) if is_text and "://" in value else value
