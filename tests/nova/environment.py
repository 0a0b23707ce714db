# SPDX-License-Identifier: Apache-2.0
"""Makes what Nova's tests need: its source distribution from PyPI, and an environment with its packages."""

import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = "34.0.0"
NAME = f"nova-{VERSION}"

PACKAGES = (
    f"nova=={VERSION}",
    "PyMySQL",
    "SQLAlchemy<2.1",  # Nova's tests take a newer one's deprecations for errors.
    "ddt",
    "fixtures",
    "gabbi",
    "openstack-placement",
    "oslotest",
    "osprofiler",
    "psycopg2-binary",
    "python-barbicanclient",
    "requests-mock",
    "stestr",
    "testresources",
    "testscenarios",
    "testtools",
    "wsgi-intercept",
)
"""What Nova's tests import. The wheel of Nova brings what its source needs, which has the tests."""


class NoSource(Exception):
    """Nova's source distribution cannot be had: without a network, say."""


@dataclass(frozen=True)
class Environment:
    """The interpreter that runs Nova's tests, and the directory to run them in."""

    python: Path
    source: Path


def made() -> Environment:
    """Return the environment, made if it is not there or is out of date: some minutes, once.

    Raises NoSource, and CalledProcessError when pip cannot install something.
    """
    tox = ROOT / ".tox"
    directory, source = tox / f"{NAME}-tests", tox / f"{NAME}-source"
    if not source.exists():
        _unpack(source)
    installed, wanted = directory / "installed", ROOT / "pyproject.toml"
    if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
        print(
            f"==> installing Nova and what its tests need into {directory} (some minutes, once)", flush=True
        )
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        project = ["--editable", f"{ROOT}[testing]"]
        subprocess.run([*_pip(directory / "bin" / "python"), "install", *PACKAGES, *project], check=True)
        installed.touch()
    return Environment(directory / "bin" / "python", source)


def _unpack(source: Path) -> None:
    """Download the source distribution and unpack it; all or nothing."""
    partial = source.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    order = ["download", "--no-deps", "--no-binary", "nova", f"nova=={VERSION}", "--dest", str(partial)]
    downloaded = subprocess.run([*_pip(Path(sys.executable)), *order], capture_output=True, text=True)
    if downloaded.returncode:
        raise NoSource(downloaded.stderr.strip().rpartition("\n")[2])
    (archive,) = partial.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(partial, filter="data")
    (partial / NAME).rename(source)
    shutil.rmtree(partial)


def _pip(python: Path) -> list[str]:
    return [str(python), "-m", "pip", "--disable-pip-version-check", "-qq"]
