# SPDX-License-Identifier: Apache-2.0
"""The daemon as its supervisors see it: HTTP, systemd, and the report on USR2."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.functional.monitoring import ask, checks
from tests.programs.test_daemon import SECONDS, Daemon, a_daemon, environment, forked  # noqa: F401
from tests.servers.ports import LOOPBACK

ADaemon = Callable[..., Daemon]
SECRET = "planted-secret"
SECRETS = f"""transport_url = rabbit://tracker:{SECRET}-1@127.0.0.1:1/
[oslo_messaging_notifications]
transport_url = rabbit://tracker:{SECRET}-2@127.0.0.1:1/
[database]
slave_connection = postgresql://tracker:{SECRET}-3@127.0.0.1/tracker
connection_parameters = password={SECRET}-4
[bus]
management_url = http://tracker:{SECRET}-5@127.0.0.1:1
[oslo_messaging_rabbit]
amqp_durable_queues = true
"""


def test_worker_serves_health_and_metrics_on_its_port(
    a_daemon: ADaemon,  # noqa: F811
    tmp_path: Path,
    port: int,
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\n[health]\nport = {port}\n")
    daemon.wait_for(b"Started")
    status, body = ask(port, "/livez")
    assert (status, sorted(checks(body))) == (200, ["consumer", "lane-0"])
    status, body = ask(port, "/metrics")
    assert status == 200
    assert "tracker_worker_live" in {family.name for family in text_string_to_metric_families(body)}
    assert ask(port, "/livez", "POST")[0] == 405
    assert ask(port, "/")[0] == 404
    assert daemon.end(signal.SIGTERM) == 0
    assert b"Traceback" not in daemon.log


def test_ready_worker_shows_each_check_with_its_value_and_limit(
    a_daemon: ADaemon,  # noqa: F811
    tmp_path: Path,
    port: int,
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\n[health]\nport = {port}\n")
    daemon.wait_for(b"Started")
    for _ in range(100):  # The first answer of the database comes a moment after the start.
        status, body = ask(port, "/readyz")
        if status == 200:
            break
    found = checks(body)
    assert (status, json.loads(body)["ok"]) == (200, True)
    assert list(found) == ["running", "lane-0", "consumer", "database", "schema", "outbox"]
    assert all(set(check) == {"name", "ok", "value", "limit", "text"} for check in found.values())
    assert found["schema"]["value"] == found["schema"]["limit"]


def test_worker_without_a_port_does_not_listen(a_daemon: ADaemon, tmp_path: Path) -> None:  # noqa: F811
    daemon = a_daemon(f"state_path = {tmp_path}/state\n")
    daemon.wait_for(b"Started")
    pid: int = daemon.process.pid  # type: ignore[attr-defined]
    assert psutil.Process(pid).net_connections() == []


def test_port_that_is_taken_is_one_line(a_daemon: ADaemon, tmp_path: Path, port: int) -> None:  # noqa: F811
    with socket.create_server((LOOPBACK, port)):
        daemon = a_daemon(f"state_path = {tmp_path}/state\n[health]\nport = {port}\n")
        daemon.wait_for(b"CRITICAL tracker_worker.cmd.worker")
        daemon.wait_for(b"[health] host, port: the worker cannot listen on 127.0.0.1, port")
        assert daemon.process.wait(SECONDS) == 1
    assert b"Traceback" not in daemon.log


def test_systemd_hears_of_start_life_reload_and_stop(a_daemon: ADaemon, tmp_path: Path) -> None:  # noqa: F811
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(told["NOTIFY_SOCKET"])
        systemd.settimeout(SECONDS)

        def states_until(last: bytes) -> list[bytes]:
            states = [systemd.recv(999)]
            while states[-1] != last:
                states.append(systemd.recv(999))
            return [state.partition(b"\n")[0] for state in states if state != b"WATCHDOG=1" or state == last]

        daemon = a_daemon(
            f"state_path = {tmp_path}/state\n",
            lambda environment, file, log: forked(environment | told, file, log),  # noqa: F811
        )
        assert states_until(b"READY=1") == [b"READY=1"]
        assert states_until(b"WATCHDOG=1") == [b"WATCHDOG=1"]
        daemon.process.send_signal(signal.SIGHUP)
        assert states_until(b"READY=1") == [b"RELOADING=1", b"READY=1"]
        assert daemon.end(signal.SIGTERM) == 0
        assert states_until(b"STOPPING=1") == [b"STOPPING=1"]


def test_usr2_writes_a_report_about_the_worker_without_a_secret(
    a_daemon: ADaemon,  # noqa: F811
    tmp_path: Path,
) -> None:
    daemon = a_daemon(f"state_path = {tmp_path}/state\n{SECRETS}[oslo_reports]\nlog_dir = {tmp_path}\n")
    daemon.wait_for(b"Started")
    daemon.process.send_signal(signal.SIGUSR2)
    assert daemon.end(signal.SIGTERM) == 0  # Signals are handled in order.
    (file,) = tmp_path.glob("tracker-worker_gurumeditation_*")
    report = file.read_text()
    assert SECRET not in report
    for text in ("Threads", "Configuration", "connection_parameters", "lane-0", "oldest_unacknowledged"):
        assert text in report
    assert file.stat().st_mode & 0o007 == 0
    assert SECRET.encode() not in daemon.log


def test_report_is_written_when_its_file_is_touched(a_daemon: ADaemon, tmp_path: Path) -> None:  # noqa: F811
    trigger = tmp_path / "trigger"
    trigger.touch()
    daemon = a_daemon(f"state_path = {tmp_path}/state\n[oslo_reports]\nfile_event_handler = {trigger}\n")
    daemon.wait_for(b"Started")
    in_a_minute = time.time() + 60
    os.utime(trigger, (in_a_minute, in_a_minute))
    daemon.wait_for(b"oldest_unacknowledged_seconds")


def test_missing_file_of_the_report_is_one_line(a_daemon: ADaemon, tmp_path: Path) -> None:  # noqa: F811
    daemon = a_daemon(f"state_path = {tmp_path}/state\n[oslo_reports]\nfile_event_handler = /nowhere\n")
    daemon.wait_for(b"[oslo_reports] file_event_handler = /nowhere: No such file or directory; create it")
    assert daemon.process.wait(SECONDS) == 1
    assert b"Traceback" not in daemon.log


def test_report_goes_to_standard_error_even_before_the_database_is_reached(
    a_daemon: ADaemon,  # noqa: F811
) -> None:
    daemon = a_daemon(
        "[database]\nmax_retries = -1\nretry_interval = 300\n"
        f"connection = postgresql://tracker:{SECRET}@127.0.0.1:1/tracker\n"
    )
    daemon.wait_for(b"cannot be used yet")
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.wait_for(b"Guru Meditation")
    assert daemon.end(signal.SIGTERM) == 0
    assert SECRET.encode() not in daemon.log
