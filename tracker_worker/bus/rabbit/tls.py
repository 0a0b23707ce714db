# SPDX-License-Identifier: Apache-2.0
"""TLS to RabbitMQ: parameters from oslo.messaging's options, and errors that name the option to change.

The certificate and the host name in it are always verified. oslo.messaging's driver verifies the name only
with `ssl_ca_file`, and nothing with `ssl_version` alone.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tracker_worker.private_apis.oslo_messaging import tls_versions

_GROUP = "[oslo_messaging_rabbit]"
_FILES = ("ssl_ca_file", "ssl_cert_file", "ssl_key_file")
_SECONDS = 5.0


def parameters(options: Any) -> dict[str, Any]:
    """Return py-amqp's parameters for TLS, without the host's name, which `of_host` adds.

    Without `ssl_ca_file` the system's CAs are trusted. Raises ValueError, which names the option, for a file
    or a version that cannot be used.
    """
    found: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED}
    if options.ssl_version:
        versions = tls_versions()
        version = options.ssl_version.lower()
        if version not in versions:
            raise ValueError(
                f"{_GROUP} ssl_version = {options.ssl_version} is unknown: unset it, or set one of "
                f"{', '.join(versions)}"
            )
        found["ssl_version"] = versions[version]
    for name in _FILES:
        if path := getattr(options, name):
            with _named(f"{name} = {path}"), open(path, "rb"):
                pass
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.ssl_ca_file:
        with _named(f"ssl_ca_file = {options.ssl_ca_file}"):
            context.load_verify_locations(options.ssl_ca_file)
        found["ca_certs"] = options.ssl_ca_file
    if options.ssl_key_file and not options.ssl_cert_file:
        raise ValueError(f"{_GROUP} ssl_key_file needs the certificate of its key in ssl_cert_file")
    if options.ssl_cert_file:
        with _named(f"ssl_cert_file = {options.ssl_cert_file}, ssl_key_file = {options.ssl_key_file}"):
            # With an empty password OpenSSL does not prompt for the password of an encrypted key.
            context.load_cert_chain(options.ssl_cert_file, options.ssl_key_file, password="")
        found |= {"certfile": options.ssl_cert_file, "keyfile": options.ssl_key_file}
    return found


def ignored_options(options: Any) -> list[str]:
    """Return the names of options that have no effect because `ssl` is off."""
    return [] if options.ssl else [name for name in (*_FILES, "ssl_version") if getattr(options, name)]


def of_host(found: dict[str, Any] | None, hostname: str) -> dict[str, Any] | bool:
    """Return the parameters for one host, with an explicit name, which kombu keeps; False without TLS."""
    return found is not None and {**found, "server_hostname": hostname}


def explained(error: Exception, hostname: str, port: int, *, tls: bool) -> Exception:
    """Return an error that names the option if a connection failed because of TLS; any other unchanged.

    May open one more connection, to check whether the port accepts TLS.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConnectionError(
            f"{error}: the authority has to be the system's or in {_GROUP} ssl_ca_file, and the host in "
            "transport_url one that the certificate names"
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return ConnectionError(
            f"port {port} does not speak TLS: name RabbitMQ's TLS port (5671) in transport_url, or unset "
            f"{_GROUP} ssl"
        )
    if not tls and _is_cut_off(error) and _accepts_tls(hostname, port):
        return ConnectionError(f"port {port} speaks TLS ({error}): set {_GROUP} ssl = true")
    return error


def _is_cut_off(error: Exception) -> bool:
    """Tell whether the peer accepted the TCP connection and closed it before it sent any AMQP."""
    before = (ConnectionRefusedError, TimeoutError, socket.gaierror)
    return isinstance(error, OSError) and not isinstance(error, before)


def _accepts_tls(hostname: str, port: int) -> bool:
    try:
        ssl.get_server_certificate((hostname, port), timeout=_SECONDS)
    except ssl.SSLError as error:
        return error.reason != "WRONG_VERSION_NUMBER"
    except OSError:
        return False
    return True


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is an OSError.
        way_out = "" if isinstance(error, ssl.SSLError) else "; name a file that this user can read"
        raise ValueError(f"{_GROUP} {what} cannot be used: {error.strerror or error}{way_out}") from None
