# SPDX-License-Identifier: Apache-2.0
"""A client of Placement is made of the options as of nova.conf; what cannot work is refused in words."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from tests.servers.certificates import make_certificates
from tracker_worker.cmd.placement import placement_client
from tracker_worker.cmd.unknown_options import unknown_options_of_commands
from tracker_worker.placement.client import PlacementClient

SECRET = "PLANTED-secret"
URL = "http://127.0.0.1:1"
PASSWORD = f"""
auth_type = password
auth_url = {URL}/v3
username = nova
password = {SECRET}
user_domain_name = Default
project_name = service
project_domain_name = Default
"""

Configured = Callable[[str], cfg.ConfigOpts]


@pytest.fixture(autouse=True)
def kept_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the hooks that are set for the whole process."""
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    yield
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize(
    "text",
    [
        PASSWORD,
        f"auth_type = v3applicationcredential\nauth_url = {URL}\napplication_credential_id = a\n"
        f"application_credential_secret = {SECRET}",
        f"auth_type = admin_token\nendpoint = {URL}\ntoken = {SECRET}",
        f"auth_type = none\nendpoint_override = {URL}",
        f"auth_section = login\n[login]{PASSWORD}",
    ],
    ids=["password", "application-credential", "admin-token", "none", "section"],
)
def test_login_of_nova_conf_makes_a_client(placement_options: Configured, text: str) -> None:
    conf = placement_options(text)
    assert isinstance(placement_client(conf), PlacementClient)
    assert isinstance(placement_client(conf), PlacementClient), "a second time"
    assert [line for line in unknown_options_of_commands(conf) if "DEFAULT" not in line] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "[placement] auth_type is not set: set it and the options of its plugin, as in nova.conf"),
        ("auth_section = login", "[login] auth_type is not set"),
        (
            "auth_type = passwort",
            "auth_type = passwort: keystoneauth has no such plugin; did you mean password?",
        ),
        ("auth_type = xyz", "keystoneauth has no such plugin; use password or v3applicationcredential"),
        (
            "auth_type = password",
            "[placement] auth_type = password: auth_url, password, username or user_id must be set too",
        ),
        (PASSWORD.replace(f"password = {SECRET}", ""), "auth_type = password: password must be set too"),
        (PASSWORD.replace(f"= {SECRET}", "="), "auth_type = password: password must be set too"),
        (
            PASSWORD.replace("username = nova", ""),
            "auth_type = password: username or user_id must be set too",
        ),
        (PASSWORD.replace("auth_url", "#"), "auth_type = password: auth_url must be set too"),
        (
            f"auth_section = login\n[login]{PASSWORD.replace(f'password = {SECRET}', '')}",
            "[login] auth_type = password: password must be set too",
        ),
        (f"auth_type = http_basic\nendpoint = {URL}\nusername = nova", "password must be set too"),
        (
            f"auth_type = v3applicationcredential\nauth_url = {URL}\napplication_credential_id = a",
            "auth_type = v3applicationcredential: application_credential_secret must be set too",
        ),
        (
            f"auth_type = v3password\nauth_url = {URL}\nusername = nova\npassword = {SECRET}",
            "[placement] auth_type = v3password: You have provided a username",
        ),
        ("auth_type = password\nauth_url = keystone/v3", "[placement] auth_url: a URL looks like scheme://"),
        (f"{PASSWORD}endpoint_override = placement", "[placement] endpoint_override: a URL looks like"),
        (f"{PASSWORD}timeout = 0", "[placement] timeout"),
        (f"{PASSWORD}valid_interfaces = private", "[placement] valid_interfaces"),
        (
            f"{PASSWORD}cafile = /no/file",
            "[placement] cafile = /no/file: No such file or directory; name files",
        ),
        (f"{PASSWORD}certfile = /no/file", "[placement] certfile = /no/file, keyfile = None: No such file"),
        (PASSWORD.replace(f"= {SECRET}", f"= pa${SECRET}"), "[placement] password: write $ as $$"),
        (PASSWORD.replace(f"= {SECRET}", "= pa${PLANTED}"), "[placement] password: write $ as $$"),
        (PASSWORD.replace("/v3", f"/${SECRET}"), "[placement] auth_url: write $ as $$"),
        (f"{PASSWORD}keyfile = /no/file", "[placement] keyfile needs the certificate of its key in certfile"),
    ],
)
def test_login_that_cannot_work_is_refused_in_one_line(
    placement_options: Configured, text: str, said: str
) -> None:
    with pytest.raises(ValueError) as caught:
        placement_client(placement_options(text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "PLANTED" not in str(caught.value)


def test_certificates_that_can_be_read_are_taken(placement_options: Configured, tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    placement_client(
        placement_options(
            f"{PASSWORD}cafile = {files.authority}\ncertfile = {files.certificate}\nkeyfile = {files.key}"
        )
    )


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (PASSWORD, SECRET),
        (f"auth_type = admin_token\nendpoint = {URL}\ntoken = {SECRET}", SECRET),
        (PASSWORD.replace("://", f"://user:{SECRET}2@"), f"{SECRET}2"),
        (f"{PASSWORD}endpoint_override = http://user:{SECRET}3@127.0.0.1:1", f"{SECRET}3"),
        (f"auth_type = none\nendpoint = http://user:{SECRET}4@127.0.0.1:1", f"{SECRET}4"),
    ],
    ids=["password", "token", "auth-url", "endpoint-override", "endpoint"],
)
def test_log_has_no_secret_of_the_login(
    placement_options: Configured, caplog: pytest.LogCaptureFixture, text: str, secret: str
) -> None:
    placement_client(placement_options(text))
    logging.getLogger("any").error("it is %s", secret)
    assert secret not in caplog.text
    assert "it is ***" in caplog.text
