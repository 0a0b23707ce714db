# SPDX-License-Identifier: Apache-2.0
"""The options of [placement] lead to a real Placement: with a password by Keystone's catalog, and without."""

import http.server
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from keystoneauth1.adapter import Adapter
from keystoneauth1.identity import Password
from keystoneauth1.session import Session
from oslo_config import cfg

from tests.integration.placement_clients import a_uuid
from tests.servers.certificates import Certificates
from tests.servers.placement import Placement
from tests.servers.ports import LOOPBACK
from tracker_worker.cmd.placement import placement_client
from tracker_worker.conf import opts
from tracker_worker.placement.client import PlacementClient
from tracker_worker.placement.errors import (
    PlacementRefused,
    PlacementUnauthorized,
    PlacementUnavailable,
    WrongEndpoint,
)
from tracker_worker.placement.http import PlacementHTTP

PASSWORD = "a-password-of-the-test"
NOWHERE = "http://127.0.0.1:1"


class Keystone:
    """Tokens and the catalog of Keystone's API v3, with Placement at a URL in RegionTwo, internally."""

    def __init__(self, placement: str) -> None:
        self.logins: list[Any] = []
        self.url = ""
        self._endpoints = [
            {"id": "1", "interface": "internal", "region": "RegionOne", "url": NOWHERE},
            {"id": "2", "interface": "public", "region": "RegionTwo", "url": NOWHERE},
            {"id": "3", "interface": "internal", "region": "RegionTwo", "url": placement},
        ]
        for endpoint in self._endpoints:
            endpoint["region_id"] = endpoint["region"]

    def token(self, login: Any) -> tuple[int, Any]:
        """The status and the body of the answer to a login."""
        self.logins.append(login)
        if login["auth"]["identity"]["password"]["user"]["password"] != PASSWORD:
            return 401, {"error": {"code": 401, "title": "Unauthorized", "message": "no"}}
        service = {"id": "p", "type": "placement", "name": "placement", "endpoints": self._endpoints}
        times = {"issued_at": "2026-01-01T00:00:00.000000Z", "expires_at": "2999-01-01T00:00:00.000000Z"}
        return 201, {"token": {"methods": ["password"], "catalog": [service], **times}}


@contextmanager
def served(keystone: Keystone) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*keystone.token(json.loads(body)))

        def do_GET(self) -> None:
            links = [{"rel": "self", "href": f"{keystone.url}/v3/"}]
            self.answer(200, {"version": {"id": "v3.14", "status": "stable", "links": links}})

        def answer(self, status: int, body: Any) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("X-Subject-Token", Placement.admin)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        server.daemon_threads = True
        keystone.url = f"http://{LOOPBACK}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture
def keystone(placement: Placement) -> Iterator[Keystone]:
    made = Keystone(placement.url)
    with served(made):
        yield made


def configured(tmp_path: Path, **options: object) -> PlacementClient:
    """A client by these options of [placement]."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    file = tmp_path / "test.conf"
    lines = [f"{name} = {value}" for name, value in options.items()]
    file.write_text("\n".join(["[placement]", *lines, ""]))
    conf([], default_config_files=[str(file)], project="test")
    return placement_client(conf)


def with_password(keystone: Keystone, tmp_path: Path, **more: object) -> PlacementClient:
    login = {
        "auth_type": "password",
        "auth_url": f"{keystone.url}/v3",
        "username": "tracker",
        "password": PASSWORD,
        "user_domain_name": "Default",
        "project_name": "service",
        "project_domain_name": "Default",
        "region_name": "RegionTwo",
        "connect_retries": 0,
    }
    return configured(tmp_path, **login | more)


@pytest.mark.parametrize("plugin", ["password", "v3password"])
def test_password_leads_to_the_internal_endpoint_of_the_region(
    keystone: Keystone, tmp_path: Path, plugin: str
) -> None:
    client = with_password(keystone, tmp_path, auth_type=plugin)
    assert keystone.logins == []
    client.check_version()
    node = a_uuid()
    client.create(node, f"node-{node}", None)
    assert [each.uuid for each in client.tree(node)] == [node]
    (login,) = keystone.logins
    assert login["auth"]["scope"]["project"] == {"name": "service", "domain": {"name": "Default"}}


def test_wrong_password_may_be_tried_again(keystone: Keystone, tmp_path: Path) -> None:
    client = with_password(keystone, tmp_path, password="another-password")
    for _ in range(2):
        with pytest.raises(PlacementUnauthorized, match="GET /resource_providers: Unauthorized: ") as caught:
            client.tree(a_uuid())
        assert "another-password" not in str(caught.value)
    assert len(keystone.logins) == 2


def test_region_without_placement_is_named(keystone: Keystone, tmp_path: Path) -> None:
    client = with_password(keystone, tmp_path, region_name="RegionThree")
    with pytest.raises(WrongEndpoint, match="EndpointNotFound: .*RegionThree"):
        client.tree(a_uuid())


def test_keystone_that_is_away_may_be_tried_again(keystone: Keystone, tmp_path: Path) -> None:
    client = with_password(keystone, tmp_path, auth_url="http://127.0.0.1:1/v3")
    with pytest.raises(PlacementUnavailable, match="Connection refused|Could not find versioned identity"):
        client.tree(a_uuid())


@pytest.mark.parametrize("path", ["", "/v3", "/identity"])
def test_auth_url_of_another_service_is_a_wrong_endpoint(
    keystone: Keystone, placement: Placement, tmp_path: Path, path: str
) -> None:
    client = with_password(keystone, tmp_path, auth_url=f"{placement.url}{path}")
    with pytest.raises(WrongEndpoint, match=r"correct \[placement\] endpoint_override"):
        client.tree(a_uuid())


def test_login_without_a_password_is_an_error_of_the_login(keystone: Keystone) -> None:
    plugin = Password(f"{keystone.url}/v3", username="tracker", user_domain_name="Default")
    adapter = Adapter(Session(plugin), service_type="placement")
    with pytest.raises(PlacementUnauthorized, match="password is a required attribute"):
        PlacementClient(PlacementHTTP(adapter, time.monotonic)).tree(a_uuid())


def test_endpoint_override_replaces_the_catalog(
    keystone: Keystone, placement: Placement, tmp_path: Path
) -> None:
    client = with_password(
        keystone, tmp_path, region_name="RegionThree", endpoint_override=f"{placement.url}/"
    )
    assert client.tree(a_uuid()) == []


def test_placement_without_keystone_needs_a_token(placement: Placement, tmp_path: Path) -> None:
    token = {"auth_type": "admin_token", "endpoint": placement.url}
    assert configured(tmp_path, token=Placement.admin, **token).tree(a_uuid()) == []
    with pytest.raises(PlacementRefused, match="403"):
        configured(tmp_path, token="another-token", **token).tree(a_uuid())
    with pytest.raises(PlacementRefused, match="403"):
        configured(tmp_path, auth_type="none", endpoint_override=placement.url).tree(a_uuid())


def test_timeout_of_the_options_bounds_a_request(tmp_path: Path) -> None:
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), http.server.BaseHTTPRequestHandler) as silent:
        url = f"http://{LOOPBACK}:{silent.server_port}"
        client = configured(tmp_path, auth_type="none", endpoint_override=url, timeout=0.1, connect_retries=0)
        with pytest.raises(PlacementUnavailable, match="timed out"):
            client.tree(a_uuid())


def test_certificates_that_are_removed_later_may_be_tried_again(
    placement: Placement, certificates: Certificates, tmp_path: Path
) -> None:
    authority = Path(shutil.copy(certificates.authority, tmp_path / "ca.pem"))
    url = placement.url.replace("http:", "https:")
    client = configured(tmp_path, auth_type="none", endpoint_override=url, cafile=authority)
    authority.unlink()
    with pytest.raises(PlacementUnavailable, match=r"OSError: .*ca\.pem"):
        client.tree(a_uuid())
