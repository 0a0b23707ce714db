# SPDX-License-Identifier: Apache-2.0
"""Where the management API of a broker is, and what its errors may say."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest

from tests.servers.http_answers import answering
from tracker_worker.bus.rabbit.connection import BrokerSettings
from tracker_worker.bus.rabbit.inspection import (
    ManagementUnavailable,
    activities,
    activity_of,
    ca_file,
    low_on,
    management_url,
    virtual_host,
)


def a_broker(url: str, **more: Any) -> BrokerSettings:
    return BrokerSettings(name="broker", urls=(url, "amqp://other:x@host-2:5672/%2F"), **more)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://user:pass%40word@host-1:5673/%2F", "http://user:pass%40word@host-1:15672"),
        ("amqp://user:x@[::1]:5673/nova", "http://user:x@[::1]:15672"),
    ],
)
def test_the_management_api_is_at_the_first_host_by_default(url: str, expected: str) -> None:
    assert management_url(a_broker(url)) == expected


def test_a_broker_with_tls_has_its_management_api_behind_tls_too() -> None:
    broker = a_broker("amqp://user:x@host-1:5671/nova", tls={"ca_certs": "/ca.pem"})
    assert management_url(broker) == "https://user:x@host-1:15671"
    assert ca_file(broker) == "/ca.pem"
    assert ca_file(a_broker("amqp://user:x@host-1:5671/nova", tls={"cert_reqs": 2})) is None


@pytest.mark.parametrize(("path", "name"), [("%2F", "/"), ("nova", "nova"), ("a%2Fb", "a/b")])
def test_the_virtual_host_is_the_url_s(path: str, name: str) -> None:
    assert virtual_host(a_broker(f"amqp://user:x@host:5672/{path}")) == name


@pytest.mark.parametrize(
    "url",
    [
        "http://user:planted/secret@host",
        "user:planted-secret@host:15672",
        "ftp://user:planted@host",
        "amqp://u:planted@host:1",
        "",
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ManagementUnavailable, match="must look like") as error:
        activities(url, "/")
    assert "planted" not in str(error.value)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        b'["a"]',
        b"[null]",
        b'[{"a": 1}]',
        b'[{"name": "q", "message_stats": 3}]',
        b'[{"name": "q", "arguments": 3}]',
        b"[" * 100_000,
    ],
)
def test_answer_of_another_server_is_told_and_no_traceback(body: bytes) -> None:
    with answering(body) as (where, _), pytest.raises(ManagementUnavailable, match="no management API"):
        activities(f"http://user:planted@{where}", "/")


@pytest.mark.parametrize("secret", ["p\N{EURO SIGN}", "\N{LATIN SMALL LETTER E WITH ACUTE}"])
def test_login_is_sent_in_utf_8_as_over_amqp(secret: str) -> None:
    with answering(b"[]") as (where, logins):
        activities(f"http://user:{quote(secret)}@{where}", "/")
    assert set(logins) == {f"user:{secret}"}


def test_host_that_no_resolver_takes_is_told() -> None:
    with pytest.raises(ManagementUnavailable, match="does not answer"):
        activities(f"http://user:planted@{'a' * 64}", "/")


@pytest.mark.parametrize(
    ("stamp", "oldest"),
    [
        (1_795_953_600, datetime(2026, 11, 29, 12)),
        (0, datetime(1970, 1, 1)),
        (1_795_953_600_000, None),
        (-(2**60), None),
        (2**60, None),
        (2**64, None),
        ("", None),
        (None, None),
    ],
)
def test_time_of_a_message_that_is_no_time_is_unknown(stamp: Any, oldest: datetime | None) -> None:
    assert activity_of({"head_message_timestamp": stamp}).oldest == oldest


def test_rate_of_a_queue_without_acknowledgements_is_unknown() -> None:
    assert activity_of({"message_stats": []}).acknowledged_per_second is None
    assert activity_of({"message_stats": {"ack_details": {"rate": 0.0}}}).acknowledged_per_second == 0.0


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([{"mem_alarm": False, "disk_free_alarm": False}], []),
        ([{"mem_alarm": False, "disk_free_alarm": False}, {"mem_alarm": True}], ["memory"]),
        (
            [{"mem_alarm": True, "disk_free_alarm": False}, {"disk_free_alarm": True}, {"name": "n"}],
            ["memory", "disk"],
        ),
        ([{"name": "n"}], None),
        ([], None),
    ],
)
def test_alarm_of_any_node_is_the_broker_s(nodes: list[dict[str, Any]], found: list[str] | None) -> None:
    assert low_on(nodes) == found
