# SPDX-License-Identifier: Apache-2.0
"""How oslo.messaging's options become a connection to RabbitMQ."""

from typing import Any

import oslo_messaging
import pytest
from kombu.connection import Connection
from oslo_config import cfg
from oslo_messaging._drivers import impl_rabbit

from tracker_worker.bus.rabbit.connection import BrokerSettings, broker_settings
from tracker_worker.worker.configuration import rabbit_broker

SECRET = "s3cret/&@:"
GROUP = "oslo_messaging_rabbit"
URL = "rabbit://tracker:s3cret%2F%26%40%3A@one:5673,tracker:s3cret%2F%26%40%3A@[fd00::2]/a%2Fvhost"


class Options:
    """Sets options of oslo.messaging's driver, and returns all of them."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf

    def __call__(self, **values: Any) -> cfg.ConfigOpts.GroupAttr:
        for name, value in values.items():
            self.conf.set_override(name, value, group=GROUP)
        made: cfg.ConfigOpts.GroupAttr = self.conf[GROUP]
        return made


@pytest.fixture
def options() -> Options:
    """The options of a configuration of the test's own; nothing is sent, so it need not be the global one."""
    conf = cfg.ConfigOpts()
    conf([])
    conf.register_opts(impl_rabbit.rabbit_opts, group=GROUP)
    conf.register_opts(oslo_messaging._drivers.amqp.amqp_opts, group=GROUP)

    return Options(conf)


def settings(options: Options, url: str = URL, **values: Any) -> BrokerSettings:
    return broker_settings(oslo_messaging.TransportURL.parse(options.conf, url), options(**values))


def test_every_host_is_kept_with_its_credentials_as_kombu_reads_them(options: Options) -> None:
    connection = Connection(list(settings(options).urls))
    first = connection.info()
    connection.switch(connection.alt[1])
    second = connection.info()
    assert [(i["hostname"], i["port"], i["userid"], i["password"], i["virtual_host"])
            for i in (first, second)] == [
        ("one", 5673, "tracker", SECRET, "a/vhost"),
        ("fd00::2", 5672, "tracker", SECRET, "a/vhost"),
    ]  # fmt: skip


def test_no_text_of_the_settings_holds_the_password(options: Options) -> None:
    made = settings(options)
    assert made.name == "one:5673,fd00::2:5672 (virtual host a/vhost)"
    for text in (repr(made), str(made), f"{made}", made.name):
        assert "s3cret" not in text


@pytest.mark.parametrize(("option", "seconds"), [(30, 5.0), (2, 2.0)])
def test_a_broker_that_is_back_is_found_within_five_seconds(
    options: Options, option: int, seconds: float
) -> None:
    assert settings(options, rabbit_interval_max=option).retry_max == seconds


@pytest.mark.parametrize(
    ("url", "vhost"),
    [("rabbit://h", "/"), ("rabbit://h/", "/"), ("rabbit://h//", "/"), ("rabbit://h/nova", "nova")],
)
def test_the_virtual_host_is_the_one_of_the_url_or_the_default_one(
    options: Options, url: str, vhost: str
) -> None:
    assert Connection(list(settings(options, url).urls)).virtual_host == vhost


def test_without_credentials_guest_connects_as_with_oslo_messaging(options: Options) -> None:
    info = Connection(list(settings(options, "rabbit://h").urls)).info()
    assert (info["userid"], info["password"]) == ("guest", "guest")


@pytest.mark.parametrize(
    ("values", "durable", "arguments"),
    [
        ({}, False, {}),
        ({"amqp_durable_queues": True}, True, {}),
        ({"rabbit_ha_queues": True}, False, {"x-ha-policy": "all"}),
        ({"rabbit_quorum_queue": True}, True, {"x-queue-type": "quorum"}),
        (
            {"rabbit_quorum_queue": True, "rabbit_quorum_delivery_limit": 7},
            True,
            {"x-queue-type": "quorum", "x-delivery-limit": 7},
        ),
    ],
)
def test_notification_queues_are_declared_as_a_notifier_with_the_same_options_would(
    options: Options, values: dict[str, Any], durable: bool, arguments: dict[str, Any]
) -> None:
    made = settings(options, **values)
    assert (made.durable, made.queue_arguments) == (durable, arguments)


def test_options_behind_the_url_go_before_those_of_the_configuration(options: Options) -> None:
    """oslo.messaging's clients take them from there: a worker that did not would connect without TLS."""
    options(ssl=False, heartbeat_timeout_threshold=60)
    url = "rabbit://one/?ssl=true&heartbeat_timeout_threshold=7&rabbit_quorum_queue=1"
    made = rabbit_broker(options.conf, url)
    assert made is not None
    assert (made.tls is not None, made.heartbeat, made.quorum) == (True, 7, True)
    made = rabbit_broker(options.conf, "rabbit://one/")
    assert made is not None and made.tls is None


def test_without_a_host_it_is_this_one_as_with_oslo_messaging(options: Options) -> None:
    made = settings(options, "rabbit://")
    assert made.name == "localhost:5672 (virtual host /)"
    assert Connection(list(made.urls)).info()["hostname"] == "localhost"
