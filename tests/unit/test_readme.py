# SPDX-License-Identifier: Apache-2.0
"""The README is true: its code runs against an embedded worker, its configuration is one, its demo has the
traces that it names.

`embedded` is also the shortest way to run a worker inside another process.
"""

# oslo.service binds its threading model when oslo.messaging is first imported; the commands choose it.
import tracker_worker.cmd  # noqa: F401  # isort: skip

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from tracker_worker.cmd.embedded import embedded_engine, register, transports
from tracker_worker.cmd.trace import read_trace
from tracker_worker.exceptions import ComputeResourcesUnavailable
from tracker_worker.worker.service import Worker, WorkerSettings, settings_from

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.rst").read_text()
TRACES = sorted((ROOT / "tracker_worker" / "traces").glob("*.jsonl.gz"))
_BLOCK = r"^\.\. code-block:: {}\n\n((?:   .*\n|\n)+)"

Json = dict[str, Any]


@contextmanager
def embedded(state_path: Path) -> Iterator[cfg.ConfigOpts]:
    """Run a worker in this process; what is yielded is the configuration of its clients."""
    conf = cfg.CONF
    conf.reset()
    register(conf)
    conf([], project="tracker-worker", default_config_files=[])
    engine = embedded_engine(state_path)
    rpc, notifications = transports(conf)
    settings = WorkerSettings(host="compute1", notification_exchange="readme")
    worker = Worker(settings, engine, rpc, notifications, lambda: None)
    worker.start()
    try:
        yield conf
    finally:
        worker.stop()
        engine.dispose()
        conf.reset()


class Manager:
    """A compute manager that consists of the README's code alone."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.spawned: list[str] = []
        self.database: dict[str, Json] = {}
        self.names: Json = {
            "conf": conf,
            "context": {"request_id": "req-readme"},
            "spawn": self.spawn,
            "save": self.save,
            "read": self.read,
        }
        for block in blocks("python"):
            exec(compile(block, "README.rst", "exec"), self.names)

    def spawn(self, instance: Json) -> None:
        self.spawned.append(instance["uuid"])

    def save(self, instance: Json) -> None:
        self.database[instance["uuid"]] = instance

    def read(self, _node: str) -> list[Json]:
        return list(self.database.values())

    def __getattr__(self, name: str) -> Any:
        return self.names[name]

    def build(self, uuid: str, memory_mb: int, spawn: Any = None) -> None:
        flavor = self.names["instance"]["flavor"] | {"memory_mb": memory_mb}
        instance = self.names["instance"] | {"uuid": uuid, "flavor": flavor}
        limits = {"memory_mb": 16384}
        self.names["build"](
            self.tracker, self.context, "compute1", instance, limits, spawn or self.spawn, self.save
        )

    def audit(self) -> None:
        self.names["audit"](self.tracker, self.context, "compute1", self.report, self.read)

    def node(self) -> Json:
        view: Json = self.tracker.get_node(self.context, "compute1")
        return view


def blocks(language: str) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(_BLOCK.format(language), README, re.MULTILINE)]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with embedded(tmp_path) as conf:
        yield Manager(conf)


def test_the_readme_has_its_blocks_of_code() -> None:
    assert [block.split("(")[0].split()[1] for block in blocks("python")] == [
        "build",
        "tracker_worker.rpcapi",
    ]
    assert len(blocks("ini")) == 1


def test_the_first_use_builds_an_instance_and_prints_what_the_readme_says(
    manager: Manager, capsys: pytest.CaptureFixture[str]
) -> None:
    view = manager.node()
    assert manager.spawned == [manager.instance["uuid"]]
    assert (view["memory_mb_used"], view["vcpus_used"], view["local_gb_used"]) == (2560, 2, 20)
    assert (view["running_vms"], view["stats"]["num_vm_active"]) == (1, 1)
    said = re.search(r"# (\d+): 512 are reserved", README)
    assert said is not None and int(said[1]) == view["memory_mb_used"]


def test_a_claim_without_room_is_raised_and_holds_nothing(manager: Manager) -> None:
    before = manager.node()
    with pytest.raises(ComputeResourcesUnavailable, match=r"Free memory 13824\.00 MB < requested 99999 MB"):
        manager.build("refused", 99999)
    assert "refused" not in manager.spawned
    assert manager.node()["claims"] == before["claims"]


def test_a_failed_spawn_gives_the_room_back(manager: Manager) -> None:
    def fail(_instance: Json) -> None:
        raise RuntimeError("no hypervisor")

    with pytest.raises(RuntimeError, match="no hypervisor"):
        manager.build("failed", 1024, fail)
    assert manager.node()["memory_mb_used"] == 2560


def test_an_audit_finds_what_is_there_and_releases_what_is_not(manager: Manager) -> None:
    claims = manager.node()["claims"]
    manager.audit()
    assert manager.node()["claims"] == claims
    manager.database.clear()
    manager.audit()
    view = manager.node()
    assert (view["memory_mb_used"], view["claims"]) == (512, [])


def test_an_audit_in_the_middle_of_a_build_leaves_it_alone(manager: Manager) -> None:
    def spawn(_instance: Json) -> None:
        manager.audit()
        assert manager.node()["memory_mb_used"] == 3584

    manager.build("slow", 1024, spawn)
    manager.audit()
    assert manager.node()["memory_mb_used"] == 3584


def test_the_configuration_makes_a_worker_on_rabbitmq_that_clients_accept(tmp_path: Path) -> None:
    (block,) = blocks("ini")
    file = tmp_path / "tracker-worker.conf"
    file.write_text(block)
    conf = cfg.CONF
    conf.reset()
    register(conf)
    try:
        conf([f"--config-file={file}"], project="tracker-worker")
        for transport in transports(conf):
            transport.cleanup()
        broker = settings_from(conf).broker
        assert broker is not None and broker.durable
        assert conf.database.connection.startswith("postgresql://")
    finally:
        conf.reset()


def test_the_demo_replays_as_many_traces_and_commands_as_the_readme_says() -> None:
    said = re.search(r"(\d+) traces, (\d+) commands in", README)
    assert said is not None
    commands = sum(len(read_trace(path).steps) for path in TRACES)
    assert (int(said[1]), int(said[2])) == (len(TRACES), commands)
