# SPDX-License-Identifier: Apache-2.0
"""The daemon on brokers that are set up in other ways: TLS, virtual hosts, a wrong durability.

All over SQLite: these tests are not about the database.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from amqp.exceptions import NotFound
from kombu.connection import Connection
from oslo_config import cfg

from tests import samples
from tests.integration.daemon import PARTITIONS, Daemon
from tests.integration.rabbit import connected, depth, until
from tests.integration.stock import RPC, raised
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.exceptions import QueuesNotDurable
from tracker_worker.rpcapi import TrackerAPI

REPORT = samples.a_report("u-1", "h")
INSTANCE = samples.an_instance("i-1")
SEVERE = re.compile(" (WARNING|ERROR|CRITICAL) ")
NOT_DURABLE = {"amqp_durable_queues": False}


@pytest.fixture
def tls_url(rabbitmq: RabbitMQ, vhost_url: str) -> str:
    """The test's virtual host, over TLS."""
    return vhost_url.replace(f":{rabbitmq.port}/", f":{rabbitmq.tls_port}/")


def _published(connection: Connection) -> int:
    """How many notifications wait in their queue, which the first of them makes."""
    with suppress(NotFound):
        return depth(connection, "versioned_notifications.info")
    return 0


def test_over_tls_a_wrong_authority_is_one_line_until_it_is_the_right_one(
    certificates: Certificates, tls_url: str, vhost_url: str, tmp_path: Path
) -> None:
    authority, other = tmp_path / "ca.pem", tmp_path / "other"
    other.mkdir()
    authority.write_bytes(make_certificates(other).authority.read_bytes())
    tls = {"ssl": True, "ssl_ca_file": authority}
    with Daemon(tls_url, oslo_messaging_rabbit=tls) as daemon:
        lines = daemon.wait_for_line("cannot be used, trying again", 2)
        assert all("CERTIFICATE_VERIFY_FAILED" in line for line in lines)
        authority.write_bytes(certificates.authority.read_bytes())
        daemon.wait_until_it_consumes(vhost_url)
        with RPC(tmp_path, tls_url, rabbit=tls) as client:
            client.result("update_available_resource", "n", resources=REPORT)
            assert client.result("instance_claim", "n", instance=INSTANCE)["outcome"] == "granted"
        with connected(vhost_url) as connection:
            # Of a new node, of its report, and of a claim.
            until(lambda: _published(connection) == 3)


@contextmanager
def a_vhost(rabbitmq: Any, name: str) -> Iterator[str]:
    """The transport URL of a virtual host of this name."""
    rabbitmq.api("PUT", f"vhosts/{quote(name, safe='')}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    rabbitmq.api("PUT", f"permissions/{quote(name, safe='')}/{rabbitmq.username}", everything)
    yield rabbitmq.url(name)
    rabbitmq.delete_vhost(name)


def test_workers_in_two_virtual_hosts_do_not_see_each_other_s_commands(
    rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    with (
        a_vhost(rabbitmq, "a/b c") as one,
        a_vhost(rabbitmq, "a%b:ü") as two,
        Daemon(one) as first,
        Daemon(two) as second,
        RPC(tmp_path, one) as client_of_one,
        RPC(tmp_path, two) as client_of_two,
    ):
        first.wait_until_it_consumes()
        second.wait_until_it_consumes()
        client_of_one.result("update_available_resource", "n", resources=REPORT)
        kind, _ = raised(client_of_two.send("get_node", "n"))
        assert kind == "tracker_worker.exceptions.NodeNotFound"
        client_of_two.result("update_available_resource", "n", resources=REPORT | {"vcpus": 1})
        assert client_of_one.result("get_node", "n")["vcpus"] == 8
        assert client_of_two.result("get_node", "n")["vcpus"] == 1


def test_an_exchange_that_is_not_durable_ends_the_worker_and_one_that_is_refuses_such_a_client(
    rabbitmq: RabbitMQ, vhost_url: str, tmp_path: Path
) -> None:
    """Who comes first decides. The worker says in one line what to do, and doing it helps."""
    with RPC(tmp_path, vhost_url, rabbit=NOT_DURABLE) as client:
        client.send("build_failed", "n", how="cast")
        with Daemon(vhost_url) as daemon:
            assert daemon.wait() == 1
            (line,) = daemon.wait_for_line("exchange 'tracker' was declared otherwise")
            assert "amqp_durable_queues or rabbit_quorum_queue in every client" in line
            assert "delete exchange name=tracker" in line
            assert [each for each in daemon.log.splitlines() if SEVERE.search(each)] == [line]
    with connected(vhost_url) as connection:
        rabbitmq.api("DELETE", f"exchanges/{quote(connection.virtual_host, safe='')}/tracker")
    with Daemon(vhost_url) as daemon:
        daemon.wait_until_it_consumes()
        with RPC(tmp_path, vhost_url, rabbit=NOT_DURABLE) as client:
            for how in ("cast", "call"):
                answer = client.send("build_failed", "n", how=how)
                assert answer["kinds"][0] == "oslo_messaging.exceptions.MessageDeliveryFailure"
                assert "inequivalent arg 'durable' for exchange 'tracker'" in answer["error"]
    with pytest.raises(QueuesNotDurable):
        TrackerAPI.from_conf(cfg.CONF, f"{vhost_url}?amqp_durable_queues=false", partitions=PARTITIONS)
