# SPDX-License-Identifier: Apache-2.0
"""What the client refuses and says before a worker has anything to do with it."""

# The commands choose oslo.service's threading model, before oslo.messaging is imported by anything.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import re
import socket
import time
import traceback
from collections.abc import Iterator
from typing import Any

import kombu.compression
import oslo_messaging
import pytest
from oslo_config import cfg

from tracker_worker.client.as_of import EventClock
from tracker_worker.client.transport import is_for_rabbitmq
from tracker_worker.core.urls import URLRefused
from tracker_worker.domain.compressions import ALIASES, Compression
from tracker_worker.exceptions import QueuesNotDurable, TrackerUnavailable, UnsupportedCompression
from tracker_worker.rpcapi import EXMODS, Claim, TrackerAPI


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this host where nobody listens: bound, so that nobody else takes it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def client(url: str, **settings: Any) -> TrackerAPI:
    return TrackerAPI.from_conf(cfg.CONF, url, **settings)


def test_exchange_that_the_broker_would_delete_is_refused() -> None:
    with pytest.raises(QueuesNotDurable, match="Unset amqp_auto_delete") as caught:
        client("rabbit://guest:hunter2@127.0.0.1:1/?amqp_durable_queues=true&amqp_auto_delete=true")
    assert caught.value.code == "queues_not_durable"


@pytest.mark.parametrize("query", ["", "?amqp_durable_queues=false", "?heartbeat_rate=2"])
def test_queues_that_are_not_durable_are_refused(query: str) -> None:
    with pytest.raises(QueuesNotDurable, match=r"amqp_durable_queues or rabbit_quorum_queue") as caught:
        client(f"rabbit://guest:hunter2@127.0.0.1:1/{query}")
    assert "[oslo_messaging_rabbit]" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "rabbit://127.0.0.1:1/?amqp_durable_queues=true",
        "rabbit://127.0.0.1:1/?rabbit_quorum_queue=true",
        "kombu+memory:///",
        "fake://",
    ],
)
def test_durable_queues_and_transports_in_memory_are_accepted(url: str) -> None:
    client(url)


@pytest.mark.parametrize("option", ["amqp_durable_queues", "rabbit_quorum_queue"])
def test_durable_queues_may_be_configured_in_the_options(option: str) -> None:
    client("fake://")
    oslo_messaging.get_rpc_transport(cfg.CONF, url="rabbit://127.0.0.1:1/")
    cfg.CONF.set_override(option, True, "oslo_messaging_rabbit")
    try:
        client("rabbit://127.0.0.1:1/")
    finally:
        cfg.CONF.clear_override(option, "oslo_messaging_rabbit")


DURABLE = "rabbit://guest:hunter2@127.0.0.1:1/?amqp_durable_queues=true"


@pytest.mark.parametrize("name", ["bz2", "deflate", "snappy"])
def test_a_compression_that_kombu_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedCompression, match=rf"kombu_compression = {name}.* gzip, ") as caught:
        client(f"{DURABLE}&kombu_compression={name}")
    assert "[oslo_messaging_rabbit]" in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_compression_that_kombu_has_and_the_workers_do_not_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(kombu.compression._encoders, "application/x-own", bytes)
    with pytest.raises(UnsupportedCompression, match="kombu_compression = application/x-own"):
        client(f"{DURABLE}&kombu_compression=application/x-own")


@pytest.mark.parametrize("name", ["", *ALIASES, *Compression])
def test_every_compression_that_the_workers_read_is_accepted(name: str | Compression) -> None:
    client(f"{DURABLE}&kombu_compression={name}")


@pytest.mark.parametrize("send", ["call", "cast"])
def test_a_broker_that_is_away_is_an_error_after_the_retries(closed_port: int, send: str) -> None:
    api = client(f"rabbit://guest:hunter2@127.0.0.1:{closed_port}/?amqp_durable_queues=true", retry=1)
    with pytest.raises(TrackerUnavailable) as caught:
        getattr(api, send)({}, "build_failed", "compute1")
    text = str(caught.value)
    assert "of exchange tracker in 2 attempts" in text and "transport_url" in text
    assert "hunter2" not in text
    assert caught.value.__cause__ is not None


def test_what_a_broker_did_not_take_holds_no_snapshot_back(closed_port: int) -> None:
    api = client(f"rabbit://127.0.0.1:{closed_port}/?amqp_durable_queues=true", retry=0)
    with pytest.raises(TrackerUnavailable):
        api.instance_claim({}, "compute1", {"uuid": "i-1"})
    before = api.snapshot()
    assert api.snapshot() > before


def test_the_error_that_left_the_block_is_the_one_raised_when_the_room_cannot_be_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise TrackerUnavailable("away")

    events = EventClock("me", time.monotonic)
    claim = Claim({"outcome": "granted"}, events.hold("claim"), fail)
    number = events.origin()["sequence"]
    with pytest.raises(RuntimeError, match="no hypervisor"), claim:
        raise RuntimeError("no hypervisor")
    assert "the next audit of the node releases it" in caplog.text
    assert events.snapshot() > number


def test_an_abort_by_hand_raises_what_kept_it_from_being_sent() -> None:
    def fail() -> None:
        raise TrackerUnavailable("away")

    events = EventClock("me", time.monotonic)
    with pytest.raises(TrackerUnavailable), Claim({}, events.hold("claim"), fail) as claim:
        claim.abort()


def test_an_abort_that_was_not_sent_is_sent_by_the_next_and_then_never_again() -> None:
    tried: list[int] = []

    def fail_once() -> None:
        tried.append(len(tried))
        if len(tried) == 1:
            raise TrackerUnavailable("away")

    claim = Claim({}, EventClock("me", time.monotonic).hold("claim"), fail_once)
    with pytest.raises(TrackerUnavailable):
        claim.abort()
    claim.abort()
    claim.abort()
    assert tried == [0, 1]


def test_the_end_of_a_claim_that_was_saved_takes_no_snapshot_back() -> None:
    """An audit with an older snapshot than the last one would be taken for one that was overtaken."""
    events = EventClock("me", time.monotonic)
    seen: list[int] = []
    claim = Claim({}, events.hold("claim"), lambda: seen.append(events.snapshot()))
    with pytest.raises(RuntimeError), claim:
        claim.saved()
        seen.append(events.snapshot())
        raise RuntimeError
    assert seen == sorted(seen) and len(seen) == 2


@pytest.mark.parametrize("delimiter", "/?#")
def test_url_with_an_unescaped_password_is_refused_without_showing_it(delimiter: str) -> None:
    url = f"rabbit://tracker:SECRETPART1{delimiter}rest@127.0.0.1:5672/v"
    with pytest.raises(ValueError, match="behind the first") as caught:
        TrackerAPI.from_conf(cfg.CONF, url=url)
    shown = "".join(traceback.format_exception(caught.value))
    assert "SECRETPART1" not in shown


OWN = "[tracker_worker] transport_url"


@pytest.mark.parametrize(
    ("query", "way_out"),
    [
        (
            "",
            f"Set {OWN} = rabbit://...?amqp_durable_queues=true: the workers' exchange and queues",
        ),
        ("?amqp_auto_delete=true", f"Set {OWN} = rabbit://...?amqp_auto_delete=false"),
    ],
)
def test_client_with_its_own_url_option_is_sent_there_and_not_to_the_services_options(
    query: str, way_out: str
) -> None:
    with pytest.raises(QueuesNotDurable) as caught:
        TrackerAPI.from_conf(cfg.CONF, f"rabbit://127.0.0.1:1/{query}", url_option=OWN)
    assert str(caught.value).startswith(way_out)
    assert "oslo_messaging_rabbit" not in str(caught.value)


def test_unsupported_compression_of_a_client_with_its_own_url_option_is_set_in_its_url() -> None:
    with pytest.raises(UnsupportedCompression, match=rf"behind the \? of {re.escape(OWN)}$"):
        TrackerAPI.from_conf(cfg.CONF, f"{DURABLE}&kombu_compression=bz2", url_option=OWN)


def test_broker_that_is_away_names_the_clients_own_url_option(closed_port: int) -> None:
    url = f"rabbit://127.0.0.1:{closed_port}/?amqp_durable_queues=true"
    api = TrackerAPI.from_conf(cfg.CONF, url, url_option=OWN, retry=0)
    with pytest.raises(TrackerUnavailable, match=re.escape(f"that {OWN} names it")):
        api.build_failed({}, "compute1")


@pytest.mark.parametrize("arguments", [None, []], ids=["not called", "called"])
@pytest.mark.parametrize("own_transport", [False, True])
def test_client_of_an_own_configuration_sends(
    closed_port: int, arguments: list[str] | None, own_transport: bool
) -> None:
    conf = cfg.ConfigOpts()
    if arguments is not None:
        conf(arguments, default_config_files=[])
    url = f"rabbit://127.0.0.1:{closed_port}/?amqp_durable_queues=true"
    if own_transport:
        api = TrackerAPI(oslo_messaging.get_rpc_transport(conf, url, allowed_remote_exmods=EXMODS), retry=0)
    else:
        api = TrackerAPI.from_conf(conf, url, retry=0)
    with pytest.raises(TrackerUnavailable):
        api.build_failed({}, "compute1")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("broker", ": a URL looks like rabbit://"),
        ("broker:5672", ": a URL looks like rabbit://"),
        ("broker.example.org:5672/v", ": a URL looks like rabbit://"),
        (
            "rabitt://broker/",
            " cannot be used: oslo.messaging has no driver for rabitt://; for RabbitMQ write",
        ),
        ("http://broker/", " cannot be used: oslo.messaging has no driver for http://; for RabbitMQ write"),
        ("rabbit://broker/?amqp_durable_queue=true", ": amqp_durable_queue behind the ? is no option"),
        ("rabbit://broker/?ssl=maybe", ": the value of ssl behind the ? is not valid"),
        ("rabbit://user:a%2Fb@broker/", ": there is a / in a user name or a password: choose one without /"),
    ],
)
def test_url_that_no_client_can_use_is_refused_with_its_option(url: str, reason: str) -> None:
    with pytest.raises(URLRefused, match=re.escape(f"{OWN}{reason}")):
        TrackerAPI.from_conf(cfg.CONF, url, url_option=OWN)


def test_dollar_in_the_services_url_is_refused_without_what_follows_it() -> None:
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[])
    oslo_messaging.TransportURL(conf)
    conf.set_override("transport_url", "rabbit://user:a$SECRET@broker/")
    with pytest.raises(URLRefused) as caught:
        TrackerAPI.from_conf(conf)
    assert str(caught.value) == "[DEFAULT] transport_url: write $ as $$"


@pytest.mark.parametrize("scheme", ["rabbit", "kombu", "kombu+amqp", "RABBIT"])
def test_schemes_of_rabbitmq_are_for_rabbitmq(scheme: str) -> None:
    assert is_for_rabbitmq(f"{scheme}://broker/")


@pytest.mark.parametrize("scheme", ["fake", "kombu+memory", "kafka", "amqp", "http"])
def test_other_schemes_are_not_for_rabbitmq(scheme: str) -> None:
    assert not is_for_rabbitmq(f"{scheme}://broker/")


def test_broker_has_hosts_and_vhost_and_no_secret() -> None:
    url = "rabbit://user:hunter2@one:5672,user:hunter2@[2001:db8::1]:5673/nova?amqp_durable_queues=true"
    assert client(url).broker == "rabbit://one:5672,[2001:db8::1]:5673/nova"
    assert client("fake://").broker == "fake:///"
