# SPDX-License-Identifier: Apache-2.0
"""tracker-worker-manage and tracker-worker-status with a real broker: queues, replays, checks."""

import json
import socket
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import amqp
import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue

from tests.builders import INSTANCE, NODE, a_report, an_instance, args_of, command, some_resources
from tests.functional.conftest import a_bench, bench, engine  # noqa: F401
from tests.functional.lanes import PARTITIONS, LaneBench, rows
from tests.functional.manage import Manage
from tests.integration.daemon import Daemon
from tests.integration.rabbit import alarm
from tests.servers import forkserver
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.server import wait_until
from tracker_worker.cmd.database import database_file
from tracker_worker.core.envelope import encode
from tracker_worker.db.tables import DEAD_LETTERS
from tracker_worker.domain.partitions import partition_of

QUEUES = ["tracker.dead", "tracker", *(f"tracker.p{number}" for number in range(PARTITIONS))]
PARTITION = partition_of(NODE, PARTITIONS)
REQUEST = "req-8f0a1c52-7d0e-4a51-9a0b-1f6c4f3b8d21"
SUCCESS, WARNING, FAILURE = range(3)


class Programs(Manage):
    """The programs with a configuration file for one virtual host."""

    def __init__(
        self, directory: Path, capsys: pytest.CaptureFixture[str], url: str, management_url: str
    ) -> None:
        self.url = url
        self.management_url = management_url
        super().__init__(directory, capsys)

    def configure(self, more: str = "amqp_durable_queues = true") -> None:
        """Write the configuration; `more` are options of [oslo_messaging_rabbit]."""
        super().configure(
            f"transport_url = {self.url}\n"
            f"[bus]\npartitions = {PARTITIONS}\nmanagement_url = {self.management_url}\n"
            f"[oslo_messaging_rabbit]\n{more}\n"
        )

    def incomplete_list(self) -> Any:
        """What `queues list` prints where something is missing or not known."""
        assert self.run("queues", "list", "--format", "json") == 1
        return json.loads(self.out)

    def check_of_queues(self) -> tuple[int, str | None]:
        """What the upgrade check says of exchange and queues."""
        return self.check()[1]["Exchange and queues"]

    def replay(self, *letters: str) -> Any:
        """Replay letters in a process of its own, for oslo.messaging needs its global configuration there.

        The document that it prints, else what it says. They are claims, whose replay asks for --force.
        """
        result = self.run_apart("dead-letter", "replay", *letters, "--force", "--format", "json")
        assert result.returncode == (1 if result.stderr else 0)
        return result.stderr or json.loads(result.stdout)

    def run_apart(self, *arguments: str) -> Any:
        """Run a command in a process of its own."""
        return forkserver.run("manage", "--config-file", str(self.file), *arguments)


@pytest.fixture
def programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], vhost_url: str, rabbitmq: RabbitMQ
) -> Programs:
    return Programs(tmp_path, capsys, vhost_url, rabbitmq.management_url)


@pytest.fixture
def channel(vhost_url: str) -> Iterator[Any]:
    """A channel of somebody else's."""
    with Connection(vhost_url.replace("rabbit:", "amqp:")) as connection:
        yield connection.default_channel


def test_queues_are_declared_and_listed(programs: Programs) -> None:
    declared = programs.json("queues", "declare")
    assert declared == {"exchange": "tracker", "queues": QUEUES}
    listed = programs.json("queues", "list")
    assert [queue["queue"] for queue in listed] == QUEUES
    assert programs.err == ""
    assert listed[2] == {
        "queue": "tracker.p0",
        "ready": 0,
        "unacknowledged": 0,
        "consumers": 0,
        "active": None,
        "oldest": None,
        "acknowledged_per_second": None,
    }
    assert programs.json("queues", "declare") == declared


def test_queues_that_are_missing_are_shown_and_not_made(programs: Programs) -> None:
    for _ in range(2):
        listed = programs.incomplete_list()
        assert {queue["ready"] for queue in listed} == {None}
        (line,) = programs.err.splitlines()
        assert "missing: tracker.dead, tracker, tracker.p0" in line
        assert "queues declare" in line
    assert programs.run("queues", "list") == 1
    assert programs.out.count("missing") == len(QUEUES)


@pytest.mark.parametrize("stamp", [1_795_953_600_000, 2**60])
def test_message_with_a_time_that_is_none_is_listed_without_it(
    programs: Programs, rabbitmq: RabbitMQ, channel: Any, stamp: int
) -> None:
    programs.json("queues", "declare")
    channel.basic_publish(amqp.Message(b"x", timestamp=stamp), "tracker", "tracker.p1")
    path = f"queues/{programs.url.rpartition('/')[2]}/tracker.p1"

    def listed() -> dict[str, Any]:
        return next(q for q in programs.json("queues", "list") if q["queue"] == "tracker.p1")

    wait_until(lambda: rabbitmq.api("GET", path).get("head_message_timestamp") == stamp, "the figures")
    assert (listed()["ready"], listed()["oldest"]) == (1, None)
    assert programs.run("queues", "list") == 0
    line = next(line for line in programs.out.splitlines() if line.startswith("tracker.p1"))
    assert line.split() == ["tracker.p1", "1", "0", "0", "-", "unknown"]


def test_the_active_worker_and_the_depth_are_listed(programs: Programs, channel: Any) -> None:
    programs.json("queues", "declare")
    for _ in range(3):
        channel.basic_publish(amqp.Message(b"x"), "tracker", "tracker.p1")
    channel.basic_qos(0, 1, False)
    for name in ("first:1", "second:2"):
        channel.basic_consume("tracker.p1", consumer_tag=f"{name}.tracker.p1", callback=lambda _: None)

    def listed() -> dict[str, Any]:
        return next(q for q in programs.json("queues", "list") if q["queue"] == "tracker.p1")

    expected = {
        "queue": "tracker.p1",
        "ready": 2,
        "unacknowledged": 1,
        "consumers": 2,
        "active": "first:1",
    }
    wait_until(lambda: expected.items() <= listed().items(), "the management API's figures")
    channel.basic_cancel("first:1.tracker.p1")
    wait_until(lambda: listed()["active"] == "second:2", "the second to take over")


@pytest.mark.parametrize(
    "management_url",
    [
        "http://tracker:planted-secret@127.0.0.1:1",
        "http://tracker:planted-secret@127.0.0.1:{port}",
        "ftp://tracker:planted-secret@127.0.0.1",
    ],
)
def test_without_the_management_api_the_depth_is_still_known(
    programs: Programs, rabbitmq: RabbitMQ, management_url: str
) -> None:
    programs.json("queues", "declare")
    port = rabbitmq.management_url.rpartition(":")[2]
    programs.management_url = management_url.format(port=port)
    programs.configure()
    listed = programs.incomplete_list()
    assert (listed[2]["ready"], listed[2]["unacknowledged"], listed[2]["active"]) == (0, None, None)
    (line,) = programs.err.splitlines()
    assert "the active workers are unknown" in line
    assert "[bus] management_url" in line
    assert "planted-secret" not in line
    assert programs.run("queues", "list") == 1
    assert programs.out.count("unknown") == 2 * len(QUEUES), "unacknowledged and active"


def test_a_broker_that_is_away_is_named_without_its_password(programs: Programs) -> None:
    programs.url = "rabbit://tracker:planted-secret@127.0.0.1:1/"
    programs.configure()
    said = programs.complaint("queues", "list")
    assert "127.0.0.1:1" in said
    assert "transport_url" in said
    assert "planted-secret" not in said


def test_an_exchange_that_was_declared_otherwise_is_named(programs: Programs, channel: Any) -> None:
    Exchange("tracker", "topic", durable=False, channel=channel).declare()
    for said in (programs.complaint("queues", "declare"), programs.check_of_queues()[1]):
        assert said and "exchange 'tracker' was declared otherwise" in said
        assert "delete exchange" in said
    assert programs.check_of_queues()[0] == FAILURE


def test_a_queue_that_was_declared_otherwise_is_named_though_others_are_missing(
    programs: Programs, channel: Any
) -> None:
    programs.json("queues", "declare")
    channel.queue_delete("tracker.p0")
    channel.queue_delete("tracker.p2")
    Queue("tracker.p2", durable=True, channel=channel).declare()
    code, said = programs.check_of_queues()
    assert code == FAILURE
    assert said and "queue 'tracker.p2' was declared otherwise" in said
    listed = {queue["queue"]: queue["ready"] for queue in programs.incomplete_list()}
    assert listed["tracker.p0"] is None


def test_the_check_declares_nothing(programs: Programs) -> None:
    code, said = programs.check_of_queues()
    assert code == WARNING
    assert said and "exchange 'tracker', queue 'tracker.dead'" in said
    assert programs.check_of_queues() == (code, said)
    programs.json("queues", "declare")
    assert programs.check_of_queues() == (SUCCESS, None)


def park(bench: LaneBench) -> str:  # noqa: F811
    """Send a boot where it does not belong; the id of its letter."""
    args = args_of(command("instance_claim", instance=an_instance(), event_id="boot"))
    body = encode("instance_claim", args, request_id=REQUEST)
    bench.deliver_body(body, partition=(PARTITION + 1) % PARTITIONS)
    bench.run()
    return str(rows(bench.engine, DEAD_LETTERS)[0]["id"])


def test_a_letter_is_applied_once_however_often_it_is_replayed(
    programs: Programs,
    channel: Any,
    bench: LaneBench,  # noqa: F811
) -> None:
    """The messages are taken from the node's own queue to a lane, as the worker's consumer would."""
    programs.json("queues", "declare")
    bench.track()
    letter = park(bench)
    expected = {"id": letter, "event_id": f"{letter}.1", "node": NODE, "method": "instance_claim"}
    for _ in range(2):
        assert programs.replay(letter, letter) == [expected | {"result": "published"}]
    deliveries = []
    while (message := channel.basic_get(f"tracker.p{PARTITION}", no_ack=True)) is not None:
        assert message.properties["delivery_mode"] == 2
        deliveries.append(bench.deliver_body(message.body.encode(), NODE))
    bench.run()
    assert [delivery.outcome for delivery in deliveries] == ["granted", "granted"]
    assert bench.claimed() == {(INSTANCE, "instance"): 2}
    assert bench.sequence() == 2
    assert programs.replay(letter) == [expected | {"result": "replayed before"}]
    assert channel.basic_get(f"tracker.p{PARTITION}", no_ack=True) is None
    assert programs.json("dead-letter", "list") == []
    assert {event["request_id"] for event in programs.json("instance", "show", INSTANCE)["events"]} == {
        REQUEST
    }


def test_node_remove_of_a_host_that_was_installed_anew_lets_its_report_in(
    programs: Programs,
    channel: Any,
    bench: LaneBench,  # noqa: F811
) -> None:
    programs.json("queues", "declare")
    bench.track()
    bench.send(command("instance_claim", instance=an_instance()))
    anew = a_report(resources=some_resources(uuid="another-uuid"))
    refused = bench.send(anew)
    assert f"'tracker-worker-manage node remove {NODE}' shows its claims" in str(refused.answer)
    done = programs.run_apart(
        "node", "remove", NODE, "--host", f"host-of-{NODE}", "--force", "--format", "json"
    )
    shown = json.loads(done.stdout)
    assert (done.returncode, len(shown["claims"])) == (0, 1)
    assert f"a worker removes node '{NODE}'" in done.stderr
    message = channel.basic_get(f"tracker.p{PARTITION}", no_ack=True)
    removal = bench.deliver_body(message.body.encode(), NODE)
    bench.run()
    assert (removal.outcome, bench.claimed()) == ("applied", {})
    removed = programs.json("node", "history", NODE)[-1]
    assert (removed["event_id"], removed["request_id"]) == (shown["event_id"], shown["request_id"])
    assert removed["request_id"].startswith("manage:")
    assert bench.send(anew).outcome == "applied"
    (listed,) = programs.json("node", "list")
    assert (listed["uuid"], listed["conflicts"]) == ("another-uuid", [])


def test_node_remove_that_no_queue_takes_fails(programs: Programs, bench: LaneBench) -> None:  # noqa: F811
    bench.track()
    done = programs.run_apart("node", "remove", NODE)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"tracker.p{PARTITIONS - 1}" in done.stderr


def test_what_no_queue_takes_is_said_and_can_be_repeated(programs: Programs, bench: LaneBench) -> None:  # noqa: F811
    letter = park(bench)
    said = programs.replay(letter)
    assert "1 of 1 not published" in said
    assert f"tracker.p{PARTITION}" in said
    programs.json("queues", "declare")
    assert programs.replay(letter)[0]["result"] == "published"


def test_a_replay_needs_durable_queues(programs: Programs, bench: LaneBench) -> None:  # noqa: F811
    programs.configure("")
    assert "amqp_durable_queues" in programs.replay(park(bench))


def test_status_has_the_workers_with_their_versions(programs: Programs) -> None:
    with Daemon(programs.url) as worker:
        worker.wait_until_it_consumes()
        database = f"[database]\nconnection = sqlite:///{database_file(worker.directory)}\n"
        programs.configure(f"amqp_durable_queues = true\n{database}")
        name = f"{socket.gethostname()}:{worker.process.pid}"

        def status() -> Any:
            programs.run("status", "--format", "json")
            return json.loads(programs.out)

        def consumes_all() -> bool:
            return [len(found["active"]) for found in status()["workers"]] == [len(QUEUES)]

        wait_until(consumes_all, "the management API's workers")
        found = status()
        (shown,) = found["workers"]
        assert (shown["name"], shown["version"], shown["standby"]) == (name, version("tracker-worker"), [])
        assert found["problems"] == []
        assert found["database"]["nodes"] == 0
        assert programs.run("status") == 0
        assert f"dead,tracker,p0-{PARTITIONS - 1}" in programs.out


def test_commands_that_a_worker_takes_and_never_acknowledges_need_a_person(
    programs: Programs,
    rabbitmq: RabbitMQ,
    channel: Any,
    bench: LaneBench,  # noqa: F811
) -> None:
    programs.json("queues", "declare")
    channel.basic_consume("tracker.p1", consumer_tag="host:1.tracker.p1", callback=lambda _: None)
    channel.basic_publish(amqp.Message(b"x"), "tracker", "tracker.p1")
    path = f"queues/{programs.url.rpartition('/')[2]}/tracker.p1"
    wait_until(lambda: rabbitmq.api("GET", path).get("messages_unacknowledged") == 1, "the figures")
    assert programs.run("status", "--format", "json") == 1
    found = json.loads(programs.out)
    assert next(q for q in found["queues"] if q["queue"] == "tracker.p1")["ready"] == 0
    assert "commands wait on tracker.p1, and none is acknowledged: see the log of host:1" in found["problems"]


def test_queue_of_notifications_that_nobody_consumes_is_named(programs: Programs, channel: Any) -> None:
    programs.json("queues", "declare")
    name = "versioned_notifications.info"
    exchange = Exchange("nova", type="topic", durable=True)
    queue = Queue(name, exchange, routing_key=name, durable=True)(channel)
    queue.declare()
    channel.basic_publish(amqp.Message(b"x"), "", name)
    wait_until(lambda: any("no limit" in line for line in lines_of(programs)), "a message in the queue")
    (line,) = lines_of(programs)
    assert f"the queue {name} has 1 notifications, no consumer and no limit" in line
    queue.purge()
    assert lines_of(programs) == []


def test_nothing_is_said_of_a_limit_that_is_unknown(programs: Programs, channel: Any) -> None:
    """Found by a newcomer: without the management API a queue that a policy bounds was said to grow."""
    programs.json("queues", "declare")
    name = "versioned_notifications.info"
    Queue(name, Exchange("nova", type="topic", durable=True), routing_key=name, durable=True)(
        channel
    ).declare()
    channel.basic_publish(amqp.Message(b"x"), "", name)
    programs.management_url = "http://127.0.0.1:1"
    programs.configure()
    programs.run("queues", "list")
    assert "versioned_notifications.info" in programs.out
    assert "no limit" not in programs.err


def test_alarm_of_the_broker_is_a_problem_of_status(programs: Programs, rabbitmq: RabbitMQ) -> None:
    """Found by a newcomer: only the upgrade check named it."""
    programs.json("queues", "declare")
    where = f"{rabbitmq.host}:{rabbitmq.port} (virtual host {programs.url.rpartition('/')[2]})"
    text = (
        f"RabbitMQ at {where} has an alarm and takes no messages, of clients and of workers: "
        "low on memory; see 'rabbitmq-diagnostics alarms'"
    )

    def problems() -> list[str]:
        assert programs.run("status", "--format", "json") == 1
        found: list[str] = json.loads(programs.out)["problems"]
        return found

    with alarm(rabbitmq):
        wait_until(lambda: text in problems(), "the alarm")
        assert len(programs.json("queues", "list")) == len(QUEUES)
        assert text in programs.err
    wait_until(lambda: text not in problems(), "the end of the alarm")


def test_status_in_an_alarm_leaves_no_connection_on_the_broker(
    programs: Programs, rabbitmq: RabbitMQ
) -> None:
    """`status --watch 1` left one a second: the broker sees the end of a blocked one only after the alarm."""
    programs.json("queues", "declare")
    with alarm(rabbitmq):
        wait_until(lambda: "low on memory" in alarms_of_status(programs), "the alarm")
        before = connections_of(rabbitmq)
        assert "low on memory" in alarms_of_status(programs)
        assert connections_of(rabbitmq) <= before


def test_alarm_is_found_without_the_management_api(programs: Programs, rabbitmq: RabbitMQ) -> None:
    programs.json("queues", "declare")
    programs.management_url = "http://127.0.0.1:1"
    programs.configure()
    with alarm(rabbitmq):
        assert "low on memory" in alarms_of_status(programs)
    assert alarms_of_status(programs) == ""


def alarms_of_status(programs: Programs) -> str:
    """The problem that is an alarm; "" without one."""
    programs.run("status", "--format", "json")
    return "".join(text for text in json.loads(programs.out)["problems"] if " has an alarm " in text)


def connections_of(rabbitmq: RabbitMQ) -> int:
    """The connections that the broker has, those of other tests included."""
    return int(rabbitmq.evaluate("length(rabbit_networking:connections())"))


def test_status_of_a_user_who_may_not_publish_has_no_alarm(programs: Programs, rabbitmq: RabbitMQ) -> None:
    programs.json("queues", "declare")
    path = f"permissions/{programs.url.rpartition('/')[2]}/{rabbitmq.username}"
    rabbitmq.api("PUT", path, {"configure": ".*", "write": "^tracker", "read": ".*"})
    assert len(programs.json("queues", "list")) == len(QUEUES)


def lines_of(programs: Programs) -> list[str]:
    """What `queues list` says on standard error."""
    assert [row["queue"] for row in programs.json("queues", "list")][-1] == "versioned_notifications.info"
    return programs.err.splitlines()
