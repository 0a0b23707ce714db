# SPDX-License-Identifier: Apache-2.0
"""A client of Placement from the options of [placement], which are those of keystoneauth in nova.conf."""

import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from keystoneauth1 import loading
from keystoneauth1.adapter import Adapter
from keystoneauth1.exceptions import ClientException, NoMatchingPlugin
from keystoneauth1.plugin import BaseAuthPlugin
from keystoneauth1.session import Session
from oslo_config import cfg

from tracker_worker.cmd.urls import hide_secrets, url_of
from tracker_worker.conf import placement
from tracker_worker.core.urls import MIN_SECRET, check_url, secrets_of
from tracker_worker.option_errors import wrong_values
from tracker_worker.placement.api import Observe
from tracker_worker.placement.client import PlacementClient
from tracker_worker.placement.http import PlacementHTTP, ignore

GROUP = placement.GROUP.name
_PROMPTED = frozenset(["password"])
"""Options that plugins do not call required, because command-line clients prompt for them."""
_USERS = ("username", "user_id")
"""Options of which a plugin with a password needs one."""


def placement_client(conf: cfg.ConfigOpts, observe: Observe = ignore) -> PlacementClient:
    """Return a client of the configured Placement, which is not asked yet, nor is Keystone.

    From now on the log has no secret of the options. Raises ValueError for options that cannot be used; its
    text is for the user.
    """
    if wrong := wrong_values(conf, GROUP):
        raise ValueError("; ".join(wrong))
    options = conf[GROUP]
    _check_files(options)
    endpoint = url_of(conf, GROUP, "endpoint_override", check_url) or None
    plugin, secrets = _login(conf)
    secrets |= secrets_of(endpoint)
    hide_secrets(secrets)
    session: Session = loading.load_session_from_conf_options(conf, GROUP)
    adapter = Adapter(
        session,
        auth=plugin,
        service_type=options.service_type,
        service_name=options.service_name,
        interface=options.valid_interfaces,
        region_name=options.region_name,
        endpoint_override=endpoint,
        connect_retries=options.connect_retries,
        connect_retry_delay=options.connect_retry_delay,
        status_code_retries=options.status_code_retries,
        status_code_retry_delay=options.status_code_retry_delay,
        retriable_status_codes=options.retriable_status_codes,
    )
    return PlacementClient(PlacementHTTP(adapter, time.monotonic, observe, secrets=secrets))


def _login(conf: cfg.ConfigOpts) -> tuple[BaseAuthPlugin, frozenset[str]]:
    """Return the plugin that is configured, and its secrets."""
    group = placement.auth_group(conf)
    values = conf[group]
    if not values.auth_type:
        raise ValueError(
            f"[{group}] auth_type is not set: set it and the options of its plugin, as in nova.conf, for "
            "example auth_type = password with auth_url, username, password, user_domain_name, project_name "
            "and project_domain_name"
        )
    where = f"[{group}] auth_type = {values.auth_type}"
    loader = _loader(where, values.auth_type)
    for section, options in placement.plugin_options(conf):
        conf.register_opts(options, group=section)
    if "auth_url" in values:
        url_of(conf, group, "auth_url", check_url)
    given = {option.dest: _value(values, group, option.dest) for option in loader.get_options()}
    secrets = frozenset[str]().union(*(_secrets_of(given, each) for each in loader.get_options()))
    _check_presence(where, given, loader.get_options())
    with _named(where):
        return loader.load_from_options_getter(lambda option: given[option.dest]), secrets


def _value(values: Any, group: str, name: str) -> Any:
    """Return the value of a plugin's option. Raises ValueError without its value."""
    try:
        return values[name]
    except (cfg.NoSuchOptError, cfg.TemplateSubstitutionError):
        # oslo.config substitutes $name, and its error quotes the name: a part of the password, say.
        raise ValueError(f"[{group}] {name}: write $ as $$") from None


def _check_presence(where: str, values: Mapping[str, Any], options: Iterable[Any]) -> None:
    """Raise ValueError with the names of all options that the plugin needs and does not have."""
    known = {option.dest for option in options}
    needed = [option.dest for option in options if option.required or option.dest in _PROMPTED]
    missing = [name for name in needed if not values[name]]
    users = [name for name in _USERS if name in known]
    if _PROMPTED & known and not any(values[name] for name in users):
        missing.append(" or ".join(users))
    if missing:
        raise ValueError(f"{where}: {', '.join(missing)} must be set too")


def _secrets_of(values: Mapping[str, Any], option: Any) -> frozenset[str]:
    """Return what of the value of a plugin's option must not be printed."""
    value = str(values[option.dest] or "")
    if "://" in value:
        return secrets_of(value)
    return frozenset([value] if option.secret and len(value) >= MIN_SECRET else [])


def _loader(where: str, name: str) -> Any:
    try:
        return loading.get_plugin_loader(name)
    except NoMatchingPlugin:
        similar = get_close_matches(name, loading.get_available_plugin_names(), n=1)
        hint = f"did you mean {similar[0]}?" if similar else "use password or v3applicationcredential"
        raise ValueError(f"{where}: keystoneauth has no such plugin; {hint}") from None


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Convert what a plugin says of its options to ValueError: its texts quote no values."""
    try:
        yield
    except ClientException as error:
        raise ValueError(f"{where}: {' '.join(str(error).split())}") from None


def _check_files(options: Any) -> None:
    """Raise ValueError for certificates that cannot be read: each request would fail with them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.cafile:
        with _readable(f"cafile = {options.cafile}"):
            context.load_verify_locations(options.cafile)
    if options.keyfile and not options.certfile:
        raise ValueError(f"[{GROUP}] keyfile needs the certificate of its key in certfile")
    if options.certfile:
        with _readable(f"certfile = {options.certfile}, keyfile = {options.keyfile}"):
            # With an empty password OpenSSL does not prompt for the password of an encrypted key.
            context.load_cert_chain(options.certfile, options.keyfile, password="")


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"[{GROUP}] {what}: {reason}; name files that the worker's user can read") from None
