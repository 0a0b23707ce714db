# SPDX-License-Identifier: Apache-2.0
"""The replay command on recorded traces: Nova's own figures are the right answers."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.servers import forkserver
from tracker_worker.cmd.replay import settings_of
from tracker_worker.cmd.replay.trace import read_trace
from tracker_worker.db import leases, revisions
from tracker_worker.db.engine import create_engine
from tracker_worker.db.tables import RECEIPTS
from tracker_worker.domain.objects import ReservedPages

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "tracker_worker" / "traces").glob("*.jsonl.gz"))
SHARED = ROOT.parent / "shared" / "traces"
KINDS = ("nova-tracker-*", "nova-manager-*", "openb-cpu", "openb-gpu")
RUN = "import sys; from tracker_worker.cmd.replay import main; sys.exit(main())"


def replay(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run tracker-worker-replay in a process of its own."""
    return forkserver.run("replay", *arguments)


def lines_of(trace: Path) -> list[dict[str, Any]]:
    """Return a trace's lines."""
    return [json.loads(line) for line in gzip.open(trace, "rt")]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    """Write a trace."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def one(name: str) -> Path:
    """Return the shipped trace with this in its name."""
    (found,) = [path for path in SHIPPED if name in path.name]
    return found


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[sa.Engine]:
    """An engine on a database of the test's own."""
    engine = create_engine(sqlite_url)
    yield engine
    engine.dispose()


def test_shipped_traces_end_as_nova_ended() -> None:
    command = [sys.executable, "-c", RUN, "--check", *map(str, SHIPPED)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    commands = sum(len(lines_of(path)) - 1 for path in SHIPPED)
    assert f"{len(SHIPPED)} traces, {commands} commands, 0 differences" in result.stdout
    assert commands <= 3000


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS)
def test_every_recorded_trace_ends_as_recorded(kind: str) -> None:
    traces = sorted(SHARED.glob(kind + ".jsonl.gz"))
    if not traces:
        pytest.skip(f"{SHARED} is not beside this checkout")
    result = forkserver.run("replay", "--check", *traces, seconds=400)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert " 0 differences" in result.stdout


def test_a_wrong_expectation_is_listed_and_fails(tmp_path: Path) -> None:
    lines = lines_of(one("cpu-20-design-example"))
    index = next(i for i, line in enumerate(lines) if line.get("expect", {}).get("nodes"))
    (node,) = lines[index]["expect"]["nodes"]
    lines[index]["expect"]["nodes"][node]["vcpus_used"] = 77
    result = replay("--check", write(tmp_path / "wrong.jsonl", lines))
    assert result.returncode == 1
    assert f"wrong.jsonl, command {index - 1} " in result.stdout
    assert f"{node}.vcpus_used: expected 77, got " in result.stdout.replace("\n", " ")


def test_output_has_a_line_for_each_command(tmp_path: Path) -> None:
    trace = one("cpu-21-build-failures")
    result = replay("--output", tmp_path / "out", trace)
    assert result.returncode == 0, result.stderr
    steps = lines_of(trace)[1:]
    written = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [line["i"] for line in written] == list(range(len(steps)))
    for line, step in zip(written, steps, strict=True):
        assert (line["method"], line["node"]) == (step["method"], step["args"]["node"])
        assert line["outcome"] in ("applied", "granted", "refused", "ignored")
        assert ("view" in line) == bool(step.get("expect", {}).get("nodes"))


@pytest.mark.parametrize("text", ["", "{}", '{"trace": "other/1"}', '{"trace": "tracker-worker/1"}\n{'])
def test_invalid_trace_is_named_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    result = replay(path)
    assert result.returncode == 2
    assert f"{path}, line {2 if chr(10) in text else 1}:" in result.stderr


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"trace": "tracker-worker/1", "settings": {"overcommit": 1}}])
    result = replay(path)
    assert result.returncode == 2
    assert "unknown settings: overcommit" in result.stderr


def test_a_trace_brings_the_options_that_it_was_recorded_with(tmp_path: Path) -> None:
    settings = {
        "pci.alias": [{"name": "vf", "vendor_id": "8086", "product_id": "1515"}],
        "pci.device_spec": ['{"vendor_id": "8086", "physical_network": "net"}'],
        "reserved_huge_pages": [{"node": 0, "size": "2MB", "count": 3}],
        "capacity_check": "none",
    }
    path = write(tmp_path / "t.jsonl", [{"trace": "tracker-worker/1", "settings": settings}])
    read = settings_of(read_trace(path))
    assert (list(read.aliases), read.capacity_check) == (["vf"], "none")
    assert read.device_specs[0].tags == {"physical_network": "net"}
    assert read.reserved_huge_pages == (ReservedPages(0, 2048, 3),)


def test_database_of_a_running_worker_is_refused_until_its_lease_has_ended(engine: sa.Engine) -> None:
    """That worker would publish the notifications of the trace to its own consumers."""
    trace, url = one("cpu-01-boot-abort-delete"), f"sqlite:///{engine.url.database}"
    with engine.begin() as connection:
        assert leases.acquire(connection, leases.RELAY, "host-1:4711:worker", 60)
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0008'")
    result = replay("--database", url, trace)
    (line,) = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (2, "")
    assert line.startswith(
        f"tracker-worker-replay: --database {url}: the worker host-1:4711:worker uses it, "
    )
    assert line.endswith("name another database, or stop its workers")
    with engine.begin() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        assert version == "0008", "it migrates no database that is in use"
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revisions.head()}'")
        assert connection.execute(sa.select(sa.func.count()).select_from(RECEIPTS)).scalar_one() == 0
        leases.release(connection, leases.RELAY, "host-1:4711:worker")
        assert leases.acquire(connection, leases.RELAY, "host-1:4711:killed", -1)
    assert replay("--database", url, trace).returncode == 0
