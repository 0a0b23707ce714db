# SPDX-License-Identifier: Apache-2.0
"""What the upgrade check finds on a real broker: rights that are missing, alarms, other declarations."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from kombu.entity import Exchange, Queue

from tests.functional.conftest import engine  # noqa: F401
from tests.integration.rabbit import alarm
from tests.integration.test_manage_queues import (  # noqa: F401
    QUEUES,
    Programs,
    channel,
    connections_of,
    programs,
)
from tests.servers.http_answers import answering
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.server import wait_until

SUCCESS, WARNING, FAILURE = range(3)
COMMANDS, NOTIFICATIONS, MANAGEMENT = "Exchange and queues", "Notifications", "Management API"
EXCHANGE = "nova"
KEYS = ("versioned_notifications.info", "versioned_notifications.error")
EVERYTHING = ".*"


@pytest.fixture
def declared(programs: Programs, channel: Any, engine: sa.Engine) -> Programs:  # noqa: F811
    """All that a worker declares is there."""
    programs.json("queues", "declare")
    exchange = Exchange(EXCHANGE, "topic", durable=True, channel=channel)
    for key in KEYS:
        Queue(key, exchange, routing_key=key, durable=True, channel=channel).declare()
    return programs


Permit = Callable[..., None]


@pytest.fixture
def permit(declared: Programs, rabbitmq: RabbitMQ, vhost_url: str) -> Iterator[Permit]:
    """Lets the programs be a user with these permissions."""
    vhost = vhost_url.rpartition("/")[2]
    rabbitmq.api("PUT", "users/limited", {"password": "limited", "tags": ""})

    def make(**permissions: str) -> None:
        given = dict.fromkeys(("configure", "write", "read"), EVERYTHING) | permissions
        rabbitmq.api("PUT", f"permissions/{quote(vhost, safe='')}/limited", given)
        declared.url = f"rabbit://limited:limited@{rabbitmq.host}:{rabbitmq.port}/{vhost}"
        declared.configure()

    yield make
    rabbitmq.api("DELETE", "users/limited")


def test_user_with_all_rights_is_well_and_the_check_leaves_no_trace(
    declared: Programs,
    permit: Permit,
    channel: Any,  # noqa: F811
) -> None:
    permit()
    tap = Queue("tap", Exchange(EXCHANGE, "topic"), routing_key="#", channel=channel)
    tap.declare()
    checks = declared.check()[1]
    assert (checks[COMMANDS], checks[NOTIFICATIONS]) == ((SUCCESS, None), (SUCCESS, None))
    for name in ("tap", *QUEUES, *KEYS):
        found = channel.queue_declare(name, passive=True)
        assert (found.message_count, found.consumer_count) == (0, 0), name


@pytest.mark.parametrize(
    ("permissions", "check", "thing"),
    [
        ({"read": r"^(?!tracker\.p1$)"}, COMMANDS, "queue 'tracker.p1'"),
        ({"configure": r"^(?!tracker\.dead$)"}, COMMANDS, "queue 'tracker.dead'"),
        ({"write": r"^(?!amq\.default$)"}, COMMANDS, "exchange 'amq.default'"),
        ({"write": "^(?!nova$)"}, NOTIFICATIONS, "exchange 'nova'"),
        ({"configure": r"^(?!versioned_notifications\.info$)"}, NOTIFICATIONS, f"queue '{KEYS[0]}'"),
    ],
    ids=["consume", "declare", "reply", "notify", "declare notifications"],
)
def test_missing_right_is_a_failure_that_names_what_it_is_for(
    declared: Programs, permit: Permit, permissions: dict[str, str], check: str, thing: str
) -> None:
    permit(**permissions)
    result, details = declared.check()[1][check]
    assert details is not None
    assert result == FAILURE
    assert f"access to {thing}" in details
    assert "rabbitmqctl set_permissions" in details


def test_right_to_consume_is_tried_before_the_queues_are_there(
    permit: Permit,
    declared: Programs,
    channel: Any,  # noqa: F811
) -> None:
    for name in QUEUES:
        channel.queue_delete(name)
    permit(read="^tracker$")
    result, details = declared.check()[1][COMMANDS]
    assert details is not None
    assert (result, "access to queue 'tracker.dead'" in details) == (FAILURE, True)


def test_exchange_of_notifications_that_is_not_durable_is_a_failure(declared: Programs, channel: Any) -> None:  # noqa: F811
    channel.exchange_delete(EXCHANGE)
    Exchange(EXCHANGE, "topic", durable=False, channel=channel).declare()
    result, details = declared.check()[1][NOTIFICATIONS]
    assert details is not None
    assert result == FAILURE
    assert "inequivalent arg 'durable' for exchange 'nova'" in details
    assert "[notifications] exchange" in details


def test_missing_exchange_of_notifications_is_made_by_the_worker_and_not_by_the_check(
    programs: Programs,  # noqa: F811
    channel: Any,  # noqa: F811
    engine: sa.Engine,  # noqa: F811
) -> None:
    for _ in range(2):
        assert programs.check()[1][NOTIFICATIONS] == (SUCCESS, None)
    with pytest.raises(channel.connection.channel_errors, match="no exchange 'nova'"):
        channel.exchange_declare(EXCHANGE, "topic", passive=True)


@pytest.mark.parametrize(
    ("setting", "value", "usual", "reason"),
    [
        ("vm_memory_monitor:set_vm_memory_high_watermark", "0.0", "0.4", "low on memory"),
        ("rabbit_disk_monitor:set_disk_free_limit", '"9000GB"', '"1MB"', "low on disk"),
    ],
)
def test_alarm_of_the_broker_is_a_warning_that_names_it(
    declared: Programs, rabbitmq: RabbitMQ, setting: str, value: str, usual: str, reason: str
) -> None:
    rabbitmq.evaluate(f"{setting}({value})")
    checks: dict[str, tuple[int, str | None]] = {}

    def warns() -> bool:
        checks.update(declared.check()[1])
        return checks[COMMANDS][0] == WARNING

    try:
        wait_until(warns, "the alarm")
        for result, details in (checks[COMMANDS], checks[NOTIFICATIONS]):
            assert result == WARNING and details is not None
            assert f"{rabbitmq.host}:{rabbitmq.port}" in details
            assert "has an alarm and takes no messages" in details and reason in details
    finally:
        rabbitmq.evaluate(f"{setting}({usual})")
    wait_until(lambda: declared.check()[1][COMMANDS] == (SUCCESS, None), "the end of the alarm")


def test_check_in_an_alarm_leaves_no_connection_on_the_broker(declared: Programs, rabbitmq: RabbitMQ) -> None:
    """Found by an operator: each check left one, which the broker kept until the alarm ended."""
    with alarm(rabbitmq):
        # A node that has told the management API nothing for a while is listed without its figures.
        wait_until(lambda: rabbitmq.api("GET", "nodes")[0].get("mem_alarm"), "the alarm")
        before = connections_of(rabbitmq)
        checks = declared.check()[1]
        assert (checks[COMMANDS][0], checks[NOTIFICATIONS][0]) == (WARNING, WARNING)
        wait_until(lambda: connections_of(rabbitmq) <= before, "the check's connections to be closed", 5)


def test_connections_of_checks_in_an_alarm_end_without_the_management_api(
    declared: Programs, rabbitmq: RabbitMQ
) -> None:
    declared.management_url = "http://tracker:x@127.0.0.1:1"
    declared.configure()
    before = connections_of(rabbitmq)
    with alarm(rabbitmq):
        checks = declared.check()[1]
        assert "low on memory" in str(checks[COMMANDS][1])
        assert "low on memory" in str(checks[NOTIFICATIONS][1])
        declared.run("status")
        wait_until(lambda: connections_of(rabbitmq) <= before, "the end of the closed ones", 25)


def test_management_url_that_works_is_well(declared: Programs) -> None:
    assert declared.check()[1][MANAGEMENT] == (SUCCESS, None)


def test_management_url_that_is_not_set_is_not_checked(declared: Programs, rabbitmq: RabbitMQ) -> None:
    declared.file.write_text(declared.file.read_text().replace("management_url", "# management_url"))
    result, details = declared.check()[1][MANAGEMENT]
    assert details is not None
    assert (result, details.partition(":")[0]) == (SUCCESS, "Not checked")
    assert f"http://{rabbitmq.host}:15672" in details
    assert rabbitmq.password not in details


WRONG_URLS = {
    "unreachable": ("http://tracker:planted@127.0.0.1:1", "does not answer"),
    "password": ("http://tracker:planted@{address}", "needs the right password and the tag 'monitoring'"),
    "no user": ("http://{address}", "has no user: write http://USER:PASSWORD@HOST:15672"),
    "no password": ("http://tracker@{address}", "has no password: write http://USER:PASSWORD@HOST:15672"),
    "scheme": ("amqp://tracker:planted@{address}", "must look like http://USER:PASSWORD@HOST:15672"),
    "ambiguous": ("http://tracker:pl@nted@{address}", "write @ as %40"),
}


@pytest.mark.parametrize(("url", "said"), WRONG_URLS.values(), ids=WRONG_URLS)
def test_wrong_management_url_is_a_warning_with_the_way_out(
    declared: Programs, rabbitmq: RabbitMQ, url: str, said: str
) -> None:
    """Found by an operator: it passed, and `status` then did not know who was active."""
    declared.management_url = url.format(address=rabbitmq.management_url.rpartition("@")[2])
    declared.configure()
    code, checks = declared.check()
    result, details = checks[MANAGEMENT]
    assert details is not None
    assert (code, result) == (WARNING, WARNING)
    assert said in details
    assert "[bus] management_url" in details
    assert "planted" not in details and "pl@nted" not in details


def test_management_url_of_a_broker_without_the_virtual_host_is_a_warning(
    declared: Programs, rabbitmq: RabbitMQ
) -> None:
    declared.url = rabbitmq.url("elsewhere")
    declared.configure()
    result, details = declared.check()[1][MANAGEMENT]
    assert details is not None
    assert result == WARNING
    assert "answers with status 404: its broker lacks the virtual host of transport_url" in details
    assert rabbitmq.password not in details


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'"text"'])
def test_management_url_of_another_server_is_a_warning(declared: Programs, body: bytes) -> None:
    with answering(body) as (address, _):
        declared.management_url = f"http://tracker:planted@{address}"
        declared.configure()
        result, details = declared.check()[1][MANAGEMENT]
        assert declared.run("queues", "list") == 1
    assert result == WARNING
    assert f"http://{address} is no management API of RabbitMQ" in str(details)
