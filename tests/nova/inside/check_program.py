# SPDX-License-Identifier: Apache-2.0
"""What tracker-worker-nova-compute says when it starts: each in a process of its own, without a broker."""

import subprocess
import sys
import tempfile
import threading
import unittest
from importlib.metadata import version
from pathlib import Path

PROGRAM = "from tracker_worker.nova.cmd import main; main()"
SECONDS = 60
PASSWORD = "hunter2"
BROKER = f"rabbit://user:{PASSWORD}@127.0.0.1:1"
DURABLE = f"{BROKER},user:{PASSWORD}@127.0.0.2:1/cell?amqp_durable_queues=true"
NOVA = f"""
[DEFAULT]
transport_url = {BROKER}
compute_driver = fake.SmallFakeDriver
my_ip = 127.0.0.1
[libvirt]
virt_type = kvm
[unknown_to_nova]
option = value
"""


class Program(unittest.TestCase):
    def said(self, options: str, until: str) -> list[str]:
        """Start the program; return its lines about the adapter, the last of which is to have a text."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "nova.conf"
            file.write_text(f"{NOVA}{options}\n")
            with subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", PROGRAM, "--config-file", file],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                killed = threading.Timer(SECONDS, process.kill)
                killed.start()
                try:
                    assert process.stdout is not None
                    lines = []
                    for line in process.stdout:
                        lines.append(line.replace(str(file), "FILE").strip())
                        if until in line:
                            break
                finally:
                    killed.cancel()
                    process.kill()
        self.assertNotIn(PASSWORD, "".join(lines))
        self.assertIn(until, lines[-1])
        return [line.partition(" [-] ")[2] or line for line in lines if "tracker" in line]

    def refused(self, options: str) -> str:
        return self.said(options, "tracker-worker-nova-compute: ")[-1]

    def test_start_is_one_line_with_the_options_and_the_broker(self) -> None:
        lines = self.said(f"[tracker_worker]\nmode = mirror\ntransport_url = {DURABLE}", "timeout")
        self.assertEqual(
            [
                f"tracker-worker {version('tracker-worker')}: "
                "[tracker_worker] mode mirror, exchange tracker, partitions 16, "
                "workers at rabbit://127.0.0.1:1,127.0.0.2:1/cell, timeout 60 s"
            ],
            lines,
        )

    def test_misspelt_group_is_warned_of(self) -> None:
        lines = self.said("[tracker-worker]\nmode = tap", "no effect")
        self.assertEqual(
            ["FILE: the group [tracker-worker] is unknown and has no effect; did you mean tracker_worker?"],
            lines,
        )

    def test_misspelt_option_is_warned_of(self) -> None:
        options = f"[tracker_worker]\nmode = tap\npartition = 3\ntransport_url = {DURABLE}"
        line = self.said(options, "timeout")[0]
        self.assertIn("option partition of [tracker_worker] is unknown", line)
        self.assertIn("did you mean partitions?", line)

    def test_queues_that_are_not_durable_are_refused_with_the_adapters_option(self) -> None:
        line = self.refused("[tracker_worker]\nmode = tap")
        self.assertIn("Set [tracker_worker] transport_url = rabbit://...?amqp_durable_queues=true", line)
        self.assertIn("([tracker_worker] transport_url is not set: [DEFAULT] transport_url is used)", line)
        self.assertNotIn("oslo_messaging_rabbit", line)

    def test_wrong_values_are_refused_at_once_with_group_value_and_file(self) -> None:
        line = self.refused("[tracker_worker]\nmode = mirrr\ntimeout = 0")
        self.assertIn("[tracker_worker] mode from FILE is not valid: Valid values are", line)
        self.assertIn(
            "found 'mirrr' (for Nova alone leave the option out); "
            "[tracker_worker] timeout from FILE is not valid: 0 should be",
            line,
        )

    def test_url_without_a_scheme_is_refused_with_its_option(self) -> None:
        line = self.refused(f"[tracker_worker]\nmode = tap\ntransport_url = user:{PASSWORD}@broker/")
        self.assertIn("[tracker_worker] transport_url: a URL looks like rabbit://", line)

    def test_dollar_in_a_url_is_refused_without_what_follows_it(self) -> None:
        line = self.refused(f"[tracker_worker]\nmode = tap\ntransport_url = rabbit://u:a${PASSWORD}@broker/")
        self.assertIn("[tracker_worker] transport_url: write $ as $$", line)

    def test_misspelt_parameter_of_the_url_is_refused_with_the_likely_one(self) -> None:
        options = f"[tracker_worker]\nmode = tap\ntransport_url = {BROKER}/?amqp_durable_queue=true"
        self.assertIn(
            "[tracker_worker] transport_url: amqp_durable_queue behind the ? is no option of "
            "[oslo_messaging_rabbit]; did you mean amqp_durable_queues?",
            self.refused(options),
        )

    def test_broker_where_no_worker_can_be_is_refused(self) -> None:
        line = self.refused("[tracker_worker]\nmode = tap\ntransport_url = fake://")
        self.assertIn("[tracker_worker] transport_url: no worker is at fake://", line)
        self.assertIn("write rabbit://user:password@host:port/vhost", line)

    def test_empty_exchange_is_refused(self) -> None:
        line = self.refused(f"[tracker_worker]\nmode = tap\ntransport_url = {DURABLE}\nexchange =")
        self.assertIn("[tracker_worker] exchange from FILE is not valid: ", line)

    def test_wrong_mode_names_the_way_to_nova_alone(self) -> None:
        for mode in ("off", "none", "", "Replace", "tap # try it"):
            with self.subTest(mode):
                line = self.refused(f"[tracker_worker]\nmode = {mode}")
                self.assertIn(f"found '{mode}' (for Nova alone leave the option out)", line)
