# SPDX-License-Identifier: Apache-2.0
"""A whole worker on fake://, spoken to through its client, as a compute manager does."""

import itertools
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import oslo_messaging
import pytest
import sqlalchemy as sa
from oslo_config import cfg

from tests.builders import a_flavor, an_instance, some_resources
from tests.fake_placement import FakePlacement
from tests.functional.lanes import data_of, names_of_partition, rows
from tests.functional.statements import Fault, disk_full
from tests.servers.server import wait_until
from tracker_worker import exceptions
from tracker_worker.cmd import bootstrap
from tracker_worker.db.tables import DEAD_LETTERS, LEASES, NODES, OUTBOX, RECEIPTS
from tracker_worker.domain.partitions import partition_of
from tracker_worker.rpcapi import TrackerAPI
from tracker_worker.worker.service import Worker
from tracker_worker.worker.settings import PlacementSettings, WorkerSettings

SECONDS = 20
PARTITIONS = 4

_numbers = itertools.count(1)


@dataclass
class Running:
    """A started worker, a client of it, and the exchange that they share."""

    worker: Worker
    api: TrackerAPI
    exchange: str
    failed: threading.Event
    stopped: bool = False

    def stop(self) -> bool:
        self.stopped = True
        return self.worker.stop()


@pytest.fixture(scope="module")
def transports() -> tuple[Any, Any]:
    conf = cfg.ConfigOpts()  # Another test of this process may have parsed the global one.
    bootstrap.register(conf)
    conf([], project="tracker-worker", default_config_files=[])
    return bootstrap.transports(conf)


@pytest.fixture
def a_worker(engine: sa.Engine, transports: tuple[Any, Any]) -> Iterator[Callable[..., Running]]:
    """Starts workers on the test's database; each is stopped at the end."""
    started: list[Running] = []

    def make(exchange: str | None = None, **settings: Any) -> Running:
        exchange = exchange or f"test-worker-{next(_numbers)}"
        options: dict[str, Any] = {
            "graceful_shutdown_timeout": SECONDS,
            "notification_exchange": exchange,
        } | settings
        failed = threading.Event()
        worker = Worker(
            WorkerSettings(host="test", exchange=exchange, partitions=PARTITIONS, **options),
            engine,
            *transports,
            failed.set,
            placement=lambda _: FakePlacement(),
        )
        api = TrackerAPI(transports[0], exchange=exchange, partitions=PARTITIONS, timeout=SECONDS)
        started.append(Running(worker, api, exchange, failed))
        worker.start()
        return started[-1]

    yield make
    for running in started:
        if not running.stopped:
            running.stop()


@pytest.fixture
def running(a_worker: Callable[..., Running]) -> Running:
    return a_worker()


@pytest.fixture
def api(running: Running) -> TrackerAPI:
    return running.api


def resources(node: str, **more: Any) -> dict[str, Any]:
    report = some_resources(uuid=f"uuid-of-{node}", host=f"host-{node}", **more)
    return dict(msgspec.to_builtins(report))


def instance(uuid: str, vcpus: int = 2, memory_mb: int = 2048) -> dict[str, Any]:
    return dict(msgspec.to_builtins(an_instance(uuid, a_flavor(vcpus, memory_mb, 20))))


def track(api: TrackerAPI, *nodes: str) -> None:
    for node in nodes:
        api.update_available_resource({}, node, resources(node))


def test_lease_of_the_relay_names_host_and_process_of_its_worker(
    a_worker: Callable[..., Running], engine: sa.Engine
) -> None:
    a_worker()
    wait_until(lambda: bool(rows(engine, LEASES)), "a lease")
    host, pid, own = rows(engine, LEASES)[0]["owner"].split(":")
    assert (host, pid) == ("test", str(os.getpid()))
    assert uuid.UUID(own)


def test_a_claim_is_granted_and_counted(api: TrackerAPI) -> None:
    track(api, "node-1")
    reply = api.instance_claim({}, "node-1", instance("i-1"), limits={"vcpu": 2})
    assert (reply["outcome"], reply["sequence"]) == ("granted", 2)
    assert reply["claim"] == {
        "instance_uuid": "i-1",
        "role": "instance",
        "migration_uuid": None,
        "vcpus": 2,
        "memory_mb": 2048,
        "disk_mb": 20480,
        "numa_topology": None,
        "pci_devices": [],
    }
    view = api.get_node({}, "node-1")
    assert (view["vcpus_used"], view["memory_mb_used"], view["local_gb_used"]) == (2, 2560, 20)


def test_a_refused_claim_raises_with_novas_wording(api: TrackerAPI) -> None:
    track(api, "node-1")
    with pytest.raises(exceptions.ComputeResourcesUnavailable) as caught:
        api.instance_claim({}, "node-1", instance("i-1", 2, 4096), limits={"memory_mb": 4096})
    assert str(caught.value) == (
        "Insufficient compute resources: Free memory 3584.00 MB < requested 4096 MB."
    )
    assert api.get_node({}, "node-1")["vcpus_used"] == 0


def test_an_invalid_command_raises_with_the_path_of_the_bad_field(api: TrackerAPI) -> None:
    bad = instance("i-1")
    bad["flavor"]["vcpus"] = "many"
    with pytest.raises(exceptions.InvalidCommand, match=r"wrong_type at \$\.instance\.flavor\.vcpus"):
        api.instance_claim({}, "node-1", bad)


def test_an_unknown_node_is_not_found_and_refuses(api: TrackerAPI) -> None:
    with pytest.raises(exceptions.NodeNotFound, match="nowhere"):
        api.get_node({}, "nowhere")
    with pytest.raises(exceptions.ComputeResourcesUnavailable, match="not tracked"):
        api.instance_claim({}, "nowhere", instance("i-1"))


def test_a_reused_event_id_raises(api: TrackerAPI) -> None:
    track(api, "node-1")
    first = api.call({}, "build_failed", "node-1", event_id="event-a")
    assert api.call({}, "build_failed", "node-1", event_id="event-a") == first
    with pytest.raises(exceptions.EventIdReused):
        api.call({}, "build_succeeded", "node-1", event_id="event-a")


def test_a_conflicting_report_raises(api: TrackerAPI) -> None:
    track(api, "node-1")
    with pytest.raises(exceptions.NodeConflict, match="uuid .*, but host .* compare .* node remove node-1'"):
        api.call({}, "update_available_resource", "node-1", resources=resources("other"))


def test_a_report_with_the_uuid_of_a_stored_node_names_its_host(api: TrackerAPI) -> None:
    api.call({}, "update_available_resource", "node-1", resources=resources("node-1"))
    theirs = resources("node-1") | {"host": "host-2"}
    stored = f"but host {resources('node-1')['host']} has reported node node-1 with that uuid"
    with pytest.raises(exceptions.NodeConflict, match=f"host host-2 reports node node-2 .*{stored}"):
        api.call({}, "update_available_resource", "node-2", resources=theirs)


def test_a_removal_of_a_node_with_claims_is_refused(api: TrackerAPI) -> None:
    track(api, "node-1")
    api.instance_claim({}, "node-1", instance("i-1"))
    with pytest.raises(exceptions.CommandRefused, match="use force"):
        api.call({}, "remove_node", "node-1")


def test_a_client_with_another_number_of_partitions_is_told(
    running: Running, transports: tuple[Any, Any]
) -> None:
    other = TrackerAPI(transports[0], exchange=running.exchange, partitions=3, timeout=SECONDS)
    node = next(
        f"node-{n}" for n in range(99) if partition_of(f"node-{n}", 3) != partition_of(f"node-{n}", 4)
    )
    with pytest.raises(exceptions.WrongPartition):
        other.get_node({}, node)


def raw_client(transports: tuple[Any, Any], exchange: str, server: str = "p0", **target: Any) -> Any:
    """A stock client, without rpcapi."""
    wanted = oslo_messaging.Target(exchange=exchange, topic="tracker", server=server, **target)
    return oslo_messaging.get_rpc_client(transports[0], wanted, timeout=SECONDS)


def test_a_stock_client_can_call(running: Running, transports: tuple[Any, Any]) -> None:
    node = next(names_of_partition(2))
    client = raw_client(transports, running.exchange, "p2", version="1.0")
    with pytest.raises(exceptions.NodeNotFound):
        client.call({}, "get_node", node=node)


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_another_version_is_not_supported(
    running: Running, transports: tuple[Any, Any], engine: sa.Engine, version: str
) -> None:
    client = raw_client(transports, running.exchange, version=version)
    with pytest.raises(oslo_messaging.UnsupportedVersion) as caught:
        client.call({}, "get_node", node="node-1")
    assert (caught.value.version, caught.value.method) == (version, "get_node")
    assert rows(engine, DEAD_LETTERS) == []


@pytest.mark.parametrize(("method", "namespace"), [("reboot", None), ("get_node", "ns")])
def test_an_unknown_method_is_no_such_method(
    running: Running, transports: tuple[Any, Any], engine: sa.Engine, method: str, namespace: str | None
) -> None:
    client = raw_client(transports, running.exchange, version="1.0", namespace=namespace)
    with pytest.raises(oslo_messaging.NoSuchMethod) as caught:
        client.call({}, method, node="node-1")
    assert caught.value.method == method
    assert rows(engine, DEAD_LETTERS) == []


def test_casts_are_applied_in_the_order_they_were_cast(api: TrackerAPI, engine: sa.Engine) -> None:
    track(api, "node-1")
    for number in range(100):
        method = ("build_failed", "build_succeeded")[number % 10 == 9]
        api.cast({}, method, "node-1", event_id=f"event-{number}")
    api.cast({}, "build_failed", "node-1", event_id="event-100")
    assert api.get_node({}, "node-1")["stats"]["failed_builds"] == 1
    sequences = {row["event_id"]: row["sequence"] for row in rows(engine, RECEIPTS)}
    assert [sequences[f"event-{number}"] for number in range(101)] == list(range(2, 103))


def test_many_callers_of_many_nodes_each_get_their_own_answer(api: TrackerAPI) -> None:
    nodes = [f"node-{number}" for number in range(8)]
    track(api, *nodes)

    def claim(number: int) -> tuple[str, int]:
        node = nodes[number % len(nodes)]
        reply = api.instance_claim({}, node, instance(f"i-{number}", 1, 64))
        return reply["claim"]["instance_uuid"], number

    with ThreadPoolExecutor(8) as pool:
        for uuid, number in pool.map(claim, range(80)):
            assert uuid == f"i-{number}"
    assert [api.get_node({}, node)["vcpus_used"] for node in nodes] == [10] * 8


class Heard:
    """Endpoint of a stock notification listener; its methods are oslo.messaging's."""

    def __init__(self) -> None:
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()

    def info(self, context: Any, publisher_id: str, event_type: str, payload: Any, metadata: Any) -> None:
        self.messages.put(
            {
                "context": context,
                "publisher_id": publisher_id,
                "event_type": event_type,
                "payload": payload,
                "metadata": metadata,
            }
        )

    error = info

    def next(self, node: str) -> dict[str, Any]:
        """The next notification about a node; other tests may use the same exchange."""
        while True:
            message = self.messages.get(timeout=SECONDS)
            if data_of(message)["node"] == node:
                return message


@pytest.fixture
def heard(transports: tuple[Any, Any]) -> Iterator[Heard]:
    endpoint = Heard()
    target = oslo_messaging.Target(exchange="nova", topic="versioned_notifications")
    listener = oslo_messaging.get_notification_listener(
        transports[1], [target], [endpoint], executor="threading"
    )
    listener.start(override_pool_size=1)  # Several threads would hand over in any order what came in one.
    yield endpoint
    listener.stop()
    listener.wait()


def test_novas_consumers_hear_the_notifications(a_worker: Callable[..., Running], heard: Heard) -> None:
    api = a_worker(notification_exchange="nova").api
    node = f"node-heard-{next(_numbers)}"
    context = {"request_id": "req-1", "auth_token": "hunter2", "roles": ["admin"]}
    api.call(context, "update_available_resource", node, resources=resources(node))
    api.instance_claim(context, node, instance("i-1"))
    with pytest.raises(exceptions.ComputeResourcesUnavailable):
        api.instance_claim(context, node, instance("i-2"), limits={"vcpu": 1})
    messages = [heard.next(node) for _ in range(4)]
    kinds = ["create", "usage", "usage", "claim.error"]
    assert sorted(m["event_type"] for m in messages) == sorted(f"compute_node.{k}" for k in kinds)
    assert {message["publisher_id"] for message in messages} == {"tracker-worker:test"}
    assert len({message["metadata"]["message_id"] for message in messages}) == 4
    assert {data_of(message)["cause"]["request_id"] for message in messages} == {"req-1"}
    assert "hunter2" not in repr(messages)


def test_row_that_cannot_be_decoded_is_replaced_and_ends_no_worker(
    a_worker: Callable[..., Running], engine: sa.Engine, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """One stored by a later version, with a priority of its own, is published as it is."""
    stored = {"node": None, "event_type": "compute_node.usage", "priority": "INFO"}
    with engine.begin() as connection:
        connection.execute(sa.insert(OUTBOX), stored | {"message_id": "broken", "body": b"{\xff"})
        later = stored | {"message_id": "later", "priority": "WARN", "body": b"{}"}
        connection.execute(sa.insert(OUTBOX), later)
    running = a_worker(notification_exchange="nova")
    # An error has a topic of its own: the order of what waits in two topics is nobody's.
    assert heard.messages.get(timeout=SECONDS)["event_type"] == "compute_node.event.error"
    node = f"node-heard-{next(_numbers)}"
    track(running.api, node)
    assert [heard.messages.get(timeout=SECONDS)["event_type"] for _ in range(2)] == [
        "compute_node.create", "compute_node.usage",
    ]  # fmt: skip
    assert "The bus refuses notification broken" in caplog.text
    assert running.stop()
    assert rows(engine, OUTBOX) == []
    assert not running.failed.is_set()


def test_what_was_cast_before_the_stop_is_committed_and_published(
    running: Running, engine: sa.Engine
) -> None:
    nodes = [f"node-{number}" for number in range(8)]
    track(running.api, *nodes)
    for number in range(200):
        running.api.cast({}, "build_failed", nodes[number % 8])
    assert running.stop()
    assert [row["failed_builds"] for row in rows(engine, NODES)] == [25] * 8
    assert rows(engine, OUTBOX) == []
    assert not running.failed.is_set()


def test_a_call_under_way_is_answered_before_the_stop_ends(running: Running, engine: sa.Engine) -> None:
    track(running.api, "node-1")
    running.api.get_node({}, "node-1")
    trying, away = threading.Event(), threading.Event()

    def busy() -> Exception:
        trying.set()
        assert away.wait(SECONDS)
        return disk_full()

    with ThreadPoolExecutor(2) as pool, Fault(engine, "INSERT INTO claims", busy, times=1):
        reply = pool.submit(running.api.instance_claim, {}, "node-1", instance("i-1"))
        assert trying.wait(SECONDS)
        stopped = pool.submit(running.stop)
        away.set()
        assert stopped.result(SECONDS)
        assert reply.result(SECONDS)["outcome"] == "granted"


def test_a_stop_that_cannot_finish_says_so_in_time(
    a_worker: Callable[..., Running], engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    running = a_worker(graceful_shutdown_timeout=1)
    with Fault(engine, "", disk_full):
        running.api.cast({}, "build_failed", "node-1")
        assert not running.stop()
        # The lane's thread ends by itself, on a busy machine after the stop has returned.
        unanswered = "it was not answered: OperationalError: database or disk is full"
        wait_until(lambda: unanswered in caplog.text, "the lane to give up")
    assert rows(engine, RECEIPTS) == []
    assert "Not everything received was processed in 1 s" in caplog.text


def test_stop_that_leaves_notifications_behind_says_so(
    a_worker: Callable[..., Running], engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The relay never gets its lease, and the notification is committed before the stop begins.

    The outbox is read while the fault lasts: the relay's last attempt may come after the stop has returned.
    """
    with Fault(engine, "UPDATE leases", disk_full):
        running = a_worker(graceful_shutdown_timeout=1)
        running.api.call({}, "update_available_resource", "node-1", resources=resources("node-1"))
        assert not running.stop()
        assert len(rows(engine, OUTBOX)) > 0
    assert "Not all notifications were published in time" in caplog.text


def test_stop_without_a_database_tells_of_no_notifications_where_none_wait(
    a_worker: Callable[..., Running], engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    running = a_worker(graceful_shutdown_timeout=1)
    running.api.call({}, "update_available_resource", "node-1", resources=resources("node-1"))
    wait_until(lambda: rows(engine, OUTBOX) == [], "the relay to publish all")
    with Fault(engine, "", disk_full):
        assert running.stop()
    assert "notifications were published" not in caplog.text


def test_stop_publishes_what_the_sync_with_placement_writes_down_last(
    a_worker: Callable[..., Running], engine: sa.Engine
) -> None:
    """The sync is held before its notification until a relay that is not kept for it has ended."""
    loaded, held = threading.Event(), threading.Event()
    threads: dict[str, threading.Thread] = {}

    def note(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        is_report = sql.startswith(("SELECT", "WITH")) and "nodes" in sql
        if threading.current_thread().name == "placement-sync" and is_report:
            loaded.set()

    def hold(_connection: Any) -> None:
        if threading.current_thread().name == "placement-sync" and loaded.is_set() and not held.is_set():
            threads.update((each.name, each) for each in threading.enumerate())
            held.set()
            threads["lane-0"].join(SECONDS)
            threads["relay"].join(0.5)

    sa.event.listen(engine, "before_cursor_execute", note)
    sa.event.listen(engine, "begin", hold, insert=True)
    try:
        running = a_worker(placement=PlacementSettings())
        bad = resources("node-1")  # Placement takes no such uuid.
        running.api.call({}, "update_available_resource", "node-1", resources=bad)
        assert held.wait(SECONDS)
        assert running.stop()
        threads["placement-sync"].join(SECONDS)
    finally:
        sa.event.remove(engine, "begin", hold)
        sa.event.remove(engine, "before_cursor_execute", note)
    assert rows(engine, OUTBOX) == []


def test_the_next_worker_goes_on_where_the_last_one_stopped(a_worker: Callable[..., Running]) -> None:
    first = a_worker()
    track(first.api, "node-1")
    first.api.instance_claim({}, "node-1", instance("i-1"))
    assert first.stop()
    second = a_worker(first.exchange)
    assert second.api.instance_claim({}, "node-1", instance("i-2"))["sequence"] == 3
    assert second.api.get_node({}, "node-1")["vcpus_used"] == 4


def test_two_workers_at_once_lose_nothing(a_worker: Callable[..., Running]) -> None:
    """fake:// gives each message to one of them: every commit meets the other's, and none is lost."""
    first = a_worker()
    a_worker(first.exchange)
    nodes = [f"node-{number}" for number in range(4)]
    for node in nodes:
        first.api.call({}, "update_available_resource", node, resources=resources(node))
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(first.api.instance_claim, {}, nodes[n % 4], instance(f"i-{n}", 1, 64))
            for n in range(80)
        ]
        assert {call.result(SECONDS)["outcome"] for call in calls} == {"granted"}
    views = [first.api.get_node({}, node) for node in nodes]
    assert [(view["vcpus_used"], view["sequence"]) for view in views] == [(20, 21)] * 4


@pytest.mark.parametrize("beginning", ["SELECT outbox", "SELECT receipts"])
def test_a_thread_that_ends_by_an_unknown_error_is_told(
    a_worker: Callable[..., Running], engine: sa.Engine, beginning: str
) -> None:
    """The process cannot keep its promises without its lanes, nor without its relay."""
    with Fault(engine, beginning, ValueError):
        running = a_worker()
        running.api.cast({}, "build_failed", "node-1")
        assert running.failed.wait(5)


def test_without_notifications_nothing_is_published(
    a_worker: Callable[..., Running], engine: sa.Engine
) -> None:
    running = a_worker(notify=False)
    track(running.api, "node-1")
    running.api.instance_claim({}, "node-1", instance("i-1"))
    assert running.stop()
    assert running.worker.stats.published_notifications == 0
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(OUTBOX)) == 0
