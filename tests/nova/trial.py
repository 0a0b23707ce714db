# SPDX-License-Identifier: Apache-2.0
"""Runs tests of Nova in one mode, and returns what became of each and what the adapter did in it."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from tests.nova.environment import ROOT, Environment

NONE = "none"
MODES = (NONE, "tap", "mirror", "replace")
FUNCTIONAL, UNIT = "./nova/tests/functional", "./nova/tests/unit/compute"
FAILED, SKIPPED = ("fail", "uxsuccess", "inprogress", "unknown"), "skip"

SECONDS_TO_END = 30
DAEMONS = "TRACKER_WORKER_NOVA_DAEMONS"
INSIDE = ROOT / "tests" / "nova" / "inside"
INJECTION = ROOT / "tests" / "nova" / "injection"
NOVAS = {
    "LANGUAGE": "en_US",
    "LC_ALL": "en_US.utf-8",
    "OS_STDOUT_CAPTURE": "1",
    "OS_STDERR_CAPTURE": "1",
    "OS_TEST_TIMEOUT": "160",
}
"""What Nova's tox.ini sets for its functional tests."""

Json = dict[str, Any]


class NoTests(Exception):
    """No test was run."""


@dataclass
class Outcome:
    """A test in a mode. What the adapter did stands in `adapter`; nothing in mode NONE."""

    test: str
    mode: str
    status: str
    seconds: float | None = None
    text: str = ""
    adapter: Json = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether Nova's own assertions failed, or the test did not end."""
        return self.status in FAILED

    @property
    def skipped(self) -> bool:
        """Whether Nova left it out."""
        return self.status == SKIPPED


def run(
    environment: Environment,
    mode: str,
    filters: Sequence[str],
    *,
    directory: str,
    concurrency: int,
    variables: dict[str, str],
) -> list[Outcome]:
    """Run the tests of a directory that match a filter, in so many processes. `variables` come last.

    Raises NoTests, with the end of stestr's errors, if none was run: none matches, or one cannot be imported.
    """
    with tempfile.TemporaryDirectory(prefix="test-nova-") as temporary:
        results, errors = Path(temporary) / "results.jsonl", Path(temporary) / "errors"
        results.touch()
        arguments = [
            "--test-path",
            directory,
            "run",
            "--subunit",
            "--concurrency",
            str(concurrency),
            *filters,
        ]
        with errors.open("wb") as file:
            lines = _lines(environment, arguments, _variables(mode, results) | variables, file)
        if not lines:
            raise NoTests(errors.read_text(errors="replace")[-4000:])
        did = {line["test"]: line for line in map(json.loads, results.read_text().splitlines())}
    outcomes = [Outcome(mode=mode, **json.loads(line)) for line in lines]
    for outcome in outcomes:
        outcome.adapter = did.get(outcome.test, {})
    return sorted(outcomes, key=lambda outcome: outcome.test)


def run_inside(environment: Environment, concurrency: int) -> int:
    """Run the tests of tests/nova/inside, the adapter's own, in so many processes; return 1 if one fails.

    Nova logs past unittest's buffer: what was printed is shown only when a test has failed.
    """
    modules = sorted(f"tests.nova.inside.{path.stem}" for path in INSIDE.glob("check_*.py"))
    shares = [modules[first::concurrency] for first in range(min(concurrency, len(modules)))]
    with ThreadPoolExecutor(len(shares)) as processes:
        ended = list(processes.map(partial(_unittest, environment), shares))
    for process in ended:
        lines = process.stdout.splitlines()
        print("\n".join(lines if process.returncode else lines[-3:]), flush=True)
    # The status of a process that was killed is negative.
    return int(any(process.returncode for process in ended))


def _unittest(environment: Environment, modules: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [environment.python, "-W", "ignore", "-m", "unittest", "--buffer", *modules],
        cwd=environment.source,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _lines(
    environment: Environment, arguments: list[str], variables: dict[str, str], errors: IO[bytes]
) -> list[str]:
    """Run stestr, and return a line of JSON for each test that it ran."""
    python = [str(environment.python), "-W", "ignore"]
    with subprocess.Popen(
        [*python, "-m", "stestr", *arguments],
        cwd=environment.source,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    ) as stestr:
        try:
            translated = subprocess.run(
                [*python, str(ROOT / "tests" / "nova" / "outcomes.py")],
                stdin=stestr.stdout,
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            )
            stestr.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            pass  # A test hangs: its outcome says so.
        finally:
            with suppress(ProcessLookupError):
                os.killpg(stestr.pid, signal.SIGKILL)
    return translated.stdout.splitlines()


def _variables(mode: str, results: Path) -> dict[str, str]:
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    path = os.pathsep.join([str(INJECTION), *inherited, str(ROOT)])
    variables = {**os.environ, **NOVAS, "PYTHONPATH": path, "TRACKER_WORKER_NOVA_TESTS": "1"}
    if mode == NONE:
        return variables
    return variables | {
        "TRACKER_WORKER_NOVA_MODE": mode,
        "TRACKER_WORKER_NOVA_RESULTS": str(results),
    }
