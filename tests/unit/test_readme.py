# SPDX-License-Identifier: Apache-2.0
"""The README is true: its example is a program that runs, its configuration is one, its demo has the traces
that it names.
"""

import re
import runpy
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

# Before oslo.messaging is imported: it chooses the threading model of oslo.service.
from tracker_worker.testing import TrackerWorkerFixture  # isort: skip

from tracker_worker.cmd.bootstrap import register, transports
from tracker_worker.cmd.replay.trace import read_trace
from tracker_worker.domain.settings import TrackerSettings
from tracker_worker.exceptions import ComputeResourcesUnavailable
from tracker_worker.worker.configuration import settings_from

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.rst").read_text()
EXAMPLE = ROOT / "examples" / "compute_manager.py"
TRACES = sorted((ROOT / "tracker_worker" / "traces").glob("*.jsonl.gz"))
_BLOCK = r"^\.\. code-block:: {}\n\n((?:   .*\n|\n)+)"

Json = dict[str, Any]


class Manager:
    """A compute manager that consists of the README's functions, on a tracker of its own."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker
        self.example = runpy.run_path(str(EXAMPLE))
        self.spawned: list[str] = []
        self.database: dict[str, Json] = {}

    def build(self, uuid: str, memory_mb: int, spawn: Any = None, limits: Json | None = None) -> None:
        flavor = self.example["instance"]["flavor"] | {"memory_mb": memory_mb}
        instance = self.example["instance"] | {"uuid": uuid, "flavor": flavor}
        self.example["build"](
            self.tracker, {}, "compute1", instance, limits, spawn or self._spawn, self._save
        )

    def audit(self) -> None:
        report = self.example["report"]
        self.example["audit"](self.tracker, {}, "compute1", report, lambda _: list(self.database.values()))

    def node(self) -> Json:
        view: Json = self.tracker.get_node({}, "compute1")
        return view

    def _spawn(self, instance: Json) -> None:
        self.spawned.append(instance["uuid"])

    def _save(self, instance: Json) -> None:
        self.database[instance["uuid"]] = instance


def blocks(language: str) -> list[str]:
    return [textwrap.dedent(block) for block in re.findall(_BLOCK.format(language), README, re.MULTILINE)]


@pytest.fixture
def manager() -> Iterator[Manager]:
    with TrackerWorkerFixture(cfg.CONF) as worker:
        manager = Manager(worker.api)
        manager.audit()
        yield manager


def test_readme_shows_the_example_as_it_is() -> None:
    (block,) = blocks("python")
    spdx, _, program = EXAMPLE.read_text().partition("\n")
    assert spdx == "# SPDX-License-Identifier: Apache-2.0"
    assert block.strip() == program.strip()


def test_example_runs_and_prints_what_the_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    shown = re.search(
        r"``\.venv/bin/python examples/compute_manager\.py`` prints::\n\n((?:    .*\n)+)", README
    )
    assert shown is not None
    assert capsys.readouterr().out == textwrap.dedent(shown[1])
    reserved = re.search(r"^(\d+) of these MB are what the node keeps", README, re.MULTILINE)
    assert reserved is not None and 2048 + int(reserved[1]) == 2560


def test_claim_above_its_limits_is_raised_and_holds_nothing(manager: Manager) -> None:
    before = manager.node()
    with pytest.raises(ComputeResourcesUnavailable, match=r"Free memory 15872\.00 MB < requested 99999 MB"):
        manager.build("refused", 99999, limits={"memory_mb": 16384})
    assert manager.spawned == []
    assert manager.node()["claims"] == before["claims"]


def test_claim_without_limits_is_granted_whatever_its_size(manager: Manager) -> None:
    manager.build("huge", 999_999)
    assert manager.node()["memory_mb_used"] == 999_999 + 512


def test_claim_without_limits_is_tested_where_capacity_check_is_capacity() -> None:
    with TrackerWorkerFixture(cfg.CONF, TrackerSettings(capacity_check="capacity")) as worker:
        manager = Manager(worker.api)
        manager.audit()
        with pytest.raises(ComputeResourcesUnavailable, match="999999 MB"):
            manager.build("huge", 999_999)


def test_a_failed_spawn_gives_the_room_back(manager: Manager) -> None:
    def fail(_instance: Json) -> None:
        raise RuntimeError("no hypervisor")

    with pytest.raises(RuntimeError, match="no hypervisor"):
        manager.build("failed", 1024, fail)
    assert manager.node()["memory_mb_used"] == 512


def test_an_audit_finds_what_is_there_and_releases_what_is_not(manager: Manager) -> None:
    manager.build("there", 2048)
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
        assert manager.node()["memory_mb_used"] == 1536

    manager.build("slow", 1024, spawn)
    manager.audit()
    assert manager.node()["memory_mb_used"] == 1536


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
