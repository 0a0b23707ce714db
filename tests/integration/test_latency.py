# SPDX-License-Identifier: Apache-2.0
"""How long a compute manager waits for its claim where nothing else is going on."""

import statistics
import time

import psutil
import pytest

from tests.delivery.processes import Broker, Processes, TrackerWorker

ROUNDS = 3
CALLS = 100
MILLISECONDS = 10
BUSY = 30
"""Per cent of the processors. A round begins below it, or after PATIENCE seconds whatever else runs."""
PATIENCE = 30


@pytest.mark.timeout(240)
def test_a_claim_is_committed_and_answered_in_10_ms(vhost_url, database_url):
    """The best of three medians: what else runs on this machine is not the worker's time."""
    broker = Broker(vhost_url)
    order = {"do": "call", "url": broker.client_url, "exchange": broker.exchange, "calls": CALLS}
    medians = []
    with Processes() as processes:
        TrackerWorker(processes, broker, database_url).start()
        for _ in range(ROUNDS):
            busy = wait_for_idleness()
            client = processes.start(order, "-m", "tests.delivery.stock_client", log="client.log")
            seconds = processes.result(client, "client.log")["seconds"]
            p50, p90, p99 = (statistics.quantiles(seconds, n=100)[n - 1] * 1000 for n in (50, 90, 99))
            print(f"claim: p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.1f} ms; {busy:.0f} % busy before")
            medians.append(p50)
    assert min(medians) < MILLISECONDS, medians


def wait_for_idleness() -> float:
    """Wait for a second in which the machine does little; how busy it was, in per cent."""
    deadline = time.monotonic() + PATIENCE
    while (busy := psutil.cpu_percent(interval=1)) > BUSY and time.monotonic() < deadline:
        pass
    return busy
