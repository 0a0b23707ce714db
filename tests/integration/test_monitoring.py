# SPDX-License-Identifier: Apache-2.0
"""The alerts and the dashboard that are shipped, on a Prometheus that scrapes a worker at work."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import tracker_worker
from tests.integration.daemon import PARTITIONS, Daemon
from tests.integration.rabbit import connected, publish
from tests.samples import a_report
from tests.servers.ports import Port
from tests.servers.prometheus import JOB, Prometheus
from tests.servers.skips import missing, skip_unless_installed
from tracker_worker.core.envelope import encode
from tracker_worker.domain.partitions import partition_of
from tracker_worker.worker.metrics import FAMILIES, PREFIX

ROOT = Path(tracker_worker.__file__).parents[1]
ETC = ROOT / "etc" / "tracker-worker"
RULES = ETC / "prometheus-rules.yaml"
MONITORING = ROOT / "doc" / "source" / "admin" / "monitoring.rst"
DASHBOARD = json.loads((ETC / "grafana-dashboard.json").read_text())
QUERIES = {
    f"{panel['title']}: {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
}
VARIABLES = {"$job": JOB, "$__rate_interval": "1m"}
"""As Grafana replaces them."""
METRIC = re.compile(rf"\b{PREFIX}[a-z_]+")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
SERVED = {f"{PREFIX}{family.name}{suffix}" for family in FAMILIES for suffix in SUFFIXES[family.kind]}
NODE, NODE_UUID = "node-1", "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    skip_unless_installed(Prometheus)
    with Prometheus(RULES) as server:
        server.start()
        yield server


@pytest.fixture
def port() -> Iterator[int]:
    held = Port()
    yield held.number
    held.release()


def promtool(*arguments: object) -> str:
    """What promtool prints; fails with it."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip(missing(Prometheus))
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cast(url: str, method: str, **arguments: Any) -> None:
    with connected(url) as client:
        body = encode(method, {"node": NODE, **arguments})
        publish(client, [body], partition=partition_of(NODE, PARTITIONS))


def test_alerts_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_alerts_are_raised_when_they_should_be_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", ROOT / "tests" / "integration" / "alerts.yaml")


def test_page_says_which_alerts_can_be_silenced_by_worker() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    of_a_worker = {rule["alert"] for rule in rules if not re.search(r"\b(sum|max|absent)\b", rule["expr"])}
    silences = MONITORING.read_text().partition("\nSilences\n")[2].partition("No alert names a node")[0]
    named = silences.partition("is\nsilenced by")[2].partition("``code``")[0]
    assert set(re.findall(r"TrackerWorker\w+", named)) - {"TrackerWorkerDeadLetters"} == of_a_worker
    assert not any("node" in rule.get("labels", {}) for rule in rules)


@pytest.mark.parametrize("text", [RULES.read_text(), *QUERIES.values()], ids=["alerts", *QUERIES])
def test_query_names_metrics_that_are_served(text: str) -> None:
    named = set(METRIC.findall(text))
    assert named
    assert named <= SERVED


def test_every_family_is_on_the_dashboard() -> None:
    shown = {name for expression in QUERIES.values() for name in METRIC.findall(expression)}
    missing = [f.name for f in FAMILIES if not any(PREFIX + f.name + s in shown for s in SUFFIXES[f.kind])]
    assert missing == []


def test_every_query_has_a_result_from_a_worker_at_work(
    prometheus: Prometheus, vhost_url: str, port: int
) -> None:
    nowhere = {"enabled": True, "auth_type": "admin_token", "token": "x", "endpoint": "http://127.0.0.1:1"}
    with Daemon(vhost_url, health={"port": port}, placement=nowhere) as daemon:
        daemon.wait_until_it_consumes()
        cast(vhost_url, "update_available_resource", resources=a_report(NODE_UUID, NODE))
        prometheus.scrape(port, 2)
        for number in range(3):
            cast(vhost_url, "build_failed", event_id=f"event-{number}")
        cast(vhost_url, "build_failed", nonsense=1)
        scraped = 'sum(tracker_worker_events_total{method="build_failed",outcome="applied"}) == 3'
        daemon.wait_for(lambda: prometheus.query(scraped), "no events are scraped")
        empty = [name for name, text in QUERIES.items() if not result(prometheus, text)]
        firing = ["TrackerWorkerDeadLetters"]
        daemon.wait_for(lambda: alerts_of(prometheus, state="firing") == firing, "other alerts are raised")
    assert empty == []
    assert len(alerts_of(prometheus, health="ok")) == RULES.read_text().count("- alert:")


def alerts_of(prometheus: Prometheus, **fields: str) -> list[str]:
    """The names of the alerts with these values."""
    return [rule["name"] for rule in prometheus.rules() if fields.items() <= rule.items()]


def result(prometheus: Prometheus, expression: str) -> list[dict[str, Any]]:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return prometheus.query(expression)
