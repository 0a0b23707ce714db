# SPDX-License-Identifier: Apache-2.0
"""Makes a client's transport, and refuses a URL with an error that names its option and no secret of it."""

import functools
from collections.abc import Sequence
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging.opts import list_opts

from tracker_worker.core.urls import (
    NO_SLASH,
    TRANSPORT_ESCAPES,
    URLRefused,
    check_parameters,
    check_transport_url,
)
from tracker_worker.core.urls import TRANSPORT_FORM as TRANSPORT_FORM
from tracker_worker.private_apis.oslo_messaging import url_of

URL_OPTION = "[DEFAULT] transport_url"
"""The option of the broker's URL in a service that has no other."""


def transport_of(conf: Any, url: str | None, url_option: str | None, exmods: Sequence[str]) -> Any:
    """Return a transport to `url`, which stands in `url_option`, or without `url` to URL_OPTION's.

    `exmods` are the modules whose exceptions a reply may raise. Raises URLRefused.
    """
    option = (url_option or "url") if url else URL_OPTION
    given = url or _configured(conf)
    check_broker_url(option, given)
    # The texts of these errors contain parts of the password.
    try:
        transport = oslo_messaging.get_rpc_transport(conf, url=url, allowed_remote_exmods=exmods)
    except (ImportError, oslo_messaging.DriverLoadFailure):
        raise URLRefused(
            f"{option} cannot be used: oslo.messaging has no driver for {_scheme(given)}://; for RabbitMQ "
            f"write {TRANSPORT_FORM}"
        ) from None
    except (ValueError, cfg.Error, oslo_messaging.InvalidTransportURL):
        raise URLRefused(
            f"{option} cannot be used: write {TRANSPORT_FORM}, and in a password {TRANSPORT_ESCAPES}"
        ) from None
    _refuse_slashes(option, transport)
    return transport


def check_broker_url(option: str, url: str) -> None:
    """Check the URL of a transport, for RabbitMQ also the options behind its ?. Raises URLRefused."""
    check_transport_url(option, url)
    if is_for_rabbitmq(url):
        check_parameters(option, url, _rabbit_parameters())


def is_for_rabbitmq(url: str) -> bool:
    """Whether oslo.messaging takes a URL for RabbitMQ: rabbit://, or kombu:// and kombu+amqp:// of old."""
    driver, _, transport = _scheme(url).partition("+")
    return driver in ("rabbit", "kombu") and transport != "memory"


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


@functools.cache  # oslo.messaging copies all its options in depth: milliseconds.
def _rabbit_parameters() -> dict[str, Any]:
    """Return the type of each option that may stand behind the ? of a URL, by its name."""
    return {
        option.dest: option.type
        for group, options in list_opts()
        if group == "oslo_messaging_rabbit"
        for option in options
    }


def _configured(conf: Any) -> str:
    oslo_messaging.TransportURL(conf)  # Registers the option.
    try:
        url: str = conf.transport_url
    except cfg.Error:  # Its text quotes what follows a $, a part of the URL.
        raise URLRefused(f"{URL_OPTION}: write $ as $$") from None
    return url


def _refuse_slashes(option: str, transport: Any) -> None:
    """Raise URLRefused for a character that oslo.messaging does not escape when it connects to RabbitMQ."""
    for host in url_of(transport).hosts:
        if "/" in f"{host.username}{host.password}":
            raise URLRefused(f"{option}: there is a / in a user name or a password: {NO_SLASH}")
