# SPDX-License-Identifier: Apache-2.0
"""The fixture for other projects gets on with their processes, whatever these have imported and set."""

import subprocess
import sys
import textwrap

import pytest

PREAMBLES = {
    "the fixture comes first": "",
    "oslo.messaging came before": "import oslo_messaging",
    "eventlet has patched everything": "import eventlet; eventlet.monkey_patch(); import oslo_messaging",
    "its options are in use": """
        from oslo_config import cfg
        cfg.CONF.register_opt(cfg.StrOpt("exchange", default="mine"), group="bus")
        cfg.CONF([], project="nova", default_config_files=[])
        cfg.CONF.set_override("exchange", "theirs", group="bus")
    """,
}
SCRIPT = """
from oslo_config import cfg
from tracker_worker.testing import TrackerWorkerFixture

report = {"uuid": "u", "host": "h", "vcpus": 8, "memory_mb": 16384, "local_gb": 100}
for turn in range(2):
    with TrackerWorkerFixture(cfg.CONF) as tracker:
        tracker.api.update_available_resource({}, "compute1", report)
        assert tracker.api.get_node({}, "compute1")["vcpus"] == 8
        tracker.wait_for_notifications("compute_node.usage", node="compute1")
if hasattr(cfg.CONF, "bus"):
    assert cfg.CONF.bus.exchange == "theirs"
print("done")
"""


@pytest.mark.parametrize("preamble", PREAMBLES.values(), ids=PREAMBLES)
def test_the_fixture_gets_on_with_a_process_of_another_project(preamble: str) -> None:
    script = textwrap.dedent(preamble) + SCRIPT
    command = [sys.executable, "-W", "ignore", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
