# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-watch on a real broker: on a terminal, in a pipe, killed, and while the broker restarts."""

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kombu.connection import Connection

from tests import samples
from tests.builders import NODE, a_report
from tests.functional.lanes import LaneBench
from tests.integration.daemon import ROOT, Daemon
from tests.integration.rabbit import EXCHANGE, TOPIC, connected, depth, until
from tests.integration.stock import RPC
from tests.integration.watching import (
    LEAVES_SCREEN,
    SHOWS_CURSOR,
    Watching,
    declare_exchange,
    publish,
)
from tests.sent_notifications import Json, of_nova, sent, sent_usage
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker.bus.rabbit.notification_listener import MAX_MESSAGES
from tracker_worker.db.engine import create_engine

INFO = f"{TOPIC}.info"
WATCHING = (ROOT / "doc" / "source" / "admin" / "watching.rst").read_text()
CTRL_C = b"\x03"


@pytest.fixture
def exchange(client: Connection) -> Connection:
    """A connection on a virtual host with the exchange of the notifications."""
    declare_exchange(client)
    return client


def queues(rabbitmq: RabbitMQ, connection: Connection) -> list[dict[str, Any]]:
    """The queues of the test's virtual host."""
    found: list[dict[str, Any]] = rabbitmq.api("GET", f"queues/{connection.virtual_host}")
    return found


def bindings(rabbitmq: RabbitMQ, connection: Connection) -> int:
    """How many queues are bound to the exchange of the notifications."""
    found = rabbitmq.api("GET", f"exchanges/{connection.virtual_host}/{EXCHANGE}/bindings/source")
    return len(found)


@pytest.fixture
def watching(vhost_url: str, exchange: Connection, rabbitmq: RabbitMQ) -> Iterator[Any]:
    """Starts watches that listen already."""
    started: list[Watching] = []

    def start(*arguments: object, terminal: bool = False, **groups: Json) -> Watching:
        bound = bindings(rabbitmq, exchange)
        started.append(Watching(vhost_url, *arguments, terminal=terminal, **groups))
        started[-1].wait_for(lambda: bindings(rabbitmq, exchange) >= bound + 2)
        return started[-1]

    yield start
    for one in started:
        one.__exit__(None, None, None)


def test_terminal_shows_nodes_and_events_as_they_come(watching: Any, exchange: Connection) -> None:
    watch = watching(terminal=True)
    watch.wait_for_screen("connected", "0 notifications")
    publish(exchange, [sent_usage("node-a", 5, 3), of_nova(), sent("claim.error", node="node-a")])
    watch.wait_for_screen("node-a", "6/8", "refused 1", "1 of other services", "Free memory 1536.00 MB")
    publish(exchange, [sent_usage("node-a", 9, 7, vcpus_used=7), sent("audit"), sent("event.error")])
    watch.wait_for_screen("7/8", "gaps 1", "role_changed", "unknown_argument")


def test_ctrl_c_restores_the_terminal(watching: Any) -> None:
    watch = watching(terminal=True)
    watch.wait_for_screen("connected")
    watch.press(CTRL_C)
    assert watch.wait() == 130
    assert LEAVES_SCREEN in watch.text
    assert SHOWS_CURSOR in watch.text
    assert watch.errors == "tracker-worker-watch: interrupted\n"


def test_sigterm_restores_the_terminal(watching: Any) -> None:
    watch = watching(terminal=True)
    watch.wait_for_screen("connected")
    watch.process.send_signal(signal.SIGTERM)
    assert watch.wait() == 143
    assert SHOWS_CURSOR in watch.text
    assert LEAVES_SCREEN in watch.text


def test_nasty_name_reaches_the_terminal_as_text(watching: Any, exchange: Connection) -> None:
    watch = watching(terminal=True)
    publish(exchange, [sent_usage("[red]n\x1b]0;title\x07", 5, 3)])
    watch.wait_for_screen(r"[red]n\x1b]0;title\x07")
    assert "\x1b]0;" not in watch.text


def test_quiet_cloud_is_shown_from_the_database(watching: Any, sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    bench = LaneBench(engine)
    bench.deliver(a_report())
    bench.run()
    bench.close()
    engine.dispose()
    watch = watching(terminal=True, database={"connection": sqlite_url})
    watch.wait_for_screen("0 notifications", NODE)


def test_unusable_database_is_reported_and_left_out(watching: Any, exchange: Connection) -> None:
    watch = watching(database={"connection": "postgresql://user:postgresql-secret@127.0.0.1:1/x"})
    watch.wait_for(lambda: "its nodes are not shown: " in watch.errors)
    assert "secret" not in watch.errors
    publish(exchange, [sent_usage("a", 5, 3)])
    watch.wait_for(lambda: watch.lines)


def test_flood_is_summed_up(watching: Any, exchange: Connection) -> None:
    watch = watching(terminal=True)
    watch.wait_for_screen("connected")
    count = 5000
    publish(exchange, [sent_usage(f"n{number % 500}", number, 0) for number in range(count)], confirm=False)
    watch.wait_for_screen(f"{count} notifications", "more nodes")
    drawn = watch.text.count("RabbitMQ ")
    assert drawn < count / 10


def test_json_is_what_was_published(watching: Any, exchange: Connection) -> None:
    watch = watching("--json")
    messages = [sent_usage("a", 5, 3, host="h\u202e"), sent("claim.error"), of_nova(), sent_usage("a", 5, 3)]
    publish(exchange, [*messages, messages[0]])
    lines = watch.wait_for(lambda: found if len(found := watch.lines) == 4 else [])
    assert [json.loads(line) for line in lines] == [*messages[:2], messages[3], messages[0]]
    assert watch.text.isascii(), "invisible characters are escaped"


def test_lines_tell_of_usage_gaps_and_refusals(watching: Any, exchange: Connection) -> None:
    watch = watching()
    publish(exchange, [sent_usage("a", 5, 3), sent_usage("a", 9, 7), sent("claim.error", reason="x\x1b")])
    lines = watch.wait_for(lambda: found if len(found := watch.lines) == 4 else [])
    assert [line.split()[1:3] for line in lines[:3]] == [["usage", "a"], ["gap", "a"], ["usage", "a"]]
    assert r" refused node-1 x\x1b (instance_claim bbbbbbbb-" in lines[3]


def test_filters_limit_what_is_printed(watching: Any, exchange: Connection) -> None:
    watch = watching("--json", "--node", "a*", "--node", "b", "--event", "claim.error", "--event", "audit")
    wanted = [sent("claim.error", node="a1"), sent("audit", node="b")]
    publish(exchange, [sent_usage("a1", 5, 3), sent("claim.error", node="c"), *wanted])
    lines = watch.wait_for(lambda: found if len(found := watch.lines) == 2 else [])
    assert [json.loads(line) for line in lines] == wanted


def test_project_limits_the_nodes(watching: Any, exchange: Connection) -> None:
    watch = watching("--json", "--project", "p1")
    wanted = [sent_usage("a", 5, 3, stats={"num_proj_p1": 1}), sent("claim.error", node="a")]
    publish(exchange, [sent_usage("b", 5, 3), sent("claim.error", node="b")])
    publish(exchange, wanted)
    # INFO and ERROR are two queues for others, and one for the watch: the order is that of publication.
    lines = watch.wait_for(lambda: found if len(found := watch.lines) == 2 else [])
    assert [json.loads(line) for line in lines] == wanted


@pytest.mark.parametrize("arguments", [["--json"], []])
@pytest.mark.parametrize("is_quiet", [True, False])
def test_closed_pipe_ends_it(
    watching: Any, exchange: Connection, arguments: list[str], is_quiet: bool
) -> None:
    watch = watching(*arguments)
    publish(exchange, [sent("claim.error")])
    watch.wait_for(lambda: watch.lines)
    watch.close_output()
    if not is_quiet:
        publish(exchange, [sent("claim.error")])
    assert watch.process.wait(60) == 1
    assert watch.errors == ""


def test_once_prints_the_picture_and_ends(watching: Any, exchange: Connection) -> None:
    watch = watching("--once", "--seconds", "5")
    name = f"node-{'x' * 150}"
    publish(exchange, [sent_usage(name, 5, 3), sent("claim.error", node=name)])
    assert watch.wait() == 0
    head, counts, _, node, _, refusal = watch.text.splitlines()
    assert head.endswith(": connected")
    assert counts.startswith("2 notifications, ")
    assert node.startswith(name)
    assert "refused 1" in node
    assert "Free memory 1536.00 MB" in refusal
    assert "\x1b" not in watch.text


def test_json_ends_after_its_seconds_with_once(watching: Any) -> None:
    watch = watching("--once", "--seconds", "1", "--json")
    assert (watch.wait(), watch.text) == (0, "")


def test_queue_is_its_own_and_bounded(watching: Any, exchange: Connection, rabbitmq: RabbitMQ) -> None:
    watching("--json")
    (queue,) = until(lambda: queues(rabbitmq, exchange))
    assert (queue["exclusive"], queue["auto_delete"], queue["durable"]) == (True, True, False)
    assert queue["arguments"]["x-max-length"] == MAX_MESSAGES
    assert queue["arguments"]["x-overflow"] == "drop-head"


def test_user_who_may_only_watch_can(vhost_url: str, exchange: Connection, rabbitmq: RabbitMQ) -> None:
    """The permissions are those of doc/source/admin/watching.rst."""
    configure, write, read = re.findall(
        r"'([^']+)'", next(x for x in WATCHING.splitlines() if "set_permissions" in x)
    )
    rabbitmq.api("PUT", "users/watcher", {"password": rabbitmq.password, "tags": ""})
    permissions = {"configure": configure, "write": write, "read": read}
    rabbitmq.api("PUT", f"permissions/{exchange.virtual_host}/watcher", permissions)
    with Watching(vhost_url.replace(f"{rabbitmq.username}:", "watcher:", 1), "--json") as watch:
        watch.wait_for(lambda: bindings(rabbitmq, exchange) == 2)
        publish(exchange, [sent("claim.error"), sent("create")])
        watch.wait_for(lambda: len(watch.lines) == 2)
    rabbitmq.api("DELETE", "users/watcher")


def test_killed_watch_leaves_no_queue(watching: Any, exchange: Connection, rabbitmq: RabbitMQ) -> None:
    watch = watching("--json")
    watch.process.kill()
    until(lambda: not queues(rabbitmq, exchange), "its queue is still there")


def test_consumer_beside_it_gets_everything(watching: Any, exchange: Connection) -> None:
    with exchange.channel() as channel:
        channel.queue_declare(INFO, durable=True, auto_delete=False)
        channel.queue_bind(INFO, EXCHANGE, INFO)
    watch = watching("--json")
    publish(exchange, [sent_usage("a", number, number - 1) for number in range(1, 101)])
    watch.wait_for(lambda: len(watch.lines) == 100)
    assert depth(exchange, INFO) == 100


def test_slow_watch_loses_the_oldest_and_marks_the_gap(
    watching: Any, exchange: Connection, rabbitmq: RabbitMQ
) -> None:
    watch = watching(terminal=True)
    publish(exchange, [sent_usage("a", 1, 0)])
    watch.wait_for_screen("1 usage")
    process = psutil.Process(watch.process.pid)
    process.suspend()
    # More than fit into the queue and the buffers of the sockets.
    publish(exchange, [sent_usage("a", number, number - 1) for number in range(2, 20_000)], confirm=False)
    until(lambda: [queue.get("messages_ready") for queue in queues(rabbitmq, exchange)] == [MAX_MESSAGES])
    process.resume()
    watch.wait_for_screen("gaps 1")


def test_worker_s_notifications_are_a_chain_without_gaps(
    watching: Any, vhost_url: str, tmp_path: Path
) -> None:
    watch = watching()
    with Daemon(vhost_url) as worker, RPC(tmp_path, vhost_url) as client:
        worker.wait_until_it_consumes()
        client.result("update_available_resource", NODE, resources=samples.a_report())
        for number in range(20):
            instance = samples.an_instance(f"00000000-0000-4000-8000-{number:012}")
            client.send("instance_claim", NODE, args={"instance": instance})
        lines = watch.wait_for(lambda: watch.lines if len(watch.lines) >= 22 else [])
    kinds = Counter(line.split()[1] for line in lines)
    assert (kinds["created"], kinds["gap"], kinds["usage"] + kinds["refused"]) == (1, 0, 21)


def test_restarted_broker_is_connected_again(watching: Any, vhost_url: str, rabbitmq: RabbitMQ) -> None:
    watch = watching(terminal=True)
    with connected(vhost_url) as connection:
        publish(connection, [sent_usage("node-a", 5, 3)])
    watch.wait_for_screen("node-a")
    rabbitmq.kill()
    watch.wait_for_screen("not connected, trying again: ")
    rabbitmq.start()
    watch.wait_for_screen(": connected ", "meanwhile is missing")
    with connected(vhost_url) as connection:
        publish(connection, [sent_usage("node-a", 9, 7)])
    watch.wait_for_screen("gaps 1")


def test_closed_connection_is_a_line_of_errors(
    watching: Any, exchange: Connection, rabbitmq: RabbitMQ
) -> None:
    watch = watching("--json")
    vhost = exchange.virtual_host
    until(lambda: rabbitmq.close_connections(vhost) >= 2)
    watch.wait_for(lambda: watch.errors.count("\n") >= 2)
    lost, again = watch.errors.splitlines()[:2]
    assert lost.startswith("tracker-worker-watch: RabbitMQ 127.0.0.1:")
    assert "not connected, trying again: " in lost
    assert again.endswith(": what was published meanwhile is missing")
    assert watch.text == ""


def test_what_came_before_the_loss_is_shown(watching: Any, exchange: Connection, rabbitmq: RabbitMQ) -> None:
    watch = watching("--json")
    process = psutil.Process(watch.process.pid)
    process.suspend()
    publish(exchange, [sent_usage("a", number, number - 1) for number in range(1, 21)])
    until(lambda: rabbitmq.close_connections(exchange.virtual_host) >= 2)
    process.resume()
    watch.wait_for(lambda: "meanwhile is missing" in watch.errors)
    assert len(watch.lines) == 20


def test_missing_exchange_is_waited_for(vhost_url: str, client: Connection, rabbitmq: RabbitMQ) -> None:
    with Watching(vhost_url, "--json") as watch:
        watch.wait_for(lambda: "no exchange 'nova'" in watch.errors)
        declare_exchange(client, durable=False)
        watch.wait_for(lambda: bindings(rabbitmq, client) == 2)
        publish(client, [sent("create")])
        watch.wait_for(lambda: watch.lines)


def test_wrong_password_is_a_line(vhost_url: str) -> None:
    with Watching(vhost_url.replace("rabbit-secret", "rabbit-wrong")) as watch:
        assert watch.wait() == 1
        (line,) = watch.errors.splitlines()
        assert "cannot be used" in line
        assert line.endswith("see [DEFAULT] transport_url")


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"DEFAULT": {"transport_url": "fake://"}}, "names no RabbitMQ"),
        ({"oslo_messaging_notifications": {"driver": "noop"}}, "workers publish no notifications"),
    ],
)
def test_nothing_to_watch_is_a_line(groups: dict[str, Any], said: str) -> None:
    with Watching("rabbit://localhost/", **groups) as watch:
        assert watch.wait() == 1
        (line,) = watch.errors.splitlines()
        assert said in line


@pytest.mark.parametrize("arguments", [["--nope"], ["more"]])
def test_wrong_command_line_is_refused(arguments: list[str]) -> None:
    with Watching("rabbit://localhost/", *arguments) as watch:
        assert watch.wait() == 2
