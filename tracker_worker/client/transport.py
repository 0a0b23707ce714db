# SPDX-License-Identifier: Apache-2.0
"""Makes a client's transport, and refuses a URL with an error that names its option and no part of it."""

from collections.abc import Sequence
from typing import Any

import oslo_messaging
from oslo_config import cfg

from tracker_worker.core.urls import ESCAPES, URLRefused, check_transport_url
from tracker_worker.private_apis.oslo_messaging import url_of

URL_OPTION = "[DEFAULT] transport_url"
"""The option of the broker's URL in a service that has no other."""


def transport_of(conf: Any, url: str | None, url_option: str | None, exmods: Sequence[str]) -> Any:
    """Return a transport to `url`, which stands in `url_option`, or without `url` to URL_OPTION's.

    `exmods` are the modules whose exceptions a reply may raise. Raises URLRefused.
    """
    option = (url_option or "url") if url else URL_OPTION
    try:
        transport = oslo_messaging.get_rpc_transport(conf, url=url, allowed_remote_exmods=exmods)
        check_transport_url(option, url or conf.transport_url)
        _refuse_slashes(option, transport)
    except URLRefused:
        raise
    # The texts of these errors contain parts of the password; that of cfg.Error what follows a $.
    except (
        ValueError,
        cfg.Error,
        oslo_messaging.InvalidTransportURL,
        oslo_messaging.DriverLoadFailure,
    ):
        raise URLRefused(
            f"{option} cannot be used: write rabbit://user:password@host:port/vhost, and in a "
            f"password {ESCAPES}"
        ) from None
    return transport


def _refuse_slashes(option: str, transport: Any) -> None:
    """Raise URLRefused for a character that oslo.messaging does not escape when it connects to RabbitMQ."""
    for host in url_of(transport).hosts:
        if "/" in f"{host.username}{host.password}":
            raise URLRefused(
                f"{option}: oslo.messaging cannot connect with a / in a user name or a password, escaped or "
                "not: choose another"
            )
