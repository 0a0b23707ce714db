# SPDX-License-Identifier: Apache-2.0
"""A Prometheus of the tests' own, which scrapes what it is given and evaluates queries."""

import json
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers.server import Server, wait_until

JOB = "tracker-worker"
CONFIGURATION = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: {job}
    file_sd_configs: [{{files: ["{targets}"], refresh_interval: 1s}}]
"""


class Prometheus(Server):
    """A server with rules of its own; it scrapes nothing until `scrape`."""

    package = "prometheus"

    def __init__(self, rules: Path) -> None:
        super().__init__()
        self.port = self._free_port()
        self._targets = self.directory / "targets.json"
        self._targets.write_text("[]")
        configuration = CONFIGURATION.format(rules=rules, targets=self._targets, job=JOB)
        (self.directory / "prometheus.yml").write_text(configuration)

    @classmethod
    def program(cls) -> Path | None:
        found = shutil.which("prometheus")
        return Path(found) if found else None

    def scrape(self, port: int, times: int) -> None:
        """Scrape a port of this machine from now on; return once it was scraped so often."""
        target = f"{self.host}:{port}"
        new = self.directory / "targets.new"
        new.write_text(json.dumps([{"targets": [target]}]))
        new.replace(self._targets)
        query = f'count_over_time(up{{instance="{target}"}}[5m]) >= {times}'
        wait_until(lambda: bool(self.query(query)), f"{times} scrapes of {target}")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; return its series. Raises HTTPError for one that is wrong."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Its alerts, with their last evaluation."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def stop(self) -> None:
        self._signal_and_wait(signal.SIGTERM)

    def kill(self) -> None:
        self._signal_and_wait(signal.SIGKILL)

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"http://{self.host}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.load(response)["data"]

    def _launch(self) -> "subprocess.Popen[bytes]":
        program = self.program()
        assert program, "look for program() first"
        process = self._spawn(
            program,
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self.host}:{self.port}",
        )
        self._reaper.watch("KILL", process.pid)
        return process

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False
