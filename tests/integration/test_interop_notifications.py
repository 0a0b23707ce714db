# SPDX-License-Identifier: Apache-2.0
"""The daemon's notifications as stock oslo.messaging hears them, beside those of a stock notifier."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import samples
from tests.integration.daemon import Daemon
from tests.integration.notifications import check, data_of, of_type, usages
from tests.integration.rabbit import connected, until
from tests.integration.stock import RPC, Listener, Program, raised
from tests.servers.rabbitmq import RabbitMQ

KINDS = {
    "classic": {"amqp_durable_queues": True},
    "quorum": {"rabbit_quorum_queue": True},
    "not durable": {"amqp_durable_queues": False},
}
DURABLE = {"amqp_durable_queues": True}

REPORT = samples.a_report("u-1", "h")
INSTANCE = samples.an_instance("i-1")


def of_nova(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What the stock notifier sent, with its priorities, which have no order among each other."""
    return sorted((m["priority"], m["event_type"]) for m in messages if m["publisher_id"] == "nova-compute:h")


def tell_everything(client: RPC) -> None:
    """Have the worker publish a notification of every type, one command at a time."""
    client.result("update_available_resource", "n", resources=REPORT)
    client.result("instance_claim", "n", instance=INSTANCE, event_id="boot")
    raised(
        client.send(
            "instance_claim", "n", args={"instance": INSTANCE | {"uuid": "i-2"}, "limits": {"vcpu": 2}}
        )
    )
    raised(client.send("instance_claim", "n", args={"instance": INSTANCE | {"colour": "red"}}))
    client.result("update_available_resource", "n", resources=REPORT, instances=[])
    client.result("instance_claim", "n", instance=INSTANCE)
    client.result("remove_node", "n", force=True)
    client.result("update_available_resource", "n", resources=REPORT)


INFO = ["create", "usage", "usage", "audit", "usage", "usage", "delete", "create", "usage"]
ERROR = ["claim.error", "event.error"]


def usages_at(listener: Listener, sequence: int) -> list[dict[str, Any]]:
    """What was heard of the node at a sequence."""
    return [usage for usage in usages(listener.messages)["n"] if usage["sequence"] == sequence]


@pytest.mark.parametrize("rabbit", KINDS.values(), ids=KINDS)
def test_what_is_published_before_anybody_listens_is_kept_and_valid_beside_a_stock_notifier_s(
    rabbitmq: RabbitMQ, vhost_url: str, tmp_path: Path, rabbit: dict[str, bool]
) -> None:
    """Queues and exchange are declared by the notifier first and by the worker first, and are the same:
    otherwise either would get PRECONDITION_FAILED.
    """
    rpc = rabbit if "rabbit_quorum_queue" in rabbit else DURABLE
    with Program("notifier", tmp_path, vhost_url, rabbit=rabbit) as notifier:
        notifier.ask("before info")
        with connected(vhost_url) as connection:
            vhost = connection.virtual_host
        declared = rabbitmq.api("GET", f"queues/{vhost}/versioned_notifications.info")
        with Daemon(vhost_url, oslo_messaging_rabbit=rabbit) as daemon:
            daemon.wait_until_it_consumes()
            with RPC(tmp_path, vhost_url, rabbit=rpc) as client:
                tell_everything(client)
            assert daemon.stop() == 0
            assert "PRECONDITION_FAILED" not in daemon.log
        notifier.ask("after info")
        notifier.ask("after error")
        assert "PRECONDITION_FAILED" not in notifier.log
    for priority in ("info", "error"):
        queue = rabbitmq.api("GET", f"queues/{vhost}/versioned_notifications.{priority}")
        assert queue["durable"] == declared["durable"] == (rabbit != KINDS["not durable"])
        assert queue["arguments"] == declared["arguments"]
    with Listener(tmp_path, vhost_url, rabbit=rabbit) as listener:
        until(lambda: len(listener.messages) == len(INFO) + len(ERROR) + 3)
        heard = listener.messages
    assert of_nova(heard) == [("ERROR", "after error"), ("INFO", "after info"), ("INFO", "before info")]
    ours = [message for message in heard if message["publisher_id"] != "nova-compute:h"]
    check(ours)
    for priority, types in (("INFO", INFO), ("ERROR", ERROR)):
        said = [m["event_type"] for m in ours if m["priority"] == priority]
        assert said == [f"compute_node.{name}" for name in types]


def test_a_listener_hears_each_change_as_it_is_committed(
    vhost_url: str, database_url: str, tmp_path: Path
) -> None:
    with (
        Daemon(vhost_url, database_url) as daemon,
        Listener(tmp_path, vhost_url) as listener,
        RPC(tmp_path, vhost_url) as client,
    ):
        daemon.wait_until_it_consumes()
        tell_everything(client)
        for number in range(20):
            instance = samples.an_instance(f"more-{number}", samples.a_flavor(memory_mb=number))
            client.result("instance_claim", "n", instance=instance)
            latest = until(partial(usages_at, listener, 9 + number))
            assert latest[0]["memory_mb_used"] == 512 + sum(range(number + 1))
        view = client.result("get_node", "n")
        heard = listener.messages
    check(heard)
    last = usages(heard)["n"][-1]
    assert {name: last[name] for name in last.keys() & view.keys()} == {
        name: view[name] for name in last.keys() & view.keys()
    }
    boot = next(u for u in usages(heard)["n"] if u["sequence"] == 2)
    assert (boot["since"], boot["events"]) == (1, 1)
    cause = data_of({"payload": boot["cause"]})
    assert (cause["method"], cause["event_id"], cause["instance_uuid"]) == ("instance_claim", "boot", "i-1")
    (refused,) = of_type(heard, "compute_node.claim.error")
    assert (refused["sequence"], refused["reason"]) == (3, "Free vcpu 0.00 VCPU < requested 2 VCPU")
