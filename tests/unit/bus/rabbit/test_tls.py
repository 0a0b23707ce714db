# SPDX-License-Identifier: Apache-2.0
"""TLS to RabbitMQ: certificate and name are always verified, and errors name the option to change."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from oslo_config import cfg
from oslo_messaging._drivers import impl_rabbit

from tests.servers.certificates import Certificates, make_certificates
from tracker_worker.bus.rabbit import tls
from tracker_worker.bus.rabbit.connection import CONNECTION_ERRORS, BrokerSettings, broker_settings, connect

GROUP = "oslo_messaging_rabbit"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


class Options:
    """Sets options of oslo.messaging's driver, TLS among them, and returns all of them."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf

    def __call__(self, **values: Any) -> cfg.ConfigOpts.GroupAttr:
        for name, value in {"ssl": True, **values}.items():
            self.conf.set_override(name, value, group=GROUP)
        made: cfg.ConfigOpts.GroupAttr = self.conf[GROUP]
        return made


@pytest.fixture
def options() -> Options:
    """The options of a configuration of the test's own, with TLS."""
    conf = cfg.ConfigOpts()
    conf([])
    conf.register_opts(impl_rabbit.rabbit_opts, group=GROUP)
    conf.register_opts(oslo_messaging._drivers.amqp.amqp_opts, group=GROUP)

    return Options(conf)


def settings(options: Options, port: int, **values: Any) -> BrokerSettings:
    url = oslo_messaging.TransportURL.parse(options.conf, f"rabbit://user:password@localhost:{port}/")
    return broker_settings(url, options(**values))


@contextmanager
def listening(files: Certificates | None) -> Iterator[int]:
    """A port that speaks TLS, or answers as a plain RabbitMQ does to what it does not understand."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, suppress(OSError):
                    _answer(client, files)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def _answer(client: socket.socket, files: Certificates | None) -> None:
    if files is None:
        client.recv(8)
        client.sendall(b"AMQP\x00\x00\x09\x01")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with context.wrap_socket(client, server_side=True) as wrapped:
        wrapped.recv(8)


def error_of(settings: BrokerSettings) -> str:
    with pytest.raises(CONNECTION_ERRORS) as caught:
        connect(settings, "test")
    return str(caught.value)


def test_tls_is_off_unless_it_is_configured(options: Options) -> None:
    assert settings(options, 1, ssl=False).tls is None


@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS is deprecated:DeprecationWarning")
@pytest.mark.parametrize("values", [{}, {"ssl_version": "sslv23"}], ids=["by default", "with ssl_version"])
def test_certificate_of_an_unknown_authority_is_refused_without_a_ca_file(
    options: Options, files: Certificates, values: dict[str, str]
) -> None:
    with listening(files) as port:
        said = error_of(settings(options, port, **values))
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "[oslo_messaging_rabbit] ssl_ca_file" in said


def test_name_that_the_certificate_does_not_have_is_refused(
    options: Options, tmp_path: Path, files: Certificates
) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("another-host")
    own = Certificates(tmp_path / "ca.pem", tmp_path / "certificate.pem", tmp_path / "key.pem")
    authority.cert_pem.write_to_path(own.authority)
    certificate.private_key_pem.write_to_path(own.key)
    certificate.cert_chain_pems[0].write_to_path(own.certificate)
    with listening(own) as port:
        said = error_of(settings(options, port, ssl_ca_file=str(own.authority)))
    assert "Hostname mismatch" in said
    assert "transport_url" in said


def test_certificate_of_the_ca_file_with_the_host_s_name_is_taken(
    options: Options, files: Certificates
) -> None:
    with listening(files) as port:
        said = error_of(settings(options, port, ssl_ca_file=str(files.authority)))
    assert "CERTIFICATE" not in said  # This server is no broker, and ends the connection.
    assert "TLS" not in said


def test_name_of_the_system_s_authorities_is_verified_too(options: Options) -> None:
    made = settings(options, 1)
    assert tls.of_host(made.tls, "one") == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": "one"}
    assert tls.of_host(None, "one") is False


def test_plain_amqp_to_a_tls_port_is_named(options: Options, files: Certificates) -> None:
    with listening(files) as port:
        said = error_of(settings(options, port, ssl=False))
    assert f"port {port} speaks TLS" in said
    assert "[oslo_messaging_rabbit] ssl = true" in said


def test_tls_to_a_plain_port_is_named(options: Options) -> None:
    with listening(None) as port:
        said = error_of(settings(options, port))
    assert said.startswith(f"port {port} does not speak TLS")


@pytest.mark.parametrize("name", ["ssl_ca_file", "ssl_cert_file", "ssl_key_file"])
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not PEM"])
def test_file_that_cannot_be_used_is_named_with_its_option(
    options: Options, files: Certificates, tmp_path: Path, name: str, content: str | None
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    right = {"ssl_cert_file": str(files.certificate), "ssl_key_file": str(files.key)}
    with pytest.raises(ValueError, match="cannot be used") as caught:
        settings(options, 1, **{**right, name: str(file)})
    assert f"{name} = {file}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_encrypted_key_is_refused_and_its_password_not_asked_for(
    options: Options, files: Certificates, tmp_path: Path
) -> None:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    encrypted = tmp_path / "key.pem"
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )
    with pytest.raises(ValueError, match="ssl_key_file"):
        settings(options, 1, ssl_cert_file=str(files.certificate), ssl_key_file=str(encrypted))


def test_key_without_its_certificate_is_refused(options: Options, files: Certificates) -> None:
    with pytest.raises(ValueError, match="ssl_key_file needs .* ssl_cert_file"):
        settings(options, 1, ssl_key_file=str(files.key))


def test_unknown_version_is_refused_with_those_that_are_known(options: Options) -> None:
    with pytest.raises(ValueError, match="ssl_version = tlsv9 is unknown: .*tlsv1"):
        settings(options, 1, ssl_version="tlsv9")


def test_options_that_have_no_effect_without_ssl_are_found(options: Options, files: Certificates) -> None:
    assert tls.ignored_options(options(ssl=False, ssl_ca_file="ca.pem")) == ["ssl_ca_file"]
    assert tls.ignored_options(options(ssl=True, ssl_ca_file="ca.pem")) == []
