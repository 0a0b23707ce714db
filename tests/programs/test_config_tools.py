# SPDX-License-Identifier: Apache-2.0
"""oslo.config's own programs on the samples: the generator writes them, the validator accepts them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "etc" / "tracker-worker"
WORKER = ("tracker_worker", "oslo.db", "oslo.log", "oslo.messaging", "oslo.reports")
ADAPTER = ("tracker_worker.nova",)
BOTH = [("tracker-worker.conf.sample", WORKER), ("nova-compute.conf.sample", ADAPTER)]


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = f"import sys; from oslo_config.{module} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def namespaces(names: tuple[str, ...]) -> list[str]:
    return [argument for name in names for argument in ("--namespace", name)]


def validated(file: Path, names: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return run("validator", *namespaces(names), "--fatal-warnings", "--input-file", file)


@pytest.mark.parametrize(("sample", "names"), BOTH)
def test_generator_writes_the_sample(tmp_path: Path, sample: str, names: tuple[str, ...]) -> None:
    """Only our own options are compared: those of oslo's libraries change with their releases."""
    fresh = tmp_path / sample
    own = [name for name in names if name.startswith("tracker_worker")]
    written = run("generator", *namespaces((*own,)), "--wrap-width", 79, "--output-file", fresh)
    assert written.returncode == 0, written.stderr
    kept = (SAMPLES / sample).read_text().splitlines()
    assert [line for line in fresh.read_text().splitlines() if line not in kept] == []


def test_generator_takes_its_configuration_file(tmp_path: Path) -> None:
    fresh = tmp_path / "sample"
    written = run("generator", "--config-file", SAMPLES / "config-generator.conf", "--output-file", fresh)
    assert written.returncode == 0, written.stderr
    groups = ("[DEFAULT]", "[bus]", "[database]", "[oslo_messaging_rabbit]", "[tracker]", "[worker]")
    for group in (*groups, "[health]", "[oslo_reports]"):
        assert group in fresh.read_text().splitlines()


@pytest.mark.parametrize(("sample", "names"), BOTH)
def test_validator_accepts_the_sample_with_every_option_set(
    tmp_path: Path, sample: str, names: tuple[str, ...]
) -> None:
    text = (SAMPLES / sample).read_text()
    file = tmp_path / "all.conf"
    file.write_text(re.sub(r"^#(\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert file.read_text() != text
    result = validated(file, names)
    assert (result.returncode, "is not part of" in result.stderr) == (0, False), result.stderr


def test_validator_names_what_is_misspelt(tmp_path: Path) -> None:
    file = tmp_path / "some.conf"
    file.write_text("[worker]\nlanes = 2\nbatch_sise = 3\n")
    result = validated(file, WORKER)
    assert (result.returncode, "worker/batch_sise is not part of" in result.stderr) == (1, True)
    assert "worker/lanes" not in result.stderr
