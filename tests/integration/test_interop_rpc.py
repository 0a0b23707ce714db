# SPDX-License-Identifier: Apache-2.0
"""Commands of stock oslo.messaging clients in other processes to the daemon: casts, calls, errors.

Everything is done once with classic durable queues and once with quorum queues, over PostgreSQL.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
import sqlalchemy as sa
from oslo_config import cfg

from tests import samples
from tests.integration.daemon import PARTITIONS, Daemon
from tests.integration.rabbit import until
from tests.integration.stock import CLIENTS, RPC, Caster, raised, server_of
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ
from tracker_worker import exceptions
from tracker_worker.core.envelope import PING
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import CLAIMS, DEAD_LETTERS, NODES, RECEIPTS
from tracker_worker.rpcapi import TrackerAPI

KINDS = {"classic": {"amqp_durable_queues": True}, "quorum": {"rabbit_quorum_queue": True}}

Json = dict[str, Any]


@dataclass
class Tracker:
    """A daemon, its database, and a client that rebuilds errors."""

    url: str
    rabbit: Json
    directory: Path
    daemon: Daemon
    engine: sa.Engine
    client: RPC

    def rows(self, query: sa.Executable) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(query))

    def history(self, node: str) -> list[Any]:
        """The receipts of the node, in the order in which its ledger has seen the events."""
        return self.rows(sa.select(RECEIPTS).where(RECEIPTS.c.node == node).order_by(RECEIPTS.c.sequence))

    def dead_letter(self, event_id: str) -> Any:
        query = sa.select(DEAD_LETTERS).where(DEAD_LETTERS.c.event_id == event_id)
        return until(lambda: self.rows(query), f"no dead letter of {event_id}")[0]


@pytest.fixture(scope="module", params=KINDS)
def tracker(
    request: pytest.FixtureRequest,
    rabbitmq: RabbitMQ,
    postgresql: PostgreSQL,
    migrated_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Tracker]:
    rabbit = KINDS[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    url = rabbitmq.url(vhost := rabbitmq.new_vhost())
    database = postgresql.new_database(migrated_database)
    engine = create_engine(database)
    with ExitStack() as stack:
        stack.callback(rabbitmq.delete_vhost, vhost)
        stack.callback(postgresql.drop_database, database)
        stack.callback(engine.dispose)
        daemon = stack.enter_context(Daemon(url, database, oslo_messaging_rabbit=rabbit))
        client = stack.enter_context(RPC(directory, url, rabbit=rabbit))
        daemon.wait_until_it_consumes()
        yield Tracker(url, rabbit, directory, daemon, engine, client)


@pytest.fixture
def node(tracker: Tracker, request: pytest.FixtureRequest) -> str:
    """A node of the test's own, reported."""
    name: str = request.node.originalname
    tracker.client.result("update_available_resource", name, resources=report_of(name))
    return name


def report_of(node: str, **more: Any) -> Json:
    # An uuid need not be one, but it has 36 characters at most.
    return samples.a_report(**{"uuid": f"{node}-ü"[-36:], "host": "h", **more})


def an_instance(uuid: str = "i-1", vcpus: int = 2, memory_mb: int = 2048, root_gb: int = 20) -> Json:
    return samples.an_instance(uuid, samples.a_flavor(vcpus, memory_mb, root_gb))


def life(node: str, thread: str, boots: int) -> list[Json]:
    """A report, and boots half of which are deleted again; two of three are calls."""
    commands = [("update_available_resource", {"resources": report_of(node, uuid=f"{thread}-{node}"[-36:])})]
    for number in range(boots):
        instance = an_instance(f"{node}-{number}", 1, 64, 1)
        commands.append(("instance_claim", {"instance": instance}))
        if number % 2:
            commands.append(("update_usage", {"instance": instance | {"vm_state": "deleted"}}))
    return [
        {
            "method": method,
            "args": {"node": node, "event_id": f"{node}:{number}", **args},
            "how": "call" if number % 3 else "cast",
        }
        for number, (method, args) in enumerate(commands)
    ]


def has_settled(tracker: Tracker, node: str, count: int) -> bool:
    return len(tracker.history(node)) == count


def test_commands_from_many_threads_connections_and_processes_are_applied_and_answered_in_order(
    tracker: Tracker,
) -> None:
    """Two processes, six threads each over three connections; a thread sends the events of two nodes."""
    sent: dict[str, list[str]] = {}
    casters = []
    with ExitStack() as stack:
        for process in range(2):
            threads = []
            for thread in range(6):
                lives = [life(f"node-{process}-{thread}-{n}", f"t{thread}", 12) for n in range(2)]
                for one in lives:
                    sent[one[0]["args"]["node"]] = [command["args"]["event_id"] for command in one]
                threads.append([command for pair in zip(*lives, strict=True) for command in pair])
            casters.append(
                stack.enter_context(Caster(tracker.directory, tracker.url, threads, 3, tracker.rabbit))
            )
        done = [caster.done(60) for caster in casters]
    assert [each["sent"] for each in done] == [228, 228]
    replies = done[0]["replies"] | done[1]["replies"]
    for node, ids in sent.items():
        until(partial(has_settled, tracker, node, len(ids)))
        history = [(row.event_id, row.sequence) for row in tracker.history(node)]
        assert history == [(event_id, n) for n, event_id in enumerate(ids, 1)]
        answered = {event_id: replies[event_id]["sequence"] for event_id in ids if event_id in replies}
        assert answered == {event_id: n for n, event_id in enumerate(ids, 1) if (n - 1) % 3}
        view = tracker.client.result("get_node", node)
        assert (view["vcpus_used"], view["memory_mb_used"], view["local_gb_used"]) == (6, 512 + 6 * 64, 6)


def test_the_client_programs_import_nothing_of_this_project() -> None:
    for program in CLIENTS.glob("*.py"):
        assert "tracker_worker" not in program.read_text(), program


def test_a_call_gets_its_reply_and_every_method_can_be_called_or_cast(tracker: Tracker, node: str) -> None:
    claimed = tracker.client.result("instance_claim", node, instance=an_instance())
    assert (claimed["outcome"], claimed["sequence"]) == ("granted", 2)
    assert claimed["claim"]["memory_mb"] == 2048
    assert tracker.client.send("build_failed", node, how="cast") == {"result": None}
    assert tracker.client.result("build_failed", node) == {"outcome": "applied", "sequence": 4}
    view = tracker.client.result("get_node", node)
    assert (view["vcpus_used"], view["stats"]["failed_builds"], view["sequence"]) == (2, 2, 4)


def test_a_call_that_is_repeated_gets_the_first_reply(tracker: Tracker, node: str) -> None:
    command = {"instance": an_instance(), "event_id": "once"}
    first = tracker.client.result("instance_claim", node, **command)
    assert tracker.client.result("instance_claim", node, **command) == first
    assert tracker.client.result("get_node", node)["sequence"] == first["sequence"]


def exception(kind: type[Exception]) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def test_a_refusal_is_nova_s_exception_with_nova_s_words(tracker: Tracker, node: str) -> None:
    big = an_instance(memory_mb=4096)
    answer = tracker.client.send(
        "instance_claim", node, args={"instance": big, "limits": {"memory_mb": 4096}}
    )
    kind, text = raised(answer)
    assert kind == exception(exceptions.ComputeResourcesUnavailable)
    assert exception(exceptions.TrackerWorkerException) in answer["kinds"]
    assert "Insufficient compute resources: Free memory 3584.00 MB < requested 4096 MB." in text


def test_a_command_that_is_wrong_is_an_exception_that_names_the_field(tracker: Tracker, node: str) -> None:
    bad = an_instance()
    bad["flavor"]["memory_gb"] = 4
    answer = tracker.client.send("instance_claim", node, args={"instance": bad})
    kind, text = raised(answer)
    assert kind == exception(exceptions.InvalidCommand)
    assert "unknown_argument at $.instance.flavor.memory_gb" in text


def test_a_node_that_is_not_tracked_is_an_exception(tracker: Tracker) -> None:
    kind, text = raised(tracker.client.send("get_node", "nowhere"))
    assert kind == exception(exceptions.NodeNotFound)
    assert "nowhere" in text


def test_without_allowed_remote_exmods_it_is_a_remote_error_with_the_name_and_the_text(
    tracker: Tracker,
) -> None:
    answer = tracker.client.send("get_node", "nowhere", exmods=())
    assert answer["kinds"][0] == "oslo_messaging.rpc.client.RemoteError"
    assert "NodeNotFound" in answer["error"]
    assert "nowhere" in answer["error"]


@pytest.mark.parametrize("version", ["1.7", "2.0", "0.9"])
def test_a_version_that_is_not_spoken_is_oslo_s_own_exception(
    tracker: Tracker, node: str, version: str
) -> None:
    kind, text = raised(tracker.client.send("build_failed", node, version=version))
    assert kind == "oslo_messaging.rpc.dispatcher.UnsupportedVersion"
    assert version in text
    assert tracker.client.result("get_node", node)["stats"]["failed_builds"] == 0


@pytest.mark.parametrize(("method", "namespace"), [("fly", None), ("build_failed", "baseapi")])
def test_a_method_or_namespace_that_is_not_there_is_oslo_s_own_exception(
    tracker: Tracker, node: str, method: str, namespace: str | None
) -> None:
    kind, text = raised(tracker.client.send(method, node, namespace=namespace))
    assert kind == "oslo_messaging.rpc.dispatcher.NoSuchMethod"
    assert method in text


def test_a_cast_of_another_version_is_kept_as_a_dead_letter(tracker: Tracker, node: str) -> None:
    tracker.client.send("build_failed", node, how="cast", version="1.7", args={"event_id": "new"})
    letter = tracker.dead_letter("new")
    assert (letter.code, letter.node, letter.method) == ("unsupported_version", node, "build_failed")


def test_a_cast_to_the_bare_topic_is_parked_as_wrong_partition(tracker: Tracker, node: str) -> None:
    sent = tracker.client.send("build_failed", node, how="cast", server=None, args={"event_id": "bare"})
    assert sent == {"result": None}
    letter = tracker.dead_letter("bare")
    assert (letter.code, letter.path, letter.node) == ("wrong_partition", "$.node", node)
    assert "has to name the partition as server" in letter.message
    assert tracker.client.result("get_node", node)["stats"]["failed_builds"] == 0


@pytest.mark.parametrize("server", [None, "another"])
def test_a_call_to_another_queue_than_the_node_s_is_an_exception(
    tracker: Tracker, node: str, server: str | None
) -> None:
    if server:
        own = int(server_of(node)[1:])
        server = f"p{(own + 1) % PARTITIONS}"
    kind, _ = raised(tracker.client.send("build_failed", node, server=server))
    assert kind == exception(exceptions.WrongPartition)


def test_a_cast_to_a_partition_that_there_is_not_is_undeliverable(tracker: Tracker, node: str) -> None:
    answer = tracker.client.send("build_failed", node, how="cast", server=f"p{PARTITIONS}")
    assert answer["kinds"][0] == "oslo_messaging.exceptions.MessageUndeliverable"


def test_a_fanout_cast_reaches_nobody_and_its_sender_is_told_nothing(tracker: Tracker, node: str) -> None:
    assert tracker.client.send("build_failed", node, how="fanout") == {"result": None}
    reply = tracker.client.result("build_succeeded", node)
    assert reply == {"outcome": "ignored", "sequence": 2}


def test_a_claim_that_timed_out_is_undone_behind_itself(tracker: Tracker, node: str) -> None:
    """The project's own client does that; the worker stands still meanwhile."""
    option = "rabbit_quorum_queue" if "rabbit_quorum_queue" in tracker.rabbit else "amqp_durable_queues"
    transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=f"{tracker.url}?{option}=true")
    tracker.daemon.suspend()
    try:
        api = TrackerAPI(transport, partitions=PARTITIONS, timeout=1)
        with pytest.raises(oslo_messaging.MessagingTimeout):
            api.instance_claim({}, node, an_instance())
    finally:
        tracker.daemon.resume()
        transport.cleanup()
    assert tracker.client.result("get_node", node)["claims"] == []
    assert [(row.method, row.outcome) for row in tracker.history(node)[1:]] == [
        ("instance_claim", "granted"),
        ("abort_instance_claim", "applied"),
    ]


@pytest.mark.parametrize("server", [None, *(f"p{number}" for number in range(PARTITIONS))])
def test_ping_of_every_queue_is_answered_pong_and_leaves_no_dead_letter(
    tracker: Tracker, server: str | None
) -> None:
    before = tracker.rows(sa.select(DEAD_LETTERS))
    answers = [tracker.client.send(PING, "any", server=server, version=version) for version in ("1.0", "9.9")]
    assert answers == [{"result": "pong"}] * 2
    assert tracker.rows(sa.select(DEAD_LETTERS)) == before


MONITORED: dict[str, Any] = {"timeout": 30, "call_monitor_timeout": 2}


@pytest.fixture
def callers(tracker: Tracker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RPC]]:
    """Clients for calls that take long, beside the tracker's own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(RPC(tmp_path_factory.mktemp("caller"), tracker.url, rabbit=tracker.rabbit))
            for _ in range(2)
        ]


def wait_for_longer_than_the_monitor(tracker: Tracker, node: str) -> None:
    """Until a call to the same node, which asks for no heartbeats, is given up by its caller."""
    answer = tracker.client.send("build_failed", node, timeout=2 * MONITORED["call_monitor_timeout"])
    assert answer["kinds"][0] == "oslo_messaging.exceptions.MessagingTimeout"


def test_call_monitor_gets_heartbeats_while_its_call_runs_and_while_it_waits_for_its_lane(
    tracker: Tracker, node: str, callers: list[RPC]
) -> None:
    running, waiting = callers
    locks = sa.text(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with tracker.engine.begin() as somebody:
        somebody.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        somebody.execute(sa.select(NODES.c.name).where(NODES.c.name == node).with_for_update())
        running.begin("instance_claim", node, args={"instance": an_instance()}, **MONITORED)
        until(lambda: tracker.rows(locks), "the claim does not wait for the row")
        waiting.begin("get_node", node, **MONITORED)
        wait_for_longer_than_the_monitor(tracker, node)
    assert running.outcome()["result"]["outcome"] == "granted"
    assert waiting.outcome()["result"]["vcpus_used"] == 2


def test_call_monitor_gets_heartbeats_while_its_call_is_held(
    tracker: Tracker, node: str, callers: list[RPC]
) -> None:
    tracker.client.result("instance_claim", node, instance=an_instance("lost"))
    with tracker.engine.begin() as somebody:
        somebody.execute(sa.delete(CLAIMS).where(CLAIMS.c.node == node))
    callers[0].begin("abort_instance_claim", node, args={"instance_uuid": "lost"}, **MONITORED)
    tracker.daemon.wait_for_line(f"Node {node} and its events are held")
    wait_for_longer_than_the_monitor(tracker, node)
    with tracker.engine.begin() as somebody:
        right = {"vcpus_used": 0, "memory_mb_used": 512, "disk_mb_used": 0}
        somebody.execute(sa.update(NODES).where(NODES.c.name == node).values(right))
    assert callers[0].outcome()["result"]["outcome"] == "ignored"
