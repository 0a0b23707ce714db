# SPDX-License-Identifier: Apache-2.0
"""The options of [placement] are keystoneauth's, as in nova.conf; registering them imports none of it."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from keystoneauth1 import loading
from oslo_config import cfg

from tracker_worker.conf import opts, placement

PLUGIN = "password"
OF_KEYSTONEAUTH = {
    option.dest: option
    for option in (
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options(PLUGIN),
        *loading.get_session_conf_options(),
        *loading.get_adapter_conf_options(include_deprecated=False),
    )
}
OURS = {option.dest: option for option in placement.OPTS}
SHARED = sorted(OURS.keys() & OF_KEYSTONEAUTH.keys())
OF_THE_SYNC = {"enabled", "provider_config_location", "refresh_interval", "concurrency"}
OF_THE_PLUGIN = {
    "default_domain_id", "default_domain_name", "domain_id", "domain_name", "system_scope", "trust_id",
    "user_id",
}  # fmt: skip
URLS = {"auth_url", "endpoint_override"}
"""They may have a password."""
VERSIONS = {"version", "min_version", "max_version"}
"""Nova does without, too: the program knows which it needs."""

Configured = Callable[[str], cfg.ConfigOpts]


def test_every_option_of_keystoneauth_is_declared_or_the_plugins() -> None:
    assert OURS.keys() - OF_KEYSTONEAUTH.keys() == OF_THE_SYNC
    assert OF_KEYSTONEAUTH.keys() - OURS.keys() == OF_THE_PLUGIN | VERSIONS


@pytest.mark.parametrize("name", SHARED)
def test_declared_option_is_as_secret_as_keystoneauths_and_has_its_former_names(name: str) -> None:
    ours, theirs = OURS[name], OF_KEYSTONEAUTH[name]
    assert ours.secret == (theirs.secret or name in URLS)
    former = {each.name for each in ours.deprecated_opts}
    assert {each.name for each in theirs.deprecated_opts} <= former


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("valid_interfaces = public,admin", ("valid_interfaces", ["public", "admin"])),
        ("timeout = 2.5", ("timeout", 2.5)),
        ("retriable_status_codes = 502,503", ("retriable_status_codes", [502, 503])),
        ("user_name = nova", ("username", "nova")),
        ("user-name = nova", ("username", "nova")),
        ("tenant_name = service", ("project_name", "service")),
        ("auth_plugin = password", ("auth_type", "password")),
    ],
)
def test_lines_of_a_nova_conf_are_read(
    placement_options: Configured, text: str, expected: tuple[str, object]
) -> None:
    name, value = expected
    conf = placement_options(text)
    assert conf.placement[name] == value
    assert text.partition(" ")[0] in opts.known_options(conf)["placement"]


def test_defaults_are_those_of_nova_but_nothing_waits_for_ever(placement_options: Configured) -> None:
    options = placement_options("").placement
    assert options.enabled is False
    assert (options.timeout, options.connect_retries) == (10.0, 1)
    assert (options.service_type, options.valid_interfaces) == ("placement", ["internal", "public"])
    assert (options.refresh_interval, options.concurrency) == (300, 4)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("valid_interfaces = private", "valid_interfaces"),
        ("retriable_status_codes = 409", "retriable_status_codes"),
        ("tls_min_version = 1.0", "tls_min_version"),
        ("timeout = 0", "timeout"),
        ("timeout = nan", "timeout"),
    ],
)
def test_value_that_cannot_work_is_refused(placement_options: Configured, text: str, name: str) -> None:
    with pytest.raises(cfg.ConfigFileValueError, match=name):
        placement_options(text).placement[name]


def test_plugin_adds_the_options_that_are_not_declared(placement_options: Configured) -> None:
    assert opts.options_of_plugins(placement_options("")) == []
    assert opts.options_of_plugins(placement_options("auth_type = no-such-plugin\n")) == [("placement", [])]
    ((group, found),) = opts.options_of_plugins(placement_options(f"auth_type = {PLUGIN}\n"))
    assert group == "placement"
    assert {option.dest for option in found} == OF_THE_PLUGIN


def test_options_of_another_group_are_known_when_the_login_is_there(placement_options: Configured) -> None:
    conf = placement_options("auth_section = login\n[login]\nauth_type = v3applicationcredential\n")
    known = opts.known_options(conf)
    assert {"auth_type", "auth_url", "application_credential_secret"} <= known["login"]
    assert "application_credential_secret" not in known["placement"]


def test_registering_the_options_imports_no_keystoneauth() -> None:
    program = (
        "import sys; from oslo_config import cfg; from tracker_worker.conf import opts; "
        "conf = cfg.ConfigOpts(); opts.register_opts(conf); conf([], project='x'); conf.placement.auth_type; "
        "opts.options_of_plugins(conf); print({'keystoneauth1', 'requests'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
