# SPDX-License-Identifier: Apache-2.0
"""The wheel of this tree, and environments that pip makes: which versions they have, and what is broken."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOVA = "nova==34.0.0"
NOVA_RELEASED = "2026-10-01"
"""The day after. With nothing newer, pip finds about what the constraints of that OpenStack pin."""
CONSTRAINTS = ("SQLAlchemy<2.1",)
"""Where these constraints hold back what pip would install on that day."""
NOT_IN_THE_WHEEL = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "doc")
LOWER_BOUND = re.compile(r"([\w.]+)>=([\d.]+)")
SECONDS = 900

Versions = dict[str, str]


@dataclass(frozen=True)
class Environment:
    """A virtual environment. What runs in it does not see this tree, nor the environment of the tests."""

    directory: Path

    @classmethod
    def made(cls, directory: Path) -> "Environment":
        """Make one with the newest pip, which can look at what there was on a day."""
        _run(sys.executable, "-m", "venv", "--upgrade-deps", directory)
        return cls(directory)

    def program(self, name: str) -> Path:
        """Return where a program of the environment is, or would be."""
        return self.directory / "bin" / name

    def run(self, program: str, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment to its end, with `given` as its input."""
        return subprocess.run(
            [self.program(program), *arguments],
            input=given,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=surroundings(),
            timeout=SECONDS,
        )

    def install(self, *requirements: str) -> None:
        """Install with pip. Raises CalledProcessError, after pip has said why."""
        _run(self.program("pip"), "install", "-qq", "--disable-pip-version-check", *requirements)

    def versions(self) -> Versions:
        """Return what is installed, by names in lower case."""
        listed = json.loads(self.run("pip", "list", "--format", "json", "--disable-pip-version-check").stdout)
        return {each["name"].lower().replace("_", "-"): each["version"] for each in listed}

    def broken(self) -> str:
        """Return what `pip check` complains about; empty where nothing is broken."""
        done = self.run("pip", "check", "--disable-pip-version-check")
        return "" if done.returncode == 0 else done.stdout + done.stderr


def wheel(directory: Path) -> Path:
    """Build the wheel of this tree into a directory, from a copy: setuptools would also pack older builds."""
    copy = directory / "tree"
    shutil.copytree(ROOT, copy, ignore=NOT_IN_THE_WHEEL)
    _run(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", directory, copy)
    (built,) = directory.glob("*.whl")
    return built


def oldest_dependencies() -> list[str]:
    """Return the oldest version of each dependency that a client may have."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    bounds = [LOWER_BOUND.match(each) for each in dependencies]
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


def surroundings() -> dict[str, str]:
    """Return the environment variables without those by which Python would find this tree."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_"))}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, env=surroundings(), timeout=SECONDS)
